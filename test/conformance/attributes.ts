/** Attributes: modes, owners, times, extended attributes, and who may do what. */
import {
  chmod,
  chown,
  lstat,
  lutimes,
  mkdir,
  readFile,
  stat,
  statfs,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import type { Python } from './python.js';
import type { Case } from './suite.js';

const NOBODY = 65_534;
const SOMEBODY = 1234;

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;

/** Modification and access time in nanoseconds. */
async function timesOf(path: string): Promise<{ atime: bigint; mtime: bigint }> {
  const { atimeNs, mtimeNs } = await lstat(path, { bigint: true });
  return { atime: atimeNs, mtime: mtimeNs };
}

/** Runs statements as another user; `result` is what they raise (an errno's name), or `ok`. */
async function asUser(
  python: Python,
  uid: number,
  code: string,
  variables: Record<string, string>,
): Promise<string> {
  return await python.run<string>(
    `
      source, sink = os.pipe()
      def other():
          os.setgroups([])
          os.setgid(uid)
          os.setuid(uid)
          try:
              exec(code.decode(), globals())
              os.write(sink, b'ok')
          except OSError as error:
              os.write(sink, errno.errorcode[error.errno].encode())
          return True
      joined(child(other))
      os.close(sink)
      result = os.read(source, 100)
      os.close(source)
    `,
    { uid, code, ...variables },
  );
}

const modes: Case = {
  name: 'attributes: chmod sets every bit, and the umask takes some from new files',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    for (const mode of [0o000, 0o644, 0o777, 0o1755, 0o4711, 0o2775]) {
      await chmod(path, mode);
      t.equal((await stat(path)).mode & 0o7777, mode);
    }
    const folder = join(directory, 'folder');
    await mkdir(folder);
    await chmod(folder, 0o1777);
    t.equal((await stat(folder)).mode & 0o7777, 0o1777);
    await python.run(
      `
        before = os.umask(0o027)
        os.close(os.open(path + b'/masked', os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(path + b'/masked-folder', 0o777)
        os.umask(before)
      `,
      { path: directory },
    );
    t.equal((await stat(join(directory, 'masked'))).mode & 0o777, 0o640);
    t.equal((await stat(join(directory, 'masked-folder'))).mode & 0o777, 0o750);
    await t.rejects(chmod(join(directory, 'none'), 0o600), { code: 'ENOENT' });
  },
};

const owners: Case = {
  name: 'attributes: chown changes owner and group, together and alone, and drops set-user-ID',
  needs: ['caller_identity'],
  root: true,
  async run(t, directory) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    await chmod(path, 0o6755);
    await chown(path, SOMEBODY, NOBODY);
    t.match(await stat(path), { uid: SOMEBODY, gid: NOBODY });
    t.equal((await stat(path)).mode & 0o7777, 0o755);
    await chown(path, 0, -1);
    t.match(await stat(path), { uid: 0, gid: NOBODY });
    await chown(path, -1, 0);
    t.match(await stat(path), { uid: 0, gid: 0 });
  },
};

const inheritedGroup: Case = {
  name: 'attributes: what is made in a set-group-ID directory has its group',
  root: true,
  async run(t, directory) {
    const folder = join(directory, 'shared');
    await mkdir(folder);
    await chown(folder, 0, SOMEBODY);
    await chmod(folder, 0o2755);
    await writeFile(join(folder, 'file'), '');
    await mkdir(join(folder, 'inner'));
    t.equal((await stat(join(folder, 'file'))).gid, SOMEBODY);
    t.match(await stat(join(folder, 'inner')), { gid: SOMEBODY });
    t.equal((await stat(join(folder, 'inner'))).mode & 0o2000, 0o2000);
  },
};

const permissions: Case = {
  name: 'attributes: others can do what the mode lets them, and own what they make',
  needs: ['caller_identity'],
  root: true,
  async run(t, directory, python) {
    const secret = join(directory, 'secret');
    const open = join(directory, 'open');
    const inbox = join(directory, 'inbox');
    await writeFile(secret, 'secret');
    await chmod(secret, 0o600);
    await writeFile(open, 'open');
    await chmod(open, 0o644);
    await mkdir(inbox);
    await chmod(inbox, 0o1777);
    await writeFile(join(inbox, 'of-root'), '');
    const as = (code: string) => asUser(python, NOBODY, code, { directory });
    t.equal(await as("open(directory + b'/secret').read()"), 'EACCES');
    t.equal(await as("open(directory + b'/open').read()"), 'ok');
    t.equal(await as("open(directory + b'/open', 'w')"), 'EACCES');
    t.equal(await as("open(directory + b'/new', 'w')"), 'EACCES');
    t.equal(await as("os.chmod(directory + b'/open', 0o777)"), 'EPERM');
    t.equal(await as("open(directory + b'/inbox/mine', 'w').write('x')"), 'ok');
    t.match(await stat(join(inbox, 'mine')), { uid: NOBODY, gid: NOBODY });
    t.equal(await as("os.unlink(directory + b'/inbox/of-root')"), 'EPERM', 'a sticky directory');
    t.equal(await as("os.unlink(directory + b'/inbox/mine')"), 'ok');
  },
};

