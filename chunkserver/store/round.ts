/**
 * One round of a chunk's mutations: what they must know is read, large fresh data goes to the chunk file,
 * all records go into the journal in one append, and only then the new state shows.
 */
import { PAGE_BYTES } from '../../protocol/checksum.js';
import { BLOCK_BYTES, INLINE_WRITE_BYTES } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { forEachLimited } from './files.js';
import type { Entry } from './journal.js';
import { type BlockRange, type OldBytes, readOldBytes } from './old-bytes.js';
import { type PageChecksums, UNKNOWN } from './page-checksums.js';
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

/**
 * The same without waiting for anything: small mutations of which all is known that they have to know. They
 * are what a client waits for, one after another, and the promises in between took longer than the work.
 * @returns undefined when it has to be done the other way; nothing has been done then
 */
export function carryOutNow(chunk: Chunk, mutations: readonly Mutation[]): boolean[] | undefined {
  const { directory, state } = chunk;
  if (state.checksums === undefined || state.mark !== directory.bootId) return undefined;
  let sizeBytes = 0;
  for (const mutation of mutations) sizeBytes += mutation.bytes?.byteLength ?? 0;
  if (sizeBytes > INLINE_WRITE_BYTES || mustLearnZeros(chunk, mutations)) return undefined;
  const pages = pagesOf(chunk, mutations);
  if (rangesToRead(chunk, mutations, pages).length > 0) return undefined;
  const nothing = mutations.map(() => []);
  const { draft, entries, kept } = planRound(chunk, mutations, nothing, pages);
  const lsn = directory.journal.appendNow(entries);
  if (lsn === undefined) return undefined;
  directory.touch(chunk);
  directory.addPatchBytes(draft.commit(lsn));
  return kept;
}

async function prepare(chunk: Chunk, mutations: readonly Mutation[]): Promise<PlannedRound> {
  const old: OldBytes[][] = mutations.map(() => []);
  const pages = pagesOf(chunk, mutations);
  try {
    const wanted = rangesToRead(chunk, mutations, pages);
    await forEachLimited(wanted, READ_CONCURRENCY, async ({ range, of }) => {
      (old[of] as OldBytes[]).push(await readOldBytes(chunk, range, wanted.length > 1));
    });
    if (mustLearnZeros(chunk, mutations)) await learnZeros(chunk);
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

/** What is known of the chunk's pages, or can be when the mutations have been carried out. */
function pagesOf({ state, directory }: Chunk, mutations: readonly Mutation[]): PageChecksums | undefined {
  let end = state.length;
  for (const mutation of mutations) end = Math.max(end, endOf(mutation));
  return directory.pages.of(state, end);
}

/** What the mutations replace in parts of blocks, and is not known; `of` is the mutation's place among them. */
function rangesToRead(
  { state }: Chunk,
  mutations: readonly Mutation[],
  pages: PageChecksums | undefined,
): { readonly range: BlockRange; readonly of: number }[] {
  const pageSumOf = (page: number) => pages?.of(page) ?? UNKNOWN;
  const wanted: { range: BlockRange; of: number }[] = [];
  for (const [of, mutation] of mutations.entries()) {
    for (const range of rangesNeeded(mutation, state.length)) {
      const isKnown = knownChecksum(range, pageSumOf) !== UNKNOWN && !isBlurred(range, mutations, of);
      if (!isKnown) wanted.push({ range, of });
    }
  }
  return wanted;
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
function mustLearnZeros({ state, checkpointing }: Chunk, mutations: readonly Mutation[]): boolean {
  // A checkpoint under way may be making the file longer: then zeros are written for certain.
  if (state.zerosFrom !== Number.POSITIVE_INFINITY || checkpointing !== undefined) return false;
  return mutations.some(({ offset }) => offset > state.length);
}

async function learnZeros(chunk: Chunk): Promise<void> {
  chunk.state.zerosFrom = await chunk.directory.files.use(chunk, (file) => file.sizeBytes());
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
