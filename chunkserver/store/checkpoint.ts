/**
 * Checkpoints: what the journal holds of a chunk is put into its file and sidecar, so that the journal
 * can begin anew. Mutations go on meanwhile. The order is what makes a crash at any step harmless:
 * journal flushed, then bytes over older bytes, then the sidecar, then the journal's old segments go.
 */
import type { DiskFile } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES, MIB } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import type { DataDirectory } from './data-directory.js';
import { forEachLimited, isMissing, replaceFile } from './files.js';
import { listSegments } from './journal-reader.js';
import { type Patches, patchesAfter, patchMemory } from './patches.js';
import { encodeSidecar, SIDECAR_HEAD_BYTES, type SidecarBody, type SidecarHead } from './sidecar.js';
import { blockCount } from './state.js';

/** Chunks flushed side by side: not so many that readers and writers get no turn at the disk. */
const CONCURRENCY = 2;
const MAX_GATHERED_BYTES = 1 * MIB;

interface Snapshot {
  readonly generation: number;
  readonly head: SidecarHead;
  readonly body: SidecarBody;
  readonly patches: readonly (readonly [block: number, patches: Patches])[];
  readonly truncated: boolean;
}

/** Checkpoints every chunk that is dirty now, then removes the journal's segments before this moment. */
export async function checkpoint(directory: DataDirectory): Promise<void> {
  const keepFrom = await directory.journal.rotate();
  await forEachLimited(directory.dirtyChunks(), CONCURRENCY, async (chunk) => {
    await checkpointOrGiveUp(chunk);
    await directory.pace();
  });
  for (const handle of directory.unreadable) await spoilSidecar(directory, handle);
  await directory.syncShards();
  for (const segment of await listSegments(directory.disk, directory.layout)) {
    if (segment < keepFrom) await directory.disk.remove(directory.layout.segment(segment));
  }
}

/** One damaged sidecar must not keep all others from their checkpoint, nor the server from starting. */
async function checkpointOrGiveUp(chunk: Chunk): Promise<void> {
  try {
    await checkpointChunk(chunk);
  } catch (error) {
    if (!(error instanceof GfsError) || error.code !== 'CHUNK_CORRUPT') throw error;
    chunk.directory.giveUp(chunk.handle);
  }
}

/**
 * What was given up stays so. Its sidecar may verify again at the next start, as of an earlier moment: a crash can
 * bring the one before it back. And the journal, which knows what came after, is about to go.
 */
async function spoilSidecar(directory: DataDirectory, handle: number): Promise<void> {
  const path = directory.layout.sidecar(handle);
  try {
    const file = await directory.disk.open(path, 'write');
    try {
      await file.write([Buffer.alloc(SIDECAR_HEAD_BYTES)], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    directory.shardChanged(handle);
  } catch (error) {
    // The master had it deleted meanwhile.
    if (!isMissing(error)) throw error;
  }
}

/** Brings one chunk's file and sidecar up to its present state. */
export async function checkpointChunk(chunk: Chunk): Promise<void> {
  while (chunk.checkpointing !== undefined) await chunk.checkpointing.catch(() => undefined);
  if (chunk.deleted) return;
  chunk.checkpointing = writeBack(chunk).finally(() => {
    chunk.checkpointing = undefined;
  });
  await chunk.checkpointing;
}

async function writeBack(chunk: Chunk): Promise<void> {
  const { directory } = chunk;
  await directory.load(chunk);
  const snapshot = await chunk.exclusive(() => takeSnapshot(chunk));
  if (chunk.deleted) return;
  const { generation, head, body, patches, truncated } = snapshot;
  await directory.journal.sync(head.lsn);
  // Bytes written directly have to be safe before others go over them: after a crash in between
  // their blocks must match as they were acknowledged.
  await chunk.syncFile();
  if (patches.length > 0) {
    await directory.files.use(chunk, async (file) => {
      await writePatches(file, patches);
      await directory.syncFile(file);
    });
  }
  if (chunk.deleted) return;
  await replaceFile(directory.disk, directory.layout.sidecar(chunk.handle), encodeSidecar(head, body));
  directory.shardChanged(chunk.handle);
  if (truncated) {
    await directory.syncShard(chunk.handle);
    await chunk.exclusive(() => cutFile(chunk, head.length));
  }
  finish(chunk, generation);
}

/** Consistent, because nothing else of the chunk runs; cheap, because patches never change. */
function takeSnapshot(chunk: Chunk): Snapshot {
  const { state } = chunk;
  chunk.directory.forgetQuietMark(chunk);
  chunk.fileGeneration++;
  state.zerosFrom = Math.max(state.zerosFrom, state.length);
  const { handle, version, length, serial, lsn, mark, suspect } = state;
  return {
    generation: state.generation,
    head: { handle, version, length, serial, lsn, mark, suspect },
    body: {
      checksums: (state.checksums as Uint32Array).slice(0, blockCount(length)),
      results: state.results.copy(),
    },
    patches: [...state.patches],
    truncated: state.truncatedAt > chunk.checkpointedGeneration,
  };
}

/** Gives the space behind a truncated chunk's end back, now that no crash can bring its former length back. */
async function cutFile(chunk: Chunk, safeLength: number): Promise<void> {
  const { state, directory } = chunk;
  const length = Math.max(state.length, safeLength);
  chunk.fileGeneration++;
  await directory.files.use(chunk, async (file) => {
    if ((await file.sizeBytes()) > length) await file.truncate(length);
  });
  state.zerosFrom = length;
}

/** Neighbouring patches go out in one write. */
async function writePatches(file: DiskFile, patches: Snapshot['patches']): Promise<void> {
  const pieces = patches
    .flatMap(([block, ofBlock]) =>
      ofBlock.map(({ start, bytes }) => ({ at: block * BLOCK_BYTES + start, bytes })),
    )
    .sort((a, b) => a.at - b.at);
  for (let i = 0; i < pieces.length; ) {
    const { at } = pieces[i] as (typeof pieces)[number];
    const run: Uint8Array[] = [];
    let end = at;
    while (i < pieces.length && pieces[i]?.at === end && end - at < MAX_GATHERED_BYTES) {
      const { bytes } = pieces[i++] as (typeof pieces)[number];
      run.push(bytes);
      end += bytes.byteLength;
    }
    await file.write(run, at);
  }
}

/** The file has everything up to `generation`: those patches are not needed any more. */
function finish(chunk: Chunk, generation: number): void {
  const { state, directory } = chunk;
  let freed = 0;
  for (const [block, patches] of state.patches) {
    const left = patchesAfter(patches, generation);
    if (left.length === patches.length) continue;
    freed += patchMemory(patches) - patchMemory(left);
    if (left.length === 0) state.patches.delete(block);
    else state.patches.set(block, left);
  }
  state.patchBytes -= freed;
  directory.addPatchBytes(-freed);
  chunk.checkpointedGeneration = generation;
  directory.checkpointed(chunk);
}
