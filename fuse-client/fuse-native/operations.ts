import { OpenFlags, type StatfsReply } from '../handler.js';
import type { Codec } from './codec.js';
import type { Done, PackageOperations, PackageStat } from './package.js';
import type { PathFiles } from './path-files.js';
import type { Requests } from './requests.js';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
/** chown(2) with -1: leave it as it is. */
const UNCHANGED = 0xffff_ffff;
const MAX_U32 = 0xffff_ffff;
const PERMISSION_BITS = 0o7777;

/** The operations that the package carries right by itself. */
export function packageOperations(files: PathFiles, requests: Requests, codec: Codec): PackageOperations {
  const nothing = (done: Done) => () => done(0);
  return {
    statfs: (path, done) =>
      requests.run(
        path,
        (c, p) => files.statfs(c, p),
        (reply) => done(0, statfsIn32Bits(reply)),
        done,
      ),
    readdir: (path, done) =>
      requests.run(
        path,
        (c, p) => files.readdir(c, p),
        (entries) => {
          const stats = entries.map(({ mode, inode }): PackageStat => ({ mode, ino: inode }));
          done(
            0,
            entries.map(({ name }) => codec.text(name)),
            stats,
          );
        },
        done,
      ),
    readlink: (path, done) =>
      requests.run(
        path,
        (c, p) => files.readlink(c, p),
        (target) => done(0, codec.text(target)),
        done,
      ),
    mknod: (path, mode, dev, done) =>
      requests.run(path, (c, p) => files.mknod(c, p, mode, dev), nothing(done), done),
    mkdir: (path, mode, done) => requests.run(path, (c, p) => files.mkdir(c, p, mode), nothing(done), done),
    symlink: (target, path, done) =>
      requests.run(path, async (c, p) => files.symlink(c, p, codec.bytes(target)), nothing(done), done),
    link: (path, newPath, done) =>
      requests.run(path, async (c, p) => files.link(c, p, codec.bytes(newPath)), nothing(done), done),
    rename: (path, newPath, done) =>
      requests.run(path, async (c, p) => files.rename(c, p, codec.bytes(newPath)), nothing(done), done),
    unlink: (path, done) => requests.run(path, (c, p) => files.unlink(c, p), nothing(done), done),
    rmdir: (path, done) => requests.run(path, (c, p) => files.rmdir(c, p), nothing(done), done),
    chmod: (path, mode, done) =>
      requests.run(
        path,
        (c, p) => files.setattr(c, p, { mode: mode & PERMISSION_BITS }),
        nothing(done),
        done,
      ),
    chown: (path, uid, gid, done) => {
      const owner = { ...(uid === UNCHANGED ? {} : { uid }), ...(gid === UNCHANGED ? {} : { gid }) };
      requests.run(path, (c, p) => files.setattr(c, p, owner), nothing(done), done);
    },
    truncate: (path, size, done) =>
      requests.run(path, (c, p) => files.setattr(c, p, { size }), nothing(done), done),
    ftruncate: (path, fd, size, done) =>
      requests.run(path, (c) => files.ftruncate(c, fd, size), nothing(done), done),
    create: (path, mode, done) =>
      requests.run(
        path,
        // The package does not pass the flags on: whatever the caller asked, reading and writing works.
        (c, p) => files.create(c, p, mode, OpenFlags.CREAT | OpenFlags.RDWR),
        ({ handle }) => done(0, handle),
        done,
      ),
    open: (path, flags, done) =>
      requests.run(
        path,
        (c, p) => files.open(c, p, flags),
        ({ handle }) => done(0, handle),
        done,
      ),
    read: (path, fd, buffer, _length, offset, done) =>
      requests.run(path, (c) => files.read(c, fd, buffer, offset), done, done),
    write: (path, fd, buffer, _length, offset, done) =>
      requests.run(path, (c) => files.write(c, fd, buffer, offset), done, done),
    flush: (path, fd, done) => requests.run(path, (c) => files.flush(c, fd), nothing(done), done),
    fsync: (path, dataOnly, fd, done) =>
      requests.run(path, (c) => files.fsync(c, fd, dataOnly !== 0), nothing(done), done),
    fsyncdir: (path, dataOnly, _fd, done) =>
      requests.run(path, (c, p) => files.fsyncdir(c, p, dataOnly !== 0), nothing(done), done),
    release: (path, fd, done) => requests.run(path, (c) => files.release(c, fd), nothing(done), done),
    setxattr: (path, name, value, _position, flags, done) => {
      const mode = flags & XATTR_CREATE ? 'create' : flags & XATTR_REPLACE ? 'replace' : 'either';
      requests.run(
        path,
        async (c, p) => files.setxattr(c, p, codec.bytes(name), Uint8Array.from(value), mode),
        nothing(done),
        done,
      );
    },
    removexattr: (path, name, done) =>
      requests.run(path, async (c, p) => files.removexattr(c, p, codec.bytes(name)), nothing(done), done),
  };
}

/** The package cuts each number to 32 bits, so a large file system is told in larger blocks. */
function statfsIn32Bits(reply: StatfsReply): Record<string, number> {
  let scale = 1;
  while (reply.blocks / scale > MAX_U32) scale *= 2;
  const blocks = (count: number) => Math.floor(count / scale);
  const files = (count: number) => Math.min(count, MAX_U32);
  return {
    bsize: reply.blockBytes * scale,
    frsize: reply.blockBytes * scale,
    blocks: blocks(reply.blocks),
    bfree: blocks(reply.blocksFree),
    bavail: blocks(reply.blocksAvailable),
    files: files(reply.files),
    ffree: files(reply.filesFree),
    favail: files(reply.filesFree),
    namemax: reply.nameMaxBytes,
  };
}