const privileges: Case = {
  name: 'attributes: set-user-ID and set-group-ID fall when others write or truncate',
  needs: ['caller_identity'],
  root: true,
  async run(t, directory, python) {
    const path = join(directory, 'program');
    const modeOf = async () => (await stat(path)).mode & 0o7777;
    await writeFile(path, 'program');
    const as = (code: string) => asUser(python, NOBODY, code, { path });
    await chmod(path, 0o6777);
    await truncate(path, 5);
    t.equal(await modeOf(), 0o6777, 'root keeps them');
    t.equal(await as("fd = os.open(path, os.O_WRONLY); os.write(fd, b'new'); os.close(fd)"), 'ok');
    t.equal(await modeOf(), 0o777, 'a write');
    await chmod(path, 0o6777);
    t.equal(await as("fd = os.open(path, os.O_WRONLY); os.write(fd, b'new'); os.close(fd)"), 'ok');
    t.equal(await modeOf(), 0o777, 'a write after another chmod');
    await chmod(path, 0o6777);
    t.equal(await as('os.truncate(path, 1)'), 'ok');
    t.equal(await modeOf(), 0o777, 'a truncation');
    await chmod(path, 0o4777);
    t.equal(await as('os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))'), 'ok');
    t.equal(await modeOf(), 0o777, 'O_TRUNC');
  },
};

const times: Case = {
  name: 'attributes: times are kept to the nanosecond, before 1970 and after 2038',
  needs: ['exact_times'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    const settings: [bigint, bigint][] = [
      [1_700_000_000_123_456_789n, 1_600_000_000_987_654_321n],
      [0n, 1n],
      [-1n, -1_000_000_000n],
      [-1_500_000_000n, -86_400_000_000_001n],
      [4_294_967_296_000_000_007n, 5_000_000_000_000_000_009n],
    ];
    for (const [atime, mtime] of settings) {
      await python.run('os.utime(path, ns=(int(atime), int(mtime)))', {
        path,
        atime: String(atime),
        mtime: String(mtime),
      });
      t.strictSame(await timesOf(path), { atime, mtime });
    }
    await utimes(directory, 5, 6);
    t.strictSame(await timesOf(directory), { atime: 5_000_000_000n, mtime: 6_000_000_000n });
    await symlink('file', join(directory, 'link'));
    await lutimes(join(directory, 'link'), 7, 8);
    t.equal((await timesOf(join(directory, 'link'))).mtime, 8_000_000_000n);
  },
};

const separateTimes: Case = {
  name: 'attributes: one time is set without the other, or both to now',
  needs: ['utimens_separate'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    const utimensat = (atime: [number, number], mtime: [number, number]) =>
      python.run(
        `
          packed = struct.pack('llll', *atime, *mtime)
          check(libc.utimensat(-100, path, packed, 0))
        `,
        { path, atime, mtime },
      );
    const NOW = (1 << 30) - 1;
    const OMIT = (1 << 30) - 2;
    await utimensat([1, 11], [2, 22]);
    await utimensat([0, OMIT], [3, 33]);
    t.strictSame(await timesOf(path), { atime: 1_000_000_011n, mtime: 3_000_000_033n }, 'mtime alone');
    await utimensat([4, 44], [0, OMIT]);
    t.strictSame(await timesOf(path), { atime: 4_000_000_044n, mtime: 3_000_000_033n }, 'atime alone');
    const before = BigInt(Date.now() - 60_000) * 1_000_000n;
    await utimensat([0, OMIT], [0, NOW]);
    const { atime, mtime } = await timesOf(path);
    t.equal(atime, 4_000_000_044n);
    t.ok(mtime > before, 'mtime is now');
  },
};

const movingTimes: Case = {
  name: 'attributes: changes move the times that they should',
  async run(t, directory) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    await utimes(path, 1, 1);
    await utimes(directory, 1, 1);
    const ctime = (await stat(path)).ctimeMs;
    await writeFile(path, 'changed', { flag: 'r+' });
    t.ok((await stat(path)).mtimeMs > 1_000_000_000_000, 'a write moves mtime');
    t.equal((await stat(directory)).mtimeMs, 1000, "but not the directory's");
    await utimes(path, 1, 1);
    await truncate(path, 2);
    t.ok((await stat(path)).mtimeMs > 1_000_000_000_000, 'a truncation moves mtime');
    await utimes(path, 1, 1);
    await chmod(path, 0o600);
    t.equal((await stat(path)).mtimeMs, 1000, 'chmod leaves mtime');
    t.ok((await stat(path)).ctimeMs >= ctime, 'and moves ctime');
    await writeFile(join(directory, 'another'), '');
    t.ok((await stat(directory)).mtimeMs > 1_000_000_000_000, "a new name moves the directory's mtime");
  },
};

