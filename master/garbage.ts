/**
 * Garbage collection (paper §4.4): deleted files are given up after their retention, never while somebody
 * has one open; chunks that nothing refers to are deleted where they are.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { DeleteChunks } from '../protocol/messages/index.js';
import type { ChunkserverTable } from './chunkservers.js';
import { isUnnamed } from './deleted-table.js';
import type { Journal } from './journal.js';
import { type LockManager, LockSet } from './locks.js';
import type { MasterOptions } from './options.js';
import type { Chunkserver } from './replicas.js';
import { keptMs } from './retention.js';
import type { ClientSessions } from './sessions.js';
import type { DeletedNode, LoggedState } from './state.js';

const MAX_PER_RECORD = 512;
/** Deleted nodes that one scan looks at. */
const SCAN_SLICE = 8192;
const MAX_DELETES_PER_CALL = 4096;
const DELETE_DEADLINE_MS = 20_000;
/** How long directories, links and special files stay after they were removed, for those who are in them. */
const NAMES_KEPT_MS = 60_000;
/** How long a file made without a name waits for its author to say that it is open: longer than a request may take. */
const UNNAMED_KEPT_MS = 60_000;
/** What is above is found by the regular scan. */
const MAX_EXPEDITED = 65_536;
/** Deleted files given up in one scan to make room: then it is looked again how much room there is. */
const MAX_SACRIFICED = 64;

export class GarbageCollector {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #locks: LockManager;
  readonly #sessions: ClientSessions;
  readonly #chunkservers: ChunkserverTable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #retentionMs: number;
  /** Who opened a file before it was deleted has told so within this time, or is dead. */
  readonly #openingMs: number;
  /** Purged, and to be given up as soon as they may be: found sooner than by the regular scan. */
  readonly #expedited = new Set<number>();
  readonly #deleting = new Set<Chunkserver>();
  #reclaiming = false;
  #wasShort = false;
  #cursor: IterableIterator<DeletedNode>;

  constructor(
    state: LoggedState,
    journal: Journal,
    locks: LockManager,
    sessions: ClientSessions,
    chunkservers: ChunkserverTable,
    environment: { readonly clock: Clock; readonly logger: Logger },
    options: Pick<MasterOptions, 'retentionMs' | 'sessionTimeoutMs'>,
  ) {
    this.#state = state;
    this.#cursor = state.deleted.values();
    this.#journal = journal;
    this.#locks = locks;
    this.#sessions = sessions;
    this.#chunkservers = chunkservers;
    this.#clock = environment.clock;
    this.#logger = environment.logger;
    this.#retentionMs = options.retentionMs;
    this.#openingMs = 2 * options.sessionTimeoutMs;
  }

