/** Nothing grows without limit: what processes tell of themselves, held to docs/ARCHITECTURE.md's table. */
import type { ClientUsage } from '../../client/index.js';
import { MIB } from '../../protocol/limits.js';
import type { FakeMetrics } from '../fakes/index.js';
import type { ClusterOptions } from './shape.js';

type Bound = readonly [what: string, most: number];

/** A write may come on top of what was admitted, of each of those at work. */
const ADMITTED_ABOVE_BYTES = 4 * MIB;
/** Chunks above the bound are being flushed. */
const FLUSHED_ABOVE = 16;

const METRICS: readonly Bound[] = [
  ['gfs_chunkserver_pushed_bytes', 128 * MIB],
  ['gfs_chunkserver_patch_bytes', (192 + 32) * MIB],
  ['gfs_master_client_sessions', 65_536],
  ['gfs_master_locks', 1_048_576],
  ['gfs_master_file_locks', 1_048_576],
  ['gfs_master_watchers', 1_024],
  ['gfs_master_clones', 64],
  ['gfs_master_clones_queued', 65_536],
  ['gfs_master_log_replicas', 16],
];

/** @returns what a master or chunkserver has over its bound, if anything is */
export function overBound(metrics: FakeMetrics, { maxPromises }: ClusterOptions): string | undefined {
  const bounds: readonly Bound[] = [...METRICS, ['gfs_master_promises', maxPromises]];
  return firstOver(bounds, (metric) => metrics.value(metric));
}

/** @returns what a client has over its bound, if anything is */
export function clientOverBound(
  usage: ClientUsage,
  { writeBehindBytes, cacheLimits }: ClusterOptions,
): string | undefined {
  const bounds: readonly (readonly [keyof ClientUsage, number])[] = [
    ['writeBehindBytes', writeBehindBytes + ADMITTED_ABOVE_BYTES],
    ['unsyncedChunks', cacheLimits.unsyncedChunks + FLUSHED_ABOVE],
    ['cachedLocations', cacheLimits.locatedFiles],
    ['cachedAttributes', cacheLimits.attributes],
    ['fileLocks', 8_192],
  ];
  return firstOver(bounds, (what) => usage[what as keyof ClientUsage]);
}

function firstOver(bounds: readonly Bound[], amountOf: (what: string) => number): string | undefined {
  const over = bounds.find(([what, most]) => amountOf(what) > most);
  return over && `${over[0]} is ${amountOf(over[0])}, at most ${over[1]} is allowed`;
}
