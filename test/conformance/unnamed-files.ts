/** Files without a name (O_TMPFILE), and how linkat(2) gives them one. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Case } from './suite.js';

const unnamed: Case = {
  name: 'files: O_TMPFILE makes a file without a name, with mode, umask and owner of its own',
  needs: ['tmpfile'],
  async run(t, directory, python) {
    const before = await stat(directory, { bigint: true });
    const told = await python.run<number[] & { 6: string }>(
      `
        old = os.umask(0o027)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
        os.umask(old)
        os.write(fd, b'a line\\n' * 30000)
        os.pwrite(fd, b'A', 0)
        os.fsync(fd)
        s = os.fstat(fd)
        again = os.open('/proc/self/fd/%d' % fd, os.O_RDONLY)
        result = [s.st_nlink, stat.S_IMODE(s.st_mode), s.st_uid, s.st_size, s.st_dev == os.stat(directory).st_dev,
                  os.listdir(directory) == [], os.pread(fd, 7, 0), len(os.read(again, 300000))]
        os.ftruncate(fd, 5)
        result += [os.fstat(again).st_size]
        os.close(fd)
        result += [os.pread(again, 9, 0)]
        os.close(again)
      `,
      { directory },
    );
    const uid = process.geteuid?.() ?? 0;
    t.strictSame(told, [0, 0o640, uid, 210_000, true, true, 'A line\n', 210_000, 5, 'A lin']);
    const after = await stat(directory, { bigint: true });
    t.equal(after.mtimeNs, before.mtimeNs, 'its directory has not changed');
  },
};

const named: Case = {
  name: 'files: linkat gives a file of O_TMPFILE its name, whole, once and for all',
  needs: ['tmpfile'],
  async run(t, directory, python) {
    const at = (name: string) => join(directory, name);
    await writeFile(at('taken'), 'mine');
    const told = await python.run<unknown[]>(
      `
        AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
        def link(fd, target):
            check(libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % fd, AT_FDCWD, target, AT_SYMLINK_FOLLOW))
        def code(call):
            try: call()
            except OSError as error: return errno.errorcode[error.errno]
            return 'none'
        names = dict(globals(), **locals())
        fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
        os.write(fd, b'whole')
        result = [code(eval('lambda: link(fd, directory + b"/taken")', dict(globals(), **locals())))]
        link(fd, directory + b'/one')
        result += [os.fstat(fd).st_nlink, sorted(os.listdir(directory)), os.stat(directory + b'/one').st_ino == os.fstat(fd).st_ino]
        link(fd, directory + b'/two')
        os.write(fd, b' still')
        result += [os.fstat(fd).st_nlink]
        os.unlink(directory + b'/one')
        os.unlink(directory + b'/two')
        result += [os.fstat(fd).st_nlink]
        result += [code(eval('lambda: link(fd, directory + b"/three")', dict(globals(), **locals())))]
        os.close(fd)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
        result += [code(eval('lambda: link(fd, directory + b"/three")', dict(globals(), **locals())))]
        os.close(fd)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b'by descriptor')
        empty = libc.linkat(fd, b'', AT_FDCWD, directory + b'/empty', AT_EMPTY_PATH)
        if empty < 0: link(fd, directory + b'/empty')
        os.close(fd)
      `,
      { directory },
    );
    t.strictSame(told, ['EEXIST', 1, ['one', 'taken'], true, 2, 0, 'ENOENT', 'ENOENT']);
    t.strictSame((await readdir(directory)).sort(), ['empty', 'taken']);
    t.equal(await readFile(at('empty'), 'utf8'), 'by descriptor');
    t.equal((await stat(at('empty'))).nlink, 1);
  },
};

const refused: Case = {
  name: 'files: O_TMPFILE refuses reading alone, what is no directory and what is not there',
  needs: ['tmpfile'],
  async run(t, directory, python) {
    const open = (path: string, flags: string) =>
      python.run(`os.close(os.open(path, os.O_TMPFILE | ${flags}, 0o600))`, { path });
    await writeFile(join(directory, 'file'), '');
    await t.rejects(open(directory, 'os.O_RDONLY'), { code: 'EINVAL' });
    await t.rejects(open(join(directory, 'file'), 'os.O_RDWR'), { code: 'ENOTDIR' });
    await t.rejects(open(join(directory, 'none'), 'os.O_RDWR'), { code: 'ENOENT' });
  },
};

const inherited: Case = {
  name: 'acls: a file of O_TMPFILE gets group and default ACL of its directory',
  needs: ['tmpfile', 'acls'],
  root: true,
  async run(t, directory, python) {
    const told = await python.run<unknown[]>(
      `
        os.chown(directory, 2001, 2005)
        os.chmod(directory, 0o2775)
        entries = [(1, 7, 0xffffffff), (2, 6, 2002), (4, 5, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff)]
        acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)
        os.setxattr(directory, 'system.posix_acl_default', acl)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
        s = os.fstat(fd)
        got = os.getxattr(fd, 'system.posix_acl_access')
        users = [struct.unpack_from('<HHI', got, at)[:2] for at in range(4, len(got), 8)]
        result = [s.st_gid, stat.S_IMODE(s.st_mode), [list(user) for user in users]]
        os.close(fd)
      `,
      { directory },
    );
    t.strictSame(told, [
      2005,
      0o660,
      [
        [1, 6],
        [2, 6],
        [4, 5],
        [16, 6],
        [32, 0],
      ],
    ]);
  },
};

export const unnamedCases: readonly Case[] = [unnamed, named, refused, inherited];
