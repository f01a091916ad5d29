/**
 * All nodes, packed: 80 bytes each, whatever is rare of a node in side tables by its row. What callers
 * get is a {@link Node}, a short-lived view of a row.
 */
import { assert } from './assert.js';
import type { ChunkList } from './chunk-list.js';
import { Directory } from './directory.js';
import { EntryTable } from './entry-table.js';
import { isDirectory } from './mode.js';
import { Node } from './node.js';
import { NODE_WORDS, NodeWord } from './node-row.js';
import type { Link, NewNode } from './state.js';
import { RowIndex } from './tables/row-index.js';
import { Rows } from './tables/rows.js';

/** Seconds from 1901 to 2446 and nanoseconds below 2^30 share 64 bits, as in ext4; others have {@link Packing.ODD}. */
const Packing = { FIRST_SECOND: -(2 ** 31), SECONDS: 2 ** 34, NSEC: 2 ** 30 - 1, ODD: 2 ** 30 - 1 } as const;
const MAX_NSEC = 999_999_999;

export class NodeTable {
  readonly rows = new Rows(NODE_WORDS);
  readonly entries: EntryTable;
  readonly directories = new Map<number, Directory>();
  readonly otherLinks = new Map<number, Link[]>();
  readonly chunkLists = new Map<number, ChunkList>();
  readonly targets = new Map<number, string>();
  readonly xattrs = new Map<number, Map<string, Uint8Array>>();
  readonly rdevs = new Map<number, number>();
  /** Times that do not fit a row, by row and word. */
  readonly oddTimes = new Map<number, readonly [sec: number, nsec: number]>();
  readonly #index: RowIndex;

  constructor(seed: number) {
    this.#index = new RowIndex(this.rows, NodeWord.NEXT, (row) => this.rows.key(row) >>> 0);
    this.entries = new EntryTable(this, seed);
  }

  get size(): number {
    return this.rows.size;
  }

  /** What the packed part takes; side tables not counted. */
  get memoryBytes(): number {
    return this.rows.memoryBytes + this.#index.memoryBytes + this.entries.memoryBytes;
  }

  has(id: number): boolean {
    return this.rowOf(id) !== 0;
  }

  get(id: number): Node | undefined {
    const row = this.rowOf(id);
    return row === 0 ? undefined : new Node(this, row, id);
  }

  /** In no particular order. What comes or goes meanwhile may be missed, nothing comes twice. */
  *values(): IterableIterator<Node> {
    for (let row = 1; row < this.rows.end; row++) {
      const id = this.rows.key(row);
      if (id !== 0) yield new Node(this, row, id);
    }
  }

  /** INVARIANT: the id is new. */
  add({ id, mode, uid, gid, rdev, time }: NewNode): Node {
    assert(!this.has(id), `node ${id} twice`);
    const row = this.rows.add(id);
    this.#index.insert(row, id >>> 0);
    if (isDirectory(mode)) this.directories.set(row, new Directory(this.entries, row));
    if (rdev !== 0) this.rdevs.set(row, rdev);
    const node = new Node(this, row, id);
    node.mode = mode;
    node.uid = uid;
    node.gid = gid;
    node.nlink = isDirectory(mode) ? 2 : 1;
    for (const word of [NodeWord.ATIME, NodeWord.MTIME, NodeWord.CTIME])
      this.setTime(row, word, time.timeSec, time.timeNsec);
    return node;
  }

  /** INVARIANT: it has no name any more. */
  delete(id: number): void {
    const row = this.rowOf(id);
    assert(row !== 0, `node ${id} is not there`);
    this.#index.remove(row, id >>> 0);
    this.directories.delete(row);
    this.otherLinks.delete(row);
    this.chunkLists.delete(row);
    this.targets.delete(row);
    this.xattrs.delete(row);
    this.rdevs.delete(row);
    for (const word of [NodeWord.ATIME, NodeWord.MTIME, NodeWord.CTIME]) this.#forgetOdd(row, word);
    this.rows.free(row);
  }

  /** After rows, entries and side tables were loaded. */
  restore(): void {
    this.rows.restore();
    this.#index.rebuild();
    this.entries.restore();
  }

  rowOf(id: number): number {
    const { rows } = this;
    let row = this.#index.first(id >>> 0);
    while (row !== 0 && rows.key(row) !== id) row = this.#index.next(row);
    return row;
  }

  idAt(row: number): number {
    return this.rows.key(row);
  }

  seconds(row: number, word: number): number {
    const low = this.rows.u32(row, word);
    if ((low & Packing.NSEC) === Packing.ODD) return this.#odd(row, word)[0];
    return this.rows.u32(row, word + 1) * 4 + (low >>> 30) + Packing.FIRST_SECOND;
  }

  nanoseconds(row: number, word: number): number {
    const nsec = this.rows.u32(row, word) & Packing.NSEC;
    return nsec === Packing.ODD ? this.#odd(row, word)[1] : nsec;
  }

  setTime(row: number, word: number, sec: number, nsec: number): void {
    const { rows } = this;
    this.#forgetOdd(row, word);
    const since = sec - Packing.FIRST_SECOND;
    if (since < 0 || since >= Packing.SECONDS || nsec > MAX_NSEC) {
      this.oddTimes.set(oddKey(row, word), [sec, nsec]);
      rows.setU32(row, word, Packing.ODD);
      rows.setU32(row, word + 1, 0);
      return;
    }
    rows.setU32(row, word, (since % 4) * 2 ** 30 + nsec);
    rows.setU32(row, word + 1, Math.floor(since / 4));
  }

  #odd(row: number, word: number): readonly [number, number] {
    const time = this.oddTimes.get(oddKey(row, word));
    assert(time !== undefined, `row ${row} of the nodes has no time`);
    return time;
  }

  #forgetOdd(row: number, word: number): void {
    if (this.oddTimes.size > 0) this.oddTimes.delete(oddKey(row, word));
  }
}

function oddKey(row: number, word: number): number {
  return row * NODE_WORDS + word;
}
