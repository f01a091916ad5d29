/**
 * A complete file system in memory, for testing and measuring the bindings alone. The kernel checks
 * permissions (mount it with default_permissions); everything else is as on a local disk.
 */
import type { Clock, WallTime } from '../../environment/ports/index.js';
import {
  type AttributeReply,
  type AttributeUpdate,
  type Context,
  type CreateReply,
  type DirectoryEntryReply,
  type Entry,
  type FileLock,
  FileType,
  type FuseHandler,
  type IoctlReply,
  OpenFlags,
  type OpenReply,
  type ReadReply,
  type StatfsReply,
} from '../../fuse-client/handler.js';
import { LockOwners } from '../../fuse-client/lock-owners.js';
import { GfsError } from '../../protocol/errors.js';
import { DOT_COOKIE, DOT_DOT_COOKIE, type Names, Node } from './memory-files.js';
import { Locks } from './memory-locks.js';

const ROOT_ID = 1;
const SET_GROUP_ID = 0o2000;
const NAME_MAX_BYTES = 255;
const LINK_MAX = 65_000;

/** FALLOC_FL_… */
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;

/** ioctls of magic 'G' for tests: keep what is given, give it back, give it back reversed. */
const IOCTL_MAGIC = 'G'.charCodeAt(0);
const IoctlNumber = { PUT: 1, GET: 2, REVERSE: 3 } as const;

export interface MemoryOptions {
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
}

export class MemoryHandler implements FuseHandler {
  readonly #clock: Clock;
  readonly #options: MemoryOptions;
  readonly #nodes = new Map<number, Node>();
  readonly #handles = new Map<number, Node>();
  readonly #locks = new Locks();
  readonly #lockOwners = new LockOwners();
  #nextId = ROOT_ID + 1;
  #nextHandle = 1;
  #lastIoctl: Uint8Array = new Uint8Array();

  constructor(clock: Clock, options: MemoryOptions = { entryTtlMs: 1000, attributeTtlMs: 1000 }) {
    this.#clock = clock;
    this.#options = options;
    const root = new Node(ROOT_ID, FileType.DIRECTORY | 0o755, 0, 0, clock.wallTime(), undefined);
    this.#nodes.set(ROOT_ID, root);
  }

  /** Nodes that exist or that the kernel still refers to. */
  get nodeCount(): number {
    return this.#nodes.size;
  }

  /** The kernel's references to an inode. */
  referencesTo(inode: number): number {
    return this.#nodes.get(inode)?.references ?? 0;
  }

  // ---- Names ----

  async lookup(_context: Context, parent: number, name: string): Promise<Entry> {
    return this.#entry(this.#child(parent, name));
  }

  forget(inode: number, count: number): void {
    const node = this.#node(inode);
    if (node.references < count) throw new Error(`inode ${inode}: more forgotten than was known`);
    node.references -= count;
    this.#reclaim(node);
  }

  async mknod(context: Context, parent: number, name: string, mode: number, rdev: number): Promise<Entry> {
    const node = this.#make(context, parent, name, mode);
    node.rdev = rdev;
    return this.#entry(node);
  }

  async mkdir(context: Context, parent: number, name: string, mode: number): Promise<Entry> {
    return this.#entry(this.#make(context, parent, name, FileType.DIRECTORY | (mode & 0o7777)));
  }

  async symlink(context: Context, parent: number, name: string, target: string): Promise<Entry> {
    const node = this.#make(context, parent, name, FileType.SYMLINK | 0o777);
    node.target = target;
    return this.#entry(node);
  }

  async readlink(_context: Context, inode: number): Promise<string> {
    return this.#node(inode).target;
  }

