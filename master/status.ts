/** What `gfs status` shows, and statfs. */
import type { Clock } from '../environment/ports/index.js';
import type { ClusterStatus, ServerStatus, StatCluster } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Checkpointer } from './checkpointer.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Health } from './health.js';
import type { Leases } from './leases.js';
import type { LogReplicas } from './log-replicas.js';
import type { OperationLog } from './operation-log.js';
import type { MasterOptions } from './options.js';
import type { Chunkserver } from './replicas.js';
import type { Replicator } from './replication/replicator.js';
import type { ClientSessions } from './sessions.js';
import type { LoggedState } from './state.js';
import type { Superblock } from './superblock.js';

const MAX_SERVERS = 4096;

export interface StatusParts {
  readonly state: LoggedState;
  readonly superblock: Superblock;
  readonly options: MasterOptions;
  readonly log: OperationLog;
  readonly sessions: ClientSessions;
  readonly chunkservers: ChunkserverTable;
  readonly leases: Leases;
  readonly replicator: Replicator;
  readonly clock: Clock;
  readonly health: Health;
  readonly checkpointer: Checkpointer;
  readonly logReplicas: LogReplicas;
}

export class Status {
  readonly #parts: StatusParts;
  readonly #startedAtMs: number;

  constructor(parts: StatusParts) {
    this.#parts = parts;
    this.#startedAtMs = parts.clock.monotonicMs();
  }

  async status(): Promise<ClusterStatus> {
    const { state, superblock, log, sessions, chunkservers, leases, replicator, clock, health, logReplicas } =
      this.#parts;
    const { belowGoal, lost, unknown } = await health.count();
    return {
      clusterId: superblock.clusterId,
      term: superblock.term,
      chunkBytes: superblock.chunkBytes,
      uptimeMs: Math.floor(clock.monotonicMs() - this.#startedAtMs),
      ready: chunkservers.ready,
      files: state.fileCount,
      directories: state.directoryCount,
      chunks: state.chunks.size,
      chunksBelowGoal: belowGoal,
      chunksUnavailable: lost + unknown,
      leases: leases.count,
      sessions: sessions.count,
      deletedFiles: state.deleted.size,
      logBytes: log.sizeBytes,
      logRecords: log.recordCount,
      servers: this.#servers(),
      replication: replicator.status(),
      chunksUnknown: unknown,
      clientsConnected: sessions.connectedCount,
      spaceLow: chunkservers.short,
      checkpoint: this.#checkpoint(),
      logFull: log.full,
      logReplicas: logReplicas
        .status()
        .map(({ member, state, silentMs }) => ({ ...member, state, silentMs })),
    };
  }

  #checkpoint(): NonNullable<ClusterStatus['checkpoint']> {
    const { failure, ...status } = this.#parts.checkpointer.status;
    return { ...status, ...(failure === undefined ? {} : { failure: failure.slice(0, 1024) }) };
  }

  statCluster(): ValueOf<typeof StatCluster.reply> {
    const { state, chunkservers, options } = this.#parts;
    let totalBytes = 0;
    let availableBytes = 0;
    for (const { space } of chunkservers.active) {
      totalBytes += space.totalBytes;
      availableBytes += space.availableBytes;
    }
    const files = state.fileCount + state.directoryCount;
    return { totalBytes, availableBytes, files, goal: options.goal, settled: chunkservers.settled };
  }

  #servers(): ServerStatus[] {
    const { chunkservers, clock } = this.#parts;
    const nowMs = clock.monotonicMs();
    const known = [...chunkservers.all].map((chunkserver) => describe(chunkserver, nowMs));
    const missing = chunkservers.missing.map(
      (serverId): ServerStatus => ({
        server: { serverId, host: '', port: 0 },
        state: 'unknown',
        totalBytes: 0,
        availableBytes: 0,
        chunks: 0,
        silentMs: Math.floor(nowMs - this.#startedAtMs),
      }),
    );
    return [...known, ...missing].slice(0, MAX_SERVERS);
  }
}

function describe(chunkserver: Chunkserver, nowMs: number): ServerStatus {
  const { server, alive, rack, location, space, replicaCount, lastHeardMs, health } = chunkserver;
  return {
    server,
    state: alive ? 'alive' : 'silent',
    ...(rack === undefined ? {} : { rack }),
    ...(location === undefined ? {} : { location }),
    totalBytes: space.totalBytes,
    availableBytes: space.availableBytes,
    chunks: replicaCount,
    silentMs: Math.max(0, Math.floor(nowMs - lastHeardMs)),
    ...(health === undefined ? {} : { health }),
  };
}
