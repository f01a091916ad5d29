import { DEFAULT_CHUNK_BYTES, MIB } from '../protocol/limits.js';
import type { CommitRule } from '../protocol/messages/index.js';
import { type ReplicationOptions, replicationDefaults } from './replication/options.js';

export interface MasterOptions {
  /** Holds the superblock, the lock file and the operation log; made when it is not there. */
  readonly dataDirectory: string;
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  /** Chunk size of a cluster that is made now; one that is there keeps its own, and another value here is an error. */
  readonly chunkBytes: number;
  /** Replicas of each chunk (paper §2.3: three). */
  readonly goal: number;
  /** Weights of the location score, lowest first. */
  readonly distanceWeight: number;
  readonly spaceWeight: number;
  /** The lock that creating and deleting a name takes on its directory (paper §4.1: shared). */
  readonly parentLock: 'shared' | 'exclusive';
  /** `always`: a reply means flushed. `interval`: flushed within `logSyncIntervalMs`; a host crash may undo replies. */
  readonly logSync: 'always' | 'interval';
  readonly logSyncIntervalMs: number;
  /** How many of the log replicas have to flush a record before it counts. */
  readonly logCommit: CommitRule;
  /** A log replica that is silent for longer is missing; too few of them for longer, and mutations are refused. */
  readonly logReplicaTimeoutMs: number;
  /** What others connect to, where it is not {@link host}. */
  readonly advertiseHost?: string;
  /** A segment of the operation log that is larger is followed by a new one. */
  readonly logSegmentBytes?: number;
  /** Zeros written ahead in the open segment; half of it stays in reserve. */
  readonly logReserveBytes?: number;
  /** Closed log behind the newest checkpoint from which on the next one is made. */
  readonly checkpointBytes: number;
  /** Paper §3.1: 60 s. */
  readonly leaseDurationMs: number;
  /** How often clients and chunkservers tell that they live. */
  readonly renewIntervalMs: number;
  /** Silence after which they are taken for dead. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  /** Share of all space: with less left the master warns, and gives up deleted files early, the oldest first. */
  readonly spaceLow: number;
  /** What clients may keep, all together; 22 bytes each. Rounded up to a power of two. */
  readonly maxPromises: number;
  /** Bytes of the trace of requests that are kept in files; 0: it is in memory alone. Absent: none is kept. */
  readonly traceBytes?: number;
  /** How often all files are gone through for chunks that none has. Ten minutes; less in tests. */
  readonly orphanScanIntervalMs?: number;
  /** How long deleted files can be brought back (paper §4.4: three days). */
  readonly retentionMs: number;
  readonly replication: ReplicationOptions;
}

/** A shadow's own, and those of the master that it becomes when it is promoted. */
export interface ShadowOptions extends MasterOptions {
  /** Where the master may be; tried in turn. */
  readonly masters: readonly { readonly host: string; readonly port: number }[];
}

export const DEFAULT_LOG_SEGMENT_BYTES = 16 * MIB;

export const masterDefaults: MasterOptions = {
  dataDirectory: 'data/metadata',
  host: '127.0.0.1',
  port: 5000,
  chunkBytes: DEFAULT_CHUNK_BYTES,
  goal: 3,
  distanceWeight: 0.6,
  spaceWeight: 0.4,
  parentLock: 'shared',
  logSync: 'always',
  logSyncIntervalMs: 1_000,
  checkpointBytes: 32 * MIB,
  logCommit: 'all',
  logReplicaTimeoutMs: 2_000,
  leaseDurationMs: 60_000,
  renewIntervalMs: 500,
  sessionTimeoutMs: 2_000,
  heartbeatIntervalMs: 5_000,
  spaceLow: 0.1,
  maxPromises: 1_048_576,
  retentionMs: 3 * 24 * 3600 * 1000,
  replication: replicationDefaults,
};
