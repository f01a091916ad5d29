/** Reading a chunk: whole blocks, each checked against its checksum before a byte of it is given away. */
import { checksum } from '../../protocol/checksum.js';
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { applyPatches, coverWhole, type Patches } from './patches.js';
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
    const blocks = new CapturedBlocks(chunk, offset, end);
    const payload = chunk.directory.pool.take(blocks.sizeBytes);
    try {
      const bad = await fill(chunk, blocks, payload.bytes);
      if (bad === undefined) {
        const bytes = payload.bytes.subarray(offset - blocks.position, end - blocks.position);
        return { bytes, release: () => payload.release() };
      }
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

/** What the state says of the blocks now; it may change while the file is read. */
export class CapturedBlocks {
  readonly first: number;
  readonly position: number;
  readonly sizeBytes: number;
  readonly patches: readonly Patches[];
  readonly #checksums: Uint32Array;

  constructor({ state }: Chunk, offset: number, end: number) {
    this.first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((end - 1) / BLOCK_BYTES);
    this.position = this.first * BLOCK_BYTES;
    const patches: Patches[] = [];
    for (let block = this.first; block <= last; block++) patches.push(state.patchesOf(block));
    this.sizeBytes = Math.min((last + 1) * BLOCK_BYTES, state.length) - this.position;
    this.#checksums = (state.checksums as Uint32Array).slice(this.first, last + 1);
    this.patches = patches;
  }

  /** Whether these are the bytes of the block at `index` of them. */
  verify(index: number, bytes: Uint8Array): boolean {
    return checksum(bytes) === this.#checksums[index];
  }
}

/** Fills `bytes` from file and patches. Returns the first block that does not match. */
async function fill(chunk: Chunk, blocks: CapturedBlocks, bytes: Buffer): Promise<number | undefined> {
  const { patches, first, position } = blocks;
  const parts = patches.map((_, i) => bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES));
  if (!parts.every((part, i) => coverWhole(patches[i] as Patches, part.byteLength))) {
    const got = await chunk.directory.files.use(chunk, (file) => file.read(bytes, position));
    // Behind the file's end there are zeros; where there should be something else the checksum tells.
    if (got < bytes.byteLength) bytes.fill(0, got);
  }
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] as Buffer;
    applyPatches(patches[i] as Patches, part);
    if (!blocks.verify(i, part)) return first + i;
  }
  return undefined;
}
