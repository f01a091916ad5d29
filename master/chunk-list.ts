/**
 * The chunks of one file, by index, sparse: a file of one chunk costs two numbers, one with a hole of a
 * petabyte no more. Pairs of index and handle lie flat in one array, sorted by index.
 */
export class ChunkList {
  #pairs: number[] = [];
  /** index → bytes of the chunk that are still the file's; the next lease cuts the rest off. */
  #pendingTruncations: Map<number, number> | undefined;

  /** From what {@link entries} and {@link pendingTruncations} gave. */
  static of(entries: readonly [number, number][], pending: readonly [number, number][]): ChunkList {
    const list = new ChunkList();
    list.#pairs = entries.flat();
    if (pending.length > 0) list.#pendingTruncations = new Map(pending);
    return list;
  }

  get size(): number {
    return this.#pairs.length / 2;
  }

  /** One more than the highest index; 0 when there is none. */
  get end(): number {
    return this.#pairs.length === 0 ? 0 : (this.#pairs[this.#pairs.length - 2] as number) + 1;
  }

  /** The handle at `index`, 0 for a hole. */
  get(index: number): number {
    const at = this.#find(index);
    return this.#pairs[at] === index ? (this.#pairs[at + 1] as number) : 0;
  }

  set(index: number, handle: number): void {
    const at = this.#find(index);
    if (this.#pairs[at] === index) this.#pairs[at + 1] = handle;
    else if (at === this.#pairs.length) this.#pairs.push(index, handle);
    else this.#pairs.splice(at, 0, index, handle);
  }

  /** Makes a hole at `index`, with nothing pending on it; returns the handle that was there, or 0. */
  remove(index: number): number {
    this.#pendingTruncations?.delete(index);
    const at = this.#find(index);
    if (this.#pairs[at] !== index) return 0;
    return this.#pairs.splice(at, 2)[1] as number;
  }

  /** The indexes from `from` to before `to` that have a chunk, in order. */
  indexes(from: number, to: number): number[] {
    const out: number[] = [];
    for (let at = this.#find(from); at < this.#pairs.length && (this.#pairs[at] as number) < to; at += 2)
      out.push(this.#pairs[at] as number);
    return out;
  }

  /** Takes the chunks from `index` on out of the list, with what was pending on them; returns their handles. */
  cutFrom(index: number): number[] {
    const cut = this.#pairs.splice(this.#find(index));
    if (this.#pendingTruncations !== undefined) {
      for (const pending of this.#pendingTruncations.keys()) {
        if (pending >= index) this.#pendingTruncations.delete(pending);
      }
    }
    return cut.filter((_, position) => position % 2 === 1);
  }

  /** Index and handle of every chunk, in order. */
  entries(): [number, number][] {
    const out: [number, number][] = [];
    for (let at = 0; at < this.#pairs.length; at += 2)
      out.push([this.#pairs[at] as number, this.#pairs[at + 1] as number]);
    return out;
  }

  /** The handles from `index` on, in order. */
  handles(index = 0): number[] {
    return this.#pairs.slice(this.#find(index)).filter((_, position) => position % 2 === 1);
  }

  /** Bytes of the chunk that count, or undefined when all do. */
  pendingTruncation(index: number): number | undefined {
    return this.#pendingTruncations?.get(index);
  }

  /** Cuts to the shorter of this and what is pending already. */
  addPendingTruncation(index: number, validBytes: number): void {
    this.#pendingTruncations ??= new Map();
    const before = this.#pendingTruncations.get(index);
    if (before === undefined || validBytes < before) this.#pendingTruncations.set(index, validBytes);
  }

  clearPendingTruncation(index: number): void {
    this.#pendingTruncations?.delete(index);
  }

  get hasPendingTruncations(): boolean {
    return this.#pendingTruncations !== undefined && this.#pendingTruncations.size > 0;
  }

  pendingTruncations(): [number, number][] {
    return [...(this.#pendingTruncations ?? [])].sort((a, b) => a[0] - b[0]);
  }

  copy(): ChunkList {
    const copy = new ChunkList();
    copy.#pairs = this.#pairs.slice();
    if (this.#pendingTruncations?.size) copy.#pendingTruncations = new Map(this.#pendingTruncations);
    return copy;
  }

  /** Where the pair of `index` is, or would be inserted. */
  #find(index: number): number {
    const pairs = this.#pairs;
    // Nearly always the caller wants the end: files grow there.
    if (pairs.length === 0 || (pairs[pairs.length - 2] as number) < index) return pairs.length;
    let low = 0;
    let high = pairs.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((pairs[middle * 2] as number) < index) low = middle + 1;
      else high = middle;
    }
    return low * 2;
  }
}
