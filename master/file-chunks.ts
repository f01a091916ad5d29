/**
 * The chunks of one file, by index. Most files have one, at index 0: its handle is in the node's row.
 * Those with more, or with a truncation pending, have a {@link ChunkList} of their own.
 */
import { ChunkList } from './chunk-list.js';
import { NodeWord } from './node-row.js';
import type { NodeTable } from './node-table.js';

/** A view, as short-lived as the {@link Node} that it came from. */
export class FileChunks {
  readonly #table: NodeTable;
  readonly #row: number;

  constructor(table: NodeTable, row: number) {
    this.#table = table;
    this.#row = row;
  }

  get isEmpty(): boolean {
    return this.#only === 0 && this.#list === undefined;
  }

  get size(): number {
    return this.#list?.size ?? (this.#only === 0 ? 0 : 1);
  }

  /** One more than the highest index; 0 when there is none. */
  get end(): number {
    return this.#list?.end ?? (this.#only === 0 ? 0 : 1);
  }

  /** The handle at `index`, 0 for a hole. */
  get(index: number): number {
    return this.#list?.get(index) ?? (index === 0 ? this.#only : 0);
  }

  set(index: number, handle: number): void {
    if (index === 0 && this.#list === undefined) this.#setOnly(handle);
    else this.#change((list) => list.set(index, handle));
  }

  /** Makes a hole at `index`, with what was pending there; returns the handle that was there, or 0. */
  remove(index: number): number {
    return this.#change((list) => list.remove(index));
  }

  /** The indexes from `from` to before `to` that have a chunk, in order. */
  indexes(from: number, to: number): number[] {
    return this.#list?.indexes(from, to) ?? (this.#only !== 0 && from <= 0 && to > 0 ? [0] : []);
  }

  /** Takes the chunks from `index` on out of the list, with what was pending on them; returns their handles. */
  cutFrom(index: number): number[] {
    return this.#change((list) => list.cutFrom(index));
  }

  /** Index and handle of every chunk, in order. */
  entries(): [number, number][] {
    return this.#list?.entries() ?? (this.#only === 0 ? [] : [[0, this.#only]]);
  }

  /** The handles from `index` on, in order. */
  handles(index = 0): number[] {
    return this.#list?.handles(index) ?? (this.#only === 0 || index > 0 ? [] : [this.#only]);
  }

  /** Bytes of the chunk that count, or undefined when all do. */
  pendingTruncation(index: number): number | undefined {
    return this.#list?.pendingTruncation(index);
  }

  /** Cuts to the shorter of this and what is pending already. */
  addPendingTruncation(index: number, validBytes: number): void {
    this.#change((list) => list.addPendingTruncation(index, validBytes));
  }

  clearPendingTruncation(index: number): void {
    if (this.#list !== undefined) this.#change((list) => list.clearPendingTruncation(index));
  }

  pendingTruncations(): [number, number][] {
    return this.#list?.pendingTruncations() ?? [];
  }

  /** Becomes a copy of another file's. */
  copyFrom(other: FileChunks): void {
    const list = other.#list;
    if (list === undefined) this.#setOnly(other.#only);
    else this.#table.chunkLists.set(this.#row, list.copy());
  }

  get #only(): number {
    return this.#table.rows.f64(this.#row, NodeWord.CHUNK);
  }

  #setOnly(handle: number): void {
    this.#table.rows.setF64(this.#row, NodeWord.CHUNK, handle);
  }

  get #list(): ChunkList | undefined {
    const { chunkLists } = this.#table;
    return chunkLists.size === 0 ? undefined : chunkLists.get(this.#row);
  }

  /** Changes the list, which is made for it, and goes back to the row where that holds all of it again. */
  #change<T>(change: (list: ChunkList) => T): T {
    const { chunkLists } = this.#table;
    let list = this.#list;
    if (list === undefined) {
      list = new ChunkList();
      if (this.#only !== 0) list.set(0, this.#only);
      chunkLists.set(this.#row, list);
      this.#setOnly(0);
    }
    const result = change(list);
    if (list.end <= 1 && !list.hasPendingTruncations) {
      this.#setOnly(list.get(0));
      chunkLists.delete(this.#row);
    }
    return result;
  }
}
