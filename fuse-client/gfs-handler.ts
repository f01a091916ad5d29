/**
 * The file system that a binding mounts: POSIX calls, inode by inode, as operations on the cluster.
 * The namespace is here; opening, open files, directories and the powers of GFS have rooms of their own.
 */

import { ABSENT, type GfsClient } from '../client/index.js';
import type { Environment } from '../environment/ports/index.js';
import { isAclName } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES, MAX_NAME_BYTES } from '../protocol/limits.js';
import {
  type AttributeChanges,
  Create,
  ListXattrs,
  LookupPath,
  ReadLink,
  RemoveXattr,
  Rename,
  SetXattr,
  Symlink,
  Unlink,
} from '../protocol/messages/index.js';
import { callContext } from './access.js';
import { AccessTimes } from './access-times.js';
import { Entries } from './entries.js';
import { GfsDirectories } from './gfs-directories.js';
import { GfsFiles } from './gfs-files.js';
import { GfsLocks } from './gfs-locks.js';
import { GfsOpening } from './gfs-opening.js';
import {
  type Answer,
  type AttributeReply,
  type AttributeUpdate,
  type ByteString,
  type Context,
  type CreateReply,
  type DirectoryEntryReply,
  type Entry,
  type FileLock,
  FileType,
  type FuseHandler,
  type Inode,
  type IoctlReply,
  type Mount,
  type NoSuchName,
  type OpenReply,
  type ReadReply,
  type StatfsReply,
} from './handler.js';
import { InodeMap } from './inodes.js';
import { runIoctl } from './ioctls.js';
import { KernelCopies } from './kernel-copies.js';
import { KernelListings } from './kernel-listings.js';
import type { HandlerOptions } from './options.js';
import { Powers } from './powers.js';
import { Room } from './room.js';
import { requireStored } from './stored-xattrs.js';
import { getVirtualXattr, isVirtualXattr, removeVirtualXattr, setVirtualXattr } from './virtual-xattrs.js';

export class GfsHandler implements FuseHandler {
  readonly #client: GfsClient;
  readonly #inodes: InodeMap;
  readonly #powers: Powers;
  readonly #files: GfsFiles;
  readonly #directories: GfsDirectories;
  readonly #acls: boolean;
  readonly #copies: KernelCopies;
  readonly #entries: Entries;
  readonly #opening: GfsOpening;
  readonly #accessTimes: AccessTimes;
  readonly #directoryAccessTimes: boolean;
  readonly #locks: GfsLocks;
  readonly #room: Room;

  /** The directory of the cluster that the mount shows. */
  readonly rootId: number;

