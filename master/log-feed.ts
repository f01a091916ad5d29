/**
 * What the followers of a master's log are given: the records that come next, from memory or from the disk, or the
 * newest checkpoint where the log is no longer kept.
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_PAYLOAD_BYTES } from '../protocol/limits.js';
import type { FollowLog, ReadCheckpoint } from '../protocol/messages/index.js';
import type { Outcome } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkpointName, listCheckpoints } from './checkpoint-file.js';
import { type LogRange, LogReader } from './log-reader.js';
import type { MasterOptions } from './options.js';
import { RecentRecords } from './recent-records.js';
import type { Superblock } from './superblock.js';

type Reply = ValueOf<typeof FollowLog.reply>;

export class LogFeed {
  readonly #environment: Environment;
  readonly #options: MasterOptions;
  readonly #superblock: Superblock;
  readonly #recent = new RecentRecords();
  /** Followers that wait for the next record. */
  readonly #polls = new Set<() => void>();
  #writtenThrough: number;
  #stopped = false;

  /** @param writtenThrough the log's last record */
  constructor(
    environment: Environment,
    options: MasterOptions,
    superblock: Superblock,
    writtenThrough: number,
  ) {
    this.#environment = environment;
    this.#options = options;
    this.#superblock = superblock;
    this.#writtenThrough = writtenThrough;
  }

  /** The last record that was written here; it need not be flushed yet. */
  get writtenThrough(): number {
    return this.#writtenThrough;
  }

  /** @param isFollowed otherwise nothing is kept: who begins to follow reads what is behind it from the disk */
  written(firstSequence: number, records: readonly Buffer[], isFollowed: boolean): void {
    this.#writtenThrough = firstSequence + records.length - 1;
    if (isFollowed) this.#recent.add(firstSequence, records);
    else this.#recent.clear();
    this.#wakeAll();
  }

  /** For the records that are no longer in memory; one for each follower, who closes it. */
  newReader(): LogReader {
    return new LogReader(this.#environment.disk, this.#logDirectory);
  }

  /** Resolves when there is one at or after `nextSequence`, or after `waitMs`. */
  async untilWritten(nextSequence: number, waitMs: number): Promise<void> {
    if (nextSequence > this.#writtenThrough) await this.#untilMore(waitMs);
  }

  /** Whether a follower gets what comes next from memory. */
  isRecent(nextSequence: number): boolean {
    return this.#recent.from(nextSequence) !== undefined;
  }

  /** What comes next for one follower. @throws NOT_FOUND when there is neither record nor checkpoint */
  async next(reader: LogReader, nextSequence: number): Promise<Outcome<Reply>> {
    if (nextSequence > this.#writtenThrough || this.#stopped) return this.reply('records', nextSequence);
    const range = this.#recent.from(nextSequence) ?? (await reader.read(nextSequence, this.#writtenThrough));
    if (range === undefined) return this.reply('checkpoint', await this.#newestCheckpoint());
    return this.reply('records', nextSequence, range);
  }

  reply(action: Reply['action'], sequence: number, range?: LogRange): Outcome<Reply> {
    const superblock = this.#superblock;
    const options = this.#options;
    const body: Reply = {
      term: superblock.term,
      masterId: superblock.id,
      clusterId: superblock.clusterId,
      chunkBytes: superblock.chunkBytes,
      action,
      sequence,
      count: range?.count ?? 0,
      endSequence: this.#writtenThrough,
      renewIntervalMs: options.renewIntervalMs,
      timeoutMs: options.sessionTimeoutMs,
    };
    return range === undefined ? { body } : { body, payload: { buffers: [...range.buffers] } };
  }

  /** A part of a checkpoint, for a log replica that is too far behind. @throws NOT_FOUND when it is gone */
  async readCheckpoint({
    sequence,
    offset,
    length,
  }: ValueOf<typeof ReadCheckpoint.request>): Promise<Outcome<ValueOf<typeof ReadCheckpoint.reply>>> {
    const path = `${this.#logDirectory}/${checkpointName(sequence + 1)}`;
    const file = await this.#environment.disk.open(path, 'read').catch((cause: unknown) => {
      throw new GfsError('NOT_FOUND', `no checkpoint through record ${sequence}`, { cause });
    });
    try {
      const bytes = Buffer.allocUnsafe(Math.min(length, MAX_PAYLOAD_BYTES));
      const read = await file.read(bytes, offset);
      const body = { sizeBytes: await file.sizeBytes() };
      return read === 0 ? { body } : { body, payload: { buffers: [bytes.subarray(0, read)] } };
    } finally {
      await file.close();
    }
  }

  /** The last record that is in it. @throws NOT_FOUND */
  async #newestCheckpoint(): Promise<number> {
    const { disk } = this.#environment;
    const [newest] = await listCheckpoints(disk, this.#logDirectory);
    if (newest === undefined) throw new GfsError('NOT_FOUND', 'there is no checkpoint');
    return newest.nextSequence - 1;
  }

  get #logDirectory(): string {
    return `${this.#options.dataDirectory}/log`;
  }

  #untilMore(waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const { timers } = this.#environment;
      const wake = (): void => {
        timer.cancel();
        this.#polls.delete(wake);
        resolve();
      };
      const timer = timers.after(Math.min(waitMs, this.#options.renewIntervalMs), wake);
      this.#polls.add(wake);
    });
  }

  /** Nobody is kept waiting. */
  stop(): void {
    this.#stopped = true;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of this.#polls) wake();
    this.#polls.clear();
  }
}
