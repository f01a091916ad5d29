/**
 * What has been done to a chunk, by (session, sequence): a retry gets the first result, and a delayed
 * duplicate cannot land on later data. Part of the chunk, so every replica has it, and a copy too.
 */
import { GfsError } from '../../protocol/errors.js';
import { list, struct, u32, u53 } from '../../protocol/schema.js';

/** Sessions remembered for each chunk; of more, the one that has been quiet longest is forgotten. */
const MAX_SESSIONS = 256;
/** Results remembered for each session; a client has fewer in flight for one chunk. */
const MAX_RESULTS = 64;

export interface MutationResult {
  readonly offset: number;
  readonly length: number;
}

interface SessionResults {
  /** Sequences at or below it are no longer remembered. */
  floor: number;
  readonly bySequence: Map<number, MutationResult>;
}

export const resultsCodec = list(
  struct({
    session: u53,
    floor: u53,
    results: list(struct({ sequence: u53, offset: u53, length: u32 }), MAX_RESULTS),
  }),
  MAX_SESSIONS,
);

export class ResultTable {
  /** In order of use: the session that has been quiet longest first. */
  readonly #sessions = new Map<number, SessionResults>();

  get isEmpty(): boolean {
    return this.#sessions.size === 0;
  }

  /**
   * The result of a mutation that was done, undefined for a new one.
   * @throws UNKNOWN_OUTCOME when it is too old to be remembered
   */
  find(session: number, sequence: number): MutationResult | undefined {
    const results = this.#sessions.get(session);
    if (results === undefined) return undefined;
    const found = results.bySequence.get(sequence);
    if (found === undefined && sequence <= results.floor) {
      throw new GfsError(
        'UNKNOWN_OUTCOME',
        `mutation ${sequence} of session ${session} is no longer remembered`,
      );
    }
    return found;
  }

  add(session: number, sequence: number, result: MutationResult): void {
    if (session === 0 || sequence === 0) return;
    const results = this.#sessions.get(session) ?? { floor: 0, bySequence: new Map() };
    this.#sessions.delete(session);
    this.#sessions.set(session, results);
    results.bySequence.set(sequence, result);
    if (results.bySequence.size > MAX_RESULTS) {
      const oldest = Math.min(...results.bySequence.keys());
      results.bySequence.delete(oldest);
      results.floor = Math.max(results.floor, oldest);
    }
    if (this.#sessions.size > MAX_SESSIONS) {
      this.#sessions.delete(this.#sessions.keys().next().value as number);
    }
  }

  copy(): ResultTable {
    const copy = new ResultTable();
    for (const [session, { floor, bySequence }] of this.#sessions) {
      copy.#sessions.set(session, { floor, bySequence: new Map(bySequence) });
    }
    return copy;
  }

  encode(): unknown {
    return resultsCodec.encode(
      [...this.#sessions].map(([session, { floor, bySequence }]) => ({
        session,
        floor,
        results: [...bySequence].map(([sequence, result]) => ({ sequence, ...result })),
      })),
    );
  }

  /** @throws MALFORMED */
  static decode(raw: unknown): ResultTable {
    const table = new ResultTable();
    for (const { session, floor, results } of resultsCodec.decode(raw, 'results')) {
      const bySequence = new Map(
        results.map(({ sequence, offset, length }) => [sequence, { offset, length }]),
      );
      table.#sessions.set(session, { floor, bySequence });
    }
    return table;
  }
}
