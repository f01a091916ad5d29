/** A shadow's copy of the operation log: written as it comes from the master, and applied as it is flushed. */
import type { Disk, Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { apply, type Effects } from './apply.js';
import { checkpointName, listCheckpoints } from './checkpoint-file.js';
import { OperationLog, type OperationLogOptions } from './operation-log.js';
import { type LogIdentity, recover } from './recovery.js';
import {
  GROUP_HEADER_BYTES,
  groupBytesAt,
  readGroup,
  SEGMENT_HEADER_BYTES,
  splitRecords,
} from './segment.js';
import { createSegment, listSegments } from './segment-files.js';
import type { LoggedState } from './state.js';

export class LogCopy {
  readonly state: LoggedState;
  readonly log: OperationLog;
  /** The first record that was not in the checkpoint that it began with. */
  readonly checkpointSequence: number;
  readonly #effects: Effects;

  private constructor(state: LoggedState, log: OperationLog, checkpointSequence: number, effects: Effects) {
    this.state = state;
    this.log = log;
    this.checkpointSequence = checkpointSequence;
    this.#effects = effects;
  }

  /** Replays what is there. @throws DamagedLogError */
  static async open(
    environment: Environment,
    options: OperationLogOptions & LogIdentity,
    effects: Effects,
    onFatal: (error: unknown) => void,
  ): Promise<LogCopy> {
    const { state, position } = await recover(environment.disk, environment.logger, options);
    const log = new OperationLog(environment, options, position, onFatal);
    return new LogCopy(state, log, position.checkpointSequence, effects);
  }

  get endSequence(): number {
    return this.log.endSequence;
  }

  get sizeBytes(): number {
    return this.log.sizeBytes;
  }

  /** The term of the last record, 0 when there is none. */
  get lastTerm(): number {
    return this.endSequence === 0 ? 0 : Math.max(...this.state.terms.keys());
  }

  /**
   * Resolves once the records are on disk and applied: so whoever hears that they are sees them here.
   * @param body records one after another, as in a group; not changed until then
   * @throws MALFORMED, NO_SPACE: none of the last group was taken
   */
  async append(firstSequence: number, count: number, body: Buffer): Promise<void> {
    const records = splitRecords(body);
    if (records.length !== count || firstSequence !== this.endSequence + 1) {
      throw new GfsError(
        'MALFORMED',
        `records ${firstSequence}, ${count} of them, after ${this.endSequence}`,
      );
    }
    await Promise.all(
      records.map(
        ({ record, bytes }) =>
          new Promise<void>((resolve, reject) => {
            const onDurable = (): void => {
              apply(this.state, record, this.#effects);
              resolve();
            };
            this.log.append(bytes, onDurable, reject);
          }),
      ),
    );
  }

  close(): Promise<void> {
    return this.log.close();
  }
}

/**
 * Takes off the end of a closed log what comes after record `through`, and perhaps some before it: whole
 * groups alone are kept.
 * @returns false where nothing could be kept: it is thrown away as a whole
 */
export async function cutLog(disk: Disk, directory: string, through: number): Promise<boolean> {
  const checkpoints = await listCheckpoints(disk, directory);
  const segments = await listSegments(disk, directory);
  const kept = checkpoints.filter(({ nextSequence }) => nextSequence <= through + 1);
  // What is kept begins with a checkpoint, or with the first record of all, and the segments follow it.
  const base = kept[0]?.nextSequence ?? 1;
  const oldest = segments[0]?.firstSequence ?? Number.POSITIVE_INFINITY;
  if (oldest > base) return false;
  // The last first: whatever happens in between, what is left is a log.
  for (const { path, nextSequence } of checkpoints) {
    if (nextSequence > through + 1) await removeFile(disk, directory, path);
  }
  for (const { path, firstSequence } of segments.reverse()) {
    if (firstSequence > through && firstSequence !== oldest) {
      await removeFile(disk, directory, path);
    } else {
      await cutSegment(disk, path, through);
      break;
    }
  }
  return true;
}

/** Throws a closed log away. The superblock says meanwhile that it is nothing. */
export async function wipeLog(disk: Disk, directory: string): Promise<void> {
  for (const { path } of await listCheckpoints(disk, directory)) await disk.remove(path);
  for (const { path } of await listSegments(disk, directory)) await disk.remove(path);
  await disk.syncDirectory(directory);
}

/** The log is a checkpoint and what will follow it. @param path of the checkpoint, written and flushed under another name */
export async function installCheckpoint(
  disk: Disk,
  options: OperationLogOptions,
  path: string,
  nextSequence: number,
): Promise<void> {
  const { directory } = options;
  await disk.rename(path, `${directory}/${checkpointName(nextSequence)}`);
  await (await createSegment(disk, options, nextSequence)).close();
  await disk.syncDirectory(directory);
}

async function removeFile(disk: Disk, directory: string, path: string): Promise<void> {
  await disk.remove(path);
  await disk.syncDirectory(directory);
}

async function cutSegment(disk: Disk, path: string, through: number): Promise<void> {
  const file = await disk.open(path, 'write');
  try {
    const bytes = Buffer.allocUnsafe(await file.sizeBytes());
    const whole = bytes.subarray(0, await file.read(bytes, 0));
    let at = SEGMENT_HEADER_BYTES;
    while (at + GROUP_HEADER_BYTES <= whole.byteLength && whole.readUInt32LE(at) !== 0) {
      const { first, count } = readGroup(whole, at);
      if (first + count - 1 > through) break;
      at += groupBytesAt(whole, at);
    }
    await file.truncate(at);
    await file.sync();
  } finally {
    await file.close();
  }
}
