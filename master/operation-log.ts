/**
 * The operation log (paper §2.6.3): appended by one writer, flushed in groups. Everything that arrives
 * while a flush runs goes into the next one, so a flush costs the same for one mutation as for hundreds.
 */
import type { Disk, DiskFile, Logger, Metrics, Timer, Timers } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { encodeGroup, encodeSegmentHeader, MAX_GROUP_BYTES, SEGMENT_HEADER_BYTES } from './segment.js';

const MAX_QUEUED_RECORDS = 65_536;
const FLUSH_BUCKETS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000];

export interface OperationLogOptions {
  /** Where the segments are. */
  readonly directory: string;
  readonly clusterId: string;
  readonly chunkBytes: number;
  readonly term: number;
  readonly segmentBytes: number;
  readonly sync: 'always' | 'interval';
  readonly syncIntervalMs: number;
}

interface Environment {
  readonly disk: Disk;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly clock: { monotonicMs(): number };
}

/** The open segment, as recovery left it. */
export interface LogPosition {
  readonly file: DiskFile;
  /** Where the next group goes. All before it is on disk. */
  readonly endBytes: number;
  readonly nextSequence: number;
  /** Bytes of the closed segments before it. */
  readonly closedBytes: number;
}

interface Queued {
  readonly record: Buffer;
  /** Called when the record is durable, in log order. */
  readonly onDurable: () => void;
  /** Called when it did not get into the log, for good. */
  readonly onRefused: (error: GfsError) => void;
}

export function segmentName(firstSequence: number): string {
  return `segment-${String(firstSequence).padStart(16, '0')}`;
}

