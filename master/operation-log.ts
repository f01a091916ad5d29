/**
 * The operation log (paper §2.6.3): appended by one writer, flushed in groups. Everything that arrives
 * while a flush runs goes into the next one, so a flush costs the same for one mutation as for hundreds.
 */
import type { Disk, DiskFile, Logger, Metrics, Timer, Timers } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import { LogSpace } from './log-space.js';
import { encodeGroup, MAX_GROUP_BYTES, SEGMENT_HEADER_BYTES } from './segment.js';
import { type ClosedSegment, createSegment } from './segment-files.js';

const MANY = -1;
const MAX_QUEUED_RECORDS = 65_536;
const DEFAULT_RESERVE_BYTES = 1 * MIB;
const FLUSH_BUCKETS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000];

export interface OperationLogOptions {
  /** Where the segments are. */
  readonly directory: string;
  readonly clusterId: string;
  readonly chunkBytes: number;
  readonly term: number;
  readonly segmentBytes: number;
  /** Written ahead with zeros, so that a flush commits no metadata and a full disk is known before it hurts. */
  readonly reserveBytes?: number;
  readonly sync: 'always' | 'interval';
  readonly syncIntervalMs: number;
}

/** What has to happen beside the flush here before a record counts (paper §2.6.3: on remote machines too). */
export interface Replication {
  /** Before a group is written: until the log replicas can take it. Undefined: now. */
  ready(): Promise<void> | undefined;
  /** A group is in the file; its flush here begins. @returns whether it is on its way to anybody */
  written(firstSequence: number, records: readonly Buffer[]): boolean;
  /** Until enough log replicas have flushed everything through this record. Undefined: they have. */
  committed(throughSequence: number): Promise<void> | undefined;
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
  /** The file's size: behind the end are zeros. */
  readonly reservedTo: number;
  readonly firstSequence: number;
  readonly nextSequence: number;
  /** The first record that is not in the newest checkpoint; 1 without one. */
  readonly checkpointSequence: number;
  /** The segments before it, in order. */
  readonly closed: ClosedSegment[];
}

interface Queued {
  readonly record: Buffer;
  readonly session: number;
  /** Called when the record is durable, in log order. */
  readonly onDurable: () => void;
  /** Called when it did not get into the log, for good. */
  readonly onRefused: (error: GfsError) => void;
}

