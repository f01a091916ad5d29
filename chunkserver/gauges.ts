/** What the chunkserver holds, for its metrics page. */
import type { Metrics, Timer, Timers } from '../environment/ports/index.js';
import type { LeaseTable } from './leases.js';
import type { PushBuffer } from './push-buffer.js';
import type { Store } from './store/store.js';

const INTERVAL_MS = 1_000;

/** Keeps the gauges up to date until the timer is cancelled. */
export function keepGauges(
  metrics: Metrics,
  timers: Timers,
  { store, leases, pushed }: { store: Store; leases: LeaseTable; pushed: PushBuffer },
): Timer {
  const chunks = metrics.gauge('gfs_chunkserver_chunks', 'Replicas held');
  const leaseCount = metrics.gauge('gfs_chunkserver_leases', 'Leases held as primary');
  const pushedBytes = metrics.gauge(
    'gfs_chunkserver_pushed_bytes',
    'Pushed data that waits for its mutation',
  );
  const patchBytes = metrics.gauge(
    'gfs_chunkserver_patch_bytes',
    'Memory for what the journal has and the chunk files have not',
  );
  const journalBytes = metrics.gauge('gfs_chunkserver_journal_bytes', 'Journal since the last checkpoint');
  const failedDisks = metrics.gauge('gfs_chunkserver_failed_disks', 'Disks given up after errors');
  const unreadable = metrics.gauge('gfs_chunkserver_unreadable_chunks', 'Replicas with a damaged sidecar');
  return timers.every(INTERVAL_MS, () => {
    chunks.set(store.chunkCount);
    failedDisks.set(store.failedDiskCount);
    leaseCount.set(leases.size);
    pushedBytes.set(pushed.sizeBytes);
    patchBytes.set(store.directories.reduce((sum, directory) => sum + directory.patchBytes, 0));
    journalBytes.set(store.directories.reduce((sum, { journal }) => sum + journal.segmentBytes, 0));
    unreadable.set(store.directories.reduce((sum, directory) => sum + directory.unreadable.size, 0));
  });
}
