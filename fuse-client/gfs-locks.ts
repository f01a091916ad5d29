/** Locks through the mount: the kernel's ranges and owners as the cluster's. */
import type { GfsClient } from '../client/index.js';
import { GfsError } from '../protocol/errors.js';
import { LOCK_TO_END, type LockRange } from '../protocol/messages/index.js';
import { callContext } from './access.js';
import type { GfsFiles } from './gfs-files.js';
import type { Context, FileLock } from './handler.js';
import { LockOwners } from './lock-owners.js';

const KERNEL_END = 2n ** 63n - 1n;

export class GfsLocks {
  readonly #client: GfsClient;
  readonly #files: GfsFiles;
  readonly #owners = new LockOwners();
  /** Who has taken locks through a handle. */
  readonly #takers = new Map<number, Map<string, { readonly owner: string; readonly flock: boolean }>>();

  constructor(client: GfsClient, files: GfsFiles) {
    this.#client = client;
    this.#files = files;
  }

  async get(context: Context, id: number, lock: FileLock): Promise<FileLock> {
    const range = toRange(lock);
    const { locks } = this.#client;
    // F_OFD_GETLK with F_UNLCK asks for a lock of its own (Linux 6.7).
    const asksForOwn = lock.type === 'unlock';
    const found = asksForOwn ? locks.own(id, range) : await locks.blocking(id, range, callContext(context));
    if (found === undefined) return { ...lock, type: 'unlock' };
    const end = found.end === LOCK_TO_END ? KERNEL_END : BigInt(found.end);
    return { ...lock, type: found.type, start: BigInt(found.start), end, pid: found.pid };
  }

  /** Whoever gets the lock after this one sees what was written under it. */
  async set(context: Context, id: number, handle: number, lock: FileLock, wait: boolean): Promise<void> {
    const range = toRange(lock);
    if (lock.type === 'unlock') await this.#files.flush(context, handle);
    else if (!lock.flock) this.#owners.locks(handle, lock.owner);
    await this.#client.locks.set(id, range, wait, callContext(context));
    if (lock.type === 'unlock') return;
    const takers = this.#takers.get(handle) ?? new Map();
    this.#takers.set(handle, takers.set(`${range.owner} ${range.flock}`, range));
  }

  /**
   * Before data is read or written through a handle: whoever took a lock through it that was lost learns so, and
   * does not go on as if nobody else had been there (as with NFS, until the lock is given up or the file closed).
   * @throws LOCK_LOST
   */
  check(id: number, handle: number): void {
    for (const { owner, flock } of this.#takers.get(handle)?.values() ?? []) {
      if (this.#client.locks.hasLost(id, owner, flock))
        throw new GfsError(
          'LOCK_LOST',
          `a lock of file ${id} was lost while the master could not be reached`,
        );
    }
  }

  /** Whether there is, or was, any lock that closing this handle of the file may end. */
  concern(id: number, handle: number): boolean {
    return this.#client.locks.knows(id) || this.#takers.has(handle) || this.#owners.knows(handle);
  }

  /** A descriptor was closed, and with it go all fcntl locks of the process on this file. */
  flushed(id: number, handle: number, owner: bigint): Promise<void> {
    this.#owners.flushed(handle, owner);
    return this.#drop(id, owner, false);
  }

  /** The last descriptor was closed. @param flockOwner whose flock lock goes with it */
  async released(id: number, handle: number, flockOwner: bigint | undefined): Promise<void> {
    this.#takers.delete(handle);
    const drops = [...this.#owners.released(handle)].map((owner) => this.#drop(id, owner, false));
    if (flockOwner !== undefined) drops.push(this.#drop(id, flockOwner, true));
    await Promise.all(drops);
  }

  #drop(id: number, owner: bigint, flock: boolean): Promise<void> {
    return this.#client.locks.drop(id, ownerText(owner), flock);
  }
}

function toRange({ type, start, end, pid, owner, flock }: FileLock): LockRange {
  return { type, start: clamp(start), end: clamp(end), pid, owner: ownerText(owner), flock };
}

/** No file reaches further. */
function clamp(offset: bigint): number {
  return offset > BigInt(LOCK_TO_END) ? LOCK_TO_END : Number(offset);
}

function ownerText(owner: bigint): string {
  return owner.toString(16);
}
