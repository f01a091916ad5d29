/** FUSE_INIT: what the kernel offers, what we take of it, and what comes of that. */
import {
  FUSE_MAJOR,
  FUSE_MINOR,
  FUSE_OLDEST_MINOR,
  InitFlag,
  InitFlag2,
  InitIn,
  InitOut,
} from './protocol.js';
import type { ReplyWriter } from './reply.js';
import type { RequestView } from './request.js';

const PAGE_BYTES = 4096;
/** The largest WRITE, and READ: 256 pages, the kernel's own limit. */
export const MAX_WRITE_BYTES = 1024 * 1024;
/** What the kernel reads ahead, where it lets us say so. The rest is set in sysfs after the mount. */
export const READ_AHEAD_BYTES = 2 * MAX_WRITE_BYTES;
/** Requests that nobody waits for (readahead, asynchronous direct I/O) on the way at once; and when that is "busy". */
const MAX_BACKGROUND = 32;
const CONGESTION_THRESHOLD = 24;

export interface SessionOptions {
  /** fcntl(2) and flock(2) locks come to the handler. Without, the kernel keeps them, for this mount alone. */
  readonly locks: boolean;
  /** O_TRUNC comes to `open` and `create`. Without, the kernel sends a SETATTR of size 0 beside the OPEN. */
  readonly atomicTruncate: boolean;
  /** The kernel collects writes, and owns size and mtime meanwhile: breaks coherence between mounts. */
  readonly writebackCache: boolean;
  /** The kernel drops cached pages of a file whose mtime or size it sees changed. Without, only when told. */
  readonly autoInvalidateData: boolean;
  /**
   * POSIX ACLs: the kernel asks for them, keeps them in mind and checks permissions by them, and leaves
   * the umask to the handler, for a default ACL takes its place. Implies `default_permissions`.
   */
  readonly acls: boolean;
  /**
   * Direct reads and writes of one caller go side by side (libaio has its depth). Who waits for one, by read(2) as
   * well, then hears no signal, not even SIGKILL, before it is answered.
   */
  readonly asyncDirectIo: boolean;
}

export interface Negotiated {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
}

function wantedFlags(options: SessionOptions): number {
  const always =
    InitFlag.ASYNC_READ |
    InitFlag.BIG_WRITES |
    InitFlag.HAS_IOCTL_DIR |
    InitFlag.DO_READDIRPLUS |
    InitFlag.READDIRPLUS_AUTO |
    InitFlag.PARALLEL_DIROPS |
    InitFlag.ABORT_ERROR |
    InitFlag.MAX_PAGES |
    InitFlag.CACHE_SYMLINKS |
    InitFlag.HANDLE_KILLPRIV_V2 |
    InitFlag.INIT_EXT;
  return (
    always |
    (options.locks ? InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS : 0) |
    (options.atomicTruncate ? InitFlag.ATOMIC_O_TRUNC : 0) |
    (options.writebackCache ? InitFlag.WRITEBACK_CACHE : 0) |
    (options.autoInvalidateData ? InitFlag.AUTO_INVAL_DATA : 0) |
    (options.acls ? InitFlag.POSIX_ACL | InitFlag.DONT_MASK | InitFlag.SETXATTR_EXT : 0) |
    (options.asyncDirectIo ? InitFlag.ASYNC_DIO : 0)
  );
}

/**
 * Answers an INIT. When the kernel's major version is newer the answer is ours alone, and it asks again.
 *
 * @returns what was agreed, or undefined when it will ask again
 * @throws an Error when the kernel is too old
 */
export function negotiate(
  view: RequestView,
  out: ReplyWriter,
  options: SessionOptions,
): Negotiated | undefined {
  const major = view.u32(InitIn.major);
  const minor = view.u32(InitIn.minor);
  if (major < FUSE_MAJOR || (major === FUSE_MAJOR && minor < FUSE_OLDEST_MINOR)) {
    throw new Error(
      `The kernel speaks FUSE ${major}.${minor}; ${FUSE_MAJOR}.${FUSE_OLDEST_MINOR} (Linux 5.4) or newer is needed.`,
    );
  }
  const at = out.zeros(InitOut.BYTES);
  out.u32(at + InitOut.major, FUSE_MAJOR);
  out.u32(at + InitOut.minor, FUSE_MINOR);
  if (major > FUSE_MAJOR) return undefined;

  const offered = view.u32(InitIn.flags);
  const flags = offered & wantedFlags(options);
  const offered2 = offered & InitFlag.INIT_EXT ? view.u32(InitIn.flags2) : 0;
  const flags2 = offered2 & InitFlag2.DIRECT_IO_ALLOW_MMAP;
  out.u32(at + InitOut.maxReadahead, READ_AHEAD_BYTES);
  out.u32(at + InitOut.flags, flags >>> 0);
  out.u16(at + InitOut.maxBackground, MAX_BACKGROUND);
  out.u16(at + InitOut.congestionThreshold, CONGESTION_THRESHOLD);
  out.u32(at + InitOut.maxWrite, MAX_WRITE_BYTES);
  out.u32(at + InitOut.timeGranularityNs, 1);
  out.u16(at + InitOut.maxPages, MAX_WRITE_BYTES / PAGE_BYTES);
  out.u32(at + InitOut.flags2, flags2 >>> 0);
  return { minor: Math.min(minor, FUSE_MINOR), flags, flags2 };
}
