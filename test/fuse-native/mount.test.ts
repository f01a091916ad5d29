/** What only a real mount shows of the fuse-native binding, beside what the conformance suite checks. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { command, mountPoint, startMount, startProgram } from '../conformance/mounted.js';
import { Python } from '../conformance/python.js';
import { skipModule, skipMount } from './support.js';

const WITHOUT_MODULE = 'fuse-native without its module';
const COUNTING_SERVER = join(import.meta.dirname, 'counting-server.js');
const SERVE = join(import.meta.dirname, '../conformance/serve.js');
const O_CLOEXEC = 0o2000000;

/** Statements that say what an ioctl returned, and what is in its buffer then. */
const IOCTL = `
  data = bytearray(value.ljust(size, b'\\0'))
  number = (direction << 30) | (size << 16) | (ord('G') << 8) | command
  fd = os.open(path, os.O_RDONLY)
  try:
      result = [fcntl.ioctl(fd, number, data, True) if size else fcntl.ioctl(fd, number), bytes(data)]
  finally:
      os.close(fd)
`;

function python(t: Test): Python {
  const one = new Python();
  t.teardown(() => one.close());
  return one;
}

t.setTimeout(600_000);

await t.test(
  'module: ioctl in every direction and size, on files and directories',
  { skip: skipModule },
  async (t) => {
    const { path: mount } = await startMount(t, 'fuse-native');
    const py = python(t);
    const file = join(mount, 'file');
    await writeFile(file, '');
    const ioctl = (path: string, direction: number, command: number, size: number, value = '') =>
      py.run<[number, string]>(IOCTL, { path, direction, command, size, value });
    const [WRITE, READ] = [1, 2];

    t.strictSame((await ioctl(file, WRITE, 1, 5, 'hello'))[0], 5, 'what the handler returns');
    t.strictSame(
      await ioctl(mount, READ, 2, 8),
      [0, 'hello\0\0\0'],
      'a directory; what is not filled is zeros',
    );
    const long = Array.from({ length: 16_383 }, (_, i) => String.fromCharCode(i & 0xff)).join('');
    const reversed = [...long].reverse().join('');
    t.ok((await ioctl(file, READ | WRITE, 3, 16_383, long))[1] === reversed, 'the most that FUSE carries');
    t.strictSame((await ioctl(file, 0, 1, 0))[0], 0, 'nothing but the number');
    await t.rejects(ioctl(file, READ, 99, 4), { code: 'ENOTTY' });
  },
);

await t.test('module: nobody else can make its calls', { skip: skipModule }, async (t) => {
  const { path: mount } = await startMount(t, 'fuse-native');
  const py = python(t);
  const calls = ['gfs:getattr:0', 'gfs:open', 'gfs:ioctl:18177:1:0'];
  for (const name of calls) {
    await t.rejects(py.run('os.getxattr(path, name)', { path: mount, name }), { code: 'ENOTSUP' });
    await t.rejects(py.run('os.setxattr(path, name, b"1")', { path: mount, name }), { code: 'ENOTSUP' });
    await t.rejects(py.run('os.removexattr(path, name)', { path: mount, name }), { code: 'ENOTSUP' });
  }
});

