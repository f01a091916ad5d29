/** What the mount keeps in memory, for its metrics page. */
import type { ClientUsage, GfsClient } from '../client/index.js';
import type { Environment, Gauge, Timer } from '../environment/ports/index.js';

const INTERVAL_MS = 1_000;

const GAUGES: Readonly<Record<keyof ClientUsage, readonly [name: string, help: string]>> = {
  writeBehindBytes: ['gfs_client_write_behind_bytes', 'Written data that is not on every replica yet'],
  unsyncedChunks: ['gfs_client_unsynced_chunks', 'Chunks that were written and not flushed to disk'],
  openFiles: ['gfs_client_open_files', 'Files that are open'],
  cachedLocations: ['gfs_client_cached_locations', 'Files whose chunks are known where they are'],
  cachedAttributes: ['gfs_client_cached_attributes', 'Nodes whose attributes are kept by promise'],
  cachedNames: ['gfs_client_cached_names', 'Names that are kept by promise'],
  fileLocks: ['gfs_client_file_locks', 'Locks of flock(2) and fcntl(2) that are held'],
};

/** Keeps the gauges up to date until the timer is cancelled. */
export function keepGauges({ metrics, timers }: Environment, client: Pick<GfsClient, 'usage'>): Timer {
  const gauges = new Map<keyof ClientUsage, Gauge>();
  for (const [what, [name, help]] of Object.entries(GAUGES))
    gauges.set(what as keyof ClientUsage, metrics.gauge(name, help));
  return timers.every(INTERVAL_MS, () => {
    const { usage } = client;
    for (const [what, gauge] of gauges) gauge.set(usage[what]);
  });
}
