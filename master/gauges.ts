/** What the master tells of itself on its metrics page (docs: gfs_master_*), brought up to date once a second. */
import type { Gauge, Metrics } from '../environment/ports/index.js';
import type { Checkpointer } from './checkpointer.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Coherence } from './coherence.js';
import type { FileLocks } from './file-locks.js';
import type { Leases } from './leases.js';
import type { LockManager } from './locks.js';
import type { LogReplicas } from './log-replicas.js';
import type { OperationLog } from './operation-log.js';
import type { Replicator } from './replication/replicator.js';
import type { ClientSessions } from './sessions.js';
import type { LoggedState } from './state.js';
import type { Watchers } from './watchers.js';

export interface GaugeSources {
  readonly state: LoggedState;
  readonly log: OperationLog;
  readonly locks: LockManager;
  readonly sessions: ClientSessions;
  readonly chunkservers: ChunkserverTable;
  readonly leases: Leases;
  readonly replicator: Replicator;
  readonly checkpointer: Checkpointer;
  readonly logReplicas: LogReplicas;
  readonly coherence: Coherence;
  readonly fileLocks: FileLocks;
  readonly watchers: Watchers;
}

export class Gauges {
  readonly #readings: readonly (readonly [Gauge, () => number])[];

  constructor(
    metrics: Metrics,
    {
      state,
      log,
      locks,
      sessions,
      chunkservers,
      leases,
      replicator,
      checkpointer,
      logReplicas,
      coherence,
      fileLocks,
      watchers,
    }: GaugeSources,
  ) {
    const gauge = (name: string, help: string, read: () => number) =>
      [metrics.gauge(`gfs_master_${name}`, help), read] as const;
    this.#readings = [
      gauge('files', 'Files and other nodes that have a name', () => state.fileCount),
      gauge('directories', 'Directories', () => state.directoryCount),
      gauge('deleted_files', 'Deleted files that can be brought back', () => state.deleted.size),
      gauge('chunks', 'Chunks of all files', () => state.chunks.size),
      gauge('state_bytes', 'Memory of the packed tables of logged state', () => state.memoryBytes),
      gauge('leases', 'Leases that run', () => leases.count),
      gauge('client_sessions', 'Sessions of clients, the lapsed ones too', () => sessions.count),
      gauge(
        'chunkservers',
        'Chunkservers that are alive and have reported',
        () => chunkservers.active.length,
      ),
      gauge('client_sessions_connected', 'Clients that are there', () => sessions.connectedCount),
      gauge('promises', 'What clients may believe without asking', () => coherence.promiseCount),
      gauge('promise_bytes', 'Memory of the table of promises', () => coherence.tableBytes),
      gauge('promises_broken', 'Promises taken back since the start', () => coherence.brokenCount),
      gauge('file_locks', 'Locks of flock(2) and fcntl(2)', () => fileLocks.count),
      gauge('watchers', 'Those who watch a tree', () => watchers.count),
      gauge('locks', 'Names and nodes that are locked', () => locks.size),
      gauge('lock_waiters', 'Operations that wait for locks', () => locks.waiterCount),
      gauge('log_bytes', 'Size of the operation log', () => log.sizeBytes),
      gauge(
        'log_bytes_behind',
        'Of the operation log, that a start would replay behind the newest checkpoint',
        () => checkpointer.status.logBytesBehind,
      ),
      gauge('log_replicas', 'Log replicas', () => logReplicas.status().length),
      gauge('log_replicas_missing', 'Log replicas that are not there', () =>
        sum(logReplicas.status(), ({ state }) => Number(state === 'missing')),
      ),
      gauge('log_records', 'Records in the operation log', () => log.recordCount),
      gauge(
        'chunks_below_goal',
        'Chunks with fewer replicas than their goal, as of the last census',
        () => replicator.figures.belowGoal,
      ),
      gauge('chunks_endangered', 'Chunks with one replica left', () => replicator.figures.endangered),
      gauge(
        'chunks_unavailable',
        'Chunks without any replica on a live chunkserver',
        () => replicator.figures.unavailable,
      ),
      gauge('clones', 'Clones under way', () => replicator.slots.total),
      gauge('clones_queued', 'Chunks that wait for a clone', () => replicator.queued),
      gauge('clone_alarms', 'Chunks whose clones keep failing', () => replicator.alarms),
      gauge('space_available_bytes', 'Free on all chunkservers, replicas counted', () =>
        sum(chunkservers.active, ({ space }) => space.availableBytes),
      ),
      gauge('space_total_bytes', 'Of all chunkservers', () =>
        sum(chunkservers.active, ({ space }) => space.totalBytes),
      ),
      gauge('space_low', 'Whether deleted files are given up early to make room', () =>
        Number(chunkservers.short),
      ),
      gauge('ready', 'Whether chunk locations are known', () => Number(chunkservers.ready)),
    ];
  }

  update(): void {
    for (const [gauge, read] of this.#readings) gauge.set(read());
  }
}

function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}
