/** The damaged replicas of this server, of each of which the master hears once in a session. */
import type { Logger } from '../environment/ports/index.js';
import { ReportDamage } from '../protocol/messages/index.js';
import type { Peer } from '../protocol/peer.js';
import type { Store } from './store/store.js';

export class DamageReports {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #deadlineMs: number;
  /** The master has not been told of them. */
  readonly #damaged = new Set<number>();
  /** It is being told of them. */
  readonly #sending = new Set<number>();
  /** Unreadable ones that the master was told of in this session. */
  readonly #told = new Set<number>();

  constructor(store: Store, logger: Logger, deadlineMs: number) {
    this.#store = store;
    this.#logger = logger;
    this.#deadlineMs = deadlineMs;
  }

  /** A replica failed its checksum. @param master undefined while it cannot be reached: it hears later */
  found(handle: number, master: Peer | undefined): void {
    if (this.#damaged.has(handle)) return;
    this.#damaged.add(handle);
    this.#logger.error({ handle }, 'a replica does not match its checksum');
    if (master !== undefined) void this.#send(master, handle);
  }

  /** A session begins: the master hears of all of them. */
  async sendAll(master: Peer): Promise<void> {
    this.#told.clear();
    for (const handle of this.#unreadable()) {
      this.#damaged.add(handle);
      this.#told.add(handle);
    }
    for (const handle of this.#damaged) await this.#send(master, handle);
  }

  /** Tells of those that were given up since, and of those that could not be told when they were found. */
  sendNew(master: Peer): void {
    for (const handle of this.#unreadable()) {
      if (this.#told.has(handle)) continue;
      this.#told.add(handle);
      this.#damaged.add(handle);
    }
    for (const handle of this.#damaged) void this.#send(master, handle);
  }

  *#unreadable(): Generator<number> {
    for (const directory of this.#store.directories) yield* directory.unreadable;
  }

  async #send(master: Peer, handle: number): Promise<void> {
    if (this.#sending.has(handle)) return;
    this.#sending.add(handle);
    const version = this.#store.find(handle)?.state.version ?? 0;
    try {
      await master.call(ReportDamage, { handle, version }, { deadlineMs: this.#deadlineMs });
      this.#damaged.delete(handle);
    } catch (error) {
      this.#logger.warn({ handle, err: error }, 'the master has not heard of a damaged replica');
    } finally {
      this.#sending.delete(handle);
    }
  }
}
