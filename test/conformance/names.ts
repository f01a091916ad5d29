/** Names: what may be one, and making, moving, linking and removing them. */
import { constants } from 'node:fs';
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Python } from './python.js';
import type { Case } from './suite.js';

const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

const unusual: Case = {
  name: 'names: spaces, newlines, quotes, dashes, Unicode and 255 bytes are names like others',
  async run(t, directory) {
    const names = [
      'a b',
      ' ',
      'new\nline',
      '-rf',
      `"'\\$(x)`,
      '*?[',
      'ümlaut 雪 🦉',
      '.hidden',
      '...',
      'n'.repeat(255),
    ];
    for (const name of names) await writeFile(join(directory, name), name);
    t.strictSame((await readdir(directory)).sort(), [...names].sort());
    for (const name of names) t.equal(await readFile(join(directory, name), 'utf8'), name);
  },
};

const notUtf8: Case = {
  name: 'names: bytes that are no UTF-8 stay as they are',
  needs: ['byte_names'],
  async run(t, directory) {
    const name = Buffer.from([0x66, 0xff, 0xc3, 0x28, 0x80]);
    const path = Buffer.concat([Buffer.from(`${directory}/`), name]);
    await writeFile(path, 'bytes');
    t.strictSame(await readdir(directory, { encoding: 'buffer' }), [name]);
    t.equal(await readFile(path, 'utf8'), 'bytes');
    await symlink(name, join(directory, 'to'));
    t.strictSame(await readlink(join(directory, 'to'), { encoding: 'buffer' }), name);
  },
};

const tooLong: Case = {
  name: 'names: 256 bytes are too long, whatever one wants of them',
  async run(t, directory) {
    const long = join(directory, 'n'.repeat(256));
    const there = join(directory, 'there');
    await writeFile(there, '');
    const expected = { code: 'ENAMETOOLONG' };
    await t.rejects(writeFile(long, ''), expected, 'create');
    await t.rejects(mkdir(long), expected, 'mkdir');
    await t.rejects(stat(long), expected, 'stat');
    await t.rejects(symlink('x', long), expected, 'symlink');
    await t.rejects(link(there, long), expected, 'link');
    await t.rejects(rename(there, long), expected, 'rename');
    await t.rejects(unlink(long), expected, 'unlink');
    await t.rejects(stat(join(directory, 'd/'.repeat(2100))), expected, 'a path of more than 4,096');
  },
};

const makingErrors: Case = {
  name: 'names: mkdir, rmdir and unlink refuse the wrong kind of thing',
  async run(t, directory) {
    const file = join(directory, 'file');
    const folder = join(directory, 'folder');
    await writeFile(file, '');
    await mkdir(join(folder, 'inner'), { recursive: true });
    await t.rejects(mkdir(file), { code: 'EEXIST' });
    await t.rejects(mkdir(folder), { code: 'EEXIST' });
    await t.rejects(mkdir(join(directory, 'no', 'where')), { code: 'ENOENT' });
    await t.rejects(mkdir(join(file, 'below')), { code: 'ENOTDIR' });
    await t.rejects(rmdir(folder), { code: 'ENOTEMPTY' });
    await t.rejects(rmdir(file), { code: 'ENOTDIR' });
    await t.rejects(rmdir(join(directory, 'none')), { code: 'ENOENT' });
    await t.rejects(rmdir(`${folder}/.`), { code: 'EINVAL' });
    await t.rejects(unlink(folder), { code: 'EISDIR' });
    await t.rejects(unlink(join(directory, 'none')), { code: 'ENOENT' });
    await rmdir(join(folder, 'inner'));
    await rmdir(folder);
    await t.rejects(stat(folder), { code: 'ENOENT' });
  },
};

const renaming: Case = {
  name: 'names: rename replaces what it may and refuses the rest',
  async run(t, directory) {
    const at = (name: string) => join(directory, name);
    await writeFile(at('one'), '1');
    await writeFile(at('two'), '2');
    await rename(at('one'), at('two'));
    t.equal(await readFile(at('two'), 'utf8'), '1', 'a file over a file');
    await t.rejects(stat(at('one')), { code: 'ENOENT' });
    await rename(at('two'), at('two'));
    t.equal(await readFile(at('two'), 'utf8'), '1', 'onto itself');
    await t.rejects(rename(at('none'), at('other')), { code: 'ENOENT' });

    await mkdir(at('full/inner'), { recursive: true });
    await mkdir(at('empty'));
    await t.rejects(rename(at('two'), at('empty')), { code: 'EISDIR' }, 'a file over a directory');
    await t.rejects(rename(at('empty'), at('two')), { code: 'ENOTDIR' }, 'a directory over a file');
    await t.rejects(rename(at('empty'), at('full')), { code: 'ENOTEMPTY' });
    await t.rejects(rename(at('full'), at('full/inner/below')), { code: 'EINVAL' }, 'into itself');
    await rename(at('full'), at('empty'));
    t.strictSame(await readdir(at('empty')), ['inner'], 'a directory over an empty one');
  },
};

