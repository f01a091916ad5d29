/**
 * Read and write locks on full pathnames and, below them, on node ids (paper §4.1). Made when first
 * taken, dropped when nobody uses them; first come first served; a wait can be cancelled. Whoever
 * takes several takes them in one order, by level and then by name, so nobody waits in a circle.
 */
import { GfsError } from '../protocol/errors.js';

/** A full path, or a node's id. */
export type LockKey = string | number;

export interface LockRequest {
  readonly key: LockKey;
  /** Depth of the path. Node ids come after every path. */
  readonly level: number;
  write: boolean;
}

/** Renaming a directory, before any path: only one at a time (two could make a circle of the tree). */
export const RENAME_LOCK: Omit<LockRequest, 'write'> = { key: '', level: -1 };
export const NODE_LEVEL = 0x7fff_ffff;

const MAX_WAITERS = 65_536;

interface Waiter {
  readonly write: boolean;
  readonly grant: () => void;
}

interface Lock {
  readers: number;
  writer: boolean;
  readonly waiters: Waiter[];
}

/** Locks that are held. */
export interface Held {
  release(): void;
}

/** What one operation locks: each key once, in the common order, with the stronger of the modes asked for. */
export class LockSet {
  readonly requests: LockRequest[] = [];

  add(key: LockKey, level: number, write: boolean): void {
    const requests = this.requests;
    let at = requests.length;
    while (at > 0 && precedes(key, level, requests[at - 1] as LockRequest)) at--;
    const before = requests[at - 1];
    if (before !== undefined && before.key === key) before.write ||= write;
    else requests.splice(at, 0, { key, level, write });
  }

  addNode(id: number, write: boolean): void {
    this.add(id, NODE_LEVEL, write);
  }

  equals(other: LockSet): boolean {
    return (
      this.requests.length === other.requests.length &&
      this.requests.every((mine, at) => {
        const theirs = other.requests[at] as LockRequest;
        return mine.key === theirs.key && mine.write === theirs.write;
      })
    );
  }
}

function precedes(key: LockKey, level: number, other: LockRequest): boolean {
  return level < other.level || (level === other.level && key < other.key);
}

export class LockManager {
  readonly #locks = new Map<LockKey, Lock>();
  #waiterCount = 0;
  #writerCount = 0;

  /** Locks that are held or waited for. */
  get size(): number {
    return this.#locks.size;
  }

  get waiterCount(): number {
    return this.#waiterCount;
  }

  /**
   * Takes all of a set, at once if nobody is in the way, else when its turn comes.
   * @param signal asked for only if it has to wait; aborted: the wait ends and nothing is held
   * @throws CANCELLED (or the signal's reason), OVERLOADED
   */
  acquire(set: LockSet, signal: () => AbortSignal): Held | Promise<Held> {
    const { requests } = set;
    for (let at = 0; at < requests.length; at++) {
      if (!this.#tryTake(requests[at] as LockRequest)) return this.#acquireRest(requests, at, signal());
    }
    return { release: () => this.#releaseFirst(requests, requests.length) };
  }

  /** Takes all of a set if nobody is in the way. */
  tryAcquire(set: LockSet): Held | undefined {
    const { requests } = set;
    for (let at = 0; at < requests.length; at++) {
      if (this.#tryTake(requests[at] as LockRequest)) continue;
      this.#releaseFirst(requests, at);
      return undefined;
    }
    return { release: () => this.#releaseFirst(requests, requests.length) };
  }

  /** Whether a reader has to look: no write lock anywhere is the common case, and costs no path. */
  get hasWriters(): boolean {
    return this.#writerCount > 0;
  }

  isWriteLocked(key: LockKey): boolean {
    return this.#locks.get(key)?.writer ?? false;
  }

  async #acquireRest(requests: readonly LockRequest[], from: number, signal: AbortSignal): Promise<Held> {
    let taken = from;
    try {
      for (; taken < requests.length; taken++) {
        const request = requests[taken] as LockRequest;
        if (!this.#tryTake(request)) await this.#wait(request, signal);
      }
    } catch (error) {
      this.#releaseFirst(requests, taken);
      throw error;
    }
    return { release: () => this.#releaseFirst(requests, requests.length) };
  }

  #tryTake({ key, write }: LockRequest): boolean {
    const lock = this.#locks.get(key);
    if (lock === undefined) {
      this.#locks.set(key, { readers: write ? 0 : 1, writer: write, waiters: [] });
      if (write) this.#writerCount++;
      return true;
    }
    // A reader waits behind a waiting writer: else readers that keep coming would starve it.
    if (write || lock.writer || lock.waiters.length > 0) return false;
    lock.readers++;
    return true;
  }

  /** INVARIANT: the lock exists, because {@link #tryTake} has just failed on it. */
  #wait({ key, write }: LockRequest, signal: AbortSignal): Promise<void> {
    if (this.#waiterCount >= MAX_WAITERS)
      throw new GfsError('OVERLOADED', 'too many operations wait for locks');
    if (signal.aborted) throw cancelled(signal);
    const lock = this.#locks.get(key) as Lock;
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiterCount--;
        lock.waiters.splice(lock.waiters.indexOf(waiter), 1);
        this.#wake(key, lock);
        reject(cancelled(signal));
      };
      const waiter: Waiter = {
        write,
        grant: () => {
          this.#waiterCount--;
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      this.#waiterCount++;
      lock.waiters.push(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #releaseFirst(requests: readonly LockRequest[], count: number): void {
    for (let at = count - 1; at >= 0; at--) {
      const { key, write } = requests[at] as LockRequest;
      const lock = this.#locks.get(key) as Lock;
      if (write) {
        lock.writer = false;
        this.#writerCount--;
      } else {
        lock.readers--;
      }
      this.#wake(key, lock);
    }
  }

  /** Lets in those whose turn it is, and drops a lock that nobody uses. */
  #wake(key: LockKey, lock: Lock): void {
    for (let head = lock.waiters[0]; head !== undefined; head = lock.waiters[0]) {
      if (lock.writer || (head.write && lock.readers > 0)) return;
      lock.waiters.shift();
      if (head.write) {
        lock.writer = true;
        this.#writerCount++;
      } else {
        lock.readers++;
      }
      head.grant();
    }
    if (lock.readers === 0 && !lock.writer) this.#locks.delete(key);
  }
}

function cancelled(signal: AbortSignal): GfsError {
  return signal.reason instanceof GfsError ? signal.reason : new GfsError('CANCELLED');
}
