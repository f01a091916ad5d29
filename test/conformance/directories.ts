/** Listing directories: many entries, and some that come and go meanwhile. */
import { mkdir, opendir, readdir, rmdir, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Case } from './suite.js';

const MANY = 3000;

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${String(i).padStart(5, '0')}`);
}

async function makeFiles(directory: string, names: readonly string[]): Promise<void> {
  for (let i = 0; i < names.length; i += 64) {
    await Promise.all(names.slice(i, i + 64).map((name) => writeFile(join(directory, name), '')));
  }
}

const many: Case = {
  name: 'directories: thousands of entries are listed once each, and can all be looked up',
  async run(t, directory) {
    const names = numbered('file with a name of usual length ', MANY);
    await makeFiles(directory, names);
    t.strictSame((await readdir(directory)).sort(), names);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(directory, name))).size));
    t.ok(sizes.every((size) => size === 0));
    t.strictSame((await readdir(directory)).sort(), names, 'again');
  },
};

const types: Case = {
  name: 'directories: a listing tells the types of entries',
  async run(t, directory) {
    await mkdir(join(directory, 'folder'));
    await writeFile(join(directory, 'file'), '');
    await symlink('file', join(directory, 'link'));
    const found = (await readdir(directory, { withFileTypes: true })).map(
      (entry) => `${entry.name} ${entry.isFile()} ${entry.isDirectory()} ${entry.isSymbolicLink()}`,
    );
    t.strictSame(found.sort(), ['file true false false', 'folder false true false', 'link false false true']);
  },
};

const dots: Case = {
  name: 'directories: . and .. are listed, with the inodes that they are',
  async run(t, directory, python) {
    await mkdir(join(directory, 'folder'));
    await writeFile(join(directory, 'folder', 'file'), '');
    const listed = await python.run<[number, string][]>(
      `
        class Dirent(ctypes.Structure):
            _fields_ = [('ino', ctypes.c_ulong), ('off', ctypes.c_long), ('len', ctypes.c_ushort),
                        ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
        libc.readdir.restype = ctypes.POINTER(Dirent)
        handle = libc.opendir(path)
        result = []
        while True:
            entry = libc.readdir(handle)
            if not entry: break
            result.append([entry.contents.ino, entry.contents.name])
        libc.closedir(handle)
      `,
      { path: join(directory, 'folder') },
    );
    const inode = async (path: string) => (await stat(join(directory, path))).ino;
    const expected = [
      [await inode('folder'), '.'],
      [await inode('.'), '..'],
      [await inode('folder/file'), 'file'],
    ];
    t.strictSame(
      new Map(listed.map(([ino, name]) => [name, ino])),
      new Map(expected.map(([ino, name]) => [name, ino])),
    );
  },
};

const deleting: Case = {
  name: 'directories: deleting what a listing returns, as it comes, deletes everything',
  async run(t, directory) {
    const names = numbered('f', MANY);
    await makeFiles(directory, names);
    const listing = await opendir(directory, { bufferSize: 16 });
    const seen = new Set<string>();
    for await (const entry of listing) {
      if (seen.has(entry.name)) t.fail(`${entry.name} was listed twice`);
      seen.add(entry.name);
      await unlink(join(directory, entry.name));
    }
    t.equal(seen.size, MANY);
    t.strictSame(await readdir(directory), []);
  },
};

const changing: Case = {
  name: 'directories: what is there all the time is listed once while others come and go',
  async run(t, directory) {
    const staying = numbered('stays', 1000);
    const going = numbered('goes', 500);
    await makeFiles(directory, [...staying, ...going]);
    const counts = new Map<string, number>();
    const listing = await opendir(directory, { bufferSize: 8 });
    let i = 0;
    for await (const entry of listing) {
      counts.set(entry.name, (counts.get(entry.name) ?? 0) + 1);
      const name = going[i];
      if (name !== undefined) await unlink(join(directory, name));
      if (name !== undefined) await writeFile(join(directory, `comes${i}`), '');
      i++;
    }
    t.strictSame(
      staying.filter((name) => counts.get(name) !== 1),
      [],
    );
    const after = (await readdir(directory)).filter((name) => name.startsWith('goes'));
    t.strictSame(after, [], 'a new listing shows what is');
  },
};

const seeking: Case = {
  name: 'directories: telldir and seekdir come back to the same entries after deletions before',
  async run(t, directory, python) {
    await makeFiles(directory, numbered('f', 2000));
    const [first, again] = await python.run<[string[], string[]]>(
      `
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir.restype = ctypes.c_void_p
        libc.telldir.restype = ctypes.c_long
        for call in (libc.readdir, libc.closedir, libc.telldir): call.argtypes = [ctypes.c_void_p]
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
        handle = libc.opendir(path)
        def next():
            entry = libc.readdir(handle)
            return ctypes.string_at(entry + 19) if entry else None
        before = [next() for _ in range(700)]
        place = libc.telldir(handle)
        first = [next() for _ in range(600)]
        for name in before:
            if name not in (b'.', b'..'): os.unlink(path + b'/' + name)
        libc.seekdir(handle, place)
        again = [next() for _ in range(600)]
        libc.closedir(handle)
        result = [first, again]
      `,
      { path: directory },
    );
    t.strictSame(again, first);
  },
};

const fresh: Case = {
  name: 'directories: a listing shows what was just made, renamed and removed',
  async run(t, directory) {
    for (let i = 0; i < 50; i++) {
      await writeFile(join(directory, 'made'), '');
      t.strictSame(await readdir(directory), ['made']);
      await unlink(join(directory, 'made'));
      t.strictSame(await readdir(directory), []);
    }
  },
};

const removed: Case = {
  name: 'directories: a removed directory that is still open is empty, and nothing can be made in it',
  async run(t, directory, python) {
    const path = join(directory, 'gone');
    await mkdir(path);
    const outcome = await python.run<string>(
      `
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir(path)
        try:
            os.close(os.open(b'new', os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            result = b'made'
        except OSError as error:
            result = errno.errorcode[error.errno].encode()
        os.close(fd)
      `,
      { path },
    );
    t.equal(outcome, 'ENOENT');
    await mkdir(path);
    t.strictSame(await readdir(path), []);
    await rmdir(path);
  },
};

export const directoryCases: readonly Case[] = [
  many,
  types,
  dots,
  deleting,
  changing,
  seeking,
  fresh,
  removed,
];
