/** Parts of files: holes, preallocation, copies on the server's side, maps, ioctl. */
import { randomBytes } from 'node:crypto';
import { appendFile, open, readFile, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Case } from './suite.js';

const MIB = 1024 * 1024;

const seeking: Case = {
  name: 'extents: SEEK_DATA and SEEK_HOLE find data and holes',
  needs: ['lseek'],
  async run(t, directory, python) {
    const path = join(directory, 'sparse');
    const file = await open(path, 'w');
    await file.write('data', 0);
    await file.write('data', 8 * MIB);
    await file.truncate(16 * MIB);
    await file.sync();
    await file.close();
    const seek = (offset: number, whence: string) =>
      python.run<number>(
        `
          fd = os.open(path, os.O_RDONLY)
          try: result = os.lseek(fd, offset, getattr(os, whence.decode()))
          finally: os.close(fd)
        `,
        { path, offset, whence },
      );
    t.equal(await seek(0, 'SEEK_DATA'), 0);
    const hole = await seek(0, 'SEEK_HOLE');
    t.ok(hole > 0 && hole <= 8 * MIB, 'a hole before the second data');
    const data = await seek(hole, 'SEEK_DATA');
    t.ok(data > hole && data <= 8 * MIB, 'the second data');
    t.ok((await seek(8 * MIB, 'SEEK_HOLE')) <= 16 * MIB, 'the end is a hole');
    await t.rejects(seek(16 * MIB, 'SEEK_DATA'), { code: 'ENXIO' });
    await t.rejects(seek(20 * MIB, 'SEEK_HOLE'), { code: 'ENXIO' });
  },
};

const allocating: Case = {
  name: 'extents: fallocate extends, keeps the size, and punches holes of zeros',
  needs: ['fallocate'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    const data = randomBytes(300_000);
    await writeFile(path, data);
    const fallocate = (mode: number, offset: number, length: number) =>
      python.run(
        `
          libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
          fd = os.open(path, os.O_RDWR)
          try: check(libc.fallocate(fd, mode, offset, length))
          finally: os.close(fd)
        `,
        { path, mode, offset, length },
      );
    const KEEP_SIZE = 1;
    const PUNCH_HOLE = 2;
    await fallocate(0, 0, 400_000);
    t.equal((await stat(path)).size, 400_000);
    await fallocate(KEEP_SIZE, 0, 900_000);
    t.equal((await stat(path)).size, 400_000, 'kept');
    await fallocate(PUNCH_HOLE | KEEP_SIZE, 50_000, 150_000);
    const expected = Buffer.alloc(400_000);
    data.copy(expected);
    expected.fill(0, 50_000, 200_000);
    t.ok((await readFile(path)).equals(expected));
    await t.rejects(fallocate(0, 0, 0), { code: 'EINVAL' });
  },
};

const copying: Case = {
  name: 'extents: copy_file_range copies ranges, within and between files',
  async run(t, directory, python) {
    const from = join(directory, 'from');
    const to = join(directory, 'to');
    const data = randomBytes(3 * MIB);
    await writeFile(from, data);
    await writeFile(to, '');
    const copy = (source: string, target: string, at: number, targetAt: number, count: number) =>
      python.run<number>(
        `
          a, b, result = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR), 0
          try:
              while result < count:
                  n = os.copy_file_range(a, b, count - result, at + result, targetAt + result)
                  if n == 0: break
                  result += n
          finally:
              os.close(a); os.close(b)
        `,
        { source, target, at, targetAt, count },
      );
    t.equal(await copy(from, to, 0, 0, 3 * MIB), 3 * MIB, 'all of it');
    t.ok((await readFile(to)).equals(data));
    t.equal(await copy(from, to, 12_345, 777, 100_000), 100_000, 'a part, unaligned');
    t.ok((await readFile(to)).subarray(777, 100_777).equals(data.subarray(12_345, 112_345)));
    t.equal(await copy(from, to, 3 * MIB - 10, 4 * MIB, 100), 10, 'up to the end');
    t.equal((await stat(to)).size, 4 * MIB + 10);
    t.equal(await copy(from, to, 4 * MIB, 0, 100), 0, 'behind the end');
    t.equal(await copy(from, from, 0, 2 * MIB, MIB), MIB, 'within one file');
    t.ok((await readFile(from)).subarray(2 * MIB).equals(data.subarray(0, MIB)));
  },
};

