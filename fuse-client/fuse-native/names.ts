import { LRUCache } from 'lru-cache';
import type { Clock } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { ROOT_ID } from '../../protocol/messages/index.js';
import {
  type ByteString,
  type Context,
  type Entry,
  type FuseHandler,
  type Inode,
  NoSuchName,
} from '../handler.js';
import type { InodeTable } from './inodes.js';

interface CachedName {
  readonly inode: Inode;
  readonly expiresMs: number;
}

/**
 * From paths to inodes: walks by lookup, and believes a name for as long as the handler said. Names
 * are cached by directory inode, not by path, so that renaming a directory leaves what is below it
 * right.
 */
export class Names {
  readonly #handler: FuseHandler;
  readonly #inodes: InodeTable;
  readonly #clock: Clock;
  readonly #cached: LRUCache<string, CachedName>;
  /**
   * Files that were unlinked while open. libfuse renames such a file to a name of its own and unlinks
   * that when the last descriptor is closed; here the file is unlinked at once, and libfuse's name for
   * it lives in this table alone. As many as files are open.
   */
  readonly #hidden = new Map<string, { readonly parent: Inode; readonly inode: Inode }>();
  /** Counts the changes of names, so that a lookup that one overtook is not cached. */
  #changes = 0;

  constructor(handler: FuseHandler, inodes: InodeTable, clock: Clock, maxNames: number) {
    this.#handler = handler;
    this.#inodes = inodes;
    this.#clock = clock;
    this.#cached = new LRUCache({ max: maxNames, dispose: ({ inode }) => this.#inodes.drop(inode) });
  }

  /** Runs `body` with the inode of `path`, which stays held for as long. */
  async at<T>(context: Context, path: ByteString, body: (inode: Inode) => Promise<T>): Promise<T> {
    const inode = await this.#walk(context, path);
    try {
      return await body(inode);
    } finally {
      this.#inodes.drop(inode);
    }
  }

  /** Runs `body` with the directory that `path` is in, held for as long, and the last name. */
  async in<T>(
    context: Context,
    path: ByteString,
    body: (parent: Inode, name: ByteString) => Promise<T>,
  ): Promise<T> {
    const slash = path.lastIndexOf('/');
    return this.at(context, path.slice(0, slash), (parent) => body(parent, path.slice(slash + 1)));
  }

  /** Asks the handler; the caller holds the entry's inode. */
  async lookup(context: Context, parent: Inode, name: ByteString): Promise<Entry> {
    const changes = this.#changes;
    const entry = await this.#handler.lookup(context, parent, name);
    if (entry instanceof NoSuchName) throw new GfsError('NOT_FOUND');
    this.adopt(parent, name, entry, changes === this.#changes);
    return entry;
  }

  /** Takes an entry that the handler gave (mkdir, create, …); the caller holds its inode. */
  adopt(parent: Inode, name: ByteString, entry: Entry, cache = true): void {
    const inode = entry.attributes.id;
    this.#inodes.adopt(inode);
    if (!cache || entry.entryTtlMs <= 0) return;
    this.#inodes.hold(inode);
    this.#cached.set(keyOf(parent, name), {
      inode,
      expiresMs: this.#clock.monotonicMs() + entry.entryTtlMs,
    });
  }

  /** The name means something else now, or may: to be called when a change has ended, well or not. */
  changed(parent: Inode, name: ByteString): void {
    this.#changes++;
    this.#cached.delete(keyOf(parent, name));
  }

  /** From here on `name` means `inode`, here alone. Takes over the caller's hold. */
  hide(parent: Inode, name: ByteString, inode: Inode): void {
    this.#hidden.set(keyOf(parent, name), { parent, inode });
  }

  hidden(parent: Inode, name: ByteString): Inode | undefined {
    return this.#hidden.get(keyOf(parent, name))?.inode;
  }

  /** Whether a directory has hidden names; without an argument: whether there are any. */
  hides(directory?: Inode): boolean {
    if (directory === undefined) return this.#hidden.size > 0;
    return [...this.#hidden.values()].some(({ parent }) => parent === directory);
  }

  /** @returns whether it was a hidden name */
  unhide(parent: Inode, name: ByteString): boolean {
    const key = keyOf(parent, name);
    const file = this.#hidden.get(key);
    if (file === undefined) return false;
    this.#hidden.delete(key);
    this.#inodes.drop(file.inode);
    return true;
  }

  /** Gives everything back, at the end of the mount. */
  clear(): void {
    this.#cached.clear();
    for (const { inode } of this.#hidden.values()) this.#inodes.drop(inode);
    this.#hidden.clear();
  }

  /** @returns the inode, which the caller holds */
  async #walk(context: Context, path: ByteString): Promise<Inode> {
    let inode: Inode = ROOT_ID;
    for (const name of path.split('/')) {
      if (name === '') continue;
      const parent = inode;
      try {
        inode = await this.#step(context, parent, name);
      } finally {
        this.#inodes.drop(parent);
      }
    }
    return inode;
  }

  async #step(context: Context, parent: Inode, name: ByteString): Promise<Inode> {
    const key = keyOf(parent, name);
    const cached = this.#cached.get(key);
    const fresh = cached !== undefined && cached.expiresMs > this.#clock.monotonicMs();
    const inode = fresh ? cached.inode : this.#hidden.get(key)?.inode;
    if (inode !== undefined) {
      this.#inodes.hold(inode);
      return inode;
    }
    const { attributes } = await this.lookup(context, parent, name);
    return attributes.id;
  }
}

function keyOf(parent: Inode, name: ByteString): string {
  if (name === '') throw new GfsError('INVALID', 'an empty name');
  return `${parent}/${name}`;
}
