/**
 * The table of the protocol: for every request that has a reply, how its argument is read, what the
 * handler is asked, and how the answer is written. What is not in it is answered ENOSYS, which the
 * kernel remembers: BMAP, POLL, SYNCFS and STATX, for which it has good ways of its own, and
 * ACCESS, where the absence means that permissions are checked by each operation itself.
 *
 * The session has the few that are its own business: INIT, DESTROY, INTERRUPT and the FORGETs.
 */
import { GfsError } from '../../protocol/errors.js';
import type {
  Answer,
  AttributeReply,
  AttributeUpdate,
  DirectoryEntryReply,
  FileLock,
  FuseHandler,
} from '../handler.js';
import type { Privileges } from './privileges.js';
import * as p from './protocol.js';
import { Opcode } from './protocol.js';
import * as reply from './replies.js';
import type { ReplyWriter } from './reply.js';
import type { Request, RequestView } from './request.js';

/** What operations work on. */
export interface Served {
  readonly handler: FuseHandler;
  readonly privileges: Privileges;
  /** What was agreed at INIT: bits of {@link InitFlag}. */
  readonly flags: number;
}

export interface Operation {
  /** The least that the argument must be long. */
  readonly argumentBytes: number;
  /** Reads the argument and starts the handler, before it returns. */
  start(served: Served, request: Request, view: RequestView): Answer<unknown>;
  /** Writes the reply's body. */
  write(out: ReplyWriter, value: unknown, request: Request, served: Served): void;
}

function operation<T>(
  argumentBytes: number,
  start: (served: Served, request: Request, view: RequestView) => Answer<T>,
  write: (out: ReplyWriter, value: T, request: Request, served: Served) => void,
): Operation {
  return { argumentBytes, start, write: write as Operation['write'] };
}

