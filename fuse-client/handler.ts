/**
 * The interface between a FUSE binding and a file system: what the kernel asks, by inode, free of any
 * protocol's bytes. Both bindings serve it, so the file system is written once.
 *
 * Every method rejects with a GfsError, or throws it; the binding turns it into its errno.
 */
import type { Attributes } from '../protocol/messages/index.js';
import type { Cancellation } from '../protocol/rpc.js';

/** Inodes are the cluster's node ids; the root is 1. */
export type Inode = number;
/** A name or a path as its bytes, one character per byte (latin1), without the NUL. */
export type ByteString = string;

export interface Context {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** All groups of the caller, the primary one first; only that one where no more can be known. Not free: asked for where it matters. */
  readonly groups?: readonly number[];
  /** Aborted when the kernel interrupts the request (FUSE_INTERRUPT): answer soon, with EINTR. */
  readonly signal: Cancellation;
}

/** An inode handed to the kernel. Each one counts: the kernel returns the count with `forget`. */
export interface Entry {
  readonly attributes: Attributes;
  /** How long the kernel may believe the name, and the attributes. */
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
}

export interface AttributeReply {
  readonly attributes: Attributes;
  readonly attributeTtlMs: number;
}

export interface OpenReply {
  readonly handle: number;
  /** Reads and writes bypass the page cache (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  /** What the page cache has of it is still right (FOPEN_KEEP_CACHE). */
  readonly keepCache: boolean;
}

export interface CreateReply extends OpenReply {
  readonly entry: Entry;
}

export interface ReadReply {
  /** In order; in all no longer than was asked. Shorter means the end of the file. */
  readonly buffers: readonly Uint8Array[];
  /** Called once the bytes have been handed over and may be reused. */
  readonly release?: () => void;
}

/** What changes; the rest stays. `'now'` is the server's clock. */
export interface AttributeUpdate {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: { readonly sec: number; readonly nsec: number } | 'now';
  readonly mtime?: { readonly sec: number; readonly nsec: number } | 'now';
  /** The open file that it comes from (ftruncate). */
  readonly handle?: number;
}

export interface DirectoryEntryReply {
  readonly name: ByteString;
  /** Reading goes on after it from here. Never 0. */
  readonly cookie: number;
  readonly inode: Inode;
  /** As `st_mode`; its type bits are what matters. */
  readonly mode: number;
  /** For READDIRPLUS; without it the kernel looks the name up itself. Not for `.` and `..`. */
  readonly entry?: Entry;
}

export interface StatfsReply {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameMaxBytes: number;
}

export interface FileLock {
  readonly type: 'read' | 'write' | 'unlock';
  readonly start: bigint;
  /** Inclusive; 2^63 - 1 means the end of the file. */
  readonly end: bigint;
  readonly pid: number;
  readonly owner: bigint;
  /** flock(2) instead of fcntl(2). */
  readonly flock: boolean;
}

export interface IoctlReply {
  /** The value that ioctl(2) returns. */
  readonly result: number;
  readonly output?: Uint8Array;
}

/** Flags of open(2), as numbers of the x86-64 and arm64 ABI. */
export const OpenFlags = {
  ACCMODE: 0o3,
  RDONLY: 0o0,
  WRONLY: 0o1,
  RDWR: 0o2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  DIRECT: 0o40000,
} as const;

/** Type bits of `st_mode`. */
export const FileType = {
  MASK: 0o170000,
  FIFO: 0o010000,
  CHARACTER: 0o020000,
  DIRECTORY: 0o040000,
  BLOCK: 0o060000,
  REGULAR: 0o100000,
  SYMLINK: 0o120000,
  SOCKET: 0o140000,
} as const;

/** An answer that is at hand, and then leaves in the same turn, or one that is waited for. */
export type Answer<T> = T | Promise<T>;