const space: Case = {
  name: 'attributes: statfs tells sizes that make sense',
  async run(t, directory, python) {
    const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(directory);
    t.ok(bsize >= 512 && blocks > 0 && blocks >= bfree && bfree >= bavail && files >= ffree);
    t.equal(await python.run<number>('result = os.statvfs(path).f_namemax', { path: directory }), 255);
  },
};

const xattrs: Case = {
  name: 'attributes: extended attributes are set, read, listed and removed, on files and directories',
  async run(t, directory, python) {
    const file = join(directory, 'file');
    await writeFile(file, 'content');
    const value = String.fromCharCode(...Array.from({ length: 1500 }, (_, i) => i % 256));
    for (const path of [file, directory]) {
      await python.run("os.setxattr(path, b'user.one', value); os.setxattr(path, b'user.empty', b'')", {
        path,
        value,
      });
      t.equal(await python.run("result = os.getxattr(path, b'user.one')", { path }), value);
      t.equal(await python.run("result = os.getxattr(path, b'user.empty')", { path }), '');
      const list = await python.run<string[]>('result = [n.encode() for n in os.listxattr(path)]', { path });
      t.strictSame(list.filter((name) => name.startsWith('user.')).sort(), ['user.empty', 'user.one']);
      await python.run("os.setxattr(path, b'user.one', b'short')", { path });
      t.equal(await python.run("result = os.getxattr(path, b'user.one')", { path }), 'short');
      await python.run("os.removexattr(path, b'user.one'); os.removexattr(path, b'user.empty')", { path });
    }
    t.equal(await readFile(file, 'utf8'), 'content');
  },
};

const trustedXattrs: Case = {
  name: 'attributes: trusted extended attributes are listed for root alone',
  needs: ['caller_identity'],
  async run(t, directory, python) {
    const file = join(directory, 'file');
    await writeFile(file, '');
    await python.run("os.setxattr(path, b'trusted.one', b'x')", { path: file });
    const seen =
      'if b"trusted.one" in [n.encode() for n in os.listxattr(path)]: raise OSError(errno.EEXIST, "")';
    t.equal(await asUser(python, NOBODY, seen, { path: file }), 'ok', 'trusted ones are for root to see');
    t.equal(await asUser(python, 0, seen, { path: file }), 'EEXIST');
  },
};

const xattrErrors: Case = {
  name: 'attributes: extended attributes know CREATE and REPLACE, absence and too little room',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    const set = (value: string, flags: number) =>
      python.run("os.setxattr(path, b'user.name', value, flags)", { path, value, flags });
    await t.rejects(set('x', XATTR_REPLACE), { code: 'ENODATA' });
    await set('twelve bytes', XATTR_CREATE);
    await t.rejects(set('x', XATTR_CREATE), { code: 'EEXIST' });
    await t.rejects(python.run("os.getxattr(path, b'user.other')", { path }), { code: 'ENODATA' });
    await t.rejects(python.run("os.removexattr(path, b'user.other')", { path }), { code: 'ENODATA' });
    await t.rejects(python.run("os.setxattr(path, b'user.', b'x')", { path }), { code: 'EINVAL' });
    await python.run("os.setxattr(path, b'user.dot.', b'x')", { path });
    await python.run("os.removexattr(path, b'user.dot.')", { path });
    const getInto = (size: number) =>
      python.run<number>(
        `
          libc.getxattr.restype = ctypes.c_ssize_t
          room = ctypes.create_string_buffer(max(size, 1))
          result = check(libc.getxattr(path, b'user.name', room, size))
        `,
        { path, size },
      );
    t.equal(await getInto(0), 12, 'asked for its size');
    t.equal(await getInto(12), 12);
    await t.rejects(getInto(5), { code: 'ERANGE' });
    const listInto = (size: number) =>
      python.run<number>(
        `
          libc.listxattr.restype = ctypes.c_ssize_t
          room = ctypes.create_string_buffer(max(size, 1))
          result = check(libc.listxattr(path, room, size))
        `,
        { path, size },
      );
    t.ok((await listInto(0)) >= 'user.name'.length + 1);
    await t.rejects(listInto(4), { code: 'ERANGE' });
    await set('', XATTR_REPLACE);
    t.equal(await getInto(12), 0);
  },
};

export const attributeCases: readonly Case[] = [
  modes,
  owners,
  inheritedGroup,
  permissions,
  privileges,
  times,
  separateTimes,
  movingTimes,
  space,
  xattrs,
  trustedXattrs,
  xattrErrors,
];