export const operations: readonly (Operation | undefined)[] = table([
  // Names.
  [Opcode.LOOKUP, operation(0, ({ handler }, r, v) => handler.lookup(r, r.inode, v.name(0)), reply.lookedUp)],
  [
    Opcode.MKNOD,
    operation(
      p.MknodIn.BYTES,
      (served, r, v) =>
        served.handler.mknod(
          r,
          r.inode,
          v.name(p.MknodIn.BYTES),
          v.u32(p.MknodIn.mode),
          v.u32(p.MknodIn.rdev),
          umaskOf(served, v.u32(p.MknodIn.umask)),
        ),
      reply.entry,
    ),
  ],
  [
    Opcode.MKDIR,
    operation(
      p.MkdirIn.BYTES,
      (served, r, v) =>
        served.handler.mkdir(
          r,
          r.inode,
          v.name(p.MkdirIn.BYTES),
          v.u32(p.MkdirIn.mode),
          umaskOf(served, v.u32(p.MkdirIn.umask)),
        ),
      reply.entry,
    ),
  ],
  [
    Opcode.SYMLINK,
    operation(0, ({ handler }, r, v) => handler.symlink(r, r.inode, v.name(0), v.nextName()), reply.entry),
  ],
  [
    Opcode.LINK,
    operation(
      p.LinkIn.BYTES,
      ({ handler }, r, v) => handler.link(r, v.u64(p.LinkIn.inode), r.inode, v.name(p.LinkIn.BYTES)),
      reply.entry,
    ),
  ],
  [Opcode.UNLINK, operation(0, ({ handler }, r, v) => handler.unlink(r, r.inode, v.name(0)), reply.nothing)],
  [Opcode.RMDIR, operation(0, ({ handler }, r, v) => handler.rmdir(r, r.inode, v.name(0)), reply.nothing)],
  [
    Opcode.RENAME,
    operation(
      p.RenameIn.BYTES,
      ({ handler }, r, v) =>
        handler.rename(
          r,
          r.inode,
          v.name(p.RenameIn.BYTES),
          v.u64(p.RenameIn.newParent),
          v.nextName(),
          'replace',
        ),
      reply.nothing,
    ),
  ],
  [
    Opcode.RENAME2,
    operation(
      p.Rename2In.BYTES,
      ({ handler }, r, v) =>
        handler.rename(
          r,
          r.inode,
          v.name(p.Rename2In.BYTES),
          v.u64(p.Rename2In.newParent),
          v.nextName(),
          renameMode(v.u32(p.Rename2In.flags)),
        ),
      reply.nothing,
    ),
  ],
  [Opcode.READLINK, operation(0, ({ handler }, r) => handler.readlink(r, r.inode), reply.byteString)],

  // Attributes.
  [
    Opcode.GETATTR,
    operation(
      p.GetattrIn.BYTES,
      ({ handler }, r, v) =>
        handler.getattr(
          r,
          r.inode,
          v.u32(p.GetattrIn.flags) & p.GETATTR_HANDLE ? v.u64(p.GetattrIn.handle) : undefined,
        ),
      reply.attributes,
    ),
  ],
  [Opcode.SETATTR, operation(p.SetattrIn.BYTES, setattr, reply.attributes)],
  [Opcode.STATFS, operation(0, ({ handler }, r) => handler.statfs(r, r.inode), reply.statfs)],
  [Opcode.SETXATTR, operation(p.SetxattrIn.BYTES, setxattr, reply.nothing)],
  [
    Opcode.GETXATTR,
    operation(
      p.GetxattrIn.BYTES,
      ({ handler }, r, v) => {
        r.limit = v.u32(p.GetxattrIn.size);
        return handler.getxattr(r, r.inode, v.name(p.GetxattrIn.BYTES));
      },
      reply.xattr,
    ),
  ],
  [
    Opcode.LISTXATTR,
    operation(
      p.GetxattrIn.BYTES,
      ({ handler }, r, v) => {
        r.limit = v.u32(p.GetxattrIn.size);
        return handler.listxattr(r, r.inode);
      },
      reply.xattrNames,
    ),
  ],
  [
    Opcode.REMOVEXATTR,
    operation(0, ({ handler }, r, v) => handler.removexattr(r, r.inode, v.name(0)), reply.nothing),
  ],

  // Files.
  [
    Opcode.CREATE,
    operation(
      p.CreateIn.BYTES,
      (served, r, v) =>
        served.handler.create(
          r,
          r.inode,
          v.name(p.CreateIn.BYTES),
          v.u32(p.CreateIn.mode),
          v.u32(p.CreateIn.flags),
          umaskOf(served, v.u32(p.CreateIn.umask)),
        ),
      reply.created,
    ),
  ],
  // With a name that means nothing; O_EXCL is the kernel's to hold.
  [
    Opcode.TMPFILE,
    operation(
      p.CreateIn.BYTES,
      (served, r, v) =>
        served.handler.tmpfile(
          r,
          r.inode,
          v.u32(p.CreateIn.mode),
          v.u32(p.CreateIn.flags),
          umaskOf(served, v.u32(p.CreateIn.umask)),
        ),
      reply.created,
    ),
  ],
  [
    Opcode.OPEN,
    operation(
      p.OpenIn.BYTES,
      ({ handler }, r, v) => handler.open(r, r.inode, v.u32(p.OpenIn.flags)),
      reply.opened,
    ),
  ],
  [
    Opcode.READ,
    operation(
      p.ReadIn.BYTES,
      ({ handler }, r, v) => {
        r.limit = v.u32(p.ReadIn.size);
        return handler.read(r, r.inode, v.u64(p.ReadIn.handle), v.u64(p.ReadIn.offset), r.limit);
      },
      reply.data,
    ),
  ],
  [Opcode.WRITE, operation(p.WriteIn.BYTES, write, reply.count)],
  [
    Opcode.FLUSH,
    operation(
      p.FlushIn.BYTES,
      ({ handler }, r, v) => handler.flush(r, r.inode, v.u64(p.FlushIn.handle), v.long(p.FlushIn.lockOwner)),
      reply.nothing,
    ),
  ],
  [
    Opcode.FSYNC,
    operation(
      p.FsyncIn.BYTES,
      ({ handler }, r, v) => handler.fsync(r, r.inode, v.u64(p.FsyncIn.handle), isDataOnly(v)),
      reply.nothing,
    ),
  ],
  [
    Opcode.RELEASE,
    operation(
      p.ReleaseIn.BYTES,
      ({ handler }, r, v) =>
        handler.release(
          r,
          r.inode,
          v.u64(p.ReleaseIn.handle),
          v.long(p.ReleaseIn.lockOwner),
          (v.u32(p.ReleaseIn.releaseFlags) & p.RELEASE_UNLOCK_FLOCK) !== 0,
        ),
      reply.nothing,
    ),
  ],
  [
    Opcode.FALLOCATE,
    operation(
      p.FallocateIn.BYTES,
      ({ handler, privileges }, r, v) => {
        const { FallocateIn } = p;
        const [handle, mode] = [v.u64(FallocateIn.handle), v.u32(FallocateIn.mode)];
        const [offset, length] = [v.u64(FallocateIn.offset), v.u64(FallocateIn.length)];
        return privileges.afterChange(r, handler.fallocate(r, r.inode, handle, mode, offset, length));
      },
      reply.nothing,
    ),
  ],
  [
    Opcode.LSEEK,
    operation(
      p.LseekIn.BYTES,
      ({ handler }, r, v) =>
        handler.lseek(
          r,
          r.inode,
          v.u64(p.LseekIn.handle),
          v.u64(p.LseekIn.offset),
          whence(v.u32(p.LseekIn.whence)),
        ),
      reply.offset,
    ),
  ],
  // The first can report 4 GiB at most, and the kernel never asks it for more.
  [Opcode.COPY_FILE_RANGE, operation(p.CopyFileRangeIn.BYTES, copyFileRange, reply.count)],
  [Opcode.COPY_FILE_RANGE_64, operation(p.CopyFileRangeIn.BYTES, copyFileRange, reply.offset)],

  // Directories.
  [Opcode.OPENDIR, operation(0, ({ handler }, r) => handler.opendir(r, r.inode), reply.directoryOpened)],
  [Opcode.READDIR, operation(p.ReadIn.BYTES, readdir, reply.directory)],
  [Opcode.READDIRPLUS, operation(p.ReadIn.BYTES, readdir, reply.directory)],
  [
    Opcode.RELEASEDIR,
    operation(
      p.ReleaseIn.BYTES,
      ({ handler }, r, v) => handler.releasedir(r, r.inode, v.u64(p.ReleaseIn.handle)),
      reply.nothing,
    ),
  ],
  [
    Opcode.FSYNCDIR,
    operation(
      p.FsyncIn.BYTES,
      ({ handler }, r, v) => handler.fsyncdir(r, r.inode, v.u64(p.FsyncIn.handle), isDataOnly(v)),
      reply.nothing,
    ),
  ],

  // Locks and ioctl.
  [
    Opcode.GETLK,
    operation(
      p.LockIn.BYTES,
      ({ handler }, r, v) => handler.getlk(r, r.inode, v.u64(p.LockIn.handle), fileLock(v)),
      reply.lock,
    ),
  ],
  [
    Opcode.SETLK,
    operation(
      p.LockIn.BYTES,
      ({ handler }, r, v) => handler.setlk(r, r.inode, v.u64(p.LockIn.handle), fileLock(v), false),
      reply.nothing,
    ),
  ],
  [
    Opcode.SETLKW,
    operation(
      p.LockIn.BYTES,
      ({ handler }, r, v) => handler.setlk(r, r.inode, v.u64(p.LockIn.handle), fileLock(v), true),
      reply.nothing,
    ),
  ],
  [
    Opcode.IOCTL,
    operation(
      p.IoctlIn.BYTES,
      ({ handler }, r, v) => {
        r.limit = v.u32(p.IoctlIn.outputSize);
        return handler.ioctl(
          r,
          r.inode,
          v.u64(p.IoctlIn.handle),
          v.u32(p.IoctlIn.command),
          Buffer.from(v.bytes(p.IoctlIn.BYTES, v.u32(p.IoctlIn.inputSize))),
          r.limit,
          (v.u32(p.IoctlIn.flags) & p.IOCTL_ON_DIRECTORY) !== 0,
        );
      },
      reply.ioctl,
    ),
  ],
]);

