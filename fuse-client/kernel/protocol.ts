/**
 * The FUSE kernel protocol 7.31 to 7.45 (linux/fuse.h): numbers and offsets. It is in the byte order
 * of the machine, and everything in it lies at a multiple of its own size.
 */

export const FUSE_MAJOR = 7;
/** What this speaks: the kernel adapts to it when it is newer. */
export const FUSE_MINOR = 45;
/** Linux 5.4: older ones send shorter structures and lack max_pages. */
export const FUSE_OLDEST_MINOR = 31;

/** The names are the kernel's. */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

const opcodeNames = new Map<number, string>(Object.entries(Opcode).map(([name, number]) => [number, name]));

/** For people. */
export function opcodeName(opcode: number): string {
  return opcodeNames.get(opcode) ?? `opcode ${opcode}`;
}

/** FUSE_NOTIFY_…: messages of ours that answer no request. */
export const Notification = { INVAL_INODE: 2, INVAL_ENTRY: 3, INCREMENT_EPOCH: 8 } as const;

/** FUSE_INIT's flags, the first 32 of them. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  FLOCK_LOCKS: 1 << 10,
  HAS_IOCTL_DIR: 1 << 11,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** Those from 32 on, shifted down. */
export const InitFlag2 = {
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
} as const;

/** FATTR_…: which fields of a SETATTR count. */
export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  HANDLE: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  KILL_PRIVILEGES: 1 << 11,
} as const;

/** FOPEN_…: how the kernel treats an open file. */
export const OpenFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  CACHE_DIRECTORY: 1 << 3,
  PARALLEL_DIRECT_WRITES: 1 << 6,
} as const;

export const GETATTR_HANDLE = 1 << 0;
export const WRITE_KILL_PRIVILEGES = 1 << 2;
export const RELEASE_UNLOCK_FLOCK = 1 << 1;
export const FSYNC_DATA_ONLY = 1 << 0;
export const LOCK_IS_FLOCK = 1 << 0;
export const IOCTL_ON_DIRECTORY = 1 << 4;

/** Flags and numbers of the system calls themselves, as the kernel passes them through. */
export const RenameFlag = { NOREPLACE: 1 << 0, EXCHANGE: 1 << 1 } as const;
export const XattrFlag = { CREATE: 1 << 0, REPLACE: 1 << 1 } as const;
export const LockType = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;
export const Whence = { DATA: 3, HOLE: 4 } as const;

