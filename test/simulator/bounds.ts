/** Nothing grows without limit: what processes tell of themselves, held to docs/ARCHITECTURE.md's table. */
import { MIB } from '../../protocol/limits.js';
import type { FakeMetrics } from '../fakes/index.js';

/** A write of a round may come on top of what was admitted. */
const BOUNDS: readonly (readonly [metric: string, most: number])[] = [
  ['gfs_chunkserver_pushed_bytes', 128 * MIB],
  ['gfs_chunkserver_patch_bytes', (192 + 32) * MIB],
  ['gfs_master_client_sessions', 65_536],
  ['gfs_master_locks', 1_048_576],
];

/** @returns what is over its bound, if anything is */
export function overBound(metrics: FakeMetrics): string | undefined {
  const over = BOUNDS.find(([metric, most]) => metrics.value(metric) > most);
  return over && `${over[0]} is ${metrics.value(over[0])}, at most ${over[1]} is allowed`;
}
