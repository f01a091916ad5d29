/** What a chunk has and what it lacks, as of now. */
import type { Chunkserver, Replica, Replicas } from '../replicas.js';
import type { ChunkState } from '../state.js';

export interface Standing {
  /** Current, on live servers. */
  readonly good: readonly Replica[];
  /** Those of the good that are where they can stay: not on a server that is being drained. */
  readonly staying: readonly Replica[];
  /** On live servers, and may be as good: a comparison decides. */
  readonly suspect: readonly Replica[];
  /** On live servers, damaged or behind. */
  readonly useless: readonly Replica[];
  /** Ahead of the log by more than one version, which nobody can explain: left as they are. */
  readonly quarantinedCount: number;
  /** On servers that died lately and may be back soon, or are back and tell what they have; since when the first is away. */
  readonly awayCount: number;
  readonly awaySinceMs: number;
  /** How many copies are missing from the goal; negative when there are too many. */
  readonly missing: number;
}

export function standingOf(
  chunk: ChunkState,
  replicas: Replicas,
  isLeaving: (chunkserver: Chunkserver) => boolean,
): Standing {
  const good: Replica[] = [];
  const staying: Replica[] = [];
  const suspect: Replica[] = [];
  const useless: Replica[] = [];
  let quarantinedCount = 0;
  let awayCount = 0;
  let awaySinceMs = Number.POSITIVE_INFINITY;
  for (const replica of replicas.all(chunk.handle)) {
    const { chunkserver, version } = replica;
    if (!chunkserver.alive || !chunkserver.reported) {
      if (chunkserver.gone || version < chunk.version || replica.damaged) continue;
      awayCount++;
      awaySinceMs = Math.min(awaySinceMs, chunkserver.lastHeardMs);
    } else if (version > chunk.version + 1) quarantinedCount++;
    else if (replicas.isUseless(replica, chunk)) useless.push(replica);
    else if (replicas.isReadable(replica, chunk)) {
      good.push(replica);
      if (!isLeaving(chunkserver)) staying.push(replica);
    } else suspect.push(replica);
  }
  return {
    good,
    staying,
    suspect,
    useless,
    quarantinedCount,
    awayCount,
    awaySinceMs,
    missing: chunk.goal - staying.length,
  };
}

/** Whether to act on what is missing, or to wait for servers that may only be restarting. */
export function isDue(standing: Standing, goal: number, waitMs: number, nowMs: number): boolean {
  const { missing, staying, good, awayCount, awaySinceMs } = standing;
  if (missing <= 0) return false;
  if (staying.length + awayCount < goal) return true;
  return good.length === 1 && nowMs - awaySinceMs >= waitMs * LAST_COPY_SHARE;
}

/** Whether something is missing, or may be more than it seems: a comparison decides. */
export function isUnfinished({ missing, suspect }: Standing): boolean {
  return missing > 0 || suspect.length > 0;
}

/** How much of the wait counts where one copy is left. */
export const LAST_COPY_SHARE = 0.25;

/** How urgent it is to heal a chunk: the lower the sooner. */
export const URGENCIES = 10;
/** A client waits for it. */
export const MOST_URGENT = 0;
const MAX_MISSING = 4;
/** Nothing is missing. */
export const LEAST_URGENT = URGENCIES - 1;

/** Paper §4.3: those farthest from their goal first, live files before deleted ones. */
export function urgencyOf({ missing, good }: Standing, isDeleted: boolean): number {
  const distance = good.length <= 1 ? MAX_MISSING : Math.min(missing, MAX_MISSING - 1);
  return 1 + 2 * (MAX_MISSING - distance) + (isDeleted ? 1 : 0);
}