  async link(_context: Context, inode: number, newParent: number, newName: string): Promise<Entry> {
    const node = this.#node(inode);
    const names = this.#names(newParent);
    this.#checkFree(names, newName);
    if (node.nlink >= LINK_MAX) throw new GfsError('TOO_MANY_LINKS');
    if (node.nlink === 0 && !node.isUnnamed) throw new GfsError('NOT_FOUND');
    names.set(newName, node);
    node.nlink++;
    node.isUnnamed = false;
    node.ctime = this.#touch(newParent);
    return this.#entry(node);
  }

  async unlink(_context: Context, parent: number, name: string): Promise<void> {
    const node = this.#child(parent, name);
    if (node.isDirectory) throw new GfsError('IS_DIRECTORY');
    this.#names(parent).delete(name);
    this.#unlinked(node, this.#touch(parent));
  }

  async rmdir(_context: Context, parent: number, name: string): Promise<void> {
    const node = this.#child(parent, name);
    this.#checkEmptyDirectory(node);
    this.#names(parent).delete(name);
    this.#node(parent).nlink--;
    this.#unlinked(node, this.#touch(parent));
  }

  async rename(
    _context: Context,
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    mode: 'replace' | 'noreplace' | 'exchange',
  ): Promise<void> {
    const node = this.#child(parent, name);
    const other = this.#names(newParent).get(newName);
    if (mode === 'noreplace' && other !== undefined) throw new GfsError('EXISTS');
    if (mode === 'exchange' && other === undefined) throw new GfsError('NOT_FOUND');
    this.#checkNotBelow(newParent, node);
    if (mode === 'exchange') this.#checkNotBelow(parent, other!);
    if (other === node) return;
    if (mode !== 'exchange') this.#names(parent).delete(name);
    if (other !== undefined && mode !== 'exchange') this.#replace(node, other, parent, name, newParent);
    this.#place(node, newParent, newName, parent);
    if (other !== undefined && mode === 'exchange') this.#place(other, parent, name, newParent);
    node.ctime = this.#touch(parent);
    this.#touch(newParent);
  }

  // ---- Attributes ----

  async getattr(_context: Context, inode: number): Promise<AttributeReply> {
    return this.#attributes(this.#node(inode));
  }

  async setattr(_context: Context, inode: number, update: AttributeUpdate): Promise<AttributeReply> {
    const node = this.#node(inode);
    const now = this.#clock.wallTime();
    if (update.size !== undefined) {
      node.bytes.truncate(update.size);
      node.mtime = now;
    }
    if (update.mode !== undefined) node.mode = (node.mode & FileType.MASK) | (update.mode & 0o7777);
    if (update.uid !== undefined) node.uid = update.uid;
    if (update.gid !== undefined) node.gid = update.gid;
    if (update.atime !== undefined) node.atime = update.atime === 'now' ? now : update.atime;
    if (update.mtime !== undefined) node.mtime = update.mtime === 'now' ? now : update.mtime;
    node.ctime = now;
    return this.#attributes(node);
  }

  async statfs(): Promise<StatfsReply> {
    const blocks = 2 ** 36;
    return {
      blockBytes: 4096,
      blocks,
      blocksFree: blocks - 4,
      blocksAvailable: blocks - 8,
      files: 2 ** 40,
      filesFree: 2 ** 40 - this.#nodes.size,
      nameMaxBytes: NAME_MAX_BYTES,
    };
  }

  async setxattr(
    _context: Context,
    inode: number,
    name: string,
    value: Uint8Array,
    mode: 'either' | 'create' | 'replace',
  ): Promise<void> {
    const node = this.#node(inode);
    if (name.startsWith('system.')) throw new GfsError('NOT_SUPPORTED');
    if (name === 'user.') throw new GfsError('INVALID');
    if (mode === 'create' && node.xattrs.has(name)) throw new GfsError('EXISTS');
    if (mode === 'replace' && !node.xattrs.has(name)) throw new GfsError('NO_ATTRIBUTE');
    node.xattrs.set(name, Buffer.from(value));
    node.ctime = this.#clock.wallTime();
  }

