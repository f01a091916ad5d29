/** When checkpoints are made, and what of log and checkpoints is kept. Mutations go on meanwhile. */
import type { Clock, Disk, Logger, Metrics } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { checkpointName, listCheckpoints } from './checkpoint-file.js';
import type { MakeCheckpoint } from './checkpointing.js';
import type { OperationLog } from './operation-log.js';
import type { LogIdentity } from './recovery.js';
import { listSegments } from './segment-files.js';

/** With the segments that the older one needs: should the newest turn out damaged, nothing is lost. */
const KEPT_CHECKPOINTS = 2;
/** The log grows by at least this share of the newest checkpoint first: what is written stays in proportion to what changes. */
const SHARE_OF_CHECKPOINT = 1 / 4;
const RETRY_AFTER_MS = 60_000;
const DURATION_BUCKETS_MS = [100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

export interface CheckpointerParts {
  readonly log: OperationLog;
  readonly identity: LogIdentity & { readonly term: number };
  /** Closed log behind the newest checkpoint from which on the next one is made. */
  readonly checkpointBytes: number;
  /** The first record that is not in the newest checkpoint, as recovery found it. */
  readonly checkpointSequence: number;
  readonly make: MakeCheckpoint;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface CheckpointStatus {
  /** Records in the newest one; 0 when there is none. */
  readonly records: number;
  /** Bytes of the log that a start would replay. */
  readonly logBytesBehind: number;
  readonly running: boolean;
  /** Why the last one failed; undefined when it did not. */
  readonly failure: string | undefined;
}

export class Checkpointer {
  readonly #parts: CheckpointerParts;
  readonly #stopping = new AbortController();
  readonly #durationMs;
  #sequence: number;
  /** Of the newest one, when this process has made it. */
  #sizeBytes = 0;
  #running: Promise<void> | undefined;
  #failure: string | undefined;
  #retryAtMs = 0;

  constructor(parts: CheckpointerParts) {
    this.#parts = parts;
    this.#sequence = parts.checkpointSequence;
    this.#durationMs = parts.metrics.histogram(
      'gfs_master_checkpoint_ms',
      'Time to make a checkpoint, beside the master',
      DURATION_BUCKETS_MS,
    );
  }

  get status(): CheckpointStatus {
    const { log } = this.#parts;
    const covered = log.closed.filter(({ firstSequence }) => firstSequence < this.#sequence);
    const coveredBytes = covered.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return {
      records: this.#sequence - 1,
      logBytesBehind: log.sizeBytes - coveredBytes,
      running: this.#running !== undefined,
      failure: this.#failure,
    };
  }

  /** From the regular scans: makes one when enough of the log is closed. */
  sweep(): void {
    const { clock, logger, checkpointBytes, log } = this.#parts;
    if (this.#running !== undefined || clock.monotonicMs() < this.#retryAtMs) return;
    let behind = 0;
    for (const { firstSequence, sizeBytes } of log.closed)
      if (firstSequence >= this.#sequence) behind += sizeBytes;
    if (behind < Math.max(checkpointBytes, this.#sizeBytes * SHARE_OF_CHECKPOINT) || behind === 0) return;
    this.#run().catch((err) => {
      if (!this.#stopping.signal.aborted)
        logger.error({ err }, 'a checkpoint could not be made; trying later');
    });
  }

  /** Makes one now that has everything logged so far. @throws what keeps it from being made */
  async now(): Promise<CheckpointStatus> {
    await this.#running?.catch(() => undefined);
    await this.#parts.log.rotate();
    if (this.#parts.log.full) throw new GfsError('NO_SPACE', 'the disk of the operation log is full');
    await this.#run();
    return this.status;
  }

  /** Ends the one under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running?.catch(() => undefined);
  }

  #run(): Promise<void> {
    this.#running ??= this.#make().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #make(): Promise<void> {
    const { log, identity, make, clock, logger } = this.#parts;
    const beforeSequence = log.openSequence;
    if (beforeSequence === this.#sequence) return;
    const startedMs = clock.monotonicMs();
    try {
      const { sizeBytes } = await make({ ...identity, beforeSequence }, this.#stopping.signal);
      const durationMs = clock.monotonicMs() - startedMs;
      this.#durationMs.observe(durationMs);
      this.#sequence = beforeSequence;
      this.#sizeBytes = sizeBytes;
      this.#failure = undefined;
      const checkpoint = checkpointName(beforeSequence);
      logger.info({ checkpoint, sizeBytes, durationMs: Math.round(durationMs) }, 'a checkpoint was made');
      await this.#prune();
    } catch (error) {
      this.#failure = (error as Error).message;
      this.#retryAtMs = clock.monotonicMs() + RETRY_AFTER_MS;
      throw error;
    }
  }

  /** Removes older checkpoints, and the segments that the oldest one kept has all of. */
  async #prune(): Promise<void> {
    const { disk, log, identity } = this.#parts;
    const { directory } = identity;
    const checkpoints = await listCheckpoints(disk, directory);
    const oldest = checkpoints[KEPT_CHECKPOINTS - 1];
    if (oldest === undefined) return;
    for (const { path } of checkpoints.slice(KEPT_CHECKPOINTS)) await disk.remove(path);
    const segments = await listSegments(disk, directory);
    for (const [index, { path }] of segments.entries()) {
      const next = segments[index + 1];
      if (next === undefined || next.firstSequence > oldest.nextSequence) break;
      await disk.remove(path);
      log.forget(next.firstSequence);
    }
    await disk.syncDirectory(directory);
  }
}
