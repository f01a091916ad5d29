/**
 * Brings a data directory back: sidecars, then the journal on top. There is no clean or unclean
 * shutdown (paper §5.1): a start after kill -9 is any start. After a host crash, told by its boot id, what
 * had been written past the journal and was not flushed is checked too, and what was lost of it is cut off.
 */
import { checksum } from '../../protocol/checksum.js';
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES } from '../../protocol/limits.js';
import { Chunk } from './chunk.js';
import type { DataDirectory } from './data-directory.js';
import { forEachLimited, removeIfThere } from './files.js';
import { Journal } from './journal.js';
import { flushSegments, replayJournal } from './journal-reader.js';
import { parseName } from './layout.js';
import type { DecodedRecord } from './record.js';
import { decodeSidecarHead, SIDECAR_HEAD_BYTES } from './sidecar.js';
import { applyRecord, blockCount, ChunkState, Draft } from './state.js';
import type { Superblock } from './superblock.js';
import { readVerified } from './verified-read.js';

const CONCURRENCY = 16;

/**
 * @param superblock as the directory was left; undefined for a new one
 * @returns whether the host has crashed since: then a checkpoint must come before any mutation
 */
export async function recover(
  directory: DataDirectory,
  superblock: Superblock | undefined,
): Promise<boolean> {
  const { context, layout, disk } = directory;
  const files = await loadSidecars(directory);
  const replayed = await replayJournal(disk, layout, context.bootId, (record) => replay(directory, record));
  const wasDown = superblock !== undefined && superblock.bootId !== context.bootId;
  const hostCrashed = wasDown && superblock.bootId !== 0 && !superblock.clean;
  if (hostCrashed) await cutWhatWasLost(directory);
  if (wasDown) judgeMarks(directory, hostCrashed);
  await adoptUnflushed(directory, files);
  await removeOrphans(directory, files);
  let lastLsn = replayed.lastLsn;
  for (const { state } of directory.chunks.values()) lastLsn = Math.max(lastLsn, state.lsn);
  const { lastSegment: segment, sizeBytes, tornBytes } = replayed;
  const { bootId, onFatal } = context;
  directory.openJournal(new Journal({ disk, layout, bootId, segment, nextLsn: lastLsn + 1, onFatal }));
  const counts = { chunks: directory.chunks.size, unreadable: directory.unreadable.size };
  context.logger.info({ directory: layout.root, ...counts, journalBytes: sizeBytes, tornBytes }, 'recovered');
  return hostCrashed;
}

/** Reads the heads of all sidecars. Returns the handles that have files here. */
async function loadSidecars(directory: DataDirectory): Promise<Set<number>> {
  const { disk, layout } = directory;
  const handles = new Set<number>();
  const sidecars: number[] = [];
  await forEachLimited(layout.allShards(), CONCURRENCY, async (shard) => {
    for (const name of await disk.list(shard)) {
      const parsed = parseName(name);
      if (parsed?.kind === 'temporary') await disk.remove(`${shard}/${name}`);
      if (parsed?.kind === 'chunk' || parsed?.kind === 'sidecar') handles.add(parsed.number);
      if (parsed?.kind === 'sidecar') sidecars.push(parsed.number);
    }
  });
  await forEachLimited(sidecars, CONCURRENCY, async (handle) => {
    const file = await disk.open(layout.sidecar(handle), 'read');
    try {
      const raw = Buffer.alloc(SIDECAR_HEAD_BYTES);
      const got = await file.read(raw, 0);
      const head = decodeSidecarHead(raw.subarray(0, got));
      if (head?.handle === handle)
        directory.chunks.set(handle, new Chunk(directory, ChunkState.fromSidecar(head)));
      else directory.giveUp(handle);
    } finally {
      await file.close();
    }
  });
  return handles;
}

async function replay(directory: DataDirectory, { lsn, record, data }: DecodedRecord): Promise<void> {
  const { handle } = record;
  let chunk = directory.chunks.get(handle);
  if (chunk === undefined && record.type === 'create' && !directory.unreadable.has(handle)) {
    chunk = new Chunk(directory, new ChunkState(handle, record.version));
    directory.chunks.set(handle, chunk);
  }
  // Records of a chunk that is not there: a later one deletes it.
  if (chunk === undefined || lsn <= chunk.state.lsn) return;
  if (record.type === 'delete') {
    directory.forget(chunk);
    return;
  }
  if (record.type === 'flushed') {
    chunk.state.flushedUpTo(record.upTo);
    return;
  }
  try {
    await directory.load(chunk);
  } catch (error) {
    if (!(error instanceof GfsError)) throw error;
    directory.giveUp(handle);
    return;
  }
  directory.touch(chunk);
  const draft = new Draft(chunk.state);
  applyRecord(draft, record, Uint8Array.prototype.slice.call(data));
  directory.addPatchBytes(draft.commit(lsn));
}

