/** copy_file_range(2) and hole punching: whole chunks by metadata alone, ragged ends by reading and writing. */
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES } from '../protocol/limits.js';
import { PunchHole, ShareChunks } from '../protocol/messages/index.js';
import type { GfsClient } from './index.js';
import type { OpenFile } from './open-file.js';
import type { CallContext } from './retry.js';

/** Read and written at once where bytes are copied; and the most that one call copies so. */
const COPY_STEP_BYTES = 1024 * 1024;
const COPY_BYTES = 16 * COPY_STEP_BYTES;
const ZEROS = Buffer.alloc(COPY_STEP_BYTES);

export interface FilePosition {
  readonly file: OpenFile;
  readonly offset: number;
}

/**
 * Copies up to `length` bytes. Chunks are shared where both offsets lie alike in their chunk; what stands
 * before and behind is copied. @returns the bytes copied: fewer than asked at such a boundary, 0 at the
 * end of `from`
 */
export async function copyRange(
  client: GfsClient,
  from: FilePosition,
  to: FilePosition,
  length: number,
  context: CallContext,
): Promise<number> {
  await from.file.flush(context);
  const wanted = Math.min(length, from.file.size - from.offset);
  if (wanted <= 0) return 0;
  if (to.offset + wanted > MAX_FILE_BYTES) throw new GfsError('FILE_TOO_BIG');
  const { chunkBytes } = client;
  const within = from.offset % chunkBytes;
  if (within !== to.offset % chunkBytes) return copyBytes(from, to, wanted, context);
  if (within !== 0) return copyBytes(from, to, Math.min(wanted, chunkBytes - within), context);
  const shared = await shareChunks(client, from, to, wanted, context);
  return shared > 0 ? shared : copyBytes(from, to, wanted, context);
}

/** Both offsets are at the beginning of a chunk. @returns the bytes shared */
async function shareChunks(
  client: GfsClient,
  from: FilePosition,
  to: FilePosition,
  wanted: number,
  context: CallContext,
): Promise<number> {
  const { chunkBytes } = client;
  const { sharedChunks, writeBehind } = client.copying;
  const index = from.offset / chunkBytes;
  const toIndex = to.offset / chunkBytes;
  const request = { source: from.file.id, index, id: to.file.id, toIndex, bytes: wanted };
  const { bytes } = await to.file.changeChunks(context, () =>
    client.master.mutate(ShareChunks, request, context),
  );
  if (bytes === 0) return 0;
  // Its leases are over: whoever writes it next gets a copy.
  client.locations.drop(from.file.id);
  const count = Math.ceil(bytes / chunkBytes);
  const unsynced = new Map(writeBehind.unsynced.of(from.file.id));
  for (let at = 0; at < count; at++) {
    const verifiers = unsynced.get(index + at) ?? sharedChunks.of(from.file.id, index + at);
    writeBehind.unsynced.cut(to.file.id, toIndex + at, toIndex + at + 1);
    sharedChunks.note(to.file.id, toIndex + at, verifiers);
  }
  return bytes;
}

async function copyBytes(
  from: FilePosition,
  to: FilePosition,
  length: number,
  context: CallContext,
): Promise<number> {
  const wanted = Math.min(length, COPY_BYTES);
  let copied = 0;
  while (copied < wanted && context.signal?.aborted !== true) {
    const step = Math.min(COPY_STEP_BYTES, wanted - copied);
    const { buffers, release } = await from.file.read(from.offset + copied, step, context);
    try {
      let bytes = 0;
      for (const buffer of buffers) {
        await to.file.write(to.offset + copied + bytes, buffer);
        bytes += buffer.byteLength;
      }
      if (bytes === 0) break;
      copied += bytes;
    } finally {
      release();
    }
  }
  // Zero would mean the end of the file.
  if (copied === 0 && context.signal?.aborted === true) throw new GfsError('CANCELLED');
  return copied;
}

/** Zeros from `offset` to `end`, which is at most the file's length: whole chunks leave the file. */
export async function punchHole(
  client: GfsClient,
  file: OpenFile,
  offset: number,
  end: number,
  context: CallContext,
): Promise<void> {
  const { chunkBytes } = client;
  const index = Math.ceil(offset / chunkBytes);
  // The last chunk of the file goes whole too: what is behind the end is zeros anyway.
  const endIndex = end >= file.size ? Math.ceil(end / chunkBytes) : Math.floor(end / chunkBytes);
  if (endIndex <= index) return writeZeros(file, offset, end);
  await writeZeros(file, offset, index * chunkBytes);
  await writeZeros(file, endIndex * chunkBytes, end);
  await file.changeChunks(context, () =>
    client.master.mutate(PunchHole, { id: file.id, index, count: endIndex - index }, context),
  );
  const { sharedChunks, writeBehind } = client.copying;
  writeBehind.unsynced.cut(file.id, index, endIndex);
  sharedChunks.cut(file.id, index, endIndex);
}

async function writeZeros(file: OpenFile, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at += ZEROS.byteLength)
    await file.write(at, ZEROS.subarray(0, Math.min(ZEROS.byteLength, to - at)));
}
