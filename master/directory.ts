/** A name in a directory. */
export interface Entry {
  name: string;
  node: number;
  /** Its place in the listing. Grows with creation and never changes while the entry lives. */
  readonly cookie: number;
}

const SLACK = 32;

/**
 * The entries of one directory, by name and in the order of their cookies. The order is an array with
 * gaps, closed when they outnumber the entries: adding, removing and going on from a cookie cost the
 * same in a directory of a hundred thousand as in one of ten, whatever happens between two pages.
 */
export class Directory {
  readonly #byName = new Map<string, Entry>();
  #cookies: number[] = [];
  #inOrder: (Entry | undefined)[] = [];

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): Entry | undefined {
    return this.#byName.get(name);
  }

  /** INVARIANT: the name is free, and `cookie` is above every other one. */
  add(name: string, node: number, cookie: number): void {
    const entry: Entry = { name, node, cookie };
    this.#byName.set(name, entry);
    this.#cookies.push(cookie);
    this.#inOrder.push(entry);
  }

  remove(entry: Entry): void {
    this.#byName.delete(entry.name);
    this.#inOrder[this.#firstFrom(entry.cookie)] = undefined;
    if (this.#inOrder.length > 2 * this.#byName.size + SLACK) this.#closeGaps();
  }

  /**
   * Gives an entry another name and leaves it in its place, so that a program that renames while it
   * lists does not meet the same file for ever.
   */
  rename(entry: Entry, newName: string): void {
    this.#byName.delete(entry.name);
    entry.name = newName;
    this.#byName.set(newName, entry);
  }

  /** Up to `limit` entries after `cookie`. */
  page(cookie: number, limit: number): Entry[] {
    const out: Entry[] = [];
    for (let at = this.#firstFrom(cookie + 1); at < this.#inOrder.length && out.length < limit; at++) {
      const entry = this.#inOrder[at];
      if (entry !== undefined) out.push(entry);
    }
    return out;
  }

  *[Symbol.iterator](): IterableIterator<Entry> {
    for (const entry of this.#inOrder) if (entry !== undefined) yield entry;
  }

  #firstFrom(cookie: number): number {
    let low = 0;
    let high = this.#cookies.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#cookies[middle] as number) < cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #closeGaps(): void {
    this.#inOrder = this.#inOrder.filter((entry) => entry !== undefined);
    this.#cookies = this.#inOrder.map((entry) => (entry as Entry).cookie);
  }
}
