/**
 * What an fsync has to cover: the chunks that were written from here and not flushed to disk since, also
 * when their file was closed and opened again in between.
 */

import type { Logger } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';

/**
 * Of the writes the boot ids of the replicas that took each (as NFS write verifiers). A write is safe once a
 * replica that is still of the same boot has flushed. INVARIANT: a new array for every change, so that
 * what a flush under way covers is told by identity.
 */
export type Verifiers = readonly ReadonlySet<number>[];

/** For each chunk above the bound: one that cannot be flushed now must not keep the others. */
const FLUSHED_PER_CHUNK = 2;
/** Of those that no longer fit. */
const FLUSHES_IN_FLIGHT = 64;
/** Of a file. */
const SYNCS_IN_FLIGHT = 8;

/** Resolves to the boot ids of the replicas that have flushed a chunk, or undefined when it is not there any more. */
type Flushed = Promise<readonly number[] | undefined>;

export class UnsyncedChunks {
  readonly #files = new Map<number, Map<number, Verifiers>>();
  readonly #maxCount: number;
  readonly #flush: (id: number, index: number) => Flushed;
  readonly #logger: Pick<Logger, 'warn'>;
  /** What is being flushed because it no longer fits. */
  readonly #leaving = new Set<Verifiers>();
  /** Flushes that are still to be begun because something no longer fitted. */
  #dueCount = 0;
  #count = 0;

  /**
   * @param maxCount chunks that are remembered; more only while the oldest are on their way to disk, or cannot get there
   * @param flush flushes a chunk that no longer fits
   */
  constructor(maxCount: number, flush: (id: number, index: number) => Flushed, logger: Pick<Logger, 'warn'>) {
    this.#maxCount = maxCount;
    this.#flush = flush;
    this.#logger = logger;
  }

  get size(): number {
    return this.#count;
  }

  /** A write reached these replicas. */
  note(id: number, index: number, verifiers: readonly number[]): void {
    this.#set(id, index, withWrite(this.at(id, index) ?? [], new Set(verifiers)));
  }

  /** The chunk has taken the place of what was there, with the writes that are in it. */
  replace(id: number, index: number, verifiers: Verifiers): void {
    this.#set(id, index, [...verifiers]);
  }