  private constructor(environment: Environment, client: GfsClient, options: HandlerOptions, rootId: number) {
    this.#client = client;
    this.rootId = rootId;
    this.#inodes = new InodeMap(rootId);
    this.#powers = new Powers(client, options, this.#inodes);
    this.#acls = options.acls;
    this.#room = new Room(client.master, environment.clock);
    this.#files = new GfsFiles(client, this.#powers, this.#room);
    this.#accessTimes = new AccessTimes(environment, client, options.accessTimes);
    this.#directoryAccessTimes = options.directoryAccessTimes;
    this.#locks = new GfsLocks(client, this.#files);
    this.#copies = new KernelCopies(client.metadata, this.#inodes, options);
    this.#entries = new Entries(client, this.#inodes, this.#copies, this.#accessTimes);
    this.#opening = new GfsOpening(client, {
      inodes: this.#inodes,
      files: this.#files,
      locks: this.#locks,
      entries: this.#entries,
      accessTimes: this.#accessTimes,
      powers: this.#powers,
    });
    const { clock } = environment;
    const listings = new KernelListings(client.metadata, clock, () => this.#copies.listingTtlMs);
    this.#directories = new GfsDirectories(client, this.#inodes, listings, (parent, { name, attributes }) =>
      this.#entries.entry(parent, name, attributes),
    );
  }

  /** @throws NOT_FOUND, NOT_DIRECTORY when the cluster has no such directory */
  static async create(
    environment: Environment,
    client: GfsClient,
    options: HandlerOptions,
  ): Promise<GfsHandler> {
    const { path } = options;
    const { attributes } = await client.master.query(LookupPath, { path }).catch((error) => {
      if (!(error instanceof GfsError) || error.code !== 'NOT_FOUND') throw error;
      throw new GfsError('NOT_FOUND', `the cluster has no directory ${path}`);
    });
    if ((attributes.mode & FileType.MASK) !== FileType.DIRECTORY) {
      throw new GfsError('NOT_DIRECTORY', `${options.path} is not a directory of the cluster`);
    }
    return new GfsHandler(environment, client, options, attributes.id);
  }

  /** Tells where it was mounted: what changes without the kernel's doing is invalidated there. */
  attach(mount: Mount): void {
    this.#powers.kernel = mount;
    this.#copies.attach(mount);
  }

  lookup(context: Context, parent: Inode, name: ByteString): Answer<Entry | NoSuchName> {
    const directory = this.#inodes.toNode(parent);
    const { metadata } = this.#client;
    const known = metadata.knownEntry(directory, checked(name));
    if (known === undefined)
      return metadata
        .lookup(directory, name, callContext(context))
        .then((attributes) => this.#entries.lookedUp(directory, name, attributes));
    return this.#entries.lookedUp(directory, name, known === ABSENT ? undefined : known);
  }

  /** Before the end: what the master has not heard of is told. */
  settle(): Promise<void> {
    return this.#accessTimes.settle();
  }

  /** Nothing is kept for an inode that is not open. */
  forget(): void {}

  getattr(context: Context, inode: Inode): Answer<AttributeReply> {
    const id = this.#inodes.toNode(inode);
    const known = this.#client.metadata.known(id);
    if (known !== undefined) return this.#entries.knownAttributes(known);
    return this.#powers.attributes(id, callContext(context)).then((told) => this.#entries.attributes(told));
  }

  async setattr(context: Context, inode: Inode, update: AttributeUpdate): Promise<AttributeReply> {
    const id = this.#inodes.toNode(inode);
    if (update.size !== undefined && update.size > MAX_FILE_BYTES) throw new GfsError('FILE_TOO_BIG');
    if (update.atime !== undefined) await this.#accessTimes.forget(id);
    const attributes = await this.#client.setAttributes(id, this.#changes(update), callContext(context));
    return this.#entries.attributes(attributes);
  }

  async readlink(context: Context, inode: Inode): Promise<ByteString> {
    const id = this.#inodes.toNode(inode);
    this.#accessTimes.note(id);
    return (await this.#client.master.query(ReadLink, { id }, callContext(context))).target;
  }

  mknod(
    context: Context,
    parent: Inode,
    name: ByteString,
    mode: number,
    rdev: number,
    umask: number,
  ): Promise<Entry> {
    return this.#make(context, parent, name, { mode, rdev, umask });
  }

  mkdir(context: Context, parent: Inode, name: ByteString, mode: number, umask: number): Promise<Entry> {
    return this.#make(context, parent, name, {
      mode: FileType.DIRECTORY | (mode & ~FileType.MASK),
      rdev: 0,
      umask,
    });
  }

  async symlink(context: Context, parent: Inode, name: ByteString, target: ByteString): Promise<Entry> {
    const request = { parent: this.#inodes.toNode(parent), name: checked(name), target };
    const { attributes } = await this.#client.master.mutate(Symlink, request, callContext(context));
    return this.#entries.entry(request.parent, request.name, attributes);
  }

  async link(context: Context, inode: Inode, newParent: Inode, newName: ByteString): Promise<Entry> {
    const request = {
      id: this.#inodes.toNode(inode),
      parent: this.#inodes.toNode(newParent),
      name: checked(newName),
    };
    const attributes = await this.#client.link(request, callContext(context));
    return this.#entries.entry(request.parent, newName, attributes);
  }

  async unlink(context: Context, parent: Inode, name: ByteString): Promise<void> {
    const request = { parent: this.#inodes.toNode(parent), name, directory: false };
    await this.#client.master.mutate(Unlink, request, callContext(context));
  }

  async rmdir(context: Context, parent: Inode, name: ByteString): Promise<void> {
    const request = { parent: this.#inodes.toNode(parent), name, directory: true };
    await this.#client.master.mutate(Unlink, request, callContext(context));
  }

  async rename(
    context: Context,
    parent: Inode,
    name: ByteString,
    newParent: Inode,
    newName: ByteString,
    mode: 'replace' | 'noreplace' | 'exchange',
  ): Promise<void> {
    const from = { parent: this.#inodes.toNode(parent), name };
    const to = { newParent: this.#inodes.toNode(newParent), newName: checked(newName) };
    await this.#client.master.mutate(Rename, { ...from, ...to, mode }, callContext(context));
  }

  create(
    context: Context,
    parent: Inode,
    name: ByteString,
    mode: number,
    flags: number,
    umask: number,
  ): Promise<CreateReply> {
    return this.#opening.create(context, parent, checked(name), mode, flags, umask);
  }

  tmpfile(context: Context, parent: Inode, mode: number, flags: number, umask: number): Promise<CreateReply> {
    return this.#opening.tmpfile(context, parent, mode, flags, umask);
  }

  open(context: Context, inode: Inode, flags: number): Answer<OpenReply> {
    return this.#opening.open(context, inode, flags);
  }

  async read(
    context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    length: number,
  ): Promise<ReadReply> {
    this.#locks.check(this.#inodes.toNode(inode), handle);
    this.#accessTimes.note(this.#inodes.toNode(inode));
    return this.#files.read(context, handle, offset, length);
  }

  async write(
    _context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    data: Uint8Array,
    flags: number,
  ): Promise<number> {
    this.#locks.check(this.#inodes.toNode(inode), handle);
    return this.#files.write(handle, offset, data, flags);
  }

  flush(context: Context, inode: Inode, handle: number, lockOwner: bigint): Answer<void> {
    return this.#opening.flush(context, inode, handle, lockOwner);
  }

  async fsync(context: Context, inode: Inode, handle: number, dataOnly: boolean): Promise<void> {
    this.#locks.check(this.#inodes.toNode(inode), handle);
    return this.#files.sync(context, handle, dataOnly);
  }

  release(
    _context: Context,
    inode: Inode,
    handle: number,
    lockOwner: bigint,
    unlockFlock: boolean,
  ): Answer<void> {
    return this.#opening.release(inode, handle, lockOwner, unlockFlock);
  }

  async fallocate(
    context: Context,
    inode: Inode,
    handle: number,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void> {
    this.#locks.check(this.#inodes.toNode(inode), handle);
    return this.#files.allocate(context, handle, mode, offset, length);
  }

  lseek(
    context: Context,
    _inode: Inode,
    handle: number,
    offset: number,
    whence: 'data' | 'hole',
  ): Promise<number> {
    return this.#files.seek(context, handle, offset, whence);
  }

  copyFileRange(
    context: Context,
    from: { readonly handle: number; readonly offset: number },
    to: { readonly handle: number; readonly offset: number },
    length: number,
  ): Promise<number> {
    return this.#files.copyRange(context, from, to, length);
  }

  opendir(_context: Context, inode: Inode): Answer<OpenReply> {
    const id = this.#inodes.toNode(inode);
    const reply = { ...this.#directories.open(id), directIo: false };
    const isReadUnasked = reply.keepCache && this.#directoryAccessTimes;
    return isReadUnasked ? this.#opening.noteRead(inode, id, reply) : reply;
  }

  readdir(
    context: Context,
    inode: Inode,
    handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<readonly DirectoryEntryReply[]> {
    if (this.#directoryAccessTimes) this.#accessTimes.note(this.#inodes.toNode(inode));
    return this.#directories.read(context, handle, cookie, plus, limit);
  }

  releasedir(_context: Context, _inode: Inode, handle: number): void {
    this.#directories.close(handle);
  }

  /** Every change of a directory was durable before it was acknowledged. */
  async fsyncdir(): Promise<void> {}

  statfs(context: Context): Promise<StatfsReply> {
    return this.#room.tell(callContext(context));
  }

  async setxattr(
    context: Context,
    inode: Inode,
    name: ByteString,
    value: Uint8Array,
    mode: 'either' | 'create' | 'replace',
    dropSetgid: boolean,
  ): Promise<void> {
    const id = this.#inodes.toNode(inode);
    if (isVirtualXattr(name)) return setVirtualXattr(this.#powers, context, id, name, Uint8Array.from(value));
    requireStored(name, this.#acls);
    const request = { id, name, value: Uint8Array.from(value), mode, dropSetgid };
    await this.#client.master.mutate(SetXattr, request, callContext(context));
  }

  async getxattr(context: Context, inode: Inode, name: ByteString): Promise<Uint8Array> {
    const id = this.#inodes.toNode(inode);
    if (isVirtualXattr(name)) return getVirtualXattr(this.#powers, context, id, name);
    requireStored(name, this.#acls);
    // The kernel asks for the ACL of everything that is somebody else's, and ls(1) of everything.
    if (isAclName(name)) {
      const attributes = await this.#client.metadata.attributes(id, callContext(context));
      if (attributes.hasAcl !== true) throw new GfsError('NO_ATTRIBUTE');
    }
    const value = await this.#client.metadata.xattr(id, name, callContext(context));
    if (value === undefined) throw new GfsError('NO_ATTRIBUTE');
    return value;
  }

  async listxattr(context: Context, inode: Inode): Promise<readonly ByteString[]> {
    const id = this.#inodes.toNode(inode);
    const { names } = await this.#client.master.query(ListXattrs, { id }, callContext(context));
    // xattr(7): processes without CAP_SYS_ADMIN do not see them; the kernel leaves that to the file system.
    return context.uid === 0 ? names : names.filter((name) => !name.startsWith('trusted.'));
  }

  async removexattr(context: Context, inode: Inode, name: ByteString): Promise<void> {
    const id = this.#inodes.toNode(inode);
    if (isVirtualXattr(name)) return removeVirtualXattr(this.#powers, context, id, name);
    requireStored(name, this.#acls);
    const request = { id, name };
    await this.#client.master.mutate(RemoveXattr, request, callContext(context));
  }

  ioctl(
    context: Context,
    inode: Inode,
    handle: number,
    command: number,
    input: Uint8Array,
    _outputBytes: number,
    isDirectory: boolean,
  ): Promise<IoctlReply> {
    const id = this.#inodes.toNode(inode);
    const target = { id, handle: isDirectory ? undefined : this.#files.get(handle) };
    return runIoctl(this.#client, this.#powers, context, target, command, input);
  }

  getlk(context: Context, inode: Inode, _handle: number, lock: FileLock): Promise<FileLock> {
    return this.#locks.get(context, this.#inodes.toNode(inode), lock);
  }

  setlk(context: Context, inode: Inode, handle: number, lock: FileLock, wait: boolean): Promise<void> {
    return this.#locks.set(context, this.#inodes.toNode(inode), handle, lock, wait);
  }

  async #make(
    context: Context,
    parent: Inode,
    name: ByteString,
    what: { readonly mode: number; readonly rdev: number; readonly umask: number },
  ): Promise<Entry> {
    const at = { parent: this.#inodes.toNode(parent), name: checked(name) };
    const request = { ...at, ...what, exclusive: true };
    const { attributes } = await this.#client.master.mutate(Create, request, callContext(context));
    return this.#entries.entry(request.parent, request.name, attributes);
  }

  #changes(update: AttributeUpdate): AttributeChanges {
    const { mode, uid, gid, size } = update;
    const now = () => this.#client.master.time.now();
    const atime = update.atime === 'now' ? now() : update.atime;
    const mtime = update.mtime === 'now' ? now() : update.mtime;
    return {
      ...(mode === undefined ? {} : { mode }),
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(size === undefined ? {} : { size }),
      ...(atime === undefined ? {} : { atimeSec: atime.sec, atimeNsec: atime.nsec }),
      ...(mtime === undefined ? {} : { mtimeSec: mtime.sec, mtimeNsec: mtime.nsec }),
    };
  }
}

/** The kernel lets longer names through than Linux file systems have. @throws NAME_TOO_LONG */
function checked(name: ByteString): ByteString {
  if (name.length > MAX_NAME_BYTES) throw new GfsError('NAME_TOO_LONG');
  return name;
}
