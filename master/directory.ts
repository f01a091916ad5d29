import type { EntryTable } from './entry-table.js';
import { RowOrder } from './tables/row-order.js';

/** A name in a directory, as it is now: do not keep it. */
export interface Entry {
  /** Its row in the table of entries. */
  readonly row: number;
  readonly name: string;
  /** The node that it leads to. */
  readonly node: number;
  /** Its place in the listing. Grows with creation and never changes while the entry lives. */
  readonly cookie: number;
}

/** The entries of one directory, by name and in the order of their cookies. */
export class Directory {
  readonly #table: EntryTable;
  /** Of the directory, in the table of nodes. */
  readonly #nodeRow: number;
  readonly #order: RowOrder;
  /** The full path as of `cachedPathMoves`; derived, never compared or dumped. */
  cachedPath: string | undefined;
  cachedPathMoves = 0;

  constructor(table: EntryTable, nodeRow: number) {
    this.#table = table;
    this.#nodeRow = nodeRow;
    this.#order = new RowOrder((row) => table.cookie(row));
  }

  /** The rows of its entries in the order of their cookies, for the image of the state. */
  get rows(): Iterable<number> {
    return this.#order;
  }

  /** Takes in an entry that the table has already. INVARIANT: in the order of the cookies. */
  load(row: number): void {
    this.#order.push(row);
  }

  get size(): number {
    return this.#order.size;
  }

  get(name: string): Entry | undefined {
    const row = this.#table.find(this.#nodeRow, name);
    return row === 0 ? undefined : this.#table.entry(row, name);
  }

  /** INVARIANT: the name is free, and `cookie` is above every other one. */
  add(name: string, node: number, cookie: number): Entry {
    const row = this.#table.add(this.#nodeRow, name, node, cookie);
    this.#order.push(row);
    return { row, name, node, cookie };
  }

  remove(entry: Entry): void {
    this.#order.remove(entry.row);
    this.#table.remove(entry.row);
  }

  /**
   * Gives an entry another name and leaves it in its place, so that a program that renames while it
   * lists does not meet the same file for ever.
   */
  rename(entry: Entry, newName: string): void {
    this.#table.rename(entry.row, newName);
  }

  /** Has an entry lead to another node. */
  retarget(entry: Entry, node: number): void {
    this.#table.retarget(entry.row, node);
  }

  /** Up to `limit` entries after `cookie`. */
  page(cookie: number, limit: number): Entry[] {
    return this.#order.page(cookie, limit).map((row) => this.#table.entry(row));
  }

  *[Symbol.iterator](): IterableIterator<Entry> {
    for (const row of this.#order) yield this.#table.entry(row);
  }
}
