/** The chain along which data gets to the replicas (paper §3.2). */
import { GfsError } from '../protocol/errors.js';
import type { Server } from '../protocol/messages/index.js';

/**
 * How long the last hop of a chain has to take pushed data, and how much longer each hop before it: so
 * that the hop before the one that hangs is the first to know, and can name it.
 */
const LAST_HOP_MS = 1_500;
const EACH_HOP_MS = 500;

/** @param behind the hops that the asked one has behind it */
export function hopDeadlineMs(behind: number): number {
  return LAST_HOP_MS + EACH_HOP_MS * behind;
}

/** What to answer where the next hop did not do its part: its name, unless the one after it has found out who it is. */
export function failureOfHop(next: Server | undefined, thrown: unknown): GfsError {
  if (thrown instanceof GfsError && thrown.code === 'REPLICA_FAILED') return thrown;
  return new GfsError('REPLICA_FAILED', `${next?.serverId}: ${(thrown as Error).message}`, { cause: thrown });
}
