/** fcntl(2) and flock(2) locks of the in-memory file system. */

import type { FileLock } from '../../fuse-client/handler.js';
import { GfsError } from '../../protocol/errors.js';
import type { Cancellation } from '../../protocol/rpc.js';

interface Waiter {
  readonly inode: number;
  readonly lock: FileLock;
  readonly resolve: () => void;
}

export class Locks {
  readonly #held = new Map<number, FileLock[]>();
  readonly #waiters = new Set<Waiter>();

  /** A lock of another owner that is in the way. */
  conflict(inode: number, wanted: FileLock): FileLock | undefined {
    return this.#of(inode).find(
      (held) =>
        held.flock === wanted.flock &&
        held.owner !== wanted.owner &&
        overlap(held, wanted) &&
        (held.type === 'write' || wanted.type === 'write'),
    );
  }

  /** @throws OVERLOADED (EAGAIN) when it is taken and `wait` is not set, CANCELLED (EINTR) when interrupted */
  async set(inode: number, lock: FileLock, wait: boolean, signal: Cancellation): Promise<void> {
    if (lock.type === 'unlock' || this.conflict(inode, lock) === undefined) return this.#put(inode, lock);
    if (!wait) throw new GfsError('OVERLOADED', 'locked by another');
    if (signal.aborted) throw new GfsError('CANCELLED');
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { inode, lock, resolve };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', () => {
        if (this.#waiters.delete(waiter)) reject(new GfsError('CANCELLED'));
      });
    });
  }

  /** Drops the owner's locks of one kind. */
  drop(inode: number, owner: bigint, flock: boolean): void {
    this.#held.set(
      inode,
      this.#of(inode).filter((held) => held.owner !== owner || held.flock !== flock),
    );
    this.#retry(inode);
  }

  #of(inode: number): FileLock[] {
    return this.#held.get(inode) ?? [];
  }

  #put(inode: number, lock: FileLock): void {
    const mine = (held: FileLock) =>
      held.owner === lock.owner && held.flock === lock.flock && overlap(held, lock);
    const rest = this.#of(inode).flatMap((held) => (mine(held) ? without(held, lock) : [held]));
    this.#held.set(inode, lock.type === 'unlock' ? rest : [...rest, lock]);
    this.#retry(inode);
  }

  #retry(inode: number): void {
    for (const waiter of this.#waiters) {
      if (waiter.inode !== inode || this.conflict(inode, waiter.lock) !== undefined) continue;
      this.#waiters.delete(waiter);
      this.#put(inode, waiter.lock);
      waiter.resolve();
    }
  }
}

function overlap(a: FileLock, b: FileLock): boolean {
  return a.start <= b.end && b.start <= a.end;
}

/** What is left of a lock beside a range that is locked anew. */
function without(held: FileLock, range: FileLock): FileLock[] {
  const parts: FileLock[] = [];
  if (held.start < range.start) parts.push({ ...held, end: range.start - 1n });
  if (held.end > range.end) parts.push({ ...held, start: range.end + 1n });
  return parts;
}
