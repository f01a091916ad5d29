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
  /** Those that were held when the session was lost, until they are given up. */
  readonly #lost = new Map<number, LockRange[]>();
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

  /** Locks that are held. */
  get size(): number {
    return this.#count;
  }

  /** @throws LOCKED, DEADLOCK, NO_LOCKS, CANCELLED; LOCK_LOST until what was lost is given up */
  async set(id: number, lock: LockRange, wait: boolean, context: CallContext): Promise<void> {
    if (lock.type === 'unlock') return this.#unlock(id, lock, context);
    if (this.hasLost(id, lock.owner, lock.flock)) throw new GfsError('LOCK_LOST', `a lock of file ${id}`);
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

  /** A lock that the owner of `range` holds of that part of a file. */
  own(id: number, range: LockRange): LockRange | undefined {
    return (this.#held.get(id) ?? []).find(
      (held) => held.owner === range.owner && held.flock === range.flock && overlaps(held, range),
    );
  }

  /** Whether anybody here holds a lock of a file, or has lost one. */
  knows(id: number): boolean {
    return this.#held.has(id) || this.#lost.has(id);
  }

  /** Whether an owner holds any lock of a file, of one kind. */
  holds(id: number, owner: string, flock: boolean): boolean {
    return (this.#held.get(id) ?? []).some((held) => held.owner === owner && held.flock === flock);
  }

  /** Whether an owner believes to hold a lock of a file that others may have had since. */
  hasLost(id: number, owner: string, flock: boolean): boolean {
    return (this.#lost.get(id) ?? []).some((lost) => lost.owner === owner && lost.flock === flock);
  }

  /** Everything that an owner holds of a file, of one kind. */
  async drop(id: number, owner: string, flock: boolean): Promise<void> {
    if (!this.holds(id, owner, flock) && !this.hasLost(id, owner, flock)) return;
    await this.#unlock(id, { type: 'unlock', start: 0, end: LOCK_TO_END, pid: 0, owner, flock }, {});
  }

  async #unlock(id: number, lock: LockRange, context: CallContext): Promise<void> {
    replaceOwn(this.#lost, id, lock);
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
    this.#count += replaceOwn(this.#held, id, lock);
  }

  #all(): HeldLock[] {
    return [...this.#held].flatMap(([id, locks]) => locks.map((lock) => ({ id, lock })));
  }

  /** The session was away for too long: others may have had the locks since. */
  #lose(): void {
    for (const [id, locks] of this.#held) this.#lost.set(id, [...(this.#lost.get(id) ?? []), ...locks]);
    this.#held.clear();
    this.#count = 0;
  }
}

/** Sets a lock in place of what its owner has there. @returns how many more locks there are then */
function replaceOwn(table: Map<number, LockRange[]>, id: number, lock: LockRange): number {
  const all = table.get(id) ?? [];
  const own = all.filter((one) => one.owner === lock.owner && one.flock === lock.flock);
  const now = [...all.filter((one) => !own.includes(one)), ...withLock(own, lock)];
  if (now.length === 0) table.delete(id);
  else table.set(id, now);
  return now.length - all.length;
}
