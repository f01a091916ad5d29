/** The names of all directories, packed: the lookup table of the namespace (paper §4.1). */
import { assert } from './assert.js';
import type { Entry } from './directory.js';
import { hashName, NameArena } from './tables/name-arena.js';
import { RowIndex } from './tables/row-index.js';
import { Rows } from './tables/rows.js';

/** Words of a row (docs/formats/checkpoint.md); words 0 and 1 are the cookie. */
const Word = { DIRECTORY: 2, NODE: 3, NAME: 4, NEXT: 5 } as const;
export const ENTRY_WORDS = 6;

/** What the entries need of the table of nodes. */
export interface NodeRows {
  /** 0 when there is no such node. */
  rowOf(id: number): number;
  idAt(row: number): number;
}

export class EntryTable {
  readonly #nodes: NodeRows;
  readonly #rows = new Rows(ENTRY_WORDS);
  readonly #names = new NameArena();
  readonly #index: RowIndex;
  readonly #seed: number;

  /** @param seed of the hash, so that nobody can choose names that all fall together */
  constructor(nodes: NodeRows, seed: number) {
    this.#nodes = nodes;
    this.#seed = seed;
    this.#index = new RowIndex(this.#rows, Word.NEXT, (row) => this.#hashAt(row));
  }

  get memoryBytes(): number {
    return this.#rows.memoryBytes + this.#index.memoryBytes + this.#names.memoryBytes;
  }

  /** For the image of the state (state-image.ts). */
  get parts(): { readonly rows: Rows; readonly names: NameArena } {
    return { rows: this.#rows, names: this.#names };
  }

  /** After the parts were loaded. */
  restore(): void {
    this.#rows.restore();
    this.#index.rebuild();
  }

  /** 0 when the directory has no such name. */
  find(directoryRow: number, name: string): number {
    const index = this.#index;
    let row = index.first(hashName(name, this.#seedOf(directoryRow)));
    while (row !== 0 && !this.#is(row, directoryRow, name)) row = index.next(row);
    return row;
  }

  add(directoryRow: number, name: string, node: number, cookie: number): number {
    const row = this.#rows.add(cookie);
    this.#rows.setU32(row, Word.DIRECTORY, directoryRow);
    this.#rows.setU32(row, Word.NODE, this.#rowOf(node));
    this.#rows.setU32(row, Word.NAME, this.#names.add(name));
    this.#index.insert(row, this.#hashAt(row));
    return row;
  }

  remove(row: number): void {
    this.#index.remove(row, this.#hashAt(row));
    this.#names.free(this.#rows.u32(row, Word.NAME));
    this.#rows.free(row);
  }

  rename(row: number, name: string): void {
    this.#index.remove(row, this.#hashAt(row));
    this.#names.free(this.#rows.u32(row, Word.NAME));
    this.#rows.setU32(row, Word.NAME, this.#names.add(name));
    this.#index.insert(row, this.#hashAt(row));
  }

  retarget(row: number, node: number): void {
    this.#rows.setU32(row, Word.NODE, this.#rowOf(node));
  }

  cookie(row: number): number {
    return this.#rows.key(row);
  }

  name(row: number): string {
    return this.#names.get(this.#rows.u32(row, Word.NAME));
  }

  /** The id of the directory that the entry is in. */
  directory(row: number): number {
    return this.#nodes.idAt(this.#rows.u32(row, Word.DIRECTORY));
  }

  /** @param name where the caller has it already */
  entry(row: number, name = this.name(row)): Entry {
    return { row, name, node: this.#nodes.idAt(this.#rows.u32(row, Word.NODE)), cookie: this.cookie(row) };
  }

  #is(row: number, directoryRow: number, name: string): boolean {
    return (
      this.#rows.u32(row, Word.DIRECTORY) === directoryRow &&
      this.#names.equals(this.#rows.u32(row, Word.NAME), name)
    );
  }

  #hashAt(row: number): number {
    const seed = this.#seedOf(this.#rows.u32(row, Word.DIRECTORY));
    return this.#names.hash(this.#rows.u32(row, Word.NAME), seed);
  }

  #seedOf(directoryRow: number): number {
    return this.#seed ^ Math.imul(directoryRow, 0x9e37_79b1);
  }

  #rowOf(node: number): number {
    const row = this.#nodes.rowOf(node);
    assert(row !== 0, `node ${node} is not there`);
    return row;
  }
}
