/**
 * What the kernel has been told and may believe without asking: never longer than the master's promise. When
 * that is broken the kernel is told to forget; where a binding cannot do so, it may believe nothing.
 */
import type { Broken, Metadata } from '../client/index.js';
import type { Attributes } from '../protocol/messages/index.js';
import type { Entry, Mount } from './handler.js';
import type { InodeMap } from './inodes.js';

export interface CopyLimits {
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
}

export class KernelCopies {
  readonly #metadata: Metadata;
  readonly #inodes: InodeMap;
  readonly #limits: CopyLimits;
  #mount: Mount | undefined;

  /** @param limits what the user allows at most */
  constructor(metadata: Metadata, inodes: InodeMap, limits: CopyLimits) {
    this.#metadata = metadata;
    this.#inodes = inodes;
    this.#limits = limits;
    metadata.listen({
      onBroken: (broken, directories) => this.#invalidate(broken, directories),
      // Attributes that were told before are believed for the rest of their time, two seconds at most.
      onLost: () => this.#mount?.expireEntries?.(),
    });
  }

  attach(mount: Mount): void {
    this.#mount = mount;
  }

  /** How long the kernel may believe what it is told of a node now. */
  attributeTtlMs(id: number): number {
    if (this.#mount?.invalidateInode === undefined) return 0;
    return Math.min(this.#limits.attributeTtlMs, this.#metadata.attributesTtlMs(id));
  }

  entryTtlMs(parent: number, name: string, id: number): number {
    if (this.#mount?.invalidateEntry === undefined) return 0;
    return Math.min(this.#limits.entryTtlMs, this.#metadata.entryTtlMs(parent, name, id));
  }

  /** How long the kernel may believe a listing that it is told now, by what is left of the session. */
  get listingTtlMs(): number {
    if (this.#mount?.invalidateEntry === undefined) return 0;
    return Math.min(this.#limits.entryTtlMs, this.#limits.attributeTtlMs, this.#metadata.trustMs);
  }

  /** @param shown the attributes as the kernel gets them */
  entry(parent: number, name: string, id: number, shown: Attributes): Entry {
    return {
      attributes: shown,
      entryTtlMs: this.entryTtlMs(parent, name, id),
      attributeTtlMs: this.attributeTtlMs(id),
    };
  }

  #invalidate(broken: Broken, directories: ReadonlySet<number>): Promise<void> | undefined {
    const mount = this.#mount;
    if (mount?.invalidate === undefined) return undefined;
    const inode = (id: number) => this.#inodes.toInode(id);
    return mount.invalidate({
      entries: broken.entries.map(({ directory, name }) => ({ parent: inode(directory), name })),
      attributes: broken.attributes.map(inode),
      data: broken.data.map(inode),
      allEntries: broken.directories.length > 0,
      directories: [...directories].map(inode),
    });
  }
}
