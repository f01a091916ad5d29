/** Which replicas this server has, as the master is told: all of them when it registers, then a few at a time. */
import { MAX_REPORT_PAGE } from '../protocol/limits.js';
import type { ReplicaReport, ReportChunks } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { LeaseTable } from './leases.js';
import type { Store } from './store/store.js';

/** Chunks named in one heartbeat, for the master to tell those that it no longer knows. */
const HEARTBEAT_CHUNKS = 1024;

export class Inventory {
  readonly #store: Store;
  readonly #leases: () => LeaseTable | undefined;
  #cursor: Iterator<{ handle: number; version: number }> | undefined;

  constructor(store: Store, leases: () => LeaseTable | undefined) {
    this.#store = store;
    this.#leases = leases;
  }

  /** All replicas that are here, in pages. */
  *pages(): Generator<ValueOf<typeof ReportChunks.request>> {
    const leases = this.#leases();
    const chunks: ReplicaReport[] = [];
    for (const { handle, state } of this.#store.chunks()) {
      const lease = leases?.find(handle);
      const leaseMs = lease === undefined ? 0 : (leases?.remainingMs(lease) ?? 0);
      const { version, length, suspect } = state;
      chunks.push({ handle, version, lengthBytes: length, suspect, leaseMs });
    }
    for (let at = 0; ; at += MAX_REPORT_PAGE) {
      const last = at + MAX_REPORT_PAGE >= chunks.length;
      yield { chunks: chunks.slice(at, at + MAX_REPORT_PAGE), last };
      if (last) break;
    }
  }

  /** The next few of all chunks, in turn. */
  some(): { handle: number; version: number }[] {
    const some: { handle: number; version: number }[] = [];
    this.#cursor ??= this.#all();
    while (some.length < HEARTBEAT_CHUNKS) {
      const next = this.#cursor.next();
      if (next.done) {
        this.#cursor = undefined;
        break;
      }
      some.push(next.value);
    }
    return some;
  }

  /** The replicas are others now. */
  restart(): void {
    this.#cursor = undefined;
  }

  *#all(): Iterator<{ handle: number; version: number }> {
    for (const { handle, state } of this.#store.chunks()) yield { handle, version: state.version };
  }
}
