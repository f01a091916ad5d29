/**
 * Finds rows by a hash: linear hashing (Litwin, VLDB 1980). Each insertion past one row a bucket splits
 * one bucket, so growing never stops the event loop, at a million rows as little as at ten; a removal
 * leaves nothing behind. Rows of one bucket are chained through a word of their own.
 */
import { assert } from '../assert.js';
import type { Rows } from './rows.js';

const BLOCK_SHIFT = 12;
const BLOCK_BUCKETS = 1 << BLOCK_SHIFT;
const IN_BLOCK = BLOCK_BUCKETS - 1;
const FIRST_BUCKETS = 16;

export class RowIndex {
  readonly #rows: Rows;
  readonly #nextWord: number;
  readonly #hashOf: (row: number) => number;
  /** First row of each bucket, 0 when it is empty. */
  readonly #buckets: Uint32Array[] = [new Uint32Array(BLOCK_BUCKETS)];
  #bucketCount = FIRST_BUCKETS;
  /** Covers the buckets of the round under way: `#bucketCount` is above half of it and at most all. */
  #mask = FIRST_BUCKETS - 1;
  #size = 0;

  /**
   * @param nextWord the word of a row that the index may use
   * @param hashOf the hash that a row was inserted under, 32 bits
   */
  constructor(rows: Rows, nextWord: number, hashOf: (row: number) => number) {
    this.#rows = rows;
    this.#nextWord = nextWord;
    this.#hashOf = hashOf;
  }

  get memoryBytes(): number {
    return this.#buckets.length * BLOCK_BUCKETS * 4;
  }

  /** The first row that may have this hash: go on with {@link next}, compare keys. 0 when there is none. */
  first(hash: number): number {
    return this.#head(this.#bucketOf(hash));
  }

  next(row: number): number {
    return this.#rows.u32(row, this.#nextWord);
  }

  insert(row: number, hash: number): void {
    this.#push(this.#bucketOf(hash), row);
    if (++this.#size > this.#bucketCount) this.#split();
  }

  remove(row: number, hash: number): void {
    const bucket = this.#bucketOf(hash);
    const after = this.next(row);
    let at = this.#head(bucket);
    if (at === row) {
      this.#setHead(bucket, after);
    } else {
      while (at !== 0 && this.next(at) !== row) at = this.next(at);
      assert(at !== 0, 'a row is not in its index');
      this.#rows.setU32(at, this.#nextWord, after);
    }
    this.#rows.setU32(row, this.#nextWord, 0);
    this.#size--;
  }

  /** Forgets everything and takes in all rows, as after {@link Rows.load}. */
  rebuild(): void {
    for (const block of this.#buckets) block.fill(0);
    this.#bucketCount = FIRST_BUCKETS;
    this.#mask = FIRST_BUCKETS - 1;
    this.#size = 0;
    for (let row = 1; row < this.#rows.end; row++) {
      if (this.#rows.key(row) !== 0) this.insert(row, this.#hashOf(row));
    }
  }

  #bucketOf(hash: number): number {
    const bucket = (hash & this.#mask) >>> 0;
    return bucket < this.#bucketCount ? bucket : bucket & (this.#mask >>> 1);
  }

  #head(bucket: number): number {
    return (this.#buckets[bucket >>> BLOCK_SHIFT] as Uint32Array)[bucket & IN_BLOCK] as number;
  }

  #setHead(bucket: number, row: number): void {
    (this.#buckets[bucket >>> BLOCK_SHIFT] as Uint32Array)[bucket & IN_BLOCK] = row;
  }

  #push(bucket: number, row: number): void {
    this.#rows.setU32(row, this.#nextWord, this.#head(bucket));
    this.#setHead(bucket, row);
  }

  /** One bucket more; it takes its share of the one that has held its rows so far. */
  #split(): void {
    const added = this.#bucketCount++;
    if (added > this.#mask) this.#mask = 2 * this.#mask + 1;
    if (added >>> BLOCK_SHIFT === this.#buckets.length) this.#buckets.push(new Uint32Array(BLOCK_BUCKETS));
    const halved = added & (this.#mask >>> 1);
    let row = this.#head(halved);
    this.#setHead(halved, 0);
    while (row !== 0) {
      const next = this.next(row);
      this.#push(this.#bucketOf(this.#hashOf(row)), row);
      row = next;
    }
  }
}
