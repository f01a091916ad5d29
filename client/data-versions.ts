/**
 * Which state of a file's data this client has seen, so that what it caches of a file that nobody else
 * changed since can stay.
 */
import { LRUCache } from 'lru-cache';

export class DataVersions {
  readonly #seen: LRUCache<number, number>;

  constructor(maxFiles: number) {
    this.#seen = new LRUCache({ max: maxFiles });
  }

  /** Whether this is the version seen last. */
  isSeen(id: number, version: number): boolean {
    return this.#seen.get(id) === version;
  }

  /** The file is opened, and the master told its version. @returns whether it is the one seen last */
  noteOpened(id: number, version: number): boolean {
    const isUnchanged = this.isSeen(id, version);
    this.#seen.set(id, version);
    return isUnchanged;
  }

  /** A change made from here was told to the master, which gave it this version. */
  noteOwnChange(id: number, version: number): void {
    if (this.#seen.get(id) === version - 1) this.#seen.set(id, version);
    // Somebody else changed it in between: what was cached before may be old.
    else this.#seen.delete(id);
  }

  /** Somebody else changed it. */
  forget(id: number): void {
    this.#seen.delete(id);
  }
}
