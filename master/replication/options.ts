import { MIB } from '../../protocol/limits.js';

/** How chunks are healed and moved (paper §4.3). */
export interface ReplicationOptions {
  /**
   * How long a server that is gone is waited for before its chunks are cloned; a quarter of that where a
   * chunk has one copy left. A server that restarts is back by then, and nothing is copied.
   */
  readonly waitMs: number;
  /** Clones under way in the cluster, and to or from one server. */
  readonly maxClones: number;
  readonly maxClonesPerServer: number;
  /** Bytes per second of one clone, and of all that one server sends or receives; 0 for no limit. */
  readonly cloneRateBps: number;
  readonly serverRateBps: number;
  /** Chunks on the way to or from one server to even out the servers' use; 0: none is moved for that. */
  readonly maxMovesPerServer: number;
}

export const replicationDefaults: ReplicationOptions = {
  waitMs: 15_000,
  maxClones: 64,
  maxClonesPerServer: 10,
  cloneRateBps: 32 * MIB,
  serverRateBps: 128 * MIB,
  maxMovesPerServer: 2,
};
