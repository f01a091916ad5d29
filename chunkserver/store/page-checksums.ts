/**
 * Checksums of a chunk's pages, in memory alone, as far as they are known: of pages that were written whole,
 * and of blocks that were read and verified. Whoever overwrites such pages need not read what they replace,
 * and whoever reads some of them need not read their whole block.
 */
import { checksum, joinedChecksum, PAGE_BYTES, pageChecksums } from '../../protocol/checksum.js';
import { BLOCK_BYTES, MIB } from '../../protocol/limits.js';
import type { ChunkState } from './state.js';

const BLOCK_PAGES = BLOCK_BYTES / PAGE_BYTES;
/** Of all chunks of a data directory: enough for 14 GiB. */
const MAX_BYTES = 16 * MIB;
/** In place of a checksum. */
export const UNKNOWN = -1;

/** INVARIANT: a page of which the checksum is known lies whole within the chunk, and has it. */
export class PageChecksums {
  #sums = new Uint32Array(0);
  #known = new Uint8Array(0);
  #blocksRead = new Uint8Array(0);

  get sizeBytes(): number {
    return this.#sums.byteLength + this.#known.byteLength + this.#blocksRead.byteLength;
  }

  /** Or {@link UNKNOWN}. */
  of(page: number): number {
    return this.#known[page] === 1 ? (this.#sums[page] as number) : UNKNOWN;
  }

  set(first: number, sums: readonly number[]): void {
    this.#grow(first + sums.length);
    for (let i = 0; i < sums.length; i++) {
      const sum = sums[i] as number;
      this.#known[first + i] = sum === UNKNOWN ? 0 : 1;
      if (sum !== UNKNOWN) this.#sums[first + i] = sum;
    }
  }

  forgetFrom(page: number): void {
    this.#known.fill(0, page);
  }

  /** All of a block was read from the file, through the page cache: parts of it are likely to be there still. */
  noteRead(block: number): void {
    this.#grow((block + 1) * BLOCK_PAGES);
    this.#blocksRead[block] = 1;
  }

  wasRead(block: number): boolean {
    return this.#blocksRead[block] === 1;
  }

  #grow(pages: number): void {
    if (pages <= this.#sums.length) return;
    const blocks = Math.max(
      Math.ceil(pages / BLOCK_PAGES),
      Math.min(1024, (2 * this.#sums.length) / BLOCK_PAGES),
    );
    this.#sums = grown(new Uint32Array(blocks * BLOCK_PAGES), this.#sums);
    this.#known = grown(new Uint8Array(blocks * BLOCK_PAGES), this.#known);
    this.#blocksRead = grown(new Uint8Array(blocks), this.#blocksRead);
  }
}

function grown<T extends Uint32Array | Uint8Array>(larger: T, smaller: T): T {
  larger.set(smaller);
  return larger;
}

/** Those of a data directory's chunks that were used last. */
export class PageCache {
  /** In order of use, the longest unused first. */
  readonly #states = new Map<ChunkState, number>();
  #bytes = 0;

  /** The chunk's, to be looked at and added to; undefined for one so small that there is nothing to be saved. */
  of(state: ChunkState, length = state.length): PageChecksums | undefined {
    if (length <= BLOCK_BYTES) return state.pages;
    state.pages ??= new PageChecksums();
    this.#forget(state);
    const { sizeBytes } = state.pages;
    this.#states.set(state, sizeBytes);
    this.#bytes += sizeBytes;
    if (this.#bytes > MAX_BYTES) this.#evict(state);
    return state.pages;
  }

  drop(state: ChunkState): void {
    this.#forget(state);
    state.pages = undefined;
  }

  #forget(state: ChunkState): void {
    this.#bytes -= this.#states.get(state) ?? 0;
    this.#states.delete(state);
  }

  #evict(wanted: ChunkState): void {
    for (const state of this.#states.keys()) {
      if (this.#bytes <= MAX_BYTES) return;
      if (state !== wanted) this.drop(state);
    }
  }
}

/** The checksums of some bytes, cut where pages begin: its first and its last piece may be parts of pages. */
export class Pieces {
  readonly #offset: number;
  readonly #bytes: Uint8Array;
  readonly #sums: readonly number[];

  /**
   * @param offset of the bytes in their chunk
   * @param known their checksums in pieces of a page, from the first byte on
   */
  constructor(offset: number, bytes: Uint8Array, known?: readonly number[]) {
    this.#offset = offset;
    this.#bytes = bytes;
    const within = offset % PAGE_BYTES;
    this.#sums = (within === 0 ? known : undefined) ?? pageChecksums(bytes, PAGE_BYTES - within);
  }

  get firstPage(): number {
    return Math.floor(this.#offset / PAGE_BYTES);
  }

  /** By page, from {@link firstPage} on; of those that are not whole {@link UNKNOWN}. */
  get wholePages(): readonly number[] {
    const startsWhole = this.#offset % PAGE_BYTES === 0;
    const endsWhole = (this.#offset + this.#bytes.byteLength) % PAGE_BYTES === 0;
    if (startsWhole && endsWhole) return this.#sums;
    const whole = [...this.#sums];
    if (!startsWhole) whole[0] = UNKNOWN;
    if (!endsWhole) whole[whole.length - 1] = UNKNOWN;
    return whole;
  }

  /** The checksum of those between two places in the chunk. */
  between(start: number, end: number): number {
    const [offset, last] = [this.#offset, this.#offset + this.#bytes.byteLength];
    const isCut = (at: number) => at === offset || at === last || at % PAGE_BYTES === 0;
    if (!isCut(start) || !isCut(end)) return checksum(this.#bytes.subarray(start - offset, end - offset));
    let page = Math.floor(start / PAGE_BYTES) - this.firstPage;
    let crc = 0;
    for (let at = start; at < end; page++) {
      const next = Math.min(end, at + PAGE_BYTES - (at % PAGE_BYTES));
      crc = joinedChecksum(crc, this.#sums[page] as number, next - at);
      at = next;
    }
    return crc;
  }
}

/** The checksum of `count` pages from `first` on; {@link UNKNOWN} where that of one of them is. */
export function joinedPages(first: number, count: number, sumOf: (page: number) => number): number {
  let crc = 0;
  for (let page = first; page < first + count; page++) {
    const sum = sumOf(page);
    if (sum === UNKNOWN) return UNKNOWN;
    crc = joinedChecksum(crc, sum, PAGE_BYTES);
  }
  return crc;
}
