/**
 * What has been done to a chunk, by (session, sequence): a retry gets the first result, and a delayed
 * duplicate cannot land on later data. Part of the chunk, so every replica has it, and a copy too.
 */
import { Packr } from 'msgpackr';
import { GfsError } from '../../protocol/errors.js';
import { list, struct, u32, u53 } from '../../protocol/schema.js';

/** Sessions remembered for each chunk; of more, the one that has been quiet longest is forgotten. */
const MAX_SESSIONS = 256;
/** Results remembered for each session; a client has fewer in flight for one chunk. */
const MAX_RESULTS = 64;

/**
 * Whose the spills are that a chunk took, which exact appends had left over in the chunk before it. Their
 * sequences are serials of that chunk, so they grow, also from one primary of it to the next.
 */
export const SPILL_SESSION = Number.MAX_SAFE_INTEGER;

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

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, moreTypes: false });

function unpackOrFail(packed: Uint8Array): unknown {
  try {
    return packr.unpack(packed as Buffer);
  } catch (cause) {
    throw new GfsError('MALFORMED', 'results are not msgpack', { cause });
  }
}

export class ResultTable {
  /** In order of use: the session that has been quiet longest first. */
  readonly #sessions = new Map<number, SessionResults>();

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

  /** The latest that a session did, by its sequence. */
  newest(session: number): { readonly sequence: number; readonly result: MutationResult } | undefined {
    const results = this.#sessions.get(session)?.bySequence;
    if (results === undefined || results.size === 0) return undefined;
    const sequence = Math.max(...results.keys());
    return { sequence, result: results.get(sequence) as MutationResult };
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

  /** The chunk has lost its bytes from `length` on: what had written there was not done, and is to be done when asked for again. */
  forgetBeyond(length: number): void {
    for (const [session, { floor, bySequence }] of this.#sessions) {
      for (const [sequence, result] of bySequence)
        if (result.offset + result.length > length) bySequence.delete(sequence);
      if (bySequence.size === 0 && floor === 0) this.#sessions.delete(session);
    }
  }

  copy(): ResultTable {
    const copy = new ResultTable();
    for (const [session, { floor, bySequence }] of this.#sessions) {
      copy.#sessions.set(session, { floor, bySequence: new Map(bySequence) });
    }
    // The chunk before a copy is a copy too, with serials that begin anew.
    const spill = this.newest(SPILL_SESSION);
    if (spill !== undefined)
      copy.#sessions.set(SPILL_SESSION, { floor: 0, bySequence: new Map([[0, spill.result]]) });
    return copy;
  }

  /** As bytes, for a sidecar, the journal or another replica; none when it is empty. */
  pack(): Uint8Array {
    if (this.#sessions.size === 0) return new Uint8Array(0);
    const sessions = [...this.#sessions].map(([session, { floor, bySequence }]) => ({
      session,
      floor,
      results: [...bySequence].map(([sequence, result]) => ({ sequence, ...result })),
    }));
    // The packer's memory is shared: what is kept is copied.
    return Uint8Array.prototype.slice.call(packr.pack(resultsCodec.encode(sessions)));
  }

  /** @throws MALFORMED */
  static unpack(packed: Uint8Array): ResultTable {
    const table = new ResultTable();
    if (packed.byteLength === 0) return table;
    for (const { session, floor, results } of resultsCodec.decode(unpackOrFail(packed), 'results')) {
      const bySequence = new Map(
        results.map(({ sequence, offset, length }) => [sequence, { offset, length }]),
      );
      table.#sessions.set(session, { floor, bySequence });
    }
    return table;
  }
}
