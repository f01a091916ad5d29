export interface Random {
  /** A whole number from 0 to `bound` - 1, evenly distributed. `bound` is at most 2^48. */
  below(bound: number): number;
  /** `count` lower-case hexadecimal digits, for ids. */
  hex(count: number): string;
}
