/**
 * What an fsync has to cover: the chunks that were written from here and not flushed to disk since, also
 * when their file was closed and opened again in between.
 */

/**
 * Of the writes the boot ids of the replicas that took each (as NFS write verifiers). A write is safe once a
 * replica that is still of the same boot has flushed. INVARIANT: a new array for every change, so that
 * what a flush under way covers is told by identity.
 */
export type Verifiers = readonly ReadonlySet<number>[];

/** For each chunk above the bound: one that cannot be flushed now must not keep the others. */
const FLUSHED_PER_CHUNK = 2;

export class UnsyncedChunks {
  readonly #files = new Map<number, Map<number, Verifiers>>();
  readonly #maxCount: number;
  readonly #flush: (id: number, index: number, verifiers: Verifiers) => Promise<void>;
  /** What is being flushed because it no longer fits. */
  readonly #leaving = new Set<Verifiers>();
  #count = 0;

  /**
   * @param maxCount chunks that are remembered
   * @param flush called with a chunk that no longer fits: it has to be flushed, and {@link forget} called then, or
   * {@link cut} where the file is not there any more; resolves whatever has come of it
   */
  constructor(maxCount: number, flush: (id: number, index: number, verifiers: Verifiers) => Promise<void>) {
    this.#maxCount = maxCount;
    this.#flush = flush;
  }

  get size(): number {
    return this.#count;
  }

  /** A write reached these replicas. */
  note(id: number, index: number, verifiers: readonly number[]): void {
    const chunks = this.#files.get(id) ?? new Map<number, Verifiers>();
    this.#files.set(id, chunks);
    const known = chunks.get(index);
    chunks.set(index, withWrite(known ?? [], new Set(verifiers)));
    if (known !== undefined) {
      this.#leaving.delete(known);
      return;
    }
    this.#count++;
    for (let flushed = 0; flushed < FLUSHED_PER_CHUNK && this.#isFull; flushed++) this.#flushOldest();
  }

  /** The chunks of a file, as they are now. */
  of(id: number): [index: number, verifiers: Verifiers][] {
    return [...(this.#files.get(id) ?? [])];
  }

  /** These replicas have flushed all that was written before. */
  noteFlushed(id: number, index: number, flushedBy: readonly number[]): void {
    const verifiers = this.#files.get(id)?.get(index);
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

  get #isFull(): boolean {
    return this.#count - this.#leaving.size > this.#maxCount;
  }

  #remove(id: number, chunks: Map<number, Verifiers>, index: number): void {
    this.#leaving.delete(chunks.get(index) as Verifiers);
    chunks.delete(index);
    this.#count--;
    if (chunks.size === 0) this.#files.delete(id);
  }

  #flushOldest(): void {
    for (const [id, chunks] of this.#files) {
      for (const [index, verifiers] of chunks) {
        if (this.#leaving.has(verifiers)) continue;
        this.#leaving.add(verifiers);
        void this.#flush(id, index, verifiers).then(() => {
          this.#leaving.delete(verifiers);
          this.#postpone(id, index);
        });
        return;
      }
    }
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
