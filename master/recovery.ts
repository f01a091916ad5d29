/**
 * From the files of a data directory to logged state: the newest complete checkpoint, and the records of
 * the operation log behind it, segment by segment.
 */
import type { Disk, DiskFile, Logger } from '../environment/ports/index.js';
import { apply, NO_EFFECTS } from './apply.js';
import { listCheckpoints, readCheckpoint } from './checkpoint-file.js';
import type { LogPosition, OperationLogOptions } from './operation-log.js';
import { decodeSegmentHeader, type Scan, type SegmentHeader, scanSegment } from './segment.js';
import {
  type ClosedSegment,
  createSegment,
  listSegments,
  readWhole,
  segmentName,
  sizeOf,
} from './segment-files.js';
import { LoggedState } from './state.js';
import { parentOf } from './superblock.js';

/** The log cannot be used: the master does not start, and changes nothing. */
export class DamagedLogError extends Error {
  override readonly name = 'DamagedLogError';
}

/** What a log has to be of, and where it is. */
export interface LogIdentity {
  readonly directory: string;
  readonly clusterId: string;
  readonly chunkBytes: number;
  /** As {@link LoggedState}'s. */
  readonly hashSeed?: number;
}

export interface Replayed {
  readonly state: LoggedState;
  readonly nextSequence: number;
  /** The first record that is not in the checkpoint that it began with; 1 without one. */
  readonly checkpointSequence: number;
  /** Segments before the last, also those that the checkpoint covers. */
  readonly closed: ClosedSegment[];
  readonly last: { readonly path: string; readonly scan: Scan } | undefined;
}

/**
 * Replays checkpoint and log, and changes nothing on disk. A torn tail of the last segment is left out;
 * damage anywhere else stops it.
 * @param before only what comes before this record, if there is so much
 * @throws DamagedLogError naming the segment and, for damage, the offset
 */
export async function replay(
  disk: Disk,
  logger: Logger,
  log: LogIdentity,
  before = Number.POSITIVE_INFINITY,
): Promise<Replayed> {
  const segments = (await listSegments(disk, log.directory)).filter((each) => each.firstSequence < before);
  const start = await newestState(disk, logger, log, before);
  const { state } = start;
  let { nextSequence } = start;
  const closed: ClosedSegment[] = [];
  let last: Replayed['last'];
  for (const [index, { path, firstSequence }] of segments.entries()) {
    const isLast = index === segments.length - 1;
    const following = segments[index + 1]?.firstSequence;
    if (following !== undefined && following <= start.nextSequence) {
      closed.push({ firstSequence, sizeBytes: await sizeOf(disk, path) });
      continue;
    }
    // The first one may begin before the checkpoint ends; the others follow each other.
    const expected = last === undefined ? Math.min(firstSequence, nextSequence) : nextSequence;
    const scan = await replaySegment(disk, path, log, expected, start.nextSequence, before, state);
    nextSequence = Math.min(firstSequence + scan.recordCount, before);
    const isTail = isLast && (before === Number.POSITIVE_INFINITY || nextSequence === before);
    if (scan.tornBytes > 0 && !isTail)
      throw new DamagedLogError(`${path}: damaged at offset ${scan.endBytes}, and later segments follow`);
    if (!isLast) closed.push({ firstSequence, sizeBytes: scan.endBytes });
    last = { path, scan };
  }
  const isCovered = start.nextSequence === 1 || start.nextSequence === before;
  if (nextSequence < start.nextSequence || (last === undefined && !isCovered))
    throw new DamagedLogError(`${log.directory}: ${segmentName(start.nextSequence)} is missing`);
  return { state, nextSequence, checkpointSequence: start.nextSequence, closed, last };
}

/**
 * Replays every segment behind the newest checkpoint, and makes the log ready to go on. A torn tail of
 * the last one is cut.
 * @throws DamagedLogError as {@link replay}
 */
