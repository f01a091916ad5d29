/** Many at once: writers, readers, appenders, and those who want the same name. */
import { mkdir, open, readdir, readFile, rename, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Case } from './suite.js';

const disjoint: Case = {
  name: 'concurrency: writers of different ranges do not disturb each other',
  async run(t, directory) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    const part = 150_001;
    const writers = Array.from({ length: 12 }, async (_, writer) => {
      const file = await open(path, 'r+');
      for (let done = 0; done < part; done += 10_000) {
        const length = Math.min(10_000, part - done);
        await file.write(Buffer.alloc(length, 65 + writer), 0, length, writer * part + done);
      }
      await file.close();
    });
    await Promise.all(writers);
    const bytes = await readFile(path);
    t.equal(bytes.length, 12 * part);
    for (let writer = 0; writer < 12; writer++) {
      const mine = bytes.subarray(writer * part, (writer + 1) * part);
      t.ok(
        mine.every((byte) => byte === 65 + writer),
        `writer ${writer}`,
      );
    }
  },
};

const beside: Case = {
  name: 'concurrency: a read beside a write sees what was written before or is being written, all of it',
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, Buffer.alloc(65_536, 1));
    const strange = await python.run<number>(
      `
        def writer():
            fd = os.open(path, os.O_WRONLY)
            for i in range(2, 252): os.pwrite(fd, bytes([i]) * 65536, 0)
            return True
        pid = child(writer)
        fd, result, floor = os.open(path, os.O_RDONLY), 0, 1
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            data = os.pread(fd, 65536, 0)
            if len(data) != 65536 or min(data) < floor: result += 1
            floor = min(data)
        os.close(fd)
      `,
      { path },
    );
    t.equal(strange, 0, 'reads that were short, or saw what had been overwritten before');
  },
};

const appenders: Case = {
  name: 'concurrency: appends of several processes are whole, once each and lost never',
  async run(t, directory, python) {
    const path = join(directory, 'log');
    const processes = 4;
    const each = 200;
    const good = await python.run<boolean>(
      `
        def appender(number):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for i in range(each):
                line = b'%d:%d:' % (number, i)
                os.write(fd, line + b'x' * (20 + 37 * i) + b'\\n')
            return True
        pids = [child(lambda: appender(number)) for number in range(processes)]
        result = joined(*pids)
      `,
      { path, processes, each },
    );
    t.ok(good);
    const lines = (await readFile(path, 'latin1')).split('\n').slice(0, -1);
    t.equal(lines.length, processes * each);
    for (let number = 0; number < processes; number++) {
      const mine = lines.filter((line) => line.startsWith(`${number}:`));
      const expected = Array.from({ length: each }, (_, i) => `${number}:${i}:${'x'.repeat(20 + 37 * i)}`);
      t.strictSame(mine, expected, `process ${number}, in its order`);
    }
  },
};

const exclusive: Case = {
  name: 'concurrency: of many who create, make or link one name, one wins',
  async run(t, directory) {
    const winners = async (attempt: (i: number) => Promise<unknown>) => {
      const outcomes = await Promise.allSettled(Array.from({ length: 16 }, (_, i) => attempt(i)));
      const losers = outcomes.filter((outcome) => outcome.status === 'rejected');
      t.ok(losers.every(({ reason }) => (reason as NodeJS.ErrnoException).code === 'EEXIST'));
      return outcomes.length - losers.length;
    };
    for (let round = 0; round < 20; round++) {
      const name = join(directory, `name-${round}`);
      t.equal(await winners(() => writeFile(name, '', { flag: 'wx' })), 1, 'create');
      t.equal(await winners(() => mkdir(`${name}-folder`)), 1, 'mkdir');
    }
  },
};

const renames: Case = {
  name: 'concurrency: a file that is renamed to and fro is always there, once',
  async run(t, directory) {
    const [one, two] = [join(directory, 'one'), join(directory, 'two')];
    await mkdir(one);
    await mkdir(two);
    await writeFile(join(one, 'file'), 'content');
    let moving = true;
    const mover = (async () => {
      for (let i = 0; i < 200; i++)
        await rename(join(i % 2 ? two : one, 'file'), join(i % 2 ? one : two, 'file'));
      moving = false;
    })();
    let reads = 0;
    while (moving) {
      const found = await Promise.any([readFile(join(one, 'file')), readFile(join(two, 'file'))]).catch(
        () => undefined,
      );
      if (found !== undefined && found.toString() !== 'content') t.fail('something else was read');
      reads++;
    }
    await mover;
    t.ok(reads > 0);
    t.strictSame([await readdir(one), await readdir(two)], [['file'], []]);
  },
};

const storm: Case = {
  name: 'concurrency: a storm of makes, moves and removes leaves what it should',
  async run(t, directory) {
    const worker = async (number: number) => {
      for (let i = 0; i < 40; i++) {
        const folder = join(directory, `w${number}-${i}`);
        await mkdir(folder);
        await Promise.all([0, 1, 2].map((n) => writeFile(join(folder, `f${n}`), `${n}`)));
        await rename(join(folder, 'f0'), join(directory, `kept-${number}-${i}`));
        await rename(join(folder, 'f1'), join(folder, 'f2'));
        const file = await open(join(folder, 'f2'), 'r');
        if ((await file.readFile('utf8')) !== '1') t.fail('f2 is not what f1 was');
        await file.close();
        await rename(join(folder, 'f2'), join(directory, 'contended'));
        await rmdir(folder);
      }
    };
    await Promise.all(Array.from({ length: 6 }, (_, number) => worker(number)));
    const names = await readdir(directory);
    t.equal(names.filter((name) => name.startsWith('kept-')).length, 240);
    t.equal(names.length, 241);
    t.equal((await stat(join(directory, 'contended'))).size, 1);
  },
};

export const concurrencyCases: readonly Case[] = [disjoint, beside, appenders, exclusive, renames, storm];
