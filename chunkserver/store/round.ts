/**
 * One round of a chunk's mutations: what they must know is read, large fresh data goes to the chunk file,
 * all records go into the journal in one append, and only then the new state shows.
 */
import { BLOCK_BYTES } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { forEachLimited } from './files.js';
import type { Entry } from './journal.js';
import { type BlockRange, type OldBytes, readOldBytes } from './old-bytes.js';
import { PAGE_BYTES, type PageChecksums, UNKNOWN } from './page-checksums.js';
import { type DirectWrite, endOf, knownChecksum, type Mutation, plan, rangesNeeded } from './planner.js';
import { Draft } from './state.js';

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
  const old: OldBytes[][] = mutations.map(() => []);
  const end = mutations.reduce((last, mutation) => Math.max(last, endOf(mutation)), chunk.state.length);
  const pages = chunk.directory.pages.of(chunk.state, end);
  try {
    await readOld(chunk, mutations, old, pages);
    await learnZeros(chunk, mutations);
    return planRound(chunk, mutations, old, pages);
  } finally {
    for (const { release } of old.flat()) release();
  }
}

/** Without waiting for anything: the draft builds on the present state. */
function planRound(
  chunk: Chunk,
  mutations: readonly Mutation[],
  old: OldBytes[][],
  pages: PageChecksums | undefined,
): PlannedRound {
  const { handle, state } = chunk;
  const mark = chunk.directory.bootId;
  const draft = new Draft(state, pages);
  const planned: PlannedRound = { draft, entries: [], direct: [], kept: [], marks: state.mark !== mark };
  if (planned.marks) {
    planned.entries.push({ record: { type: 'mark', handle, mark } });
    draft.mark = mark;
  }
  const mayGoDirect = state.truncatedAt <= chunk.checkpointedGeneration;
  for (const [i, mutation] of mutations.entries()) {
    const { entry, direct } = plan(handle, mutation, draft, old[i] as OldBytes[], mayGoDirect);
    planned.entries.push(entry);
    planned.kept.push(direct === undefined);
    if (direct !== undefined) planned.direct.push(direct);
  }
  return planned;
}

/** Puts what each mutation replaces in parts of blocks, and is not known, into its place in `old`. */
async function readOld(
  chunk: Chunk,
  mutations: readonly Mutation[],
  old: OldBytes[][],
  pages: PageChecksums | undefined,
): Promise<void> {
  const { length } = chunk.state;
  const pageSumOf = (page: number) => pages?.of(page) ?? UNKNOWN;
  const wanted = mutations.flatMap((mutation, i) =>
    rangesNeeded(mutation, length)
      .filter((range) => knownChecksum(range, pageSumOf) === UNKNOWN || isBlurred(range, mutations, i))
      .map((range) => ({ range, of: old[i] as OldBytes[] })),
  );
  if (wanted.length === 0) return;
  await forEachLimited(wanted, READ_CONCURRENCY, async ({ range, of }) => {
    of.push(await readOldBytes(chunk, range, wanted.length > 1));
  });
}

/** Whether one of the first `count` mutations changes a part of a page of the range. */
function isBlurred(
  { block, start, end }: BlockRange,
  mutations: readonly Mutation[],
  count: number,
): boolean {
  const at = block * BLOCK_BYTES;
  for (let i = 0; i < count; i++) {
    const earlier = mutations[i] as Mutation;
    const earlierEnd = endOf(earlier);
    if (earlier.offset % PAGE_BYTES === 0 && earlierEnd % PAGE_BYTES === 0) continue;
    if (earlier.offset < at + end && at + start < earlierEnd) return true;
  }
  return false;
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
