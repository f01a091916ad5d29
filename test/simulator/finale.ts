/** Liveness: so long after the last fault everything is as it should be, and stays so. */

import type { ClusterStatus } from '../../protocol/messages/index.js';
import type { SimulatedCluster } from './cluster.js';
import { Violation } from './ledger.js';
import type { LogMember } from './log-member.js';
import { aliveOf, type Operator } from './operator.js';

const POLL_MS = 500;

export interface FinaleParts {
  readonly cluster: SimulatedCluster;
  readonly operator: Operator;
  /** Servers that are drained since the repair. */
  readonly drained: readonly string[];
  /** Chunks that may have no replica any more. */
  readonly mayBeLost: () => number;
  readonly endMs: number;
}

/** @throws Violation that says what is not so by `endMs` */
export async function untilHealed(parts: FinaleParts): Promise<void> {
  const { cluster, operator, drained, mayBeLost, endMs } = parts;
  for (;;) {
    const status = await operator.status();
    const wrong =
      oddLogs(cluster.logs) ??
      oddServers(status, cluster.chunkservers.length) ??
      oddChunks(status, drained, mayBeLost());
    if (wrong === undefined) return;
    if (cluster.world.scheduler.nowMs > endMs) throw new Violation(`a minute after the repair, ${wrong}`);
    await new Promise<void>((resolve) => void cluster.world.scheduler.after(POLL_MS, resolve));
  }
}

function oddServers(status: ClusterStatus | undefined, expected: number): string | undefined {
  if (status === undefined) return 'no master answers';
  const { length } = aliveOf(status);
  return length === expected ? undefined : `${length} chunkservers of ${expected} are there`;
}

function oddChunks(
  status: ClusterStatus | undefined,
  drained: readonly string[],
  lost: number,
): string | undefined {
  if (status === undefined) return 'no master answers';
  const { ready, chunksBelowGoal, chunksUnavailable, replication } = status;
  if (!ready) return 'the master is not ready';
  if (chunksBelowGoal > 0) return `${chunksBelowGoal} chunks are below their goal`;
  if (chunksUnavailable > lost) return `${chunksUnavailable} chunks are unavailable`;
  for (const serverId of drained) {
    const drain = replication?.drains.find((each) => each.serverId === serverId);
    // The last of what is lost stays where it is.
    if (drain === undefined || drain.away === true || drain.chunksLeft > lost)
      return `${serverId}, which is drained, has ${drain?.chunksLeft} replicas left`;
  }
  return undefined;
}

/** One is the master, all others have what it has. */
function oddLogs(logs: readonly LogMember[]): string | undefined {
  const masters = logs.filter(({ copy, master }) => copy !== undefined && master !== undefined);
  const [only, another] = masters;
  if (only === undefined) return 'there is no master';
  if (another !== undefined) return `${only.host.name} and ${another.host.name} are masters`;
  const { lastTerm, endSequence } = only.copy as NonNullable<LogMember['copy']>;
  const behind = logs.find(({ copy }) => copy?.endSequence !== endSequence || copy.lastTerm !== lastTerm);
  if (behind === undefined) return undefined;
  return `${behind.host.name} has ${behind.copy?.endSequence} records of the master's ${endSequence}`;
}