/**
 * What the page cache had, and the disk did not, is gone: the whole write, so that nobody finds part of an
 * append, and its result with it, so that whoever asks for it again is not told that it was done.
 */
async function cutWhatWasLost(directory: DataDirectory): Promise<void> {
  for (const chunk of directory.chunks.values()) {
    const lost = await firstLostBlock(chunk);
    if (lost === undefined) continue;
    const { length, sum } = await endBefore(chunk, lost);
    directory.context.logger.warn({ handle: chunk.handle, length }, 'unflushed end was lost');
    const draft = new Draft(chunk.state);
    draft.truncate(length);
    if (sum !== undefined) draft.setChecksum(Math.floor(length / BLOCK_BYTES), sum);
    directory.addPatchBytes(draft.commit(chunk.state.lsn));
    chunk.state.results.forgetBeyond(length);
  }
}

/** Where the write of a block began, and the checksum of the part of a block that is left before it. */
async function endBefore(
  chunk: Chunk,
  lost: number,
): Promise<{ readonly length: number; readonly sum?: number }> {
  const { from: length } = chunk.state.direct.get(lost) as { from: number };
  const within = length % BLOCK_BYTES;
  if (within === 0) return { length };
  try {
    const read = await readVerified(chunk, length - within, within);
    const sum = checksum(read.bytes);
    read.release();
    return { length, sum };
  } catch (error) {
    // Damage in what had been there before, which is found again when it is read.
    if (error instanceof GfsError && error.code === 'CHUNK_CORRUPT') return { length: lost * BLOCK_BYTES };
    throw error;
  }
}

/** Another boot's mark makes a replica suspect if that boot ended in a crash. */
function judgeMarks(directory: DataDirectory, hostCrashed: boolean): void {
  for (const chunk of directory.chunks.values()) {
    const { state } = chunk;
    if (state.mark === 0 || state.mark === directory.bootId) continue;
    if (hostCrashed) state.suspect = true;
    state.mark = 0;
    directory.touch(chunk);
  }
}

/**
 * The first block written past the journal that did not reach the disk. Not of those that the journal knows to
 * be flushed: where such a one does not match it is damaged, and cutting it off would lose what was synced.
 */
async function firstLostBlock(chunk: Chunk): Promise<number | undefined> {
  const { direct, length } = chunk.state;
  for (const block of [...direct.keys()].sort((a, b) => a - b)) {
    if (block >= blockCount(length)) break;
    try {
      const read = await readVerified(chunk, block * BLOCK_BYTES, BLOCK_BYTES);
      read.release();
    } catch (error) {
      if (error instanceof GfsError && error.code === 'CHUNK_CORRUPT') return block;
      throw error;
    }
  }
  return undefined;
}

/**
 * What the former process wrote is in the page cache, perhaps no further, and nobody else is going to
 * flush it: the journal is flushed now, for what follows takes it for flushed, and the rest counts as
 * unflushed of ours, so that the next sync covers it.
 */
async function adoptUnflushed(directory: DataDirectory, files: Set<number>): Promise<void> {
  await flushSegments(directory.disk, directory.layout);
  for (const handle of files) directory.shardChanged(handle);
  for (const chunk of directory.chunks.values()) {
    chunk.unflushedBytes = chunk.state.direct.size * BLOCK_BYTES;
  }
}

/** Files that nothing speaks of: of chunks being made or deleted when the process ended. */
async function removeOrphans(directory: DataDirectory, handles: Set<number>): Promise<void> {
  const { disk, layout } = directory;
  for (const handle of handles) {
    if (directory.chunks.has(handle) || directory.unreadable.has(handle)) continue;
    await removeIfThere(disk, layout.sidecar(handle));
    await removeIfThere(disk, layout.chunkFile(handle));
    directory.shardChanged(handle);
  }
}
