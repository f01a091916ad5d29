/**
 * What an overwrite replaces, where it covers a block in part: the block's new checksum follows from the
 * old one, these bytes and the new ones (protocol/checksum.ts). They are not verified, and need not be: if
 * the block is damaged, here or elsewhere, it does not match its checksum afterwards either.
 */
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { applyPatchesFrom, coverRange } from './patches.js';
import { isDeviceError } from './watched-disk.js';

/** Bytes of one block, `start` and `end` within it. */
export interface BlockRange {
  readonly block: number;
  readonly start: number;
  readonly end: number;
}

export interface OldBytes extends BlockRange {
  /** `end - start` bytes, as they are before the round; the planner changes them. */
  readonly bytes: Uint8Array;
  readonly release: () => void;
}

/**
 * INVARIANT: called within a round of the chunk. A checkpoint may be writing patches to the file meanwhile,
 * and be done with them before the round is: so they are taken from the state before the file is read.
 * @throws CHUNK_CORRUPT when the file cannot be read there
 */
export async function readOldBytes(chunk: Chunk, range: BlockRange, isOneOfMany: boolean): Promise<OldBytes> {
  const { block, start, end } = range;
  const patches = chunk.state.patchesOf(block);
  const payload = chunk.directory.pool.take(end - start);
  const { bytes } = payload;
  try {
    if (!coverRange(patches, start, end)) {
      const got = await chunk.directory.files.use(chunk, (file) =>
        file.read(bytes, block * BLOCK_BYTES + start, isOneOfMany),
      );
      // Behind the file's end there are zeros.
      bytes.fill(0, got);
    }
  } catch (error) {
    payload.release();
    if (!isDeviceError(error)) throw error;
    throw new GfsError('CHUNK_CORRUPT', `chunk ${chunk.handle} cannot be read`, { cause: error });
  }
  applyPatchesFrom(patches, bytes, start);
  return { ...range, bytes, release: () => payload.release() };
}