const independent: Case = {
  name: 'extents: copies are independent of each other ever after',
  async run(t, directory, python) {
    const path = (name: string) => join(directory, name);
    const original = randomBytes(3 * MIB + 12_345);
    await writeFile(path('a'), original);
    const copy = (source: string, target: string) =>
      python.run(
        `
          a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
          try:
              while os.copy_file_range(a, b, 1 << 30): pass
              os.fsync(b)
          finally:
              os.close(a); os.close(b)
        `,
        { source, target },
      );
    await copy(path('a'), path('b'));
    await copy(path('b'), path('c'));
    const contents = new Map<string, Buffer>(['a', 'b', 'c'].map((name) => [name, Buffer.from(original)]));
    const check = async (what: string) => {
      for (const [name, expected] of contents)
        t.ok((await readFile(path(name))).equals(expected), `${what}: ${name}`);
    };
    await check('copied');
    const change = async (name: string, data: string, offset: number) => {
      const file = await open(path(name), 'r+');
      await file.write(data, offset);
      await file.close();
      (contents.get(name) as Buffer).write(data, offset);
    };
    await change('a', 'changed in a', MIB - 5);
    await check('written');
    await change('b', 'changed in b', MIB - 5);
    await change('c', 'changed in c', 3 * MIB + 100);
    await check('all written');
    await truncate(path('b'), 1_500_000);
    contents.set('b', (contents.get('b') as Buffer).subarray(0, 1_500_000));
    await check('one cut');
    await appendFile(path('c'), 'more');
    contents.set('c', Buffer.concat([contents.get('c') as Buffer, Buffer.from('more')]));
    await truncate(path('a'), 3 * MIB + 20_000);
    contents.set('a', Buffer.concat([contents.get('a') as Buffer, Buffer.alloc(20_000 - 12_345)]));
    await check('grown');
    await unlink(path('a'));
    contents.delete('a');
    await change('c', 'again', 17);
    await check('one gone');
    // What was short of a chunk's end stays so, whatever the file it came from does.
    await writeFile(path('small'), 'small');
    await copy(path('small'), path('small copy'));
    await truncate(path('small copy'), 10);
    await appendFile(path('small'), ' but growing');
    t.equal((await readFile(path('small copy'))).toString('latin1'), 'small\0\0\0\0\0');
    t.equal(await readFile(path('small'), 'utf8'), 'small but growing');
  },
};

const punching: Case = {
  name: 'extents: a punched hole is zeros and a hole, around it nothing changes',
  needs: ['fallocate', 'lseek'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    const data = randomBytes(6 * MIB);
    await writeFile(path, data);
    const run = (code: string) =>
      python.run<number>(
        `
          libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
          fd = os.open(path, os.O_RDWR)
          try:
              result = ${code}
          finally: os.close(fd)
        `,
        { path },
      );
    const KEEP_SIZE_PUNCH = 3;
    const ZERO_RANGE = 16;
    const KEEP_SIZE_ZERO = 17;
    await run(`check(libc.fallocate(fd, ${KEEP_SIZE_PUNCH}, 1500000, 3000000))`);
    data.fill(0, 1_500_000, 4_500_000);
    t.ok((await readFile(path)).equals(data), 'punched');
    t.equal((await stat(path)).size, 6 * MIB);
    t.ok((await run('os.lseek(fd, 0, os.SEEK_HOLE)')) < 4_500_000, 'a hole is there');
    t.equal(
      await run('os.lseek(fd, 2 * 1024 * 1024 + 5, os.SEEK_HOLE)'),
      2 * MIB + 5,
      'the middle is a hole',
    );
    const file = await open(path, 'r+');
    await file.write('in the hole', 3 * MIB);
    await file.close();
    data.write('in the hole', 3 * MIB);
    t.ok((await readFile(path)).equals(data), 'written to again');
    await run(`check(libc.fallocate(fd, ${KEEP_SIZE_ZERO}, 5 * 1024 * 1024, 4 * 1024 * 1024))`);
    data.fill(0, 5 * MIB);
    t.ok((await readFile(path)).equals(data), 'zeroed up to the end, which stays');
    await run(`check(libc.fallocate(fd, ${ZERO_RANGE}, 5 * 1024 * 1024, 4 * 1024 * 1024))`);
    t.equal((await stat(path)).size, 9 * MIB, 'zeroed beyond the end, which moves');
    await run(`check(libc.fallocate(fd, ${KEEP_SIZE_PUNCH}, 0, 1 << 40))`);
    t.ok((await readFile(path)).equals(Buffer.alloc(9 * MIB)), 'all of it');
    await t.rejects(run('os.lseek(fd, 0, os.SEEK_DATA)'), { code: 'ENXIO' });
    await t.rejects(
      run('check(libc.fallocate(fd, 2, 0, 1))'),
      { code: /^E(OPNOT|NOT)SUPP?$/ },
      'without KEEP_SIZE',
    );
  },
};