export interface FuseHandler {
  lookup(context: Context, parent: Inode, name: ByteString): Answer<Entry | NoSuchName>;
  /** The kernel drops `count` of the references that entries gave it. */
  forget(inode: Inode, count: number): void;
  getattr(context: Context, inode: Inode, handle: number | undefined): Answer<AttributeReply>;
  setattr(context: Context, inode: Inode, update: AttributeUpdate): Promise<AttributeReply>;
  readlink(context: Context, inode: Inode): Promise<ByteString>;
  /** `umask`: still to be taken from the mode, unless a default ACL decides; 0 where the kernel has done it. */
  mknod(
    context: Context,
    parent: Inode,
    name: ByteString,
    mode: number,
    rdev: number,
    umask: number,
  ): Promise<Entry>;
  mkdir(context: Context, parent: Inode, name: ByteString, mode: number, umask: number): Promise<Entry>;
  symlink(context: Context, parent: Inode, name: ByteString, target: ByteString): Promise<Entry>;
  link(context: Context, inode: Inode, newParent: Inode, newName: ByteString): Promise<Entry>;
  unlink(context: Context, parent: Inode, name: ByteString): Promise<void>;
  rmdir(context: Context, parent: Inode, name: ByteString): Promise<void>;
  rename(
    context: Context,
    parent: Inode,
    name: ByteString,
    newParent: Inode,
    newName: ByteString,
    mode: 'replace' | 'noreplace' | 'exchange',
  ): Promise<void>;