  /** Nobody wants these any more. */
  expedite(ids: readonly number[]): void {
    for (const id of ids) if (this.#expedited.size < MAX_EXPEDITED) this.#expedited.add(id);
  }

  /** Nobody has this open any more. A file that never had a name goes with its last descriptor. */
  closed(id: number): void {
    const deleted = this.#state.deleted.get(id);
    if (deleted !== undefined && isUnnamed(deleted)) this.expedite([id]);
  }

  /** One slice of the regular scans. */
  async scan(): Promise<void> {
    for (const chunkserver of this.#chunkservers.active) this.#deleteOn(chunkserver);
    this.#watchSpace();
    if (this.#reclaiming || !this.#chunkservers.ready || !this.#sessions.openFilesKnown) return;
    this.#reclaiming = true;
    try {
      await this.#reclaim();
    } catch (err) {
      this.#logger.warn({ err }, 'deleted files cannot be given up now');
    } finally {
      this.#reclaiming = false;
    }
  }

  /** Tells once when space runs out, and once when there is room again. */
  #watchSpace(): void {
    const isShort =
      this.#chunkservers.ready && this.#chunkservers.active.length > 0 && this.#chunkservers.short;
    if (isShort === this.#wasShort) return;
    this.#wasShort = isShort;
    if (isShort) this.#logger.warn({}, 'space is low: deleted files are given up early, the oldest first');
    else this.#logger.info({}, 'there is room again');
  }

  async #reclaim(): Promise<void> {
    const due = this.#due();
    for (let at = 0; at < due.length; at += MAX_PER_RECORD) {
      const ids = due.slice(at, at + MAX_PER_RECORD);
      const set = new LockSet();
      for (const id of ids) set.addNode(id, true);
      const held = this.#locks.tryAcquire(set);
      // Something is being done with one of them: the next scan comes soon.
      if (held === undefined) continue;
      try {
        // While those before them were logged, some may have been brought back or opened.
        const still = ids.filter((id) => this.#state.deleted.has(id) && !this.#sessions.isOpen(id));
        if (still.length > 0) await this.#journal.commit({ type: 'reclaimed', ids: still });
      } finally {
        held.release();
      }
    }
  }

  /** In the order of their ids, in which locks are taken. */
  #due(): number[] {
    const due = new Set<number>();
    if (this.#chunkservers.short) for (const id of this.#oldestFiles()) due.add(id);
    const nowSec = this.#clock.wallTime().sec;
    for (let looked = 0; looked < SCAN_SLICE; looked++) {
      const next = this.#cursor.next();
      if (next.done) {
        this.#cursor = this.#state.deleted.values();
        break;
      }
      if (this.#isDue(next.value, nowSec)) due.add(next.value.id);
    }
    for (const id of this.#expedited) {
      const deleted = this.#state.deleted.get(id);
      if (deleted === undefined || this.#isDue(deleted, nowSec)) this.#expedited.delete(id);
      if (deleted !== undefined && this.#isDue(deleted, nowSec)) due.add(id);
    }
    return [...due].sort((a, b) => a - b);
  }

  #isDue(deleted: DeletedNode, nowSec: number): boolean {
    const ageMs = (nowSec - deleted.timeSec) * 1000;
    return ageMs >= this.#keptMs(deleted) && !this.#sessions.isOpen(deleted.id);
  }

  #keptMs(deleted: DeletedNode): number {
    if (isUnnamed(deleted)) return this.#expedited.has(deleted.id) ? 0 : UNNAMED_KEPT_MS;
    const retentionMs = keptMs(this.#state, deleted, this.#retentionMs);
    // Only files are worth bringing back; but what was just removed may still be somebody's directory.
    const wantedMs = this.#isFile(deleted.id) ? retentionMs : Math.min(retentionMs, NAMES_KEPT_MS);
    return Math.max(wantedMs, this.#openingMs);
  }

  /** Before the cluster is full, deleted files go, the oldest first, however long they were to be kept. */
  #oldestFiles(): number[] {
    const oldest: number[] = [];
    let looked = 0;
    for (const deleted of this.#state.deleted.values()) {
      if (oldest.length === MAX_SACRIFICED || looked++ === SCAN_SLICE) break;
      const { id } = deleted;
      if (this.#isFile(id) && !isUnnamed(deleted) && !this.#sessions.isOpen(id)) oldest.push(id);
    }
    return oldest;
  }

  #isFile(id: number): boolean {
    return this.#state.nodes.get(id)?.isRegular ?? false;
  }

  /** Has a server delete what it is to delete; what it does not confirm is sent again. */
  #deleteOn(chunkserver: Chunkserver): void {
    if (!this.#chunkservers.ready || chunkserver.deletions.size === 0 || this.#deleting.has(chunkserver))
      return;
    const handles = this.#firstDeletions(chunkserver);
    this.#deleting.add(chunkserver);
    chunkserver.peer
      .call(DeleteChunks, { handles }, { deadlineMs: DELETE_DEADLINE_MS, priority: 'scrub' })
      .then(() => {
        for (const handle of handles) chunkserver.deletions.delete(handle);
      })
      .catch((err) =>
        this.#logger.debug({ err, serverId: chunkserver.server.serverId }, 'chunks not deleted yet'),
      )
      .finally(() => this.#deleting.delete(chunkserver));
  }

  #firstDeletions(chunkserver: Chunkserver): number[] {
    const handles: number[] = [];
    for (const handle of chunkserver.deletions) {
      if (handles.length === MAX_DELETES_PER_CALL) break;
      handles.push(handle);
    }
    return handles;
  }
}
