/**
 * Reading a chunk: whole blocks, each checked against its checksum before a byte of it is given away; or
 * pages of blocks that were read before, of which the checksums are known.
 */
import { checksum, PAGE_BYTES } from '../../protocol/checksum.js';
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES } from '../../protocol/limits.js';
import type { Payload } from '../../protocol/payload.js';
import type { Chunk } from './chunk.js';
import { type PageChecksums, Pieces, UNKNOWN } from './page-checksums.js';
import { applyPatchesFrom, coverRange, type Patches } from './patches.js';
import { isDeviceError } from './watched-disk.js';

/** A read may lose its race against checkpoints of newer data so often. */
const MAX_ATTEMPTS = 32;

export interface VerifiedRead {
  readonly bytes: Uint8Array;
  readonly release: () => void;
}

const NOTHING: VerifiedRead = { bytes: new Uint8Array(0), release: () => undefined };

/**
 * Up to `length` bytes from `offset`, fewer at the chunk's end, as they are in the state when it is
 * called. Their memory comes from the pool and goes back by `release`.
 * @throws CHUNK_CORRUPT
 */
export async function readVerified(chunk: Chunk, offset: number, length: number): Promise<VerifiedRead> {
  for (let attempt = 1; ; attempt++) {
    if (chunk.deleted) throw new GfsError('NO_SUCH_CHUNK', `chunk ${chunk.handle} was deleted`);
    while (chunk.state.checksums === undefined) {
      if (chunk.state.length > 0) chunk.directory.files.open(chunk);
      await chunk.directory.load(chunk);
    }
    const end = Math.min(offset + length, chunk.state.length);
    if (end <= offset) return NOTHING;
    const { fileGeneration } = chunk;
    const captured = new CapturedBlocks(chunk, offset, end);
    const payload = chunk.directory.pool.take(captured.sizeBytes);
    try {
      if (!captured.areCovered) {
        const got = await chunk.directory.files.use(chunk, (file) =>
          file.read(payload.bytes, captured.position),
        );
        // Behind the file's end there are zeros; where there should be something else the checksum tells.
        if (got < payload.bytes.byteLength) payload.bytes.fill(0, got);
      }
      const bad = captured.complete(payload.bytes);
      if (bad === undefined) return partOf(payload, offset - captured.position, end - captured.position);
      payload.release();
      // A checkpoint has put newer bytes into the file under this read: look again.
      if (chunk.fileGeneration !== fileGeneration && attempt < MAX_ATTEMPTS) continue;
      if (chunk.deleted) continue;
      const message = `chunk ${chunk.handle}: block ${bad} does not match its checksum`;
      throw new GfsError('CHUNK_CORRUPT', message);
    } catch (error) {
      payload.release();
      if (!isDeviceError(error)) throw error;
      throw new GfsError('CHUNK_CORRUPT', `chunk ${chunk.handle} cannot be read`, { cause: error });
    }
  }
}

/**
 * The same without waiting, for a small read of what is likely to be in the page cache.
 * @returns undefined when it cannot be had so, whatever the reason
 */
export function readVerifiedNow(chunk: Chunk, offset: number, length: number): VerifiedRead | undefined {
  if (chunk.deleted || chunk.state.checksums === undefined || length > BLOCK_BYTES) return undefined;
  const end = Math.min(offset + length, chunk.state.length);
  if (end <= offset) return NOTHING;
  const captured = new CapturedBlocks(chunk, offset, end);
  const payload = chunk.directory.pool.take(captured.sizeBytes);
  const { bytes } = payload;
  if (!captured.areCovered) {
    const got = chunk.directory.files.readNow(chunk, bytes, captured.position);
    if (got === undefined) {
      payload.release();
      return undefined;
    }
    if (got < bytes.byteLength) bytes.fill(0, got);
  }
  if (captured.complete(bytes) === undefined)
    return partOf(payload, offset - captured.position, end - captured.position);
  payload.release();
  return undefined;
}

function partOf(payload: Payload, from: number, to: number): VerifiedRead {
  return { bytes: payload.bytes.subarray(from, to), release: () => payload.release() };
}