export async function createSegment(
  disk: Disk,
  options: OperationLogOptions,
  firstSequence: number,
): Promise<DiskFile> {
  const { directory, clusterId, chunkBytes, term } = options;
  const path = `${directory}/${segmentName(firstSequence)}`;
  const file = await disk.open(`${path}.new`, 'create');
  try {
    await file.truncate(0);
    await file.write([encodeSegmentHeader({ clusterId, chunkBytes, term, firstSequence })], 0);
    await file.sync();
    // Under its name a segment always has a whole header: recovery need not guess.
    await disk.rename(`${path}.new`, path);
    await disk.syncDirectory(directory);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export class OperationLog {
  readonly #environment: Environment;
  readonly #options: OperationLogOptions;
  readonly #onFatal: (error: unknown) => void;
  readonly #flushMs;
  #file: DiskFile;
  #endBytes: number;
  #syncedBytes: number;
  #closedBytes: number;
  #nextSequence: number;
  #queue: Queued[] = [];
  #running = false;
  #dead = false;
  #idle: (() => void)[] = [];
  readonly #syncTimer: Timer | undefined;
  #syncing: Promise<void> | undefined;

  /** @param onFatal called once, when what is on disk is no longer known: the process has to end */
  constructor(
    environment: Environment,
    options: OperationLogOptions,
    at: LogPosition,
    onFatal: (error: unknown) => void,
  ) {
    this.#environment = environment;
    this.#options = options;
    this.#onFatal = onFatal;
    this.#file = at.file;
    this.#endBytes = at.endBytes;
    this.#syncedBytes = at.endBytes;
    this.#closedBytes = at.closedBytes;
    this.#nextSequence = at.nextSequence;
    this.#flushMs = environment.metrics.histogram(
      'gfs_master_log_flush_ms',
      'Time of one flush of the operation log',
      FLUSH_BUCKETS_MS,
    );
    if (options.sync === 'interval') {
      this.#syncTimer = environment.timers.every(options.syncIntervalMs, () =>
        this.#syncNow().catch(() => undefined),
      );
    }
  }

  /** Of all segments. */
  get sizeBytes(): number {
    return this.#closedBytes + this.#endBytes;
  }

  get recordCount(): number {
    return this.#nextSequence - 1;
  }

  /** Queues a record. Callbacks come in log order, never before this returns. @throws OVERLOADED, NOT_READY */
  append(record: Buffer, onDurable: () => void, onRefused: (error: GfsError) => void): void {
    if (this.#dead) throw new GfsError('NOT_READY', 'the master is stopping');
    if (this.#queue.length >= MAX_QUEUED_RECORDS)
      throw new GfsError('OVERLOADED', 'the operation log is behind');
    this.#queue.push({ record, onDurable, onRefused });
    if (this.#running) return;
    this.#running = true;
    // After this turn of the event loop: what came in one piece from the network shares one flush.
    queueMicrotask(() => this.#run());
  }

  /** Flushes what is queued and closes the log. */
  async close(): Promise<void> {
    this.#syncTimer?.cancel();
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve));
    if (this.#dead) return;
    await this.#syncNow();
    this.#dead = true;
    await this.#file.close();
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#flush(this.#takeGroup());
      this.#running = false;
      for (const resolve of this.#idle.splice(0)) resolve();
    } catch (error) {
      this.#die(error);
    }
  }

  #die(error: unknown): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#syncTimer?.cancel();
    this.#environment.logger.error({ err: error }, 'the operation log failed; the master ends');
    this.#onFatal(error);
  }

  #takeGroup(): Queued[] {
    let bytes = 0;
    let count = 0;
    for (const { record } of this.#queue) {
      bytes += record.byteLength;
      if (count > 0 && bytes > MAX_GROUP_BYTES) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  async #flush(group: Queued[]): Promise<void> {
    const startedMs = this.#environment.clock.monotonicMs();
    const refused = await this.#write(group.map(({ record }) => record));
    if (refused !== undefined) {
      for (const { onRefused } of group) onRefused(refused);
      return;
    }
    if (this.#options.sync === 'always') await this.#syncNow();
    this.#flushMs.observe(this.#environment.clock.monotonicMs() - startedMs);
    this.#nextSequence += group.length;
    for (const { onDurable } of group) onDurable();
  }

  /** @returns the error when the disk is full: nothing was written. Other errors are thrown: nobody knows what was. */
  async #write(records: Buffer[]): Promise<GfsError | undefined> {
    if (this.#endBytes >= this.#options.segmentBytes) await this.#startSegment();
    const buffers = encodeGroup(records, this.#nextSequence, this.#syncedBytes);
    let bytes = 0;
    for (const buffer of buffers) bytes += buffer.byteLength;
    try {
      await this.#file.write(buffers, this.#endBytes);
    } catch (thrown) {
      const error = toGfsError(thrown);
      if (error.code !== 'NO_SPACE') throw thrown;
      await this.#file.truncate(this.#endBytes);
      this.#environment.logger.error(
        { err: thrown },
        'no space for the operation log: mutations are refused',
      );
      return error;
    }
    this.#endBytes += bytes;
    return undefined;
  }

  /** A full disk only puts the new segment off. */
  async #startSegment(): Promise<void> {
    await this.#syncNow();
    let next: DiskFile;
    try {
      next = await createSegment(this.#environment.disk, this.#options, this.#nextSequence);
    } catch (thrown) {
      if (toGfsError(thrown).code !== 'NO_SPACE') throw thrown;
      return;
    }
    await this.#file.close();
    this.#file = next;
    this.#closedBytes += this.#endBytes;
    this.#endBytes = SEGMENT_HEADER_BYTES;
    this.#syncedBytes = SEGMENT_HEADER_BYTES;
  }

  /** One at a time; a failure is fatal, because the kernel tells it only once (it may have dropped the pages). */
  async #syncNow(): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing;
    const endBytes = this.#endBytes;
    if (this.#dead || this.#syncedBytes >= endBytes) return;
    const syncing = this.#file.sync();
    this.#syncing = syncing;
    try {
      await syncing;
      this.#syncedBytes = endBytes;
    } catch (error) {
      this.#die(error);
      throw error;
    } finally {
      this.#syncing = undefined;
    }
  }
}