/** Offsets in what the kernel sends. `HeaderIn` is before every other structure. */
export const HeaderIn = {
  length: 0,
  opcode: 4,
  unique: 8,
  inode: 16,
  uid: 24,
  gid: 28,
  pid: 32,
  BYTES: 40,
} as const;
export const InitIn = { major: 0, minor: 4, maxReadahead: 8, flags: 12, flags2: 16, BYTES: 16 } as const;
export const ForgetIn = { count: 0, BYTES: 8 } as const;
export const BatchForgetIn = { count: 0, items: 8, BYTES: 8, ITEM_BYTES: 16 } as const;
export const GetattrIn = { flags: 0, handle: 8, BYTES: 16 } as const;
export const SetattrIn = {
  valid: 0,
  handle: 8,
  size: 16,
  atime: 32,
  mtime: 40,
  atimeNsec: 56,
  mtimeNsec: 60,
  mode: 68,
  uid: 76,
  gid: 80,
  BYTES: 88,
} as const;
export const MknodIn = { mode: 0, rdev: 4, umask: 8, BYTES: 16 } as const;
export const MkdirIn = { mode: 0, umask: 4, BYTES: 8 } as const;
export const RenameIn = { newParent: 0, BYTES: 8 } as const;
export const Rename2In = { newParent: 0, flags: 8, BYTES: 16 } as const;
export const LinkIn = { inode: 0, BYTES: 8 } as const;
export const OpenIn = { flags: 0, BYTES: 8 } as const;
export const CreateIn = { flags: 0, mode: 4, umask: 8, BYTES: 16 } as const;
/** Also of READDIR and READDIRPLUS. */
export const ReadIn = { handle: 0, offset: 8, size: 16, BYTES: 40 } as const;
export const WriteIn = { handle: 0, offset: 8, size: 16, writeFlags: 20, flags: 32, BYTES: 40 } as const;
export const ReleaseIn = { handle: 0, releaseFlags: 12, lockOwner: 16, BYTES: 24 } as const;
export const FlushIn = { handle: 0, lockOwner: 16, BYTES: 24 } as const;
export const FsyncIn = { handle: 0, flags: 8, BYTES: 16 } as const;
/** The short form, without FUSE_SETXATTR_EXT; and what comes with it. */
export const SetxattrIn = { size: 0, flags: 4, BYTES: 8 } as const;
export const SetxattrExtIn = { size: 0, flags: 4, extraFlags: 8, BYTES: 16 } as const;
/** FUSE_SETXATTR_ACL_KILL_SGID. */
export const SETXATTR_ACL_KILL_SGID = 1 << 0;
export const GetxattrIn = { size: 0, BYTES: 8 } as const;
export const LockIn = {
  handle: 0,
  owner: 8,
  start: 16,
  end: 24,
  type: 32,
  pid: 36,
  flags: 40,
  BYTES: 48,
} as const;
export const InterruptIn = { unique: 0, BYTES: 8 } as const;
export const IoctlIn = {
  handle: 0,
  flags: 8,
  command: 12,
  inputSize: 24,
  outputSize: 28,
  BYTES: 32,
} as const;
export const FallocateIn = { handle: 0, offset: 8, length: 16, mode: 24, BYTES: 32 } as const;
export const LseekIn = { handle: 0, offset: 8, whence: 16, BYTES: 24 } as const;
export const CopyFileRangeIn = {
  handle: 0,
  offset: 8,
  toInode: 16,
  toHandle: 24,
  toOffset: 32,
  length: 40,
  flags: 48,
  BYTES: 56,
} as const;

/** Offsets in what we send. `HeaderOut` is before every other structure. */
export const HeaderOut = { length: 0, error: 4, unique: 8, BYTES: 16 } as const;
export const InitOut = {
  major: 0,
  minor: 4,
  maxReadahead: 8,
  flags: 12,
  maxBackground: 16,
  congestionThreshold: 18,
  maxWrite: 20,
  timeGranularityNs: 24,
  maxPages: 28,
  flags2: 32,
  BYTES: 64,
} as const;
export const AttributesOut = {
  inode: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimeNsec: 48,
  mtimeNsec: 52,
  ctimeNsec: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blockBytes: 80,
  flags: 84,
  BYTES: 88,
} as const;
export const EntryOut = {
  inode: 0,
  generation: 8,
  entryTtl: 16,
  attributeTtl: 24,
  entryTtlNsec: 32,
  attributeTtlNsec: 36,
  attributes: 40,
  BYTES: 128,
} as const;
export const AttributeOut = { ttl: 0, ttlNsec: 8, attributes: 16, BYTES: 104 } as const;
export const OpenOut = { handle: 0, flags: 8, BYTES: 16 } as const;
export const StatfsOut = {
  blocks: 0,
  blocksFree: 8,
  blocksAvailable: 16,
  files: 24,
  filesFree: 32,
  blockBytes: 40,
  nameMax: 44,
  fragmentBytes: 48,
  BYTES: 80,
} as const;
export const LockOut = { start: 0, end: 8, type: 16, pid: 20, BYTES: 24 } as const;
export const IoctlOut = { result: 0, BYTES: 16 } as const;
/** Followed by the name, filled up to a multiple of 8. */
export const DirectoryEntryOut = { inode: 0, cookie: 8, nameLength: 16, type: 20, BYTES: 24 } as const;
export const InvalidateInodeOut = { inode: 0, offset: 8, length: 16, BYTES: 24 } as const;
/** Followed by the name and a zero. */
export const InvalidateEntryOut = { parent: 0, nameLength: 8, BYTES: 16 } as const;
