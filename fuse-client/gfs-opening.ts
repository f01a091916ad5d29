/** Opening and closing: handles come and go, at once where nobody has to be asked. */
import type { CallContext, GfsClient, OpenedCached, OpenFile } from '../client/index.js';
import { callContext } from './access.js';
import type { AccessTimes } from './access-times.js';
import type { Entries } from './entries.js';
import type { GfsFiles } from './gfs-files.js';
import type { GfsLocks } from './gfs-locks.js';
import {
  type Answer,
  type ByteString,
  type Context,
  type CreateReply,
  FileType,
  type Inode,
  OpenFlags,
  type OpenReply,
} from './handler.js';
import type { InodeMap } from './inodes.js';
import type { Powers } from './powers.js';

/** In place of an offset in what the kernel shall forget of a file: no data. */
const ATTRIBUTES_ALONE = -1;

/** The parts of the handler that opening works with. */
export interface OpeningParts {
  readonly inodes: InodeMap;
  readonly files: GfsFiles;
  readonly locks: GfsLocks;
  readonly entries: Entries;
  readonly accessTimes: AccessTimes;
  readonly powers: Powers;
}

export class GfsOpening {
  readonly #client: GfsClient;
  readonly #inodes: InodeMap;
  readonly #files: GfsFiles;
  readonly #locks: GfsLocks;
  readonly #entries: Entries;
  readonly #accessTimes: AccessTimes;
  readonly #powers: Powers;

  constructor(client: GfsClient, parts: OpeningParts) {
    this.#client = client;
    this.#inodes = parts.inodes;
    this.#files = parts.files;
    this.#locks = parts.locks;
    this.#entries = parts.entries;
    this.#accessTimes = parts.accessTimes;
    this.#powers = parts.powers;
  }

  /** @param name one that the file system can have */
  async create(
    context: Context,
    directory: Inode,
    name: ByteString,
    mode: number,
    flags: number,
    umask: number,
  ): Promise<CreateReply> {
    const call = callContext(context);
    const exclusive = (flags & OpenFlags.EXCL) !== 0;
    const parent = this.#inodes.toNode(directory);
    const regular = FileType.REGULAR | (mode & ~FileType.MASK);
    const request = { parent, name, mode: regular, rdev: 0, exclusive, umask };
    const { attributes, created, file } = await this.#client.create(request, call);
    const handle = this.#files.add(file, flags);
    // Another mount may have made it between the kernel's lookup and now: then this is an open.
    if (!created && (flags & OpenFlags.TRUNC) !== 0) await this.#empty(file, handle, call);
    return { ...openReply(handle, flags, false), entry: this.#entries.entry(parent, name, attributes) };
  }

  async tmpfile(
    context: Context,
    directory: Inode,
    mode: number,
    flags: number,
    umask: number,
  ): Promise<CreateReply> {
    const request = { parent: this.#inodes.toNode(directory), mode: mode & ~FileType.MASK, umask };
    const { attributes, file } = await this.#client.createTmpfile(request, callContext(context));
    const handle = this.#files.add(file, flags);
    return { ...openReply(handle, flags, false), entry: this.#entries.nameless(attributes) };
  }

  open(context: Context, inode: Inode, flags: number): Answer<OpenReply> {
    const id = this.#inodes.toNode(inode);
    const opened = this.#client.openCachedAtHand(id);
    if (opened !== undefined) return this.#opened(context, inode, flags, opened);
    return this.#client
      .openCached(id, callContext(context))
      .then((told) => this.#opened(context, inode, flags, told));
  }

  #opened(
    context: Context,
    inode: Inode,
    flags: number,
    { file, isUnchanged }: OpenedCached,
  ): Answer<OpenReply> {
    const reply = openReply(this.#files.add(file, flags), flags, isUnchanged);
    if ((flags & OpenFlags.TRUNC) !== 0)
      return this.#empty(file, reply.handle, callContext(context)).then(() => reply);
    const isReadUnasked = isUnchanged && (flags & OpenFlags.ACCMODE) === OpenFlags.RDONLY;
    return isReadUnasked ? this.noteRead(inode, file.id, reply) : reply;
  }

  /** O_TRUNC. Where that fails the file is not open: the kernel has no handle that it would give back. */
  async #empty(file: OpenFile, handle: number, context: CallContext): Promise<void> {
    try {
      await file.setAttributes({ size: 0 }, context);
    } catch (error) {
      void this.#files.release(handle);
      throw error;
    }
  }

  /** What it has in its cache the kernel reads without asking. */
  noteRead(inode: Inode, id: number, reply: OpenReply): Answer<OpenReply> {
    if (!this.#accessTimes.note(id)) return reply;
    const forgotten = this.#powers.kernel?.invalidateInode?.(inode, ATTRIBUTES_ALONE, 0);
    return forgotten === undefined ? reply : forgotten.then(() => reply);
  }

  flush(context: Context, inode: Inode, handle: number, lockOwner: bigint): Answer<void> {
    const id = this.#inodes.toNode(inode);
    if (this.#files.isSettled(handle) && !this.#locks.concern(id, handle)) return undefined;
    return this.#flush(context, id, handle, lockOwner);
  }

  async #flush(context: Context, id: number, handle: number, lockOwner: bigint): Promise<void> {
    try {
      await this.#files.flush(context, handle);
    } finally {
      // close(2) gives up the process' locks on the file, whichever descriptor it was.
      await this.#locks.flushed(id, handle, lockOwner);
    }
  }

  release(inode: Inode, handle: number, lockOwner: bigint, unlockFlock: boolean): Answer<void> {
    const id = this.#inodes.toNode(inode);
    const closed = this.#files.release(handle);
    if (closed === undefined && !this.#locks.concern(id, handle)) return undefined;
    return Promise.resolve(closed).then(() =>
      this.#locks.released(id, handle, unlockFlock ? lockOwner : undefined),
    );
  }
}

/**
 * Appends go where the primary says, not where the page cache believes that the file ends. Pages stay
 * where nobody else changed the file.
 */
function openReply(handle: number, flags: number, keepCache: boolean): OpenReply {
  return { handle, directIo: (flags & OpenFlags.APPEND) !== 0, keepCache };
}
