/**
 * The rows of one directory in the order of their cookies, in pieces of up to 256: adding at the end,
 * removing anywhere and going on from any cookie cost the same in a directory of a million entries as in
 * one of ten.
 */
import { assert } from '../assert.js';

const PIECE_ROWS = 256;
const FIRST_PIECE_ROWS = 4;

interface Piece {
  rows: Uint32Array;
  count: number;
}

export class RowOrder {
  readonly #cookieOf: (row: number) => number;
  readonly #pieces: Piece[] = [];
  #size = 0;

  constructor(cookieOf: (row: number) => number) {
    this.#cookieOf = cookieOf;
  }

  get size(): number {
    return this.#size;
  }

  /** INVARIANT: the row's cookie is above every other one. */
  push(row: number): void {
    let last = this.#pieces.at(-1);
    if (last === undefined || last.count === PIECE_ROWS) {
      last = { rows: new Uint32Array(last === undefined ? FIRST_PIECE_ROWS : PIECE_ROWS), count: 0 };
      this.#pieces.push(last);
    } else if (last.count === last.rows.length) {
      const grown = new Uint32Array(Math.min(2 * last.count, PIECE_ROWS));
      grown.set(last.rows);
      last.rows = grown;
    }
    last.rows[last.count++] = row;
    this.#size++;
  }

  /** INVARIANT: the row still has its cookie. */
  remove(row: number): void {
    const cookie = this.#cookieOf(row);
    const at = this.#pieceOf(cookie);
    const piece = this.#pieces[at] as Piece;
    const within = this.#within(piece, cookie);
    assert(piece.rows[within] === row, 'a row is not in its order');
    piece.rows.copyWithin(within, within + 1, piece.count);
    piece.count--;
    this.#size--;
    this.#merge(at);
  }

  /** The rows after `cookie`, up to `limit`. */
  page(cookie: number, limit: number): number[] {
    const out: number[] = [];
    const first = this.#pieceOf(cookie + 1);
    for (let at = first; at < this.#pieces.length && out.length < limit; at++) {
      const piece = this.#pieces[at] as Piece;
      const from = at === first ? this.#within(piece, cookie + 1) : 0;
      for (let i = from; i < piece.count && out.length < limit; i++) out.push(piece.rows[i] as number);
    }
    return out;
  }

  *[Symbol.iterator](): IterableIterator<number> {
    for (const { rows, count } of this.#pieces) for (let i = 0; i < count; i++) yield rows[i] as number;
  }

  /** The first piece that ends at or after `cookie`. */
  #pieceOf(cookie: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { rows, count } = this.#pieces[middle] as Piece;
      if (this.#cookieOf(rows[count - 1] as number) < cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #within({ rows, count }: Piece, cookie: number): number {
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#cookieOf(rows[middle] as number) < cookie) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** No piece is empty, and a piece that has become small joins the one before it. */
  #merge(at: number): void {
    const piece = this.#pieces[at] as Piece;
    if (piece.count === 0) {
      this.#pieces.splice(at, 1);
      return;
    }
    const before = this.#pieces[at - 1];
    if (before === undefined || before.count + piece.count > PIECE_ROWS / 2) return;
    const rows = new Uint32Array(PIECE_ROWS);
    rows.set(before.rows.subarray(0, before.count));
    rows.set(piece.rows.subarray(0, piece.count), before.count);
    before.rows = rows;
    before.count += piece.count;
    this.#pieces.splice(at, 1);
  }
}
