import { crc32 } from '@node-rs/crc32';
import type { Random } from '../../environment/ports/index.js';

const TWO_32 = 2 ** 32;

/** A seeded generator (sfc32). Streams forked under different names are independent. */
export class FakeRandom implements Random {
  readonly #seed: number;
  readonly #stream: number;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, stream = 0) {
    this.#seed = seed;
    this.#stream = stream;
    this.#a = seed | 0;
    this.#b = Math.floor(seed / TWO_32) | 0;
    this.#c = stream | 0;
    for (let i = 0; i < 15; i++) this.u32();
  }

  /** A stream of its own, so that more draws here change nothing there. */
  fork(name: string): FakeRandom {
    return new FakeRandom(this.#seed, crc32(name, this.#stream));
  }

  u32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  below(bound: number): number {
    if (!Number.isSafeInteger(bound) || bound < 1 || bound > 2 ** 48) throw new RangeError(`bound ${bound}`);
    return Math.floor(this.unit() * bound);
  }

  hex(count: number): string {
    let digits = '';
    while (digits.length < count) digits += this.u32().toString(16).padStart(8, '0');
    return digits.slice(0, count);
  }

  /** From 0 up to 1, 52 bits. */
  unit(): number {
    return (this.u32() * 2 ** 20 + (this.u32() >>> 12)) / 2 ** 52;
  }

  between(low: number, high: number): number {
    return low + this.unit() * (high - low);
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}