/** Indexed by opcode. */
function table(entries: readonly (readonly [number, Operation])[]): readonly (Operation | undefined)[] {
  const byOpcode: (Operation | undefined)[] = [];
  for (const [opcode, entry] of entries) byOpcode[opcode] = entry;
  return byOpcode;
}

function setattr({ privileges }: Served, r: Request, v: RequestView): Promise<AttributeReply> {
  const { SetattrIn, SetattrValid } = p;
  const valid = v.u32(SetattrIn.valid);
  const update: { -readonly [K in keyof AttributeUpdate]: AttributeUpdate[K] } = {};
  // The kernel sends the file's type along; it cannot change.
  if (valid & SetattrValid.MODE) update.mode = v.u32(SetattrIn.mode) & 0o7777;
  if (valid & SetattrValid.UID) update.uid = v.u32(SetattrIn.uid);
  if (valid & SetattrValid.GID) update.gid = v.u32(SetattrIn.gid);
  if (valid & SetattrValid.SIZE) update.size = v.u64(SetattrIn.size);
  if (valid & SetattrValid.HANDLE) update.handle = v.u64(SetattrIn.handle);
  if (valid & SetattrValid.ATIME_NOW) update.atime = 'now';
  else if (valid & SetattrValid.ATIME)
    update.atime = { sec: v.i64(SetattrIn.atime), nsec: v.u32(SetattrIn.atimeNsec) };
  if (valid & SetattrValid.MTIME_NOW) update.mtime = 'now';
  else if (valid & SetattrValid.MTIME)
    update.mtime = { sec: v.i64(SetattrIn.mtime), nsec: v.u32(SetattrIn.mtimeNsec) };
  return privileges.setattr(r, update, (valid & SetattrValid.KILL_PRIVILEGES) !== 0);
}