const moving: Case = {
  name: 'names: a directory moves with all that is in it and open in it',
  async run(t, directory) {
    const at = (name: string) => join(directory, name);
    await mkdir(at('a/deep/er'), { recursive: true });
    await mkdir(at('b'));
    await writeFile(at('a/deep/er/file'), 'before');
    const file = await open(at('a/deep/er/file'), 'r+');
    await rename(at('a/deep'), at('b/moved'));
    t.equal(await readFile(at('b/moved/er/file'), 'utf8'), 'before');
    await file.write('behind');
    t.equal(await readFile(at('b/moved/er/file'), 'utf8'), 'behind', 'through the open file');
    await file.close();
    t.equal((await stat(at('b/moved/..'))).ino, (await stat(at('b'))).ino, '.. is the new parent');
    t.strictSame(await readdir(at('a')), []);
    await rm(at('a'), { recursive: true });
  },
};

async function renameat2(python: Python, from: string, to: string, flags: number): Promise<void> {
  await python.run('check(libc.renameat2(-100, source, -100, target, flags))', {
    source: from,
    target: to,
    flags,
  });
}

const renameFlags: Case = {
  name: 'names: RENAME_NOREPLACE and RENAME_EXCHANGE',
  needs: ['rename_flags'],
  async run(t, directory, python) {
    const at = (name: string) => join(directory, name);
    await writeFile(at('one'), '1');
    await writeFile(at('two'), '2');
    await t.rejects(renameat2(python, at('one'), at('two'), RENAME_NOREPLACE), { code: 'EEXIST' });
    t.equal(await readFile(at('two'), 'utf8'), '2');
    await renameat2(python, at('one'), at('three'), RENAME_NOREPLACE);
    t.equal(await readFile(at('three'), 'utf8'), '1');
    await renameat2(python, at('two'), at('three'), RENAME_EXCHANGE);
    t.equal(await readFile(at('two'), 'utf8'), '1');
    t.equal(await readFile(at('three'), 'utf8'), '2');
    await t.rejects(renameat2(python, at('two'), at('none'), RENAME_EXCHANGE), { code: 'ENOENT' });
    await t.rejects(renameat2(python, at('two'), at('three'), RENAME_NOREPLACE | RENAME_EXCHANGE), {
      code: 'EINVAL',
    });

    await mkdir(at('folder/inner'), { recursive: true });
    await renameat2(python, at('folder/inner'), at('two'), RENAME_EXCHANGE);
    t.ok((await stat(at('two'))).isDirectory(), 'a directory for a file');
    t.equal(await readFile(at('folder/inner'), 'utf8'), '1');
    t.equal((await stat(at('two/..'))).ino, (await stat(directory)).ino);
  },
};

const linking: Case = {
  name: 'names: hard links are one file',
  async run(t, directory) {
    const at = (name: string) => join(directory, name);
    await writeFile(at('one'), 'content');
    await mkdir(at('folder'));
    await link(at('one'), at('folder/two'));
    t.equal((await stat(at('one'))).nlink, 2);
    t.equal((await stat(at('one'))).ino, (await stat(at('folder/two'))).ino);
    await writeFile(at('folder/two'), 'changed');
    t.equal(await readFile(at('one'), 'utf8'), 'changed');
    await t.rejects(link(at('one'), at('folder/two')), { code: 'EEXIST' });
    await t.rejects(link(at('none'), at('three')), { code: 'ENOENT' });
    await t.rejects(link(at('folder'), at('three')), { code: 'EPERM' });
    await link(at('one'), at('three'));
    await rename(at('one'), at('three'));
    t.equal((await stat(at('one'))).nlink, 3, 'renaming one onto the other changes nothing');
    await unlink(at('one'));
    await unlink(at('folder/two'));
    t.equal((await stat(at('three'))).nlink, 1);
    t.equal(await readFile(at('three'), 'utf8'), 'changed');
  },
};

const symbolicLinks: Case = {
  name: 'names: symbolic links lead where they say',
  async run(t, directory) {
    const at = (name: string) => join(directory, name);
    await mkdir(at('folder'));
    await writeFile(at('folder/file'), 'content');
    await symlink('folder/file', at('to'));
    t.equal(await readlink(at('to')), 'folder/file');
    t.equal(await readFile(at('to'), 'utf8'), 'content');
    const link = await lstat(at('to'));
    t.ok(link.isSymbolicLink());
    t.equal(link.size, 'folder/file'.length);
    await symlink('nowhere', at('dangling'));
    await t.rejects(stat(at('dangling')), { code: 'ENOENT' });
    await writeFile(at('dangling'), 'made through it');
    t.equal(await readFile(at('nowhere'), 'utf8'), 'made through it');
    await symlink('loop', at('loop'));
    await t.rejects(stat(at('loop')), { code: 'ELOOP' });
    await t.rejects(symlink('x', at('to')), { code: 'EEXIST' });
    await t.rejects(readlink(at('folder')), { code: 'EINVAL' });
    const long = `./${'./'.repeat(1020)}folder`;
    await symlink(long, at('long'));
    t.equal(await readlink(at('long')), long);
    await unlink(at('to'));
    t.equal(await readFile(at('folder/file'), 'utf8'), 'content', 'removing the link leaves the file');
  },
};

