/**
 * The locks that programs hold on files through flock(2) and fcntl(2), on any mount. Soft state: a client tells
 * its locks again when it takes its session up, and after a start nobody gets one before all could do so. The
 * locks of a client that is gone are kept until its session would have been over, and are lost then.
 */
import { GfsError } from '../protocol/errors.js';
import { conflicts, withLock } from '../protocol/lock-ranges.js';
import type { HeldLock, LockRange } from '../protocol/messages/index.js';

const MAX_LOCKS = 1_048_576;
const MAX_WAITERS = 65_536;
/** As Linux: longer circles are not looked for. */
const MAX_CIRCLE = 10;

interface Held extends LockRange {
  readonly session: number;
}

interface Waiter {
  readonly id: number;
  readonly lock: Held;
  readonly grant: () => void;
}

export class FileLocks {
  /** By node, in the order of setting. */
  readonly #held = new Map<number, Held[]>();
  /** First come first served. */
  readonly #waiters = new Map<number, Waiter[]>();
  #waiterCount = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @throws LOCKED, DEADLOCK, NO_LOCKS, CANCELLED */
  async set(
    session: number,
    id: number,
    lock: LockRange,
    wait: boolean,
    signal: () => AbortSignal,
  ): Promise<void> {
    if (lock.start > lock.end) throw new GfsError('INVALID', 'a lock of nothing');
    const wanted: Held = { ...lock, session };
    if (lock.type === 'unlock' || this.#inTheWay(id, wanted) === undefined) return this.#put(id, wanted);
    if (!wait) throw new GfsError('LOCKED');
    if (!lock.flock && this.#wouldCircle(id, wanted)) throw new GfsError('DEADLOCK');
    await this.#wait(id, wanted, signal());
  }

  /** What is in the way of a lock. */
  blocking(session: number, id: number, lock: LockRange): LockRange | undefined {
    const found = this.#inTheWay(id, { ...lock, session });
    if (found === undefined) return undefined;
    const { session: holder, ...range } = found;
    return { ...range, pid: holder === session ? range.pid : 0 };
  }

  /** A session's client says which locks it has: those, and no others. */
  restore(session: number, locks: readonly HeldLock[]): void {
    const ids = this.#dropOf(session);
    for (const { id, lock } of locks) {
      const held = { ...lock, session };
      if (lock.type !== 'unlock' && this.#inTheWay(id, held) === undefined) this.#put(id, held);
    }
    for (const id of ids) this.#wake(id);
  }

  /** A session is over, and with it its locks. @returns how many there were */
  release(session: number): number {
    const before = this.#count;
    for (const id of this.#dropOf(session)) this.#wake(id);
    return before - this.#count;
  }

  #inTheWay(id: number, wanted: Held): Held | undefined {
    return this.#held.get(id)?.find((held) => !isSameOwner(held, wanted) && conflicts(held, wanted));
  }

  #put(id: number, lock: Held): void {
    const all = this.#held.get(id) ?? [];
    const own = all.filter((held) => isSameOwner(held, lock) && held.flock === lock.flock);
    const others = all.filter((held) => !own.includes(held));
    const now = withLock(own, lock);
    if (now.length > own.length && this.#count + now.length - own.length > MAX_LOCKS)
      throw new GfsError('NO_LOCKS', `${MAX_LOCKS} locks are held`);
    this.#count += now.length - own.length;
    if (others.length + now.length === 0) this.#held.delete(id);
    else this.#held.set(id, [...others, ...now]);
    // A lock that became smaller, or weaker, lets others in.
    if (own.length > 0) this.#wake(id);
  }

  #dropOf(session: number): number[] {
    const ids: number[] = [];
    for (const [id, all] of this.#held) {
      const rest = all.filter((held) => held.session !== session);
      if (rest.length === all.length) continue;
      this.#count -= all.length - rest.length;
      if (rest.length === 0) this.#held.delete(id);
      else this.#held.set(id, rest);
      ids.push(id);
    }
    return ids;
  }

  #wait(id: number, lock: Held, signal: AbortSignal): Promise<void> {
    if (this.#waiterCount >= MAX_WAITERS) throw new GfsError('NO_LOCKS', `${MAX_WAITERS} wait for locks`);
    if (signal.aborted) throw cancelled(signal);
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#forget(waiter);
        reject(cancelled(signal));
      };
      const waiter: Waiter = {
        id,
        lock,
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      this.#waiterCount++;
      const queue = this.#waiters.get(id);
      if (queue === undefined) this.#waiters.set(id, [waiter]);
      else queue.push(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #forget(waiter: Waiter): void {
    const queue = this.#waiters.get(waiter.id) ?? [];
    const at = queue.indexOf(waiter);
    if (at < 0) return;
    queue.splice(at, 1);
    this.#waiterCount--;
    if (queue.length === 0) this.#waiters.delete(waiter.id);
  }

  #wake(id: number): void {
    for (const waiter of [...(this.#waiters.get(id) ?? [])]) {
      if (this.#inTheWay(id, waiter.lock) !== undefined) continue;
      this.#forget(waiter);
      this.#put(id, waiter.lock);
      waiter.grant();
    }
  }

  /** Whether whoever is in the way waits, over others or directly, for the one who wants this. */
  #wouldCircle(id: number, wanted: Held): boolean {
    let holder = this.#inTheWay(id, wanted);
    for (let steps = 0; holder !== undefined && steps < MAX_CIRCLE; steps++) {
      const waiting = this.#waitOf(holder);
      if (waiting === undefined) return false;
      holder = this.#inTheWay(waiting.id, waiting.lock);
      if (holder !== undefined && isSameOwner(holder, wanted)) return true;
    }
    return false;
  }

  #waitOf(owner: Held): Waiter | undefined {
    for (const queue of this.#waiters.values()) {
      const found = queue.find(({ lock }) => !lock.flock && isSameOwner(lock, owner));
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function isSameOwner(a: Held, b: Held): boolean {
  return a.session === b.session && a.owner === b.owner;
}

/** Its client gave up, or will ask again. */
function cancelled(signal: AbortSignal): GfsError {
  return signal.reason instanceof GfsError ? signal.reason : new GfsError('CANCELLED');
}
