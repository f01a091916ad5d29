/** Contents of files: reading, writing, truncating, appending, and files without a name. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import type { Case } from './suite.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** All bytes from `position`, as many as there are up to `length`. */
async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

const contents: Case = {
  name: 'files: what is written is read back, whatever its size',
  async run(t, directory) {
    const path = join(directory, 'file');
    for (const size of [0, 1, 4095, 4096, 4097, 65_536, MIB - 1, MIB, MIB + 1, 3 * MIB + 12_345]) {
      const data = randomBytes(size);
      await writeFile(path, data);
      t.equal((await stat(path)).size, size, `size of ${size} bytes`);
      t.ok((await readFile(path)).equals(data), `content of ${size} bytes`);
    }
  },
};

const openErrors: Case = {
  name: 'files: open refuses what is not there, is there, or is something else',
  async run(t, directory) {
    const path = join(directory, 'file');
    await t.rejects(open(path, 'r'), { code: 'ENOENT' });
    await writeFile(path, 'content');
    await t.rejects(open(path, 'wx'), { code: 'EEXIST' }, 'O_EXCL on a file that is there');
    await t.rejects(open(directory, 'r+'), { code: 'EISDIR' }, 'a directory for writing');
    await t.rejects(open(path, constants.O_RDONLY | constants.O_DIRECTORY), { code: 'ENOTDIR' });
    await t.rejects(open(join(path, 'below'), 'r'), { code: 'ENOTDIR' }, 'a file as a directory');
    const exclusive = await open(join(directory, 'new'), 'wx', 0o640);
    t.equal((await exclusive.stat()).mode & 0o777, 0o640 & ~process.umask());
    await exclusive.close();
  },
};

const openModes: Case = {
  name: 'files: O_TRUNC empties, O_CREAT keeps, the access mode holds',
  async run(t, directory) {
    const path = join(directory, 'file');
    await writeFile(path, 'content');
    const kept = await open(path, constants.O_RDWR | constants.O_CREAT);
    t.equal((await kept.stat()).size, 7);
    await kept.close();
    const reader = await open(path, 'r');
    await t.rejects(reader.write('x'), { code: 'EBADF' });
    await t.rejects(reader.truncate(1), { code: 'EINVAL' });
    const writer = await open(path, 'w');
    await t.rejects(writer.read(Buffer.alloc(1), 0, 1, 0), { code: 'EBADF' });
    t.equal((await reader.stat()).size, 0, 'emptied');
    await writer.write('new');
    t.equal((await readAt(reader, 0, 10)).toString(), 'new');
    await writer.close();
    await reader.close();
  },
};

const truncation: Case = {
  name: 'files: truncation cuts, and what grows is zeros',
  async run(t, directory) {
    const path = join(directory, 'file');
    const data = randomBytes(200_000);
    await writeFile(path, data);
    await truncate(path, 70_001);
    t.ok((await readFile(path)).equals(data.subarray(0, 70_001)));
    await truncate(path, 150_000);
    const expected = Buffer.concat([data.subarray(0, 70_001), Buffer.alloc(79_999)]);
    t.ok((await readFile(path)).equals(expected), 'zeros where old bytes were');
    const file = await open(path, 'r+');
    await file.truncate(10);
    t.equal((await stat(path)).size, 10, 'through an open file');
    t.equal((await readAt(file, 0, 100)).length, 10);
    t.equal((await readAt(file, 10, 100)).length, 0, 'at the end');
    t.equal((await readAt(file, 5000, 100)).length, 0, 'behind it');
    await file.close();
    await t.rejects(truncate(directory, 1), { code: 'EISDIR' });
    await t.rejects(truncate(join(directory, 'nothing'), 1), { code: 'ENOENT' });
  },
};

const appending: Case = {
  name: 'files: every append lands at the end, whoever moved it',
  async run(t, directory) {
    const path = join(directory, 'log');
    const first = await open(path, 'a+');
    const second = await open(path, 'a');
    await first.write('one ');
    await second.write('two ');
    await first.write('three ');
    t.equal(await readFile(path, 'utf8'), 'one two three ');
    await truncate(path, 4);
    await second.write('four');
    t.equal(await readFile(path, 'utf8'), 'one four');
    t.equal((await readAt(first, 0, 100)).toString(), 'one four', 'read through an appending handle');
    const pages = randomBytes(300_000);
    await first.write(pages);
    t.ok((await readFile(path)).subarray(8).equals(pages));
    await first.close();
    await second.close();
  },
};

const holes: Case = {
  name: 'files: a write far behind the end leaves zeros between',
  async run(t, directory) {
    const path = join(directory, 'sparse');
    const file = await open(path, 'w+');
    await file.write('head', 0);
    await file.write('tail', 3 * MIB + 5);
    const bytes = await readFile(path);
    t.equal(bytes.length, 3 * MIB + 9);
    t.ok(bytes.subarray(4, 3 * MIB + 5).every((byte) => byte === 0));
    t.equal(bytes.subarray(-4).toString(), 'tail');
    await file.close();
  },
};

