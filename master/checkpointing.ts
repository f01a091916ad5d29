/**
 * Making a checkpoint (paper §2.6.3) beside the master, never in it: closed segments are replayed onto
 * the newest checkpoint, and what comes out is written as the next one. In a thread of its own on a real
 * host, in turns of the event loop in the simulator; the master's own state is not touched.
 */
import type { Clock, Disk, Logger, Timers } from '../environment/ports/index.js';
import { MIB } from '../protocol/limits.js';
import { writeCheckpoint } from './checkpoint-file.js';
import { DamagedLogError, type LogIdentity, replay } from './recovery.js';
import { Pace } from './sequential-writer.js';

/**
 * A flush of the log makes the disk write out whatever is in its cache, a checkpoint's bytes too: at the
 * disk's full speed mutations would wait hundreds of milliseconds.
 */
const BYTES_PER_SECOND = 48 * MIB;

export interface CheckpointPorts {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
}

export interface CheckpointJob extends LogIdentity {
  readonly term: number;
  /** The first record that is not to be in it: where a segment begins. */
  readonly beforeSequence: number;
}

export interface CheckpointMade {
  readonly sizeBytes: number;
}

/** How a master has its checkpoints made. Rejects when `signal` ends it. */
export type MakeCheckpoint = (job: CheckpointJob, signal: AbortSignal) => Promise<CheckpointMade>;

/** @throws DamagedLogError, or the disk's error: then there is nothing new */
export async function makeCheckpoint(
  { disk, clock, timers, logger }: CheckpointPorts,
  job: CheckpointJob,
  signal?: AbortSignal,
): Promise<CheckpointMade> {
  const { directory, clusterId, chunkBytes, term, beforeSequence } = job;
  const { state, nextSequence } = await replay(disk, logger, job, beforeSequence);
  if (nextSequence !== beforeSequence)
    throw new DamagedLogError(`${directory}: records ${nextSequence} to ${beforeSequence - 1} are missing`);
  signal?.throwIfAborted();
  const header = { clusterId, chunkBytes, term, firstSequence: nextSequence };
  const pace = new Pace(BYTES_PER_SECOND, clock, timers);
  return { sizeBytes: await writeCheckpoint(disk, directory, header, state, pace) };
}