const notFollowed: Case = {
  name: 'names: O_NOFOLLOW refuses a link at the end of a path, and only there',
  async run(t, directory) {
    const at = (name: string) => join(directory, name);
    await mkdir(at('folder'));
    await writeFile(at('folder/file'), 'content');
    await symlink('folder/file', at('to-file'));
    await symlink('folder', at('to-folder'));
    await symlink('nowhere', at('dangling'));
    const { O_RDONLY, O_WRONLY, O_CREAT, O_NOFOLLOW } = constants;
    for (const name of ['to-file', 'to-folder', 'dangling', 'to-folder/../to-file']) {
      await t.rejects(open(at(name), O_RDONLY | O_NOFOLLOW), { code: 'ELOOP' }, name);
    }
    for (const name of ['to-file', 'dangling']) {
      await t.rejects(open(at(name), O_WRONLY | O_CREAT | O_NOFOLLOW), { code: 'ELOOP' }, `O_CREAT: ${name}`);
    }
    await t.rejects(stat(at('nowhere')), { code: 'ENOENT' }, 'nothing was made through the link');
    const file = await open(at('to-folder/file'), O_RDONLY | O_NOFOLLOW);
    t.equal((await file.readFile()).toString(), 'content', 'a link on the way is followed');
    await file.close();
  },
};

/** Whether this process may make device nodes: a container may keep even root from it. */
async function mayMakeDevices(python: Python): Promise<boolean> {
  const directory = await mkdtemp(join(tmpdir(), 'gfs-device-'));
  try {
    await python.run("os.mknod(path + b'/null', stat.S_IFCHR | 0o600, os.makedev(1, 3))", {
      path: directory,
    });
    return true;
  } catch {
    return false;
  } finally {
    await rm(directory, { recursive: true });
  }
}

const devices: Case = {
  name: 'names: device nodes are made by root, keep their numbers, and are renamed, linked and removed',
  root: true,
  async run(t, directory, python) {
    if (!(await mayMakeDevices(python))) {
      t.pass('no device nodes here, on the local disk either');
      return;
    }
    const at = (name: string) => join(directory, name);
    const made: readonly [string, string, number, number, number][] = [
      ['null', 'S_IFCHR', 0o620, 1, 3],
      ['loop', 'S_IFBLK', 0o600, 7, 0],
      ['many', 'S_IFBLK', 0o640, 259, 700_000],
    ];
    for (const [name, type, mode, major, minor] of made) {
      const variables = { path: at(name), mode, major, minor };
      await python.run(`os.mknod(path, stat.${type} | mode, os.makedev(major, minor))`, variables);
      await rename(at(name), at(`${name}-moved`));
      await link(at(`${name}-moved`), at(`${name}-linked`));
      await chmod(at(`${name}-linked`), 0o600);
      const told = await python.run<number[]>(
        `
          s = os.lstat(path)
          result = [stat.S_IFMT(s.st_mode) == stat.${type}, s.st_mode & 0o7777, os.major(s.st_rdev), os.minor(s.st_rdev)]
          result += [s.st_size, s.st_nlink]
        `,
        { path: at(`${name}-moved`) },
      );
      t.strictSame(told, [true, 0o600, major, minor, 0, 2], name);
      await t.rejects(python.run('os.mknod(path, stat.S_IFCHR, 0)', { path: at(`${name}-linked`) }), {
        code: 'EEXIST',
      });
      await unlink(at(`${name}-moved`));
      await unlink(at(`${name}-linked`));
    }
  },
};

const special: Case = {
  name: 'names: named pipes and sockets can be made and used',
  async run(t, directory, python) {
    const path = join(directory, 'pipe');
    const through = await python.run<string>(
      `
        os.mkfifo(path, 0o640)
        fd = os.open(path, os.O_RDWR)
        os.write(fd, b'through a pipe')
        result = os.read(fd, 100)
        os.close(fd)
        server = socket.socket(socket.AF_UNIX)
        server.bind(os.path.dirname(path) + b'/socket')
        server.close()
      `,
      { path },
    );
    t.equal(through, 'through a pipe');
    t.ok((await stat(path)).isFIFO());
    t.ok((await stat(join(directory, 'socket'))).isSocket());
  },
};

export const nameCases: readonly Case[] = [
  unusual,
  notUtf8,
  tooLong,
  makingErrors,
  renaming,
  moving,
  renameFlags,
  linking,
  symbolicLinks,
  notFollowed,
  devices,
  special,
];
