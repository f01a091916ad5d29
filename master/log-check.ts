/**
 * What a data directory's log and checkpoints are worth, and what of them can be saved when a master
 * refuses to start on them. Offline: reads alone, but for {@link salvage}, which writes elsewhere.
 */
import type { Disk, Logger } from '../environment/ports/index.js';
import type { LogRecord } from '../protocol/records.js';
import { apply, NO_EFFECTS } from './apply.js';
import { listCheckpoints, readCheckpoint, writeCheckpoint } from './checkpoint-file.js';
import { replay } from './recovery.js';
import {
  decodeSegmentHeader,
  lastRecordFrom,
  SEGMENT_HEADER_BYTES,
  SegmentError,
  scanSegment,
} from './segment.js';
import { createSegment, listSegments, readWhole, type SegmentFile } from './segment-files.js';
import { LoggedState } from './state.js';
import { DataDirectoryError, readSuperblock, type Superblock, saveSuperblock } from './superblock.js';

export interface SegmentCheck {
  readonly path: string;
  readonly firstSequence: number;
  /** Records that can be read, from its beginning on. */
  readonly records: number;
  readonly sizeBytes: number;
  /** `torn`: it ends in a group that was never whole, which only the last may. */
  readonly state: 'whole' | 'torn' | 'damaged';
  /** Where the first bytes are that cannot be read. */
  readonly offset?: number;
  readonly reason?: string;
  /** The last record that stands behind the damage, and was on disk. */
  readonly seenThrough?: number;
}

export interface CheckpointCheck {
  readonly path: string;
  /** How many records are in it. */
  readonly records: number;
  readonly sizeBytes?: number;
  readonly reason?: string;
}

export interface LogCheck {
  readonly clusterId: string;
  readonly checkpoints: readonly CheckpointCheck[];
  readonly segments: readonly SegmentCheck[];
  /** Why a master does not start on it; undefined when it does. */
  readonly refusal?: string;
  /** What can be had: the records up to here, from this checkpoint (undefined: from the log alone). */
  readonly throughRecord: number;
  readonly fromCheckpoint?: string;
  /** Records that there are, or were, behind it; as far as the files tell. */
  readonly lostRecords: number;
}

const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

/** @param directory the master's data directory @throws DataDirectoryError when there is no superblock to go by */
export async function checkLog(disk: Disk, directory: string): Promise<LogCheck> {
  const { clusterId, chunkBytes } = await superblockOf(disk, directory);
  const log = `${directory}/log`;
  const segments: SegmentCheck[] = [];
  for (const segment of await listSegments(disk, log)) segments.push(await checkSegment(disk, segment));
  const checkpoints: CheckpointCheck[] = [];
  for (const { path, nextSequence } of await listCheckpoints(disk, log))
    checkpoints.push(await checkCheckpoint(disk, path, nextSequence - 1));
  let refusal: string | undefined;
  try {
    await replay(disk, silent, { directory: log, clusterId, chunkBytes });
  } catch (error) {
    refusal = (error as Error).message;
  }
  const best = bestOf(checkpoints, segments);
  const known = Math.max(
    ...segments.map(({ firstSequence, records, seenThrough = 0 }) =>
      Math.max(seenThrough, firstSequence + records - 1),
    ),
    ...checkpoints.map(({ records }) => records),
    0,
  );
  return {
    clusterId,
    checkpoints,
    segments,
    ...(refusal === undefined ? {} : { refusal }),
    ...best,
    lostRecords: Math.max(0, known - best.throughRecord),
  };
}

/** Every record that can be read, in order, with its place. */
export async function* readRecords(
  disk: Disk,
  directory: string,
): AsyncIterable<{ sequence: number; segment: string; offset: number; record: LogRecord }> {
  for (const { path } of await listSegments(disk, `${directory}/log`)) {
    const bytes = await readWhole(disk, path);
    const found: { sequence: number; segment: string; offset: number; record: LogRecord }[] = [];
    let failure: unknown;
    try {
      scanSegment(bytes, decodeSegmentHeader(bytes), (record, sequence, offset) =>
        found.push({ sequence, segment: path, offset, record }),
      );
    } catch (error) {
      failure = error;
    }
    yield* found;
    if (failure !== undefined) throw new Error(`${path}: ${(failure as Error).message}`, { cause: failure });
  }
}

/**
 * Writes a data directory that a master starts on, with everything that {@link checkLog} says can be had.
 * @param target not there, or empty
 */