  create(
    context: Context,
    parent: Inode,
    name: ByteString,
    mode: number,
    flags: number,
    umask: number,
  ): Promise<CreateReply>;
  /** A file without a name, open (O_TMPFILE). `link` may give it one. */
  tmpfile(context: Context, parent: Inode, mode: number, flags: number, umask: number): Promise<CreateReply>;
  open(context: Context, inode: Inode, flags: number): Answer<OpenReply>;
  read(context: Context, inode: Inode, handle: number, offset: number, length: number): Promise<ReadReply>;
  /**
   * @param data borrowed: valid until the method first awaits or returns; copy what you keep
   * @param flags of the open file, as the kernel knows them now (O_APPEND can change)
   * @returns the bytes written
   */
  write(
    context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    data: Uint8Array,
    flags: number,
  ): Promise<number>;
  /** close(2) of one descriptor: deferred write errors are told here. */
  flush(context: Context, inode: Inode, handle: number, lockOwner: bigint): Answer<void>;
  fsync(context: Context, inode: Inode, handle: number, dataOnly: boolean): Promise<void>;
  /** The last descriptor is gone; nobody waits for the answer. `unlockFlock`: drop flock locks of the owner. */
  release(
    context: Context,
    inode: Inode,
    handle: number,
    lockOwner: bigint,
    unlockFlock: boolean,
  ): Answer<void>;
  /** mode bits of fallocate(2). */
  fallocate(
    context: Context,
    inode: Inode,
    handle: number,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void>;
  lseek(
    context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    whence: 'data' | 'hole',
  ): Promise<number>;
  /** @returns the bytes copied; fewer than asked is no error */
  copyFileRange(
    context: Context,
    from: { readonly inode: Inode; readonly handle: number; readonly offset: number },
    to: { readonly inode: Inode; readonly handle: number; readonly offset: number },
    length: number,
  ): Promise<number>;

  opendir(context: Context, inode: Inode): Answer<OpenReply>;
  /**
   * Entries from after `cookie` (0: the start), `.` and `..` among them; an empty list is the end.
   *
   * @param limit as many as can fit into the answer; entries beyond what did fit are forgotten again
   */
  readdir(
    context: Context,
    inode: Inode,
    handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<readonly DirectoryEntryReply[]>;
  releasedir(context: Context, inode: Inode, handle: number): Answer<void>;
  fsyncdir(context: Context, inode: Inode, handle: number, dataOnly: boolean): Promise<void>;

  statfs(context: Context, inode: Inode): Promise<StatfsReply>;
  setxattr(
    context: Context,
    inode: Inode,
    name: ByteString,
    value: Uint8Array,
    mode: 'either' | 'create' | 'replace',
    /** With an access ACL: set-group-ID falls, for the caller is not in the file's group. */
    dropSetgid: boolean,
  ): Promise<void>;
  /** The whole value; the binding answers size queries and ERANGE. */
  getxattr(context: Context, inode: Inode, name: ByteString): Promise<Uint8Array>;
  listxattr(context: Context, inode: Inode): Promise<readonly ByteString[]>;
  removexattr(context: Context, inode: Inode, name: ByteString): Promise<void>;
  /** `handle` may be of a file or of a directory (`isDirectory`). */
  ioctl(
    context: Context,
    inode: Inode,
    handle: number,
    command: number,
    input: Uint8Array,
    outputBytes: number,
    isDirectory: boolean,
  ): Promise<IoctlReply>;

  /** The lock that stands in the way, or one of type `unlock`. */
  getlk(context: Context, inode: Inode, handle: number, lock: FileLock): Promise<FileLock>;
  /** `wait`: block until it is free or the context's signal aborts. */
  setlk(context: Context, inode: Inode, handle: number, lock: FileLock, wait: boolean): Promise<void>;
}

/** What a binding can carry from the kernel to the handler. The conformance suite skips by this set. */
export type Capability =
  | 'ioctl'
  | 'copy_file_range'
  | 'locks'
  | 'fallocate'
  | 'lseek'
  | 'readdirplus'
  | 'rename_flags'
  | 'notifications'
  | 'caller_identity'
  | 'interrupt'
  | 'byte_names'
  | 'utimens_separate'
  | 'create_flags'
  | 'tmpfile'
  | 'statfs_64bit'
  /** Times to the nanosecond, before 1970 too. */
  | 'exact_times'
  /** POSIX ACLs, enforced by the kernel. */
  | 'acls';

export interface MountOptions {
  readonly directory: string;
  /** As shown in /proc/mounts. */
  readonly source: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  /** The kernel checks permissions from mode, uid and gid (mount.fuse3(8) default_permissions). */
  readonly defaultPermissions: boolean;
  /** Further options for mount(2), as given by the user. */
  readonly extra: readonly string[];
}

/** A mounted file system. */
export interface Mount {
  readonly capabilities: ReadonlySet<Capability>;
  /** Resolves when it is no longer mounted, for whatever reason. */
  readonly unmounted: Promise<void>;
  /** Detaches it (umount2 MNT_DETACH), then resolves when requests under way have ended. */
  unmount(): Promise<void>;
  /** Tell the kernel that it knows old news. Never blocks the caller. Absent without `notifications`. */
  invalidateEntry?(parent: Inode, name: ByteString): Promise<void>;
  invalidateInode?(inode: Inode, offset: number, length: number): Promise<void>;
  /** Resolves when the kernel believes none of it any more. */
  invalidate?(stale: Stale): Promise<void>;
  /** Every name has to be looked up again. Where the kernel cannot do that, names live out their time. */
  expireEntries?(): void;
}

/** What the kernel may have been told and is no longer true. */
export interface Stale {
  readonly entries: readonly { readonly parent: Inode; readonly name: ByteString }[];
  readonly attributes: readonly Inode[];
  /** Attributes and cached pages. */
  readonly data: readonly Inode[];
  /** Names that are not known one by one have changed too. */
  readonly allEntries: boolean;
  /** Where names of the nodes were told: the kernel may be taking in an answer that has their attributes. */
  readonly directories: readonly Inode[];
}

/** There is no such name, and the kernel may believe that for a while. Not an error: each file is looked up before it is made. */
export class NoSuchName {
  readonly ttlMs: number;

  constructor(ttlMs: number) {
    this.ttlMs = ttlMs;
  }
}

export interface Binding {
  readonly name: 'kernel' | 'fuse-native';
  readonly capabilities: ReadonlySet<Capability>;
  /** Mounts `options.directory` and serves it from `handler`. @throws an Error that says what to do */
  mount(handler: FuseHandler, options: MountOptions): Promise<Mount>;
}
