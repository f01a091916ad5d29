/**
 * One round of a chunk's mutations: what they must know is read, large fresh data goes to the chunk file,
 * all records go into the journal in one append, and only then the new state shows.
 */
import { BLOCK_BYTES } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { forEachLimited } from './files.js';
import type { Entry } from './journal.js';
import { blocksNeeded, type Contents, type DirectWrite, type Mutation, plan } from './planner.js';
import { Draft } from './state.js';
import { readVerified, type VerifiedRead } from './verified-read.js';

const READ_CONCURRENCY = 8;

interface PlannedRound {
  readonly draft: Draft;
  readonly entries: Entry[];
  readonly direct: DirectWrite[];
  /** Of each mutation, whether its bytes stay in memory. */
  readonly kept: boolean[];
  /** Whether the chunk gets its mark with this round. */
  readonly marks: boolean;
}

/**
 * Carries out mutations that do not look at each other's bytes, in order, all or none. Nothing else of
 * the chunk may run beside it.
 * @returns of each mutation, whether its bytes are kept in memory
 */
export async function carryOut(chunk: Chunk, mutations: readonly Mutation[]): Promise<boolean[]> {
  const { directory } = chunk;
  const { journal } = directory;
  directory.touch(chunk);
  if (chunk.state.checksums === undefined) await directory.load(chunk);
  const { draft, entries, direct, kept, marks } = await prepare(chunk, mutations);
  if (direct.length > 0) await writeDirect(chunk, direct);
  const lsn = await journal.append(entries);
  // The mark has to be on the disk before anything that it speaks of is acknowledged.
  if (marks) await journal.sync(lsn);
  directory.addPatchBytes(draft.commit(lsn));
  for (const { bytes } of direct) chunk.unflushedBytes += bytes.byteLength;
  return kept;
}

async function prepare(chunk: Chunk, mutations: readonly Mutation[]): Promise<PlannedRound> {
  const contents = new Map<number, VerifiedRead>();
  try {
    await readContents(chunk, mutations, contents);
    await learnZeros(chunk, mutations);
    return planRound(chunk, mutations, contents);
  } finally {
    for (const { release } of contents.values()) release();
  }
}

/** Without waiting for anything: the draft builds on the present state. */
function planRound(chunk: Chunk, mutations: readonly Mutation[], contents: Contents): PlannedRound {
  const { handle, state } = chunk;
  const mark = chunk.directory.bootId;
  const draft = new Draft(state);
  const planned: PlannedRound = { draft, entries: [], direct: [], kept: [], marks: state.mark !== mark };
  if (planned.marks) {
    planned.entries.push({ record: { type: 'mark', handle, mark } });
    draft.mark = mark;
  }
  const mayGoDirect = state.truncatedAt <= chunk.checkpointedGeneration;
  for (const mutation of mutations) {
    const { entry, direct } = plan(handle, mutation, draft, contents, mayGoDirect);
    planned.entries.push(entry);
    planned.kept.push(direct === undefined);
    if (direct !== undefined) planned.direct.push(direct);
  }
  return planned;
}

/** Adds the blocks that the mutations change in part to `contents`, in memory from the pool. */
async function readContents(
  chunk: Chunk,
  mutations: readonly Mutation[],
  contents: Map<number, VerifiedRead>,
): Promise<void> {
  const blocks = new Set<number>();
  for (const mutation of mutations) {
    for (const block of blocksNeeded(mutation, chunk.state.length)) blocks.add(block);
  }
  if (blocks.size === 0) return;
  await forEachLimited(blocks, READ_CONCURRENCY, async (block) => {
    const read = await readVerified(chunk, block * BLOCK_BYTES, BLOCK_BYTES);
    contents.set(block, read.bytes.byteLength === BLOCK_BYTES ? read : padded(chunk, read));
  });
}

/** A whole block's buffer, with zeros behind what exists of it. */
function padded(chunk: Chunk, read: VerifiedRead): VerifiedRead {
  const payload = chunk.directory.pool.take(BLOCK_BYTES);
  payload.bytes.set(read.bytes);
  payload.bytes.fill(0, read.bytes.byteLength);
  read.release();
  return { bytes: payload.bytes, release: () => payload.release() };
}

/** Where the chunk is about to grow past a gap, the file may hold old bytes there. */
async function learnZeros(chunk: Chunk, mutations: readonly Mutation[]): Promise<void> {
  const { state } = chunk;
  // A checkpoint under way may be making the file longer: then zeros are written for certain.
  if (state.zerosFrom !== Number.POSITIVE_INFINITY || chunk.checkpointing !== undefined) return;
  if (!mutations.some(({ offset }) => offset > state.length)) return;
  state.zerosFrom = await chunk.directory.files.use(chunk, (file) => file.sizeBytes());
}

/** Neighbours go out in one write. */
async function writeDirect(chunk: Chunk, writes: readonly DirectWrite[]): Promise<void> {
  const { state, directory } = chunk;
  const last = writes.at(-1) as DirectWrite;
  // Even if it fails half-way: the file may hold something there from now on.
  state.zerosFrom = Math.max(state.zerosFrom, last.position + last.bytes.byteLength);
  await directory.files.use(chunk, async (file) => {
    for (let i = 0; i < writes.length; ) {
      const { position } = writes[i] as DirectWrite;
      const run: Uint8Array[] = [];
      let end = position;
      while (i < writes.length && (writes[i] as DirectWrite).position === end) {
        const { bytes } = writes[i++] as DirectWrite;
        run.push(bytes);
        end += bytes.byteLength;
      }
      await file.write(run, position);
    }
  });
}
