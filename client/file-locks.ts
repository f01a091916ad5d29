/**
 * Locks of flock(2) and fcntl(2) through this client. The master decides; a copy of what is held here tells it
 * again when the session is taken up, and tells which owners have anything to give up.
 */
import { GfsError, toGfsError } from '../protocol/errors.js';
import { overlaps, withLock } from '../protocol/lock-ranges.js';
import { GetLock, type HeldLock, LOCK_TO_END, type LockRange, SetLock } from '../protocol/messages/index.js';
import type { CallContext, Deadline } from './retry.js';
import type { MasterSession } from './session.js';

/** What fits in the message that takes a session up. */
export const MAX_HELD_LOCKS = 8_192;
/** Each is a request under way, of those that the master lets a client have. */
const MAX_WAITING = 512;

export class FileLocks {
  readonly #session: MasterSession;
  readonly #forever: () => Deadline;
  /** By node. */
  readonly #held = new Map<number, LockRange[]>();
  #count = 0;
  #waiting = 0;

  /** @param forever a deadline for those who wait until they are interrupted */
  constructor(session: MasterSession, forever: () => Deadline) {
    this.#session = session;
    this.#forever = forever;
    session.tellLocks(
      () => this.#all(),
      () => this.#lose(),
    );
  }

  /** @throws LOCKED, DEADLOCK, NO_LOCKS, CANCELLED */
  async set(id: number, lock: LockRange, wait: boolean, context: CallContext): Promise<void> {
    if (lock.type === 'unlock') return this.#unlock(id, lock, context);
    if (this.#count >= MAX_HELD_LOCKS) throw new GfsError('NO_LOCKS', `${MAX_HELD_LOCKS} locks are held`);
    if (!wait) {
      await this.#session.query(SetLock, { id, lock, wait }, context);
      return this.#note(id, lock);
    }
    if (this.#waiting >= MAX_WAITING) throw new GfsError('NO_LOCKS', `${MAX_WAITING} wait for locks`);
    this.#waiting++;
    try {
      await this.#session.query(SetLock, { id, lock, wait }, context, this.#forever());
      this.#note(id, lock);
    } catch (thrown) {
      // It may have been granted in the moment in which it was given up.
      if (toGfsError(thrown).code === 'CANCELLED') void this.#tellRange(id, lock).catch(() => undefined);
      throw thrown;
    } finally {
      this.#waiting--;
    }
  }

  /** The lock that is in the way of this one. */
  async blocking(id: number, lock: LockRange, context: CallContext): Promise<LockRange | undefined> {
    return (await this.#session.query(GetLock, { id, lock }, context)).lock;
  }

  /** Whether an owner holds any lock of a file, of one kind. */
  holds(id: number, owner: string, flock: boolean): boolean {
    return (this.#held.get(id) ?? []).some((held) => held.owner === owner && held.flock === flock);
  }

  /** Everything that an owner holds of a file, of one kind. */
  async drop(id: number, owner: string, flock: boolean): Promise<void> {
    if (!this.holds(id, owner, flock)) return;
    await this.#unlock(id, { type: 'unlock', start: 0, end: LOCK_TO_END, pid: 0, owner, flock }, {});
  }

  async #unlock(id: number, lock: LockRange, context: CallContext): Promise<void> {
    if (!this.holds(id, lock.owner, lock.flock)) return;
    this.#note(id, lock);
    await this.#session.query(SetLock, { id, lock, wait: false }, { ...context, signal: undefined });
  }

  /** The master has of this range what is held here. */
  async #tellRange(id: number, range: LockRange): Promise<void> {
    await this.#session.query(SetLock, { id, lock: { ...range, type: 'unlock' }, wait: false });
    for (const held of this.#held.get(id) ?? []) {
      if (held.owner !== range.owner || held.flock !== range.flock || !overlaps(held, range)) continue;
      await this.#session.query(SetLock, { id, lock: held, wait: false });
    }
  }

  #note(id: number, lock: LockRange): void {
    const all = this.#held.get(id) ?? [];
    const own = all.filter((held) => held.owner === lock.owner && held.flock === lock.flock);
    const now = [...all.filter((held) => !own.includes(held)), ...withLock(own, lock)];
    this.#count += now.length - all.length;
    if (now.length === 0) this.#held.delete(id);
    else this.#held.set(id, now);
  }

  #all(): HeldLock[] {
    return [...this.#held].flatMap(([id, locks]) => locks.map((lock) => ({ id, lock })));
  }

  /** The session was away for too long: others may have had the locks since. */
  #lose(): void {
    this.#held.clear();
    this.#count = 0;
  }
}