export async function recover(
  disk: Disk,
  logger: Logger,
  options: OperationLogOptions & LogIdentity,
): Promise<{ state: LoggedState; position: LogPosition }> {
  await disk.makeDirectory(options.directory);
  await disk.syncDirectory(parentOf(options.directory));
  await removeLeftovers(disk, options.directory);
  const { state, nextSequence, checkpointSequence, closed, last } = await replay(disk, logger, options);
  if (last === undefined) {
    const file = await createSegment(disk, options, 1);
    const endBytes = await file.sizeBytes();
    return {
      state,
      position: {
        file,
        endBytes,
        reservedTo: endBytes,
        firstSequence: 1,
        nextSequence: 1,
        checkpointSequence,
        closed,
      },
    };
  }
  const file = await disk.open(last.path, 'write');
  const { endBytes, recordCount } = last.scan;
  await finishTail(file, last.scan, last.path, logger);
  const reservedTo = await file.sizeBytes();
  const firstSequence = nextSequence - recordCount;
  return {
    state,
    position: { file, endBytes, reservedTo, firstSequence, nextSequence, checkpointSequence, closed },
  };
}

/** The newest checkpoint that can be read; the state of an empty log when there is none. */
async function newestState(
  disk: Disk,
  logger: Logger,
  log: LogIdentity,
  before: number,
): Promise<{ state: LoggedState; nextSequence: number }> {
  const { directory, chunkBytes, hashSeed = 0 } = log;
  for (const { path, nextSequence } of await listCheckpoints(disk, directory)) {
    if (nextSequence > before) continue;
    try {
      const { header, state } = await readCheckpoint(disk, path, hashSeed);
      checkIdentity(header, log);
      if (header.firstSequence !== nextSequence)
        throw new Error(`it ends before record ${header.firstSequence}`);
      return { state, nextSequence };
    } catch (err) {
      logger.warn(
        { err, checkpoint: path },
        'a checkpoint cannot be used; taking an older one and more of the log',
      );
    }
  }
  return { state: new LoggedState(chunkBytes, hashSeed), nextSequence: 1 };
}

async function replaySegment(
  disk: Disk,
  path: string,
  log: LogIdentity,
  firstSequence: number,
  fromSequence: number,
  before: number,
  state: LoggedState,
): Promise<Scan> {
  const bytes = await readWhole(disk, path);
  try {
    const header = decodeSegmentHeader(bytes);
    checkIdentity(header, log);
    if (header.firstSequence !== firstSequence) {
      const missing = segmentName(firstSequence);
      throw new Error(`it begins with record ${header.firstSequence}, ${missing} is missing`);
    }
    return scanSegment(bytes, header, (record, sequence) => {
      if (sequence >= fromSequence && sequence < before) apply(state, record, NO_EFFECTS);
    });
  } catch (cause) {
    throw new DamagedLogError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

function checkIdentity(header: SegmentHeader, log: LogIdentity): void {
  if (header.clusterId !== log.clusterId) throw new Error(`it is of cluster ${header.clusterId}`);
  if (header.chunkBytes !== log.chunkBytes) throw new Error(`it is of chunks of ${header.chunkBytes} bytes`);
}

/** What was being written when a process ended. */
async function removeLeftovers(disk: Disk, directory: string): Promise<void> {
  for (const name of await disk.list(directory)) {
    if (/^(segment|checkpoint)-\d{16}\.new$/.test(name)) await disk.remove(`${directory}/${name}`);
  }
}

/** What was replayed becomes what is served, so it has to survive the host as well, even if it was not flushed. */
async function finishTail(file: DiskFile, scan: Scan, path: string, logger: Logger): Promise<void> {
  if (scan.tornBytes > 0) {
    logger.warn(
      { segment: path, offset: scan.endBytes, bytes: scan.tornBytes },
      'cutting a torn tail off the log',
    );
    await file.truncate(scan.endBytes);
  }
  await file.sync();
}
