/**
 * Rows of a fixed number of 32-bit words, packed into blocks that never move: a table of a million rows
 * is a few hundred buffers outside of the heap, which the collector does not walk, and growing costs one
 * more block, never a copy. Fields that are doubles take two words, at an even one.
 *
 * INVARIANT: words 0 and 1 of a row are its key, as a double above 0; a free row has 0 there and the
 * next free row in word 2. Row 0 is nobody's and stands for "none".
 */
import { assert } from '../assert.js';

const BLOCK_SHIFT = 10;
const BLOCK_ROWS = 1 << BLOCK_SHIFT;
const IN_BLOCK = BLOCK_ROWS - 1;
const NEXT_FREE = 2;
const MAX_ROWS = 0xffff_ffff;

export class Rows {
  readonly #wordsPerRow: number;
  readonly #doublesPerRow: number;
  readonly #words: Uint32Array[] = [];
  readonly #doubles: Float64Array[] = [];
  #end = 1;
  #firstFree = 0;
  #size = 0;

  /** @param wordsPerRow even, and at least 4 */
  constructor(wordsPerRow: number) {
    this.#wordsPerRow = wordsPerRow;
    this.#doublesPerRow = wordsPerRow / 2;
    this.#addBlock();
  }

  /** Rows in use. */
  get size(): number {
    return this.#size;
  }

  /** One more than the highest row ever used. */
  get end(): number {
    return this.#end;
  }

  get memoryBytes(): number {
    return this.#words.length * BLOCK_ROWS * this.#wordsPerRow * 4;
  }

  u32(row: number, word: number): number {
    return (this.#words[row >>> BLOCK_SHIFT] as Uint32Array)[
      (row & IN_BLOCK) * this.#wordsPerRow + word
    ] as number;
  }

  setU32(row: number, word: number, value: number): void {
    (this.#words[row >>> BLOCK_SHIFT] as Uint32Array)[(row & IN_BLOCK) * this.#wordsPerRow + word] = value;
  }

  /** @param word even */
  f64(row: number, word: number): number {
    return (this.#doubles[row >>> BLOCK_SHIFT] as Float64Array)[
      (row & IN_BLOCK) * this.#doublesPerRow + (word >>> 1)
    ] as number;
  }

  setF64(row: number, word: number, value: number): void {
    (this.#doubles[row >>> BLOCK_SHIFT] as Float64Array)[
      (row & IN_BLOCK) * this.#doublesPerRow + (word >>> 1)
    ] = value;
  }

  /** 0 when the row is free. */
  key(row: number): number {
    return this.f64(row, 0);
  }

  /** A row with that key and zeros. */
  add(key: number): number {
    let row = this.#firstFree;
    if (row !== 0) {
      this.#firstFree = this.u32(row, NEXT_FREE);
      this.setU32(row, NEXT_FREE, 0);
    } else {
      row = this.#end++;
      assert(row < MAX_ROWS, 'a table is full');
      if (row >>> BLOCK_SHIFT === this.#words.length) this.#addBlock();
    }
    this.setF64(row, 0, key);
    this.#size++;
    return row;
  }

  free(row: number): void {
    const block = this.#words[row >>> BLOCK_SHIFT] as Uint32Array;
    const at = (row & IN_BLOCK) * this.#wordsPerRow;
    block.fill(0, at, at + this.#wordsPerRow);
    this.setU32(row, NEXT_FREE, this.#firstFree);
    this.#firstFree = row;
    this.#size--;
  }

  get wordsPerRow(): number {
    return this.#wordsPerRow;
  }

  /** The bytes of rows from `first` on, as many as lie together; they are the table's own memory. */
  bytesFrom(first: number): Uint8Array {
    const words = this.#words[first >>> BLOCK_SHIFT] as Uint32Array;
    const from = first & IN_BLOCK;
    const to = Math.min(BLOCK_ROWS, from + this.#end - first);
    const rowBytes = this.#wordsPerRow * 4;
    return new Uint8Array(words.buffer, from * rowBytes, (to - from) * rowBytes);
  }

  /** Puts rows where they were, from their bytes; {@link restore} makes the table whole after the last. */
  load(first: number, bytes: Uint8Array): void {
    const rowBytes = this.#wordsPerRow * 4;
    for (let row = first, at = 0; at < bytes.byteLength; ) {
      while (row >>> BLOCK_SHIFT >= this.#words.length) this.#addBlock();
      const words = this.#words[row >>> BLOCK_SHIFT] as Uint32Array;
      const count = Math.min(BLOCK_ROWS - (row & IN_BLOCK), (bytes.byteLength - at) / rowBytes);
      const into = new Uint8Array(words.buffer, (row & IN_BLOCK) * rowBytes, count * rowBytes);
      into.set(bytes.subarray(at, at + into.byteLength));
      at += into.byteLength;
      row += count;
      this.#end = Math.max(this.#end, row);
    }
  }

  /** After {@link load}: finds the free rows. */
  restore(): void {
    this.#firstFree = 0;
    this.#size = 0;
    for (let row = this.#end - 1; row > 0; row--) {
      if (this.key(row) !== 0) {
        this.#size++;
      } else {
        this.setU32(row, NEXT_FREE, this.#firstFree);
        this.#firstFree = row;
      }
    }
  }

  #addBlock(): void {
    const buffer = new ArrayBuffer(BLOCK_ROWS * this.#wordsPerRow * 4);
    this.#words.push(new Uint32Array(buffer));
    this.#doubles.push(new Float64Array(buffer));
  }
}