  async getxattr(_context: Context, inode: number, name: string): Promise<Uint8Array> {
    if (name.startsWith('system.')) throw new GfsError('NOT_SUPPORTED');
    const value = this.#node(inode).xattrs.get(name);
    if (value === undefined) throw new GfsError('NO_ATTRIBUTE');
    return value;
  }

  async listxattr(context: Context, inode: number): Promise<string[]> {
    const names = [...this.#node(inode).xattrs.keys()];
    return context.uid === 0 ? names : names.filter((name) => !name.startsWith('trusted.'));
  }

  async removexattr(_context: Context, inode: number, name: string): Promise<void> {
    const node = this.#node(inode);
    if (!node.xattrs.delete(name)) throw new GfsError('NO_ATTRIBUTE');
    node.ctime = this.#clock.wallTime();
  }

  // ---- Files ----

  async create(
    context: Context,
    parent: number,
    name: string,
    mode: number,
    flags: number,
  ): Promise<CreateReply> {
    const existing = this.#names(parent).get(name);
    if (existing !== undefined && flags & OpenFlags.EXCL) throw new GfsError('EXISTS');
    if (existing?.isDirectory) throw new GfsError('IS_DIRECTORY');
    if (existing !== undefined && flags & OpenFlags.TRUNC) existing.bytes.truncate(0);
    const node = existing ?? this.#make(context, parent, name, FileType.REGULAR | (mode & 0o7777));
    return { entry: this.#entry(node), ...this.#open(node, flags) };
  }

  async tmpfile(context: Context, parent: number, mode: number, flags: number): Promise<CreateReply> {
    const node = this.#newNode(context, parent, FileType.REGULAR | (mode & 0o7777));
    node.nlink = 0;
    node.isUnnamed = true;
    return { entry: this.#entry(node), ...this.#open(node, flags) };
  }

  async open(_context: Context, inode: number, flags: number): Promise<OpenReply> {
    const node = this.#node(inode);
    if (flags & OpenFlags.TRUNC) node.bytes.truncate(0);
    return this.#open(node, flags);
  }

  async read(
    _context: Context,
    _inode: number,
    handle: number,
    offset: number,
    length: number,
  ): Promise<ReadReply> {
    return { buffers: this.#opened(handle).bytes.read(offset, length) };
  }

  async write(
    _context: Context,
    _inode: number,
    handle: number,
    offset: number,
    data: Uint8Array,
    flags: number,
  ): Promise<number> {
    const node = this.#opened(handle);
    node.bytes.write(flags & OpenFlags.APPEND ? node.bytes.size : offset, data);
    node.mtime = node.ctime = this.#clock.wallTime();
    return data.byteLength;
  }

  async flush(_context: Context, inode: number, handle: number, lockOwner: bigint): Promise<void> {
    this.#lockOwners.flushed(handle, lockOwner);
    this.#locks.drop(inode, lockOwner, false);
  }

  async fsync(): Promise<void> {}

  async release(
    _context: Context,
    inode: number,
    handle: number,
    lockOwner: bigint,
    unlockFlock: boolean,
  ): Promise<void> {
    for (const owner of this.#lockOwners.released(handle)) this.#locks.drop(inode, owner, false);
    if (unlockFlock) this.#locks.drop(inode, lockOwner, true);
    this.#close(handle);
  }

  async fallocate(
    _context: Context,
    _inode: number,
    handle: number,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void> {
    const { bytes } = this.#opened(handle);
    if (mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) throw new GfsError('NOT_SUPPORTED');
    if (mode & (PUNCH_HOLE | ZERO_RANGE)) bytes.zero(offset, length);
    if (!(mode & KEEP_SIZE)) bytes.truncate(Math.max(bytes.size, offset + length));
  }

  async lseek(
    _context: Context,
    _inode: number,
    handle: number,
    offset: number,
    whence: 'data' | 'hole',
  ): Promise<number> {
    const { bytes } = this.#opened(handle);
    const found = offset < bytes.size ? bytes.seek(offset, whence) : undefined;
    if (found === undefined) throw new GfsError('NO_SUCH_OFFSET');
    return found;
  }

  async copyFileRange(
    _context: Context,
    from: { handle: number; offset: number },
    to: { handle: number; offset: number },
    length: number,
  ): Promise<number> {
    const target = this.#opened(to.handle);
    let at = to.offset;
    for (const buffer of this.#opened(from.handle).bytes.read(from.offset, length)) {
      target.bytes.write(at, buffer);
      at += buffer.byteLength;
    }
    target.mtime = target.ctime = this.#clock.wallTime();
    return at - to.offset;
  }

  // ---- Directories ----

  async opendir(_context: Context, inode: number): Promise<OpenReply> {
    this.#names(inode);
    return this.#open(this.#node(inode), OpenFlags.RDONLY);
  }

  async readdir(
    _context: Context,
    inode: number,
    _handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<DirectoryEntryReply[]> {
    const names = this.#names(inode);
    const entries: DirectoryEntryReply[] = [];
    if (cookie < DOT_COOKIE) entries.push({ name: '.', cookie: DOT_COOKIE, inode, mode: FileType.DIRECTORY });
    if (cookie < DOT_DOT_COOKIE) {
      const parent = names.parent.id;
      entries.push({ name: '..', cookie: DOT_DOT_COOKIE, inode: parent, mode: FileType.DIRECTORY });
    }
    for (const { name, cookie: next, node } of names.after(cookie, limit - entries.length)) {
      const entry = { name, cookie: next, inode: node.id, mode: node.mode };
      entries.push(plus ? { ...entry, entry: this.#entry(node) } : entry);
    }
    return entries;
  }

  async releasedir(_context: Context, _inode: number, handle: number): Promise<void> {
    this.#close(handle);
  }

  async fsyncdir(): Promise<void> {}

  // ---- Locks and ioctl ----

  async getlk(_context: Context, inode: number, _handle: number, lock: FileLock): Promise<FileLock> {
    return this.#locks.conflict(inode, lock) ?? { ...lock, type: 'unlock' };
  }

  async setlk(context: Context, inode: number, handle: number, lock: FileLock, wait: boolean): Promise<void> {
    if (!lock.flock) this.#lockOwners.locks(handle, lock.owner);
    await this.#locks.set(inode, lock, wait, context.signal);
  }

  async ioctl(
    _context: Context,
    _inode: number,
    _handle: number,
    command: number,
    input: Uint8Array,
    outputBytes: number,
  ): Promise<IoctlReply> {
    if (((command >> 8) & 0xff) !== IOCTL_MAGIC) throw new GfsError('NOT_AN_IOCTL');
    switch (command & 0xff) {
      case IoctlNumber.PUT:
        this.#lastIoctl = input;
        return { result: input.byteLength };
      case IoctlNumber.GET:
        return { result: 0, output: this.#lastIoctl.subarray(0, outputBytes) };
      case IoctlNumber.REVERSE:
        return { result: 0, output: Uint8Array.from(input).reverse() };
      default:
        throw new GfsError('NOT_AN_IOCTL');
    }
  }

  // ---- Parts ----

  #node(inode: number): Node {
    const node = this.#nodes.get(inode);
    if (node === undefined) throw new GfsError('STALE_NODE');
    return node;
  }

  #names(inode: number): Names {
    const { names } = this.#node(inode);
    if (names === undefined) throw new GfsError('NOT_DIRECTORY');
    return names;
  }

  #child(parent: number, name: string): Node {
    const node = this.#names(parent).get(name);
    if (node === undefined) throw new GfsError(name.length > NAME_MAX_BYTES ? 'NAME_TOO_LONG' : 'NOT_FOUND');
    return node;
  }

  #opened(handle: number): Node {
    const node = this.#handles.get(handle);
    if (node === undefined) throw new GfsError('BAD_HANDLE');
    return node;
  }

  #checkFree(names: Names, name: string): void {
    if (name.length > NAME_MAX_BYTES) throw new GfsError('NAME_TOO_LONG');
    if (names.get(name) !== undefined) throw new GfsError('EXISTS');
  }

  #checkEmptyDirectory(node: Node): void {
    if (node.names === undefined) throw new GfsError('NOT_DIRECTORY');
    if (node.names.count > 0) throw new GfsError('NOT_EMPTY');
  }

  /** A directory cannot move into itself or below. */
  #checkNotBelow(directory: number, node: Node): void {
    for (let at = this.#node(directory); ; at = at.names!.parent) {
      if (at === node) throw new GfsError('INVALID');
      if (at.id === ROOT_ID) return;
    }
  }

  #make(context: Context, parent: number, name: string, mode: number): Node {
    const names = this.#names(parent);
    this.#checkFree(names, name);
    const node = this.#newNode(context, parent, mode);
    names.set(name, node);
    this.#touch(parent);
    if (node.isDirectory) this.#node(parent).nlink++;
    return node;
  }

  #newNode(context: Context, parent: number, mode: number): Node {
    const directory = this.#node(parent);
    if (directory.nlink === 0) throw new GfsError('NOT_FOUND');
    const inherits = (directory.mode & SET_GROUP_ID) !== 0;
    const isDirectory = (mode & FileType.MASK) === FileType.DIRECTORY;
    const node = new Node(
      this.#nextId++,
      inherits && isDirectory ? mode | SET_GROUP_ID : mode,
      context.uid,
      inherits ? directory.gid : context.gid,
      this.#clock.wallTime(),
      directory,
    );
    this.#nodes.set(node.id, node);
    return node;
  }

  /** What a rename replaces goes; when it may not, what was to be renamed is put back. */
  #replace(node: Node, other: Node, parent: number, name: string, newParent: number): void {
    try {
      if (node.isDirectory) this.#checkEmptyDirectory(other);
      else if (other.isDirectory) throw new GfsError('IS_DIRECTORY');
    } catch (error) {
      this.#names(parent).set(name, node);
      throw error;
    }
    if (other.isDirectory) this.#node(newParent).nlink--;
    this.#unlinked(other, this.#clock.wallTime());
  }