/** Before FUSE_DONT_MASK is agreed on, the kernel has applied it. */
function umaskOf({ flags }: Served, umask: number): number {
  return (flags & p.InitFlag.DONT_MASK) === 0 ? 0 : umask;
}

function setxattr({ handler, flags }: Served, r: Request, v: RequestView): Promise<void> {
  const isLong = (flags & p.InitFlag.SETXATTR_EXT) !== 0;
  const name = v.name(isLong ? p.SetxattrExtIn.BYTES : p.SetxattrIn.BYTES);
  const value = v.copyAfterName(v.u32(p.SetxattrIn.size));
  const extra = isLong ? v.u32(p.SetxattrExtIn.extraFlags) : 0;
  const mode = xattrMode(v.u32(p.SetxattrIn.flags));
  return handler.setxattr(r, r.inode, name, value, mode, (extra & p.SETXATTR_ACL_KILL_SGID) !== 0);
}

function write({ handler, privileges }: Served, r: Request, v: RequestView): Promise<number> {
  const { WriteIn } = p;
  const data = v.bytes(WriteIn.BYTES, v.u32(WriteIn.size));
  r.limit = data.length;
  const kill = (v.u32(WriteIn.writeFlags) & p.WRITE_KILL_PRIVILEGES) !== 0;
  const written = handler.write(
    r,
    r.inode,
    v.u64(WriteIn.handle),
    v.u64(WriteIn.offset),
    data,
    v.u32(WriteIn.flags),
  );
  return kill ? privileges.afterWrite(r, written) : written;
}

function readdir({ handler }: Served, r: Request, v: RequestView): Promise<readonly DirectoryEntryReply[]> {
  r.limit = v.u32(p.ReadIn.size);
  const plus = r.opcode === Opcode.READDIRPLUS;
  return handler.readdir(
    r,
    r.inode,
    v.u64(p.ReadIn.handle),
    v.u64(p.ReadIn.offset),
    plus,
    reply.mostEntries(r.limit, plus),
  );
}

function copyFileRange({ handler, privileges }: Served, r: Request, v: RequestView): Promise<number> {
  const { CopyFileRangeIn } = p;
  if (v.long(CopyFileRangeIn.flags) !== 0n) throw new GfsError('INVALID', 'copy_file_range: unknown flags');
  const from = {
    inode: r.inode,
    handle: v.u64(CopyFileRangeIn.handle),
    offset: v.u64(CopyFileRangeIn.offset),
  };
  const to = {
    inode: v.u64(CopyFileRangeIn.toInode),
    handle: v.u64(CopyFileRangeIn.toHandle),
    offset: v.u64(CopyFileRangeIn.toOffset),
  };
  const copied = handler.copyFileRange(r, from, to, v.u64AtMost(CopyFileRangeIn.length));
  return privileges.afterChange(r, copied, to.inode);
}

function renameMode(flags: number): 'replace' | 'noreplace' | 'exchange' {
  if (flags === 0) return 'replace';
  if (flags === p.RenameFlag.NOREPLACE) return 'noreplace';
  if (flags === p.RenameFlag.EXCHANGE) return 'exchange';
  throw new GfsError('INVALID', `rename: unknown flags ${flags}`);
}

function xattrMode(flags: number): 'either' | 'create' | 'replace' {
  if (flags === 0) return 'either';
  if (flags === p.XattrFlag.CREATE) return 'create';
  if (flags === p.XattrFlag.REPLACE) return 'replace';
  throw new GfsError('INVALID', `setxattr: unknown flags ${flags}`);
}

function whence(number: number): 'data' | 'hole' {
  if (number === p.Whence.DATA) return 'data';
  if (number === p.Whence.HOLE) return 'hole';
  throw new GfsError('INVALID', `lseek: unknown whence ${number}`);
}

function isDataOnly(v: RequestView): boolean {
  return (v.u32(p.FsyncIn.flags) & p.FSYNC_DATA_ONLY) !== 0;
}

function fileLock(v: RequestView): FileLock {
  const { LockIn, LockType } = p;
  const type = v.u32(LockIn.type);
  return {
    type: type === LockType.READ ? 'read' : type === LockType.WRITE ? 'write' : 'unlock',
    start: v.long(LockIn.start),
    end: v.long(LockIn.end),
    pid: v.u32(LockIn.pid),
    owner: v.long(LockIn.owner),
    flock: (v.u32(LockIn.flags) & p.LOCK_IS_FLOCK) !== 0,
  };
}
