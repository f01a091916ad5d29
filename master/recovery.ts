/** From the files of a data directory to logged state: replays the operation log, segment by segment. */
import type { Disk, DiskFile, Logger } from '../environment/ports/index.js';
import { apply, NO_EFFECTS } from './apply.js';
import { createSegment, type LogPosition, type OperationLogOptions, segmentName } from './operation-log.js';
import { decodeSegmentHeader, type Scan, type SegmentHeader, scanSegment } from './segment.js';
import { LoggedState } from './state.js';
import { parentOf } from './superblock.js';

const SEGMENT_NAME = /^segment-(\d{16})$/;

/** The log cannot be used: the master does not start, and changes nothing. */
export class DamagedLogError extends Error {
  override readonly name = 'DamagedLogError';
}

/**
 * Replays every segment in order. A torn tail of the last one is cut; damage anywhere else stops it.
 * @throws DamagedLogError naming the segment and, for damage, the offset
 */
export async function recover(
  disk: Disk,
  logger: Logger,
  options: OperationLogOptions,
): Promise<{ state: LoggedState; position: LogPosition }> {
  await disk.makeDirectory(options.directory);
  await disk.syncDirectory(parentOf(options.directory));
  const names = (await disk.list(options.directory)).filter((name) => SEGMENT_NAME.test(name)).sort();
  const state = new LoggedState(options.chunkBytes);
  let nextSequence = 1;
  let closedBytes = 0;
  for (const [index, name] of names.entries()) {
    const path = `${options.directory}/${name}`;
    const isLast = index === names.length - 1;
    const file = await disk.open(path, 'write');
    const scan = await readSegment(file, path, options, nextSequence);
    if (scan.tornBytes > 0 && !isLast) {
      throw new DamagedLogError(`${path}: damaged at offset ${scan.endBytes}, and later segments follow`);
    }
    for (const record of scan.records) apply(state, record, NO_EFFECTS);
    nextSequence += scan.records.length;
    if (isLast) {
      await finishTail(file, scan, path, logger);
      return { state, position: { file, endBytes: scan.endBytes, nextSequence, closedBytes } };
    }
    closedBytes += scan.endBytes;
    await file.close();
  }
  const file = await createSegment(disk, options, 1);
  const endBytes = await file.sizeBytes();
  return { state, position: { file, endBytes, nextSequence: 1, closedBytes: 0 } };
}

async function readSegment(
  file: DiskFile,
  path: string,
  options: OperationLogOptions,
  nextSequence: number,
): Promise<Scan> {
  const bytes = Buffer.allocUnsafe(await file.sizeBytes());
  if ((await file.read(bytes, 0)) !== bytes.byteLength)
    throw new DamagedLogError(`${path}: it cannot be read whole`);
  try {
    const header = decodeSegmentHeader(bytes);
    checkHeader(header, options, nextSequence);
    return scanSegment(bytes, header);
  } catch (cause) {
    throw new DamagedLogError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

function checkHeader(header: SegmentHeader, options: OperationLogOptions, nextSequence: number): void {
  if (header.clusterId !== options.clusterId) throw new Error(`it is of cluster ${header.clusterId}`);
  if (header.chunkBytes !== options.chunkBytes)
    throw new Error(`it is of chunks of ${header.chunkBytes} bytes`);
  if (header.firstSequence !== nextSequence) {
    throw new Error(`it begins with record ${header.firstSequence}, ${segmentName(nextSequence)} is missing`);
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