const large: Case = {
  name: 'files: offsets of more than 4 GiB are exact',
  async run(t, directory) {
    const path = join(directory, 'large');
    const file = await open(path, 'w+');
    const marks = [GIB - 3, 2 * GIB - 1, 4 * GIB - 2, 5 * GIB];
    for (const at of marks) await file.write(`mark at ${at}`, at);
    t.equal((await stat(path)).size, 5 * GIB + `mark at ${5 * GIB}`.length);
    for (const at of marks) {
      const text = `mark at ${at}`;
      t.equal((await readAt(file, at, text.length)).toString(), text);
    }
    t.equal((await readAt(file, 3 * GIB, 4096)).compare(Buffer.alloc(4096)), 0, 'a hole');
    await truncate(path, 6 * GIB);
    t.equal((await file.stat()).size, 6 * GIB);
    t.equal((await readAt(file, 6 * GIB - 10, 100)).length, 10);
    await file.truncate(4 * GIB - 1);
    t.equal((await stat(path)).size, 4 * GIB - 1);
    t.equal((await readAt(file, 4 * GIB - 2, 10)).toString(), 'm');
    await file.close();
  },
};

const nameless: Case = {
  name: 'files: an unlinked file lives on in those who have it open',
  async run(t, directory) {
    const path = join(directory, 'file');
    await writeFile(path, 'first');
    const file = await open(path, 'r+');
    await unlink(path);
    await t.rejects(stat(path), { code: 'ENOENT' });
    t.equal((await file.stat()).nlink, 0);
    await file.write('FIRST and more', 0);
    t.equal((await readAt(file, 0, 100)).toString(), 'FIRST and more');
    await file.truncate(5);
    await file.chmod(0o600);
    t.match(await file.stat(), { size: 5 });
    await writeFile(path, 'second');
    t.equal((await readAt(file, 0, 100)).toString(), 'FIRST', 'the name is another file now');
    t.not((await file.stat()).ino, (await stat(path)).ino);
    await file.close();
    t.equal(await readFile(path, 'utf8'), 'second');
  },
};

const syncing: Case = {
  name: 'files: fsync, fdatasync and fsync of a directory succeed',
  async run(t, directory) {
    const file = await open(join(directory, 'file'), 'w');
    await file.write('x');
    await file.datasync();
    await file.sync();
    await file.close();
    const opened = await open(directory, 'r');
    await opened.sync();
    await opened.close();
    const synchronous = await open(join(directory, 'file'), constants.O_WRONLY | constants.O_SYNC);
    await synchronous.write('y');
    await synchronous.close();
    t.equal(await readFile(join(directory, 'file'), 'utf8'), 'y');
  },
};

const direct: Case = {
  name: 'files: O_DIRECT reads and writes what the page cache has',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, Buffer.alloc(256 * 1024, 'a'));
    const read = await python.run<string>(
      `
        page = mmap.mmap(-1, 65536)
        page[:] = b'b' * 65536
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        os.pwritev(fd, [page], 65536)
        page[:] = bytes(65536)
        os.preadv(fd, [page], 32768)
        os.close(fd)
        result = page[:]
      `,
      { path },
    );
    t.equal(read, 'a'.repeat(32_768) + 'b'.repeat(32_768));
    t.equal((await readFile(path)).subarray(65_536, 131_072).compare(Buffer.alloc(65_536, 'b')), 0);
  },
};

/** One step of a random history: what it does to the file is also done to a buffer. */
type Step =
  | { kind: 'write'; at: number; length: number; byte: number }
  | { kind: 'append'; length: number; byte: number }
  | { kind: 'truncate'; size: number }
  | { kind: 'read'; at: number; length: number };

const MODEL_BYTES = 300_000;
const position = fc.nat(MODEL_BYTES - 1);
const length = fc.integer({ min: 1, max: 70_000 });
const byte = fc.integer({ min: 1, max: 255 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), at: position, length, byte }),
  fc.record({ kind: fc.constant('append' as const), length, byte }),
  fc.record({ kind: fc.constant('truncate' as const), size: position }),
  fc.record({ kind: fc.constant('read' as const), at: position, length }),
);

async function takeStep(
  one: Step,
  model: Buffer,
  handles: Record<'rw' | 'append' | 'reader', FileHandle>,
): Promise<Buffer> {
  switch (one.kind) {
    case 'write': {
      await handles.rw.write(Buffer.alloc(one.length, one.byte), 0, one.length, one.at);
      const grown = Buffer.alloc(Math.max(model.length, one.at + one.length));
      model.copy(grown);
      return grown.fill(one.byte, one.at, one.at + one.length);
    }
    case 'append':
      await handles.append.write(Buffer.alloc(one.length, one.byte));
      return Buffer.concat([model, Buffer.alloc(one.length, one.byte)]);
    case 'truncate': {
      await handles.rw.truncate(one.size);
      const cut = Buffer.alloc(one.size);
      model.copy(cut);
      return cut;
    }
    case 'read': {
      const read = await readAt(handles.reader, one.at, one.length);
      const expected = model.subarray(one.at, one.at + one.length);
      if (!read.equals(expected))
        throw new Error(`read ${read.length} bytes at ${one.at}: not what was written`);
      return model;
    }
  }
}

const history: Case = {
  name: 'files: any history of writes, appends, truncations and reads gives what a buffer gives',
  async run(t, directory) {
    let run = 0;
    const property = fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const path = join(directory, `history-${run++}`);
      const rw = await open(path, 'w+');
      const append = await open(path, 'a');
      const reader = await open(path, 'r');
      let model: Buffer = Buffer.alloc(0);
      for (const one of steps) model = await takeStep(one, model, { rw, append, reader });
      await Promise.all([rw.close(), append.close(), reader.close()]);
      return (await readFile(path)).equals(model);
    });
    await t.resolves(fc.assert(property, { numRuns: 20, endOnFailure: true }));
  },
};

export const fileCases: readonly Case[] = [
  contents,
  openErrors,
  openModes,
  truncation,
  appending,
  holes,
  large,
  nameless,
  syncing,
  direct,
  history,
];
