/** What every {@link Disk} promises, as tests that run against each of them. */
import type { Test } from 'tap';
import type { Disk } from '../../environment/ports/index.js';

export interface DiskUnderTest {
  readonly disk: Disk;
  /** A second process on the same host. */
  readonly other: Disk;
  /** An empty directory of its own. */
  readonly root: string;
  /** Lets the time pass that the test needs. */
  run<T>(test: () => Promise<T>): Promise<T>;
  /** Makes the disk accept this many bytes more; absent where that cannot be had. */
  limit?(bytes: number): void;
}

const bytes = (text: string) => Buffer.from(text, 'latin1');

async function contentOf(disk: Disk, path: string): Promise<string> {
  const file = await disk.open(path, 'read');
  const buffer = Buffer.alloc((await file.sizeBytes()) + 10);
  const count = await file.read(buffer, 0);
  await file.close();
  return buffer.toString('latin1', 0, count);
}

async function put(disk: Disk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, 'create');
  await file.write([bytes(text)], 0);
  await file.close();
}

export function diskContract(t: Test, name: string, make: () => Promise<DiskUnderTest>): void {
  const check = (fact: string, body: (t: Test, under: DiskUnderTest) => Promise<void>) => {
    t.test(`${name}: ${fact}`, async (t) => {
      const under = await make();
      await under.run(() => body(t, under));
    });
  };

  check('what is written is read back, also across buffers and with holes', async (t, { disk, root }) => {
    const file = await disk.open(`${root}/f`, 'create-new');
    await file.write([bytes('abc'), bytes(''), bytes('defg')], 5000);
    await file.write([], 0);
    t.equal(await file.sizeBytes(), 5007);
    const buffer = Buffer.alloc(20, 'x');
    t.equal(await file.read(buffer, 4996), 11, 'a read at the end is short');
    t.equal(buffer.toString('latin1', 0, 11), '\0\0\0\0abcdefg');
    t.equal(await file.read(buffer, 6000), 0, 'a read past the end gives nothing');
    await file.sync();
    await file.sync(true);
    await file.close();
    t.equal((await contentOf(disk, `${root}/f`)).length, 5007);
  });

  check('memory that the disk allocated is written as any other', async (t, { disk, root }) => {
    const sizeBytes = 300 * 1024 + 100;
    const file = await disk.open(`${root}/f`, 'create');
    // At the start of a page, where a real disk goes past its cache, and elsewhere; over what is cached, too.
    for (const position of [0, 8192, 100, 8192]) {
      const memory = disk.allocate(sizeBytes);
      t.equal(memory.byteLength, sizeBytes);
      for (let i = 0; i < sizeBytes; i++) memory[i] = (i * 7 + position) % 251;
      await file.write([bytes('x')], position + sizeBytes - 1);
      await file.write([memory, bytes('end')], position);
      const got = Buffer.alloc(sizeBytes + 3);
      await file.read(got, position);
      t.ok(got.subarray(0, sizeBytes).equals(memory), `at ${position}`);
      t.equal(got.toString('latin1', sizeBytes), 'end');
    }
    await file.sync();
    await file.close();
  });

  check('more buffers than one system call takes are all written', async (t, { disk, root }) => {
    const parts = Array.from({ length: 3000 }, (_, i) => bytes(`${i},`));
    const file = await disk.open(`${root}/f`, 'create');
    await file.write(parts, 0);
    await file.close();
    t.equal(await contentOf(disk, `${root}/f`), Buffer.concat(parts).toString('latin1'));
  });

  check('truncate cuts, and what it adds is zeros', async (t, { disk, root }) => {
    const file = await disk.open(`${root}/f`, 'create');
    await file.write([bytes('abcdef')], 0);
    await file.truncate(2);
    await file.truncate(4);
    await file.close();
    t.equal(await contentOf(disk, `${root}/f`), 'ab\0\0');
  });

  check('open modes: missing and existing files', async (t, { disk, root }) => {
    const path = `${root}/f`;
    await t.rejects(disk.open(path, 'read'), { code: 'ENOENT' });
    await t.rejects(disk.open(path, 'write'), { code: 'ENOENT' });
    await t.rejects(disk.open(`${root}/none/f`, 'create'), { code: 'ENOENT' });
    await put(disk, path, 'x');
    await t.rejects(disk.open(path, 'create-new'), { code: 'EEXIST' });
    await (await disk.open(path, 'create')).close();
    t.equal(await contentOf(disk, path), 'x', 'create keeps what is there');
    const file = await disk.open(path, 'write');
    await file.write([bytes('y')], 1);
    await file.close();
    t.equal(await contentOf(disk, path), 'xy');
  });

  check('directories: made with their parents, listed, emptied', async (t, { disk, root }) => {
    await disk.makeDirectory(`${root}/a/b`);
    await disk.makeDirectory(`${root}/a/b`);
    t.same(await disk.list(`${root}/a/b`), []);
    await put(disk, `${root}/a/b/2`, '');
    await put(disk, `${root}/a/b/1`, '');
    t.same((await disk.list(`${root}/a/b`)).sort(), ['1', '2']);
    await disk.syncDirectory(`${root}/a/b`);
    await disk.remove(`${root}/a/b/1`);
    t.same(await disk.list(`${root}/a/b`), ['2']);
    await t.rejects(disk.remove(`${root}/a/b/1`), { code: 'ENOENT' });
    await t.rejects(disk.list(`${root}/none`), { code: 'ENOENT' });
    await t.rejects(disk.syncDirectory(`${root}/none`), { code: 'ENOENT' });
  });

  check('rename replaces its target', async (t, { disk, root }) => {
    await put(disk, `${root}/a`, 'new');
    await put(disk, `${root}/b`, 'old');
    await disk.rename(`${root}/a`, `${root}/b`);
    t.same(await disk.list(root), ['b']);
    t.equal(await contentOf(disk, `${root}/b`), 'new');
    await t.rejects(disk.rename(`${root}/a`, `${root}/c`), { code: 'ENOENT' });
  });

  check('an open file outlives its name', async (t, { disk, root }) => {
    const file = await disk.open(`${root}/f`, 'create');
    await file.write([bytes('abc')], 0);
    await disk.remove(`${root}/f`);
    const buffer = Buffer.alloc(3);
    t.equal(await file.read(buffer, 0), 3);
    t.equal(buffer.toString(), 'abc');
    await file.close();
  });

  check('copy replaces its target, and the two part ways', async (t, { disk, root }) => {
    await put(disk, `${root}/a`, 'one');
    await put(disk, `${root}/b`, 'something longer');
    await disk.copy(`${root}/a`, `${root}/b`);
    await put(disk, `${root}/a`, 'two');
    t.equal(await contentOf(disk, `${root}/b`), 'one');
    t.same((await disk.list(root)).sort(), ['a', 'b'], 'nothing else is left');
    await t.rejects(disk.copy(`${root}/none`, `${root}/c`), { code: 'ENOENT' });
    t.same((await disk.list(root)).sort(), ['a', 'b']);
  });

  check('space: what is available is part of the whole', async (t, { disk, root }) => {
    const { totalBytes, availableBytes } = await disk.space(root);
    t.ok(availableBytes > 0 && availableBytes <= totalBytes);
  });

  check('a lock has one holder, until it is released', async (t, { disk, other, root }) => {
    const release = await disk.lock(`${root}/lock`);
    await t.rejects(other.lock(`${root}/lock`), { code: 'EBUSY' });
    await t.rejects(disk.lock(`${root}/lock`), { code: 'EBUSY' }, 'also within one process');
    await release();
    await (await other.lock(`${root}/lock`))();
  });

  check('a full disk is ENOSPC, and what was there stays', async (t, under) => {
    const { disk, root } = under;
    if (under.limit === undefined) {
      t.pass('this disk cannot be made small');
      return;
    }
    await put(disk, `${root}/a`, 'kept');
    under.limit(100_000);
    const file = await disk.open(`${root}/b`, 'create');
    await t.rejects(file.write([Buffer.alloc(200_000)], 0), { code: 'ENOSPC' });
    await file.close();
    t.equal(await contentOf(disk, `${root}/a`), 'kept');
    await disk.remove(`${root}/b`);
    await put(disk, `${root}/c`, 'there is room again');
  });
}