export class OperationLog {
  readonly #environment: Environment;
  readonly #options: OperationLogOptions;
  readonly #onFatal: (error: unknown) => void;
  readonly #flushMs;
  #file: DiskFile;
  #endBytes: number;
  #syncedBytes: number;
  #space: LogSpace;
  #closed: ClosedSegment[];
  /** Of the open segment. */
  #firstSequence: number;
  /** Callers that wait for a new segment. */
  #rotations: ((firstSequence: number) => void)[] = [];
  #nextSequence: number;
  #queue: Queued[] = [];
  /** Whose the last group's only record was; MANY when it had more. */
  #lastSession = MANY;
  #replication: Replication | undefined;
  #running = false;
  #closing = false;
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
    this.#space = this.#spaceOf(at.file, at.reservedTo);
    this.#closed = [...at.closed];
    this.#firstSequence = at.firstSequence;
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
    return this.#closed.reduce((sum, { sizeBytes }) => sum + sizeBytes, this.#endBytes);
  }

  /** In order, without the open one. */
  get closed(): readonly ClosedSegment[] {
    return this.#closed;
  }

  /** The first record of the open segment, or the next when it has none. */
  get openSequence(): number {
    return this.#firstSequence;
  }

  /** No space can be had on the disk: what clients ask for is refused, until there is some again. */
  get full(): boolean {
    return this.#space.full;
  }

  /** Closed segments that begin before this record are no longer there. */
  forget(beforeSequence: number): void {
    this.#closed = this.#closed.filter(({ firstSequence }) => firstSequence >= beforeSequence);
  }

  /** Begins a new segment, unless the open one is empty or the disk is full. @returns the open one's first record */
  rotate(): Promise<number> {
    if (this.#dead) return Promise.reject(new GfsError('NOT_READY', 'the master is stopping'));
    return new Promise((resolve) => {
      this.#rotations.push(resolve);
      this.#wake();
    });
  }

  get recordCount(): number {
    return this.#nextSequence - 1;
  }

  /** From here on a record counts only when log replicas have it too. */
  replicate(replication: Replication): void {
    this.#replication = replication;
  }

  /** The last record of the last group that is durable and applied. */
  get endSequence(): number {
    return this.#nextSequence - 1;
  }

  /**
   * Queues a record. Callbacks come in log order, never before this returns.
   * @param session whose it is, 0 for the master's own
   * @param first ahead of all that waits: a term's first record
   * @throws OVERLOADED, NOT_READY
   */
  append(
    record: Buffer,
    onDurable: () => void,
    onRefused: (error: GfsError) => void,
    session = 0,
    first = false,
  ): void {
    if (this.#dead) throw new GfsError('NOT_READY', 'the master is stopping');
    if (this.#queue.length >= MAX_QUEUED_RECORDS)
      throw new GfsError('OVERLOADED', 'the operation log is behind');
    const queued = { record, onDurable, onRefused, session };
    if (first) this.#queue.unshift(queued);
    else this.#queue.push(queued);
    this.#wake();
  }

  /** Flushes what is queued and closes the log. What waits for log replicas then goes on waiting: its outcome is unknown. */
  async close(): Promise<void> {
    this.#syncTimer?.cancel();
    this.#space.stop();
    this.prepareToClose();
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve));
    if (this.#dead) return;
    await this.#syncNow();
    this.#dead = true;
    await this.#file.close();
  }

  /** From now on a record may be given up for which log replicas are waited for. */
  prepareToClose(): void {
    this.#closing = true;
  }

  #wake(): void {
    if (this.#running) return;
    this.#running = true;
    // After this turn of the event loop: what came in one piece from the network shares one flush.
    void Promise.resolve().then(() => this.#run());
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        if (this.#space.probeIsDue) await this.#space.extend();
        if (this.#rotations.length > 0) await this.#rotateNow();
        if (this.#queue.length === 0) break;
        const ready = this.#replication?.ready();
        if (ready !== undefined) await ready;
        await this.#flush(this.#takeGroup());
      }
    } catch (error) {
      // Log replicas are not waited for at the end.
      if (!(this.#closing && error instanceof GfsError && error.code === 'OUTCOME_PENDING')) {
        this.#die(error);
        return;
      }
    }
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
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
    if (this.#endBytes >= this.#options.segmentBytes && !this.#space.full) await this.#startSegment();
    const records = group.map(({ record }) => record);
    const buffers = encodeGroup(records, this.#nextSequence, this.#syncedBytes);
    let endBytes = this.#endBytes;
    for (const buffer of buffers) endBytes += buffer.byteLength;
    if (!this.#space.isReserved(endBytes) && !(await this.#space.reserve(endBytes)))
      return refuse(group, new GfsError('NO_SPACE', 'no space for the operation log'));
    try {
      await this.#file.write(buffers, this.#endBytes);
    } catch (thrown) {
      // Of anything else nobody knows what was written.
      const error = toGfsError(thrown);
      if (error.code !== 'NO_SPACE') throw thrown;
      await this.#space.lose(this.#endBytes);
      return refuse(group, error);
    }
    this.#endBytes = endBytes;
    const isSent = this.#replication?.written(this.#nextSequence, records) ?? false;
    const isAlone = this.#isAlone(group) && !isSent;
    if (this.#options.sync === 'always') await this.#syncNow(isAlone);
    this.#flushMs.observe(this.#environment.clock.monotonicMs() - startedMs);
    const committed = this.#replication?.committed(this.#nextSequence + group.length - 1);
    if (committed !== undefined) await committed;
    this.#nextSequence += group.length;
    for (const { onDurable } of group) onDurable();
  }

  /**
   * Whether it comes from one who asks for one thing after another, and nobody else does: he waits for this flush, so
   * this process may. What others ask for in between would otherwise be flushed one by one, and not together.
   */
  #isAlone(group: readonly Queued[]): boolean {
    const session = group.length === 1 ? (group[0] as Queued).session : MANY;
    const isAlone = session === this.#lastSession && session !== MANY;
    this.#lastSession = session;
    return isAlone;
  }

  async #rotateNow(): Promise<void> {
    const rotations = this.#rotations.splice(0);
    if (this.#endBytes > SEGMENT_HEADER_BYTES && !this.#space.full) await this.#startSegment();
    for (const resolve of rotations) resolve(this.#firstSequence);
  }

  #spaceOf(file: DiskFile, reservedTo: number): LogSpace {
    const { segmentBytes, reserveBytes = Math.min(DEFAULT_RESERVE_BYTES, segmentBytes) } = this.#options;
    return new LogSpace(this.#environment, file, reservedTo, reserveBytes, () => this.#wake());
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
    // Nothing but what was logged stays of it.
    await this.#file.truncate(this.#endBytes);
    await this.#file.close();
    this.#file = next;
    this.#space.stop();
    this.#space = this.#spaceOf(next, SEGMENT_HEADER_BYTES);
    this.#closed.push({ firstSequence: this.#firstSequence, sizeBytes: this.#endBytes });
    this.#firstSequence = this.#nextSequence;
    this.#endBytes = SEGMENT_HEADER_BYTES;
    this.#syncedBytes = SEGMENT_HEADER_BYTES;
  }

  /** One at a time; a failure is fatal, because the kernel tells it only once (it may have dropped the pages). */
  async #syncNow(isAlone = false): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing;
    const endBytes = this.#endBytes;
    if (this.#dead || this.#syncedBytes >= endBytes) return;
    const syncing = this.#file.sync(isAlone);
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

/** Nothing of the group was written. */
function refuse(group: readonly Queued[], error: GfsError): void {
  for (const { onRefused } of group) onRefused(error);
}
