/** What a simulated cluster is made of: sizes and limits, which differ from seed to seed. */
import type { CacheLimits } from '../../client/index.js';
import { type MasterOptions, masterDefaults } from '../../master/options.js';
import { KIB, MIB } from '../../protocol/limits.js';
import type { CommitRule, Location } from '../../protocol/messages/index.js';
import type { FakeRandom } from '../fakes/index.js';

/** Of what nobody has set another one for. */
export const DEFAULT_GOAL = masterDefaults.goal;
/** That are set; undefined: the default. With three chunkservers all can be reached. */
export const GOALS = [1, 2, 3, undefined] as const;

/** A client that keeps so many of everything: of one, nearly all is forgotten before it is used again. */
function cachesOf(count: number): CacheLimits {
  return {
    locatedFiles: count,
    chunksOfFile: count,
    attributes: count,
    xattrs: count,
    directories: count,
    names: count,
    changes: count,
    dataVersions: count,
    unsyncedChunks: count,
    // As early as can be, so that what is read ahead is met often.
    namesBeforeAhead: 1,
    placesBeforeAhead: 1,
    listingsBeforeAhead: 1,
  };
}

export interface ClusterOptions {
  readonly chunkservers: number;
  readonly clients: number;
  /** Log replicas that the master waits for: for all of them, or for so many that most copies have a record. */
  readonly shadows: number;
  readonly logCommit: CommitRule;
  readonly chunkBytes: number;
  /** Of the smallest disk of a chunkserver, others are larger; 0: whatever comes fits. */
  readonly diskBytes: number;
  readonly leaseDurationMs: number;
  /** How long clients believe a location; next to nothing is a cache of one. */
  readonly locationTtlMs: number;
  readonly writeBehindBytes: number;
  /** Whether clients keep names and attributes by promise. */
  readonly caches: boolean;
  readonly cacheLimits: CacheLimits;
  /** Promises that the master remembers. */
  readonly maxPromises: number;
  /** How long a server that is gone is waited for before its chunks are cloned. */
  readonly replicationWaitMs: number;
  readonly logSegmentBytes: number;
  readonly retentionMs: number;
  readonly parentLock: MasterOptions['parentLock'];
  /** Where the chunkservers stand. */
  readonly locations?: readonly Location[];
}

export const clusterDefaults: ClusterOptions = {
  chunkservers: 3,
  clients: 2,
  shadows: 0,
  logCommit: masterDefaults.logCommit,
  chunkBytes: 256 * KIB,
  diskBytes: 0,
  leaseDurationMs: 10_000,
  locationTtlMs: 60_000,
  writeBehindBytes: 2 * MIB,
  caches: false,
  cacheLimits: cachesOf(1_000),
  maxPromises: 4_096,
  logSegmentBytes: 64 * KIB,
  retentionMs: masterDefaults.retentionMs,
  replicationWaitMs: masterDefaults.replication.waitMs,
  parentLock: masterDefaults.parentLock,
};

/** Limits and sizes differ from seed to seed, so that each is met by some. */
export function drawCluster(random: FakeRandom): Partial<ClusterOptions> {
  return {
    chunkservers: random.pick([3, 3, 4, 5]),
    clients: random.pick([2, 2, 3]),
    chunkBytes: random.pick([256, 256, 512, 1_024]) * KIB,
    leaseDurationMs: random.pick([1_000, 2_500, 10_000, 60_000]),
    locationTtlMs: random.pick([1, 500, 60_000]),
    writeBehindBytes: random.pick([64 * KIB, 2 * MIB]),
    caches: random.chance(0.6),
    cacheLimits: cachesOf(random.pick([1, 3, 20, 1_000])),
    maxPromises: random.pick([2, 16, 4_096]),
    logSegmentBytes: random.pick([4 * KIB, 64 * KIB, MIB]),
    retentionMs: random.pick([2_000, masterDefaults.retentionMs]),
    replicationWaitMs: random.pick([0, 300, 2_000]),
    parentLock: random.pick(['shared', 'exclusive']),
    shadows: random.pick([0, 0, 1, 2, 3]),
    logCommit: random.pick(['all', 'majority']),
    // The smallest is too full before the others are: chunks are moved.
    diskBytes: random.pick([0, 0, 48]) * MIB,
  };
}