await t.test('module: a child of the mount does not inherit /dev/fuse', { skip: skipModule }, async (t) => {
  const { server } = await startMount(t, 'fuse-native');
  const directory = `/proc/${server.pid}`;
  let found = 0;
  for (const fd of await readdir(`${directory}/fdinfo`)) {
    const target = execFileSync('readlink', [`${directory}/fd/${fd}`], { encoding: 'utf8' }).trim();
    if (target !== '/dev/fuse') continue;
    found++;
    const flags = /flags:\s*([0-7]+)/.exec(await readFile(`${directory}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
    t.ok(Number.parseInt(flags, 8) & O_CLOEXEC, 'closed on exec');
  }
  t.ok(found > 0, 'it has /dev/fuse open');
});

await t.test(
  'module: threads that come and go take no more memory than were ever there at once',
  { skip: skipModule },
  async (t) => {
    const mount = await mountPoint(t);
    const server = await startProgram(t, [COUNTING_SERVER, mount], mount);
    await writeFile(join(mount, 'file'), 'content');
    const programs = 30;
    const burst = `
    def work():
        for i in range(50): os.stat(path)
        return True
    result = joined(*[child(work) for i in range(count)])
  `;
    const py = python(t);
    for (let round = 0; round < 8; round++) {
      t.ok(await py.run(burst, { path: join(mount, 'file'), count: programs }));
    }
    const answer = once(server, 'message');
    server.send('count');
    const [{ threads }] = (await answer) as [{ threads: number }];
    // Those that libfuse keeps idle and those that were ending when others started; without the loan, thousands.
    t.ok(threads < 10 * programs, `${threads} threads`);
  },
);

for (const binding of ['fuse-native', WITHOUT_MODULE]) {
  const skip = binding === 'fuse-native' ? skipModule : skipMount;

  await t.test(`${binding}: the modification time is not the access time`, { skip }, async (t) => {
    const { path: mount } = await startMount(t, binding);
    const py = python(t);
    await writeFile(join(mount, 'file'), '');
    for (const [atime, mtime] of [
      [1_700_000_000_123_000_000, 1_600_000_000_987_000_000],
      [1_000_000, 4_294_967_296_001_000_000],
    ]) {
      const path = join(mount, 'file');
      await py.run('os.utime(path, ns=(atime, mtime))', { path, atime: atime!, mtime: mtime! });
      const times = 'result = [os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns]';
      t.strictSame(await py.run(times, { path }), [atime, mtime]);
    }
  });

  await t.test(
    `${binding}: an open file that was unlinked works, is seen by nobody, and ends with its close`,
    { skip },
    async (t) => {
      const { path: mount } = await startMount(t, binding);
      const directory = join(mount, 'd');
      await mkdir(directory);
      const path = join(directory, 'file');
      await writeFile(path, 'before');
      const file = await open(path, 'r+');
      const other = await open(path, 'r');
      await command('rm', [path]);
      t.strictSame(await readdir(directory), []);
      await t.rejects(stat(path), { code: 'ENOENT' });
      await file.write('after!', 0);
      await file.chmod(0o600);
      await file.truncate(5);
      await file.sync();
      t.match(await file.stat(), { size: 5, nlink: 0 }, 'no link is left');
      t.equal((await other.readFile()).toString(), 'after');
      await writeFile(path, 'another');
      t.equal((await file.stat()).size, 5, 'a new file of its name is another file');
      await command('rm', [path]);
      await t.rejects(rmdir(directory), { code: 'ENOTEMPTY' }, 'libfuse still needs its directory');
      await file.close();
      await other.close();
      await removedSoon(directory);
      t.strictSame(await readdir(mount), []);
    },
  );

  await t.test(`${binding}: unmounted by somebody else, the process ends`, { skip }, async (t) => {
    const { path: mount, server } = await startMount(t, binding);
    await writeFile(join(mount, 'file'), 'x');
    const exited = once(server, 'exit');
    t.equal((await command('umount', [mount])).code, 0);
    t.strictSame(await exited, [0, null]);
  });

  await t.test(`${binding}: asked to end while a file is open, it unmounts and ends`, { skip }, async (t) => {
    const { path: mount, server } = await startMount(t, binding);
    const file = await open(join(mount, 'file'), 'w');
    const exited = once(server, 'exit');
    server.kill('SIGTERM');
    t.strictSame(await exited, [0, null]);
    t.notOk((await readFile('/proc/self/mounts', 'utf8')).includes(mount));
    await file.close().catch(() => undefined);
  });
}

await t.test('mount: what a killed process left behind is replaced', { skip: skipMount }, async (t) => {
  const mount = await mountPoint(t);
  const first = await startProgram(t, [SERVE, 'fuse-native', mount], mount);
  const killed = once(first, 'exit');
  first.kill('SIGKILL');
  await killed;
  await t.rejects(stat(mount), { code: 'ENOTCONN' });
  await startProgram(t, [SERVE, 'fuse-native', mount], mount);
  await writeFile(join(mount, 'file'), 'x');
  t.strictSame(await readdir(mount), ['file']);
});

await t.test('mount: without libfuse 2 it says what to install', { skip: skipMount }, async (t) => {
  const mount = await mountPoint(t);
  const library = execFileSync(
    'sh',
    ['-c', 'ldconfig -p | sed -n "s/.*libfuse\\.so\\.2 .*=> //p" | head -n 1'],
    {
      encoding: 'utf8',
    },
  ).trim();
  const script = 'mount --bind /dev/null "$(readlink -f "$1")" && exec "$2" "$3" fuse-native "$4"';
  const words = ['-m', 'sh', '-c', script, 'sh', library, process.execPath, SERVE, mount];
  const { code, output } = await command('unshare', words);
  t.not(code, 0);
  t.match(output, /apt-get install libfuse2/);
});

/** libfuse releases a file after its close has returned, and forgets its hidden name then. */
async function removedSoon(directory: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (attempt === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