/** Of one block. */
interface Span {
  readonly block: number;
  /** Within the block, as `end`. */
  readonly start: number;
  readonly end: number;
  readonly patches: Patches;
  /** Of all of it, or page by page. */
  readonly expected: number | readonly number[];
}

/** What the state says of some bytes now; it may change while the file is read. */
export class CapturedBlocks {
  /** In the chunk, of what has to be read. */
  readonly position: number;
  readonly sizeBytes: number;
  readonly #chunk: Chunk;
  readonly #generation: number;
  readonly #spans: Span[] = [];
  /** To be told of what was read whole. */
  readonly #pages: PageChecksums | undefined;

  constructor(chunk: Chunk, offset: number, end: number) {
    const { state, directory } = chunk;
    this.#chunk = chunk;
    this.#generation = state.generation;
    // Who reads more than that reads on: the pages of blocks are of no use to it.
    this.#pages = end - offset > BLOCK_BYTES ? undefined : directory.pages.of(state);
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    for (let block = first; block <= last; block++) {
      const blockAt = block * BLOCK_BYTES;
      const patches = state.patchesOf(block);
      const ofPages = this.#knownPages(
        block,
        Math.max(0, offset - blockAt),
        Math.min(BLOCK_BYTES, end - blockAt),
      );
      // A block in the middle of the others is wanted whole.
      if (ofPages !== undefined) this.#spans.push({ block, patches, ...ofPages });
      else
        this.#spans.push({
          block,
          patches,
          start: 0,
          end: state.validBytesOf(block),
          expected: state.checksumOf(block),
        });
    }
    this.position = first * BLOCK_BYTES + (this.#spans[0] as Span).start;
    this.sizeBytes = last * BLOCK_BYTES + (this.#spans.at(-1) as Span).end - this.position;
  }

  /** The pages around a part of a block, where all their checksums are known and the file is likely to be quick. */
  #knownPages(block: number, from: number, to: number): Pick<Span, 'start' | 'end' | 'expected'> | undefined {
    if (this.#pages?.wasRead(block) !== true) return undefined;
    const start = from - (from % PAGE_BYTES);
    const count = Math.ceil((to - start) / PAGE_BYTES);
    const expected: number[] = [];
    for (let i = 0; i < count; i++) {
      const sum = this.#pages.of((block * BLOCK_BYTES + start) / PAGE_BYTES + i);
      if (sum === UNKNOWN) return undefined;
      expected.push(sum);
    }
    return { start, end: start + count * PAGE_BYTES, expected };
  }

  /** Whether nothing has to be read from the file. */
  get areCovered(): boolean {
    return this.#spans.every(({ patches, start, end }) => coverRange(patches, start, end));
  }

  /** Makes `bytes`, as they are in the file, what they are in the state. @returns the first block that does not match */
  complete(bytes: Uint8Array): number | undefined {
    for (const [i, { block, start, end, patches }] of this.#spans.entries()) {
      const at = block * BLOCK_BYTES + start - this.position;
      const part = this.#spans.length === 1 ? bytes : bytes.subarray(at, at + end - start);
      applyPatchesFrom(patches, part, start);
      if (!this.verify(i, part)) return block;
    }
    return undefined;
  }

  /** Whether these are the bytes of the block at `index` of them. */
  verify(index: number, bytes: Uint8Array): boolean {
    const { block, expected } = this.#spans[index] as Span;
    if (typeof expected !== 'number') return areAsExpected(bytes, expected);
    // Its pages are looked at when it is read once more: most blocks are not.
    if (this.#pages?.wasRead(block) !== true) {
      if (checksum(bytes) !== expected) return false;
      this.#pages?.noteRead(block);
      return true;
    }
    const pieces = new Pieces(block * BLOCK_BYTES, bytes);
    if (pieces.between(block * BLOCK_BYTES, block * BLOCK_BYTES + bytes.byteLength) !== expected)
      return false;
    // Not what has become of them since.
    const { state } = this.#chunk;
    if (state.generation === this.#generation) state.pages?.set(pieces.firstPage, pieces.wholePages);
    return true;
  }
}

function areAsExpected(bytes: Uint8Array, expected: readonly number[]): boolean {
  if (expected.length === 1) return checksum(bytes) === expected[0];
  return expected.every((sum, i) => checksum(bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES)) === sum);
}