const mapping: Case = {
  name: 'extents: a map reads the file, and what is stored into a shared one is written',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, Buffer.alloc(20_000, 'x'));
    const seen = await python.run<string>(
      `
        fd = os.open(path, os.O_RDWR)
        shared = mmap.mmap(fd, 20000)
        private = mmap.mmap(fd, 20000, access=mmap.ACCESS_COPY)
        private[0:4] = b'mine'
        result = shared[0:4] + private[0:4]
        shared[9000:9005] = b'wrote'
        shared.flush()
        shared.close()
        private.close()
        os.close(fd)
      `,
      { path },
    );
    t.equal(seen, 'xxxxmine');
    const bytes = await readFile(path);
    t.equal(bytes.subarray(8999, 9006).toString(), 'xwrotex');
    t.equal(bytes.subarray(0, 4).toString(), 'xxxx', 'a private map stays private');
    const later = await python.run<string>(
      `
        fd = os.open(path, os.O_RDWR)
        view = mmap.mmap(fd, 20000, prot=mmap.PROT_READ)
        os.pwrite(fd, b'after', 100)
        result = view[100:105]
        view.close()
        os.close(fd)
      `,
      { path },
    );
    t.equal(later, 'after', 'a write is seen in the map');
  },
};

const sharedMaps: Case = {
  name: 'extents: processes that map one file share it, and what they store is in the file',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, Buffer.alloc(8192));
    const seen = await python.run<string[]>(
      `
        ready, done = os.pipe(), os.pipe()
        fd = os.open(path, os.O_RDWR)
        view = mmap.mmap(fd, 8192)
        view[0:6] = b'parent'
        def store(path=path, ready=ready, done=done):
            own = os.open(path, os.O_RDWR)
            with mmap.mmap(own, 8192) as other:
                if other[0:6] != b'parent': return False
                other[4096:4101] = b'child'
                os.write(ready[1], b'x')
                os.read(done[0], 1)
                return other[10:14] == b'back'
        pid = child(store)
        os.read(ready[0], 1)
        result = [view[4096:4101]]
        view[10:14] = b'back'
        os.write(done[1], b'x')
        result += [b'same' if joined(pid) else b'other']
        view.flush(); view.close(); os.close(fd)
        for one in (*ready, *done): os.close(one)
      `,
      { path },
    );
    t.strictSame(seen, ['child', 'same']);
    const bytes = await readFile(path);
    t.equal(bytes.toString('latin1').replaceAll('\0', ' ').replaceAll(/ +/g, ' '), 'parent back child ');
  },
};

const unknownIoctl: Case = {
  name: 'extents: an unknown ioctl is ENOTTY, on files and directories',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    const ioctl = (target: string) =>
      python.run(
        `
          fd = os.open(target, os.O_RDONLY)
          try: fcntl.ioctl(fd, 0x8004fe42, bytearray(4))
          finally: os.close(fd)
        `,
        { target },
      );
    await t.rejects(ioctl(path), { code: 'ENOTTY' });
    await t.rejects(ioctl(directory), { code: 'ENOTTY' });
  },
};

export const extentCases: readonly Case[] = [
  seeking,
  allocating,
  punching,
  copying,
  independent,
  mapping,
  sharedMaps,
  unknownIoctl,
];