  #place(node: Node, parent: number, name: string, oldParent: number): void {
    this.#names(parent).set(name, node);
    if (node.names === undefined) return;
    node.names.parent = this.#node(parent);
    this.#node(oldParent).nlink--;
    this.#node(parent).nlink++;
  }

  #unlinked(node: Node, now: WallTime): void {
    node.nlink -= node.isDirectory ? 2 : 1;
    node.ctime = now;
    this.#reclaim(node);
  }

  #reclaim(node: Node): void {
    if (node.nlink <= 0 && node.references === 0 && node.handles === 0) this.#nodes.delete(node.id);
  }

  /** A directory's names have changed, now. */
  #touch(directory: number): WallTime {
    const node = this.#node(directory);
    node.mtime = node.ctime = this.#clock.wallTime();
    return node.mtime;
  }

  /** Appending handles go direct, as the real file system's do: only it knows where the end is. */
  #open(node: Node, flags: number): OpenReply {
    const handle = this.#nextHandle++;
    this.#handles.set(handle, node);
    node.handles++;
    return { handle, directIo: (flags & OpenFlags.APPEND) !== 0, keepCache: true };
  }

  #close(handle: number): void {
    const node = this.#opened(handle);
    this.#handles.delete(handle);
    node.handles--;
    this.#reclaim(node);
  }

  #attributes(node: Node): AttributeReply {
    return { attributes: node.attributes, attributeTtlMs: this.#options.attributeTtlMs };
  }

  #entry(node: Node): Entry {
    node.references++;
    const { entryTtlMs, attributeTtlMs } = this.#options;
    return { attributes: node.attributes, entryTtlMs, attributeTtlMs };
  }
}