  /** The chunks of a file, as they are now. */
  of(id: number): [index: number, verifiers: Verifiers][] {
    return [...(this.#files.get(id) ?? [])];
  }

  /** What is known of one of them. */
  at(id: number, index: number): Verifiers | undefined {
    return this.#files.get(id)?.get(index);
  }

  /** Has what was written to a file until now flushed to disk. @throws REPLICA_FAILED when something is lost */
  async sync(id: number, flush: (index: number) => Flushed): Promise<void> {
    const chunks = this.of(id);
    while (chunks.length > 0) {
      const some = chunks.splice(0, SYNCS_IN_FLIGHT);
      await Promise.all(some.map(([index, verifiers]) => this.#syncChunk(id, index, verifiers, flush)));
    }
  }

  async #syncChunk(
    id: number,
    index: number,
    verifiers: Verifiers,
    flush: (index: number) => Flushed,
  ): Promise<void> {
    const flushedBy = await flush(index);
    // Once told, a loss is not told again: as on a local disk, the next fsync is about later writes.
    this.forget(id, index, verifiers);
    // A replica whose host has booted since may have lost what it had not flushed; where one has not, the
    // others were made equal to it. Where all have, nobody can say that the data is there.
    if (flushedBy !== undefined && !coversAll(verifiers, flushedBy)) {
      throw new GfsError(
        'REPLICA_FAILED',
        `every replica of chunk ${index} lost its memory before the flush`,
      );
    }
  }

  /** These replicas have flushed all that was written before. */
  noteFlushed(id: number, index: number, flushedBy: readonly number[]): void {
    const verifiers = this.at(id, index);
    if (verifiers !== undefined && coversAll(verifiers, flushedBy)) this.forget(id, index, verifiers);
  }

  /** They were flushed; what was written meanwhile stays. */
  forget(id: number, index: number, verifiers: Verifiers): void {
    const chunks = this.#files.get(id);
    if (chunks === undefined || chunks.get(index) !== verifiers) return;
    this.#remove(id, chunks, index);
  }

  /** The file has none of these chunks any more, from `from` to before `to`. */
  cut(id: number, from: number, to = Number.POSITIVE_INFINITY): void {
    const chunks = this.#files.get(id);
    if (chunks === undefined) return;
    for (const index of [...chunks.keys()]) if (index >= from && index < to) this.#remove(id, chunks, index);
  }

  #set(id: number, index: number, verifiers: Verifiers): void {
    const chunks = this.#files.get(id) ?? new Map<number, Verifiers>();
    this.#files.set(id, chunks);
    const known = chunks.get(index);
    chunks.set(index, verifiers);
    if (known !== undefined) {
      this.#leaving.delete(known);
      return;
    }
    this.#count++;
    if (!this.#isFull) return;
    this.#dueCount += FLUSHED_PER_CHUNK;
    this.#flushDue();
  }

  get #isFull(): boolean {
    return this.#count - this.#leaving.size > this.#maxCount;
  }

  #remove(id: number, chunks: Map<number, Verifiers>, index: number): void {
    this.#leaving.delete(chunks.get(index) as Verifiers);
    chunks.delete(index);
    this.#count--;
    if (chunks.size === 0) this.#files.delete(id);
  }

  #flushDue(): void {
    while (this.#dueCount > 0 && this.#leaving.size < FLUSHES_IN_FLIGHT) {
      const oldest = this.#isFull ? this.#oldest() : undefined;
      if (oldest === undefined) {
        this.#dueCount = 0;
        return;
      }
      this.#dueCount--;
      void this.#flushUnasked(...oldest);
    }
  }

  #oldest(): [id: number, index: number, verifiers: Verifiers] | undefined {
    for (const [id, chunks] of this.#files)
      for (const [index, verifiers] of chunks)
        if (!this.#leaving.has(verifiers)) return [id, index, verifiers];
    return undefined;
  }

  async #flushUnasked(id: number, index: number, verifiers: Verifiers): Promise<void> {
    this.#leaving.add(verifiers);
    try {
      const flushedBy = await this.#flush(id, index);
      if (flushedBy === undefined || coversAll(verifiers, flushedBy)) this.forget(id, index, verifiers);
    } catch (thrown) {
      const error = toGfsError(thrown);
      // The file was deleted: nobody can have it flushed any more.
      if (error.code === 'STALE_NODE') this.cut(id, 0);
      else this.#logger.warn({ err: error, id, index }, 'a chunk could not be flushed');
    }
    this.#leaving.delete(verifiers);
    this.#postpone(id, index);
    this.#flushDue();
  }

  /** Where it could not be flushed, or was written to meanwhile, it is the others' turn first. */
  #postpone(id: number, index: number): void {
    const chunks = this.#files.get(id);
    const verifiers = chunks?.get(index);
    if (chunks === undefined || verifiers === undefined) return;
    chunks.delete(index);
    chunks.set(index, verifiers);
    this.#files.delete(id);
    this.#files.set(id, chunks);
  }
}

/** Adds the replicas of one more write. A set that contains another is implied by it. */
function withWrite(known: Verifiers, added: ReadonlySet<number>): Verifiers {
  if (known.some((set) => isSubset(set, added))) return [...known];
  return [...known.filter((set) => !isSubset(added, set)), added];
}

function isSubset(inner: ReadonlySet<number>, outer: ReadonlySet<number>): boolean {
  for (const verifier of inner) if (!outer.has(verifier)) return false;
  return true;
}

/** Whether a flush that these replicas answered covers every write. */
export function coversAll(verifiers: Verifiers, flushedBy: readonly number[]): boolean {
  return verifiers.every((set) => flushedBy.some((verifier) => set.has(verifier)));
}
