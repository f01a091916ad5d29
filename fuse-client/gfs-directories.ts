/** Reading directories: pages from the master, with the attributes that READDIRPLUS wants. */
import type { GfsClient } from '../client/index.js';
import type { DirectoryEntry } from '../protocol/messages/index.js';
import { callContext } from './access.js';
import { type Context, type DirectoryEntryReply, type Entry, FileType } from './handler.js';
import { type DirectoryHandle, HandleTable } from './handles.js';
import type { InodeMap } from './inodes.js';
import type { KernelListings } from './kernel-listings.js';

/** Cookies of `.` and `..`; those of the master's entries follow, moved up by two. */
const DOT = 1;
const DOT_DOT = 2;
const FIRST_COOKIE = 2;

export class GfsDirectories {
  readonly #client: GfsClient;
  readonly #inodes: InodeMap;
  readonly #kernel: KernelListings;
  readonly #entryOf: (directory: number, entry: DirectoryEntry) => Entry;
  readonly #handles = new HandleTable<DirectoryHandle>();

  constructor(
    client: GfsClient,
    inodes: InodeMap,
    kernel: KernelListings,
    entryOf: (directory: number, entry: DirectoryEntry) => Entry,
  ) {
    this.#client = client;
    this.#inodes = inodes;
    this.#kernel = kernel;
    this.#entryOf = entryOf;
  }

  /** @returns also whether the listing that the kernel has is right */
  open(id: number): { readonly handle: number; readonly keepCache: boolean } {
    const keepCache = this.#kernel.opened(id);
    const opened = { id, page: [], pageFrom: -1, isLastPage: false, parent: id, listing: undefined };
    return { handle: this.#handles.add(opened), keepCache };
  }

  close(handle: number): void {
    const closed = this.#handles.take(handle);
    if (closed !== undefined) this.#kernel.closed(closed.id);
  }

  async read(
    context: Context,
    handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<readonly DirectoryEntryReply[]> {
    const directory = this.#handles.get(handle);
    const replies: DirectoryEntryReply[] = [];
    const entries = await this.#entriesAfter(context, directory, Math.max(0, cookie - FIRST_COOKIE));
    this.#kernel.told(directory.id, directory.listing);
    const mode = FileType.DIRECTORY;
    if (cookie < DOT) {
      replies.push({ name: '.', cookie: DOT, inode: this.#inodes.toInode(directory.id), mode });
    }
    if (cookie < DOT_DOT) {
      replies.push({ name: '..', cookie: DOT_DOT, inode: this.#inodes.toInode(directory.parent), mode });
    }
    for (const entry of entries.slice(0, Math.max(1, limit))) {
      const { name, attributes } = entry;
      replies.push({
        name,
        cookie: entry.cookie + FIRST_COOKIE,
        inode: this.#inodes.toInode(attributes.id),
        mode: attributes.mode,
        ...(plus ? { entry: this.#entryOf(directory.id, entry) } : {}),
      });
    }
    return replies;
  }

  /** What follows `cookie`, from the page at hand where it is in it. */
  async #entriesAfter(
    context: Context,
    directory: DirectoryHandle,
    cookie: number,
  ): Promise<readonly DirectoryEntry[]> {
    const last = directory.page.at(-1);
    const isInPage = cookie > 0 && directory.pageFrom >= 0 && cookie >= directory.pageFrom;
    if (isInPage && last !== undefined && cookie < last.cookie) {
      const from = directory.page.findIndex((entry) => entry.cookie > cookie);
      return directory.page.slice(from);
    }
    if (isInPage && directory.isLastPage && (last === undefined || cookie >= last.cookie)) return [];
    const { entries, end, parent, listing } = await this.#client.metadata.directory(
      directory.id,
      cookie,
      callContext(context),
    );
    directory.page = entries;
    directory.pageFrom = cookie;
    directory.isLastPage = end;
    directory.parent = parent;
    directory.listing = listing;
    return entries;
  }
}