export async function salvage(disk: Disk, directory: string, target: string): Promise<LogCheck> {
  const check = await checkLog(disk, directory);
  const superblock = await superblockOf(disk, directory);
  await disk.makeDirectory(target);
  if ((await disk.list(target)).length > 0) throw new DataDirectoryError(`${target} is not empty`);
  const { state, nextSequence } = await bestState(disk, superblock.chunkBytes, check);
  const log = `${target}/log`;
  await disk.makeDirectory(log);
  const header = { ...superblock, firstSequence: nextSequence };
  if (nextSequence > 1) await writeCheckpoint(disk, log, header, state);
  await (await createSegment(disk, { ...superblock, directory: log }, nextSequence)).close();
  await saveSuperblock(disk, target, superblock);
  return check;
}

async function superblockOf(disk: Disk, directory: string): Promise<Superblock> {
  const superblock = await readSuperblock(disk, directory);
  if (superblock === undefined) throw new DataDirectoryError(`${directory} is no master's data directory`);
  return superblock;
}

async function checkSegment(disk: Disk, { path, firstSequence }: SegmentFile): Promise<SegmentCheck> {
  const bytes = await readWhole(disk, path);
  const about = { path, firstSequence, sizeBytes: bytes.byteLength };
  let records = 0;
  try {
    const header = decodeSegmentHeader(bytes);
    const { tornBytes, endBytes } = scanSegment(bytes, header, () => {
      records++;
    });
    if (tornBytes === 0) return { ...about, records, state: 'whole' };
    return {
      ...about,
      records,
      state: 'torn',
      offset: endBytes,
      reason: `${tornBytes} bytes of a torn tail`,
    };
  } catch (error) {
    const reason = (error as Error).message;
    const broken = { ...about, records, state: 'damaged', reason } as const;
    if (error instanceof SegmentError)
      return { ...broken, offset: error.offset, seenThrough: error.seenThrough };
    // The header: groups may stand behind it all the same.
    return { ...broken, offset: 0, seenThrough: lastRecordFrom(bytes, SEGMENT_HEADER_BYTES, firstSequence) };
  }
}

async function checkCheckpoint(disk: Disk, path: string, records: number): Promise<CheckpointCheck> {
  try {
    const { sizeBytes } = await readCheckpoint(disk, path, 0);
    return { path, records, sizeBytes };
  } catch (error) {
    return { path, records, reason: (error as Error).message };
  }
}

/** How far one gets from each beginning, in order of the log; the furthest wins, the newer of equals. */
function bestOf(
  checkpoints: readonly CheckpointCheck[],
  segments: readonly SegmentCheck[],
): { throughRecord: number; fromCheckpoint?: string } {
  let best: { throughRecord: number; fromCheckpoint?: string } = { throughRecord: reach(segments, 0) };
  for (const { path, records, reason } of checkpoints.toReversed()) {
    const throughRecord = reach(segments, records);
    if (reason === undefined && throughRecord >= best.throughRecord)
      best = { throughRecord, fromCheckpoint: path };
  }
  return best;
}

function reach(segments: readonly SegmentCheck[], from: number): number {
  let through = from;
  for (const { firstSequence, records } of segments) {
    // Behind damage there is a gap, unless the checkpoint covers it.
    if (firstSequence > through + 1) break;
    through = Math.max(through, firstSequence + records - 1);
  }
  return through;
}

async function bestState(
  disk: Disk,
  chunkBytes: number,
  { fromCheckpoint, throughRecord, segments }: LogCheck,
): Promise<{ state: LoggedState; nextSequence: number }> {
  const start = fromCheckpoint === undefined ? undefined : await readCheckpoint(disk, fromCheckpoint, 0);
  const state = start?.state ?? new LoggedState(chunkBytes);
  let nextSequence = start?.header.firstSequence ?? 1;
  for (const { path, firstSequence, records } of segments) {
    if (firstSequence + records <= nextSequence || firstSequence > throughRecord) continue;
    const bytes = await readWhole(disk, path);
    try {
      scanSegment(bytes, decodeSegmentHeader(bytes), (record, sequence) => {
        if (sequence !== nextSequence || sequence > throughRecord) return;
        apply(state, record, NO_EFFECTS);
        nextSequence++;
      });
    } catch (error) {
      // What came before the damage is applied; the check has told of it.
      if (!(error instanceof SegmentError)) throw error;
    }
  }
  return { state, nextSequence };
}
