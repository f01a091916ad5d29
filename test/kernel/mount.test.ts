/** Real mounts of the kernel binding: starting, being interrupted, being told of changes, ending badly. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { nodeEnvironment } from '../../environment/node/index.js';
import { kernelBinding, loadAddon } from '../../fuse-client/kernel/index.js';
import { mountAt } from '../../fuse-client/kernel/mountpoint.js';
import { MemoryHandler } from '../conformance/memory-handler.js';
import { command, mountPoint, startProgram } from '../conformance/mounted.js';

const NOBODY = 65_534;
const PROMPT_MS = 1000;
const program = fileURLToPath(new URL('./obstinate.js', import.meta.url));

/** A mount whose server takes orders. */
class Obstinate {
  readonly path: string;
  readonly server: ChildProcess;
  readonly #answers = new Map<number, (result: unknown) => void>();
  readonly #reached: (() => void)[] = [];
  #nextId = 0;

  constructor(path: string, server: ChildProcess) {
    this.path = path;
    this.server = server;
    server.on('message', (message: { id?: number; result?: unknown; reached?: string }) => {
      if (message.reached !== undefined) for (const resolve of this.#reached.splice(0)) resolve();
      else this.#answers.get(message.id!)?.(message.result);
    });
  }

  at(name: string): string {
    return join(this.path, name);
  }

  async order<T>(order: string, ...args: unknown[]): Promise<T> {
    const id = this.#nextId++;
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.server.send({ id, order, args });
    return (await answer) as T;
  }

  /** Resolves when the server has got a request that it will not answer of itself. */
  async reached(): Promise<void> {
    await new Promise<void>((resolve) => this.#reached.push(resolve));
  }
}

async function obstinate(t: Test, path?: string, extra: readonly string[] = [], uid = 0): Promise<Obstinate> {
  path ??= await mountPoint(t);
  const identity = uid === 0 ? {} : { uid, gid: uid };
  return new Obstinate(path, await startProgram(t, [program, path, ...extra], path, identity));
}

async function exitOf(
  child: ChildProcess,
  withinMs: number,
): Promise<{ code: number | null; signal: string | null }> {
  const signal = AbortSignal.timeout(withinMs);
  const [code, name] = (await once(child, 'exit', { signal })) as [number | null, string | null];
  return { code, signal: name };
}

const attempts = async (directory: string) => {
  const environment = nodeEnvironment({ role: 'test', logLevel: 'silent' });
  return await kernelBinding(environment).mount(new MemoryHandler(environment.clock), {
    directory,
    source: 'test',
    readOnly: false,
    allowOther: true,
    defaultPermissions: true,
    extra: [],
  });
};

if (process.geteuid?.() !== 0) t.plan(0, 'mounting needs root');
else await all();

async function all(): Promise<void> {
  await t.test(
    'mount: a directory that is missing, a file, or taken: the error says what to do',
    async (t) => {
      const path = await mountPoint(t);
      await t.rejects(attempts(join(path, 'none')), /does not exist.*mkdir -p/);
      await writeFile(join(path, 'file'), '');
      await t.rejects(attempts(join(path, 'file')), /not a directory/);
      await t.rejects(attempts(join(path, 'file', 'below')), /not a directory/);
      await rm(join(path, 'file'));
      const { server } = await obstinate(t, path);
      await t.rejects(attempts(path), /mounted already \(obstinate, of course, fuse\.gfs\).*gfs umount/);
      server.kill('SIGTERM');
      t.strictSame(await exitOf(server, 10_000), { code: 0, signal: null });
      t.equal(await mountAt(path), undefined);
    },
  );

  await t.test('mount: what a killed server left is replaced by the next mount', async (t) => {
    const first = await obstinate(t);
    await writeFile(first.at('file'), 'content');
    await stat(first.path);
    first.server.kill('SIGKILL');
    await exitOf(first.server, 5000);
    await t.resolves(stat(first.path), 'the kernel still has its attributes');
    await t.rejects(stat(first.at('file')), { code: 'ENOTCONN' });
    const second = await obstinate(t, first.path);
    t.strictSame(await readdir(second.path), [], 'a new file system');
  });

  await t.test('mount: a mount that does not answer is reported, not waited for', async (t) => {
    const { path, server } = await obstinate(t);
    await command('setfattr', ['-n', 'user.x', '-v', 'x', path]);
    server.kill('SIGSTOP');
    t.teardown(() => void server.kill('SIGCONT'));
    await t.rejects(attempts(path), /does not answer|mounted already/);
    server.kill('SIGCONT');
  });

  // fusermount3 opens the device as the user.
  const forAll = ((await stat('/dev/fuse')).mode & 0o006) === 0o006;
  const skip = forAll ? false : '/dev/fuse is for root alone here';
  await t.test('mount: ordinary users mount through fusermount3', { skip }, async (t) => {
    const path = await mountPoint(t);
    await chown(path, NOBODY, NOBODY);
    const { server } = await obstinate(t, path, [], NOBODY);
    t.match(await mountAt(path), { type: 'fuse.gfs', source: 'obstinate, of course' });
    const { code, output } = await command(
      'sh',
      ['-c', `echo content > "${path}/file" && cat "${path}/file"`],
      NOBODY,
    );
    t.strictSame([code, output], [0, 'content\n']);
    server.kill('SIGTERM');
    t.strictSame(await exitOf(server, 10_000), { code: 0, signal: null });
    t.equal(await mountAt(path), undefined);
  });

  await t.test('mount: what fusermount3 complains of is in the error', async (t) => {
    const path = await mountPoint(t);
    const server = spawn(process.execPath, [program, path], {
      uid: NOBODY,
      gid: NOBODY,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const complaints: string[] = [];
    server.stderr!.setEncoding('utf8').on('data', (text: string) => complaints.push(text));
    t.equal((await exitOf(server, 10_000)).code, 1, "a directory that is not one's own");
    t.match(complaints.join(''), /Cannot mount on .*fusermount3: .*(permission|denied|access)/i);
  });

  await t.test('mount: auto_unmount leaves nothing when the server is killed', async (t) => {
    const { path, server } = await obstinate(t, undefined, ['auto_unmount']);
    await writeFile(join(path, 'file'), 'content');
    server.kill('SIGKILL');
    await exitOf(server, 5000);
    for (let i = 0; i < 100 && (await mountAt(path)) !== undefined; i++)
      await new Promise((r) => setTimeout(r, 20));
    t.equal(await mountAt(path), undefined);
  });

  await t.test('requests: 1 MiB is one request, and readahead is 2 MiB', async (t) => {
    const mount = await obstinate(t);
    const data = Buffer.alloc(8 * 1024 * 1024, 'x');
    await writeFile(mount.at('file'), data);
    const { device } = (await mountAt(mount.path))!;
    t.equal((await readFile(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8')).trim(), '2048');
    await command('sh', ['-c', `dd if="${mount.at('file')}" of="${mount.at('copy')}" bs=1M conv=notrunc`]);
    const { largestWriteBytes } = await mount.order<{ largestWriteBytes: number }>('statistics');
    t.equal(largestWriteBytes, 1024 * 1024);
  });

  await t.test('interrupt: a signal ends a read that hangs, and nobody else is disturbed', async (t) => {
    const mount = await obstinate(t);
    await writeFile(mount.at('hang'), 'content');
    await mount.order('invalidateInode', (await stat(mount.at('hang'))).ino);
    const arrived = mount.reached();
    const cat = spawn('cat', [mount.at('hang')], { stdio: 'ignore' });
    await arrived;
    await writeFile(mount.at('other'), 'meanwhile');
    cat.kill('SIGINT');
    t.strictSame(await exitOf(cat, PROMPT_MS), { code: null, signal: 'SIGINT' });
    t.equal(await readFile(mount.at('other'), 'utf8'), 'meanwhile');
  });

  await t.test('interrupt: a reader whose request is never answered can be killed', async (t) => {
    const mount = await obstinate(t);
    await writeFile(mount.at('stuck'), 'content');
    await mount.order('invalidateInode', (await stat(mount.at('stuck'))).ino);
    const arrived = mount.reached();
    const cat = spawn('cat', [mount.at('stuck')], { stdio: 'ignore' });
    await arrived;
    cat.kill('SIGKILL');
    t.strictSame(await exitOf(cat, PROMPT_MS), { code: null, signal: 'SIGKILL' });
    mount.server.kill('SIGTERM');
    t.strictSame(
      await exitOf(mount.server, 10_000),
      { code: 0, signal: null },
      'nor does the unmount wait for it',
    );
  });

  await t.test('notifications: the kernel forgets what it is told to forget', async (t) => {
    const mount = await obstinate(t);
    await writeFile(mount.at('file'), 'before');
    t.equal(await readFile(mount.at('file'), 'utf8'), 'before');
    await stat(mount.at('file'));
    const inode = await mount.order<number>('change', 'file', 'after, and longer');
    t.equal((await stat(mount.at('file'))).size, 6, 'still cached');
    await mount.order('invalidateInode', inode);
    t.equal(await readFile(mount.at('file'), 'utf8'), 'after, and longer');
    await mount.order('removeElsewhere', 'file');
    await stat(mount.at('file'));
    await mount.order('invalidateEntry', 'file');
    await t.rejects(stat(mount.at('file')), { code: 'ENOENT' });
    await mount.order('invalidateEntry', 'never heard of');
    await mount.order('invalidateInode', 123_456);
  });

  await t.test('notifications: one that has to wait for a request holds up nothing else', async (t) => {
    const mount = await obstinate(t);
    await mkdir(mount.at('folder'));
    await writeFile(mount.at('folder/file'), 'content');
    const arrived = mount.reached();
    const creating = writeFile(mount.at('slow'), 'content');
    await arrived;
    let notified = false;
    const notification = mount.order('invalidateEntry', 'another').then(() => {
      notified = true;
    });
    for (let i = 0; i < 20; i++) await writeFile(mount.at('folder/file'), `${i}`);
    t.equal(await readFile(mount.at('folder/file'), 'utf8'), '19', 'requests are answered');
    t.notOk(notified, 'the kernel holds the directory while it is made');
    await mount.order('go');
    await notification;
    await creating;
    t.ok(notified);
  });

  await t.test(
    'unmount: ends although a notification waits for a request that is never answered',
    async (t) => {
      const mount = await obstinate(t);
      const arrived = mount.reached();
      const creating = writeFile(mount.at('slow'), 'content').catch((error: NodeJS.ErrnoException) => error);
      await arrived;
      void mount.order('invalidateEntry', 'another');
      await mount.order('statistics');
      mount.server.kill('SIGTERM');
      t.strictSame(await exitOf(mount.server, 15_000), { code: 0, signal: null });
      t.ok((await creating) instanceof Error);
    },
  );

  await t.test(
    'unmount: files that are open go on for a moment, then fail; the mount is gone at once',
    async (t) => {
      const mount = await obstinate(t);
      const file = await open(mount.at('file'), 'w+');
      await file.write('content');
      mount.server.kill('SIGTERM');
      const exited = exitOf(mount.server, 15_000);
      for (let i = 0; i < 100 && (await mountAt(mount.path)) !== undefined; i++)
        await new Promise((r) => setTimeout(r, 20));
      t.equal(await mountAt(mount.path), undefined);
      await file.write(' and more');
      t.strictSame(await exited, { code: 0, signal: null });
      const error = await file.write('too late').catch((error: NodeJS.ErrnoException) => error);
      t.ok(error instanceof Error);
      await file.close().catch(() => {});
    },
  );

  await t.test(
    'end: a server that is killed or exits while a notification waits is gone at once',
    async (t) => {
      for (const kill of [true, false]) {
        const mount = await obstinate(t);
        const arrived = mount.reached();
        const creating = writeFile(mount.at('slow'), 'content').catch(
          (error: NodeJS.ErrnoException) => error.code,
        );
        await arrived;
        void mount.order('invalidateEntry', 'another');
        await mount.order('statistics');
        if (kill) mount.server.kill('SIGKILL');
        else void mount.order('exit');
        t.match(await exitOf(mount.server, 5000), kill ? { signal: 'SIGKILL' } : { code: 7 });
        t.equal(await creating, 'ECONNABORTED', 'and its callers are told');
      }
    },
  );

  await t.test(
    'end: a worker that serves a mount can be terminated, with its notifier running',
    async (t) => {
      const path = await mountPoint(t);
      const worker = new Worker(program, { argv: [path], stdout: true });
      await once(worker.stdout, 'data');
      await writeFile(join(path, 'file'), 'content');
      worker.postMessage({ id: 0, order: 'invalidateEntry', args: ['anything'] });
      await once(worker, 'message');
      await worker.terminate();
      await t.rejects(stat(join(path, 'file')), { code: 'ENOTCONN' });
    },
  );

  await t.test('unmount: a server that just exits, with its notifier running, leaves cleanly', async (t) => {
    const mount = await obstinate(t);
    await mount.order('invalidateEntry', 'anything');
    void mount.order('exit');
    t.strictSame(await exitOf(mount.server, 5000), { code: 7, signal: null });
    await t.rejects(stat(mount.path), { code: 'ENOTCONN' });
  });

  await t.test('addon: ioctl on files and directories, up to 16,383 bytes', async (t) => {
    const { path } = await obstinate(t);
    const { ioctl } = loadAddon();
    const command = (direction: number, number: number, size: number) =>
      ((direction << 30) | (size << 16) | ('G'.charCodeAt(0) << 8) | number) >>> 0;
    const [WRITE, READ] = [1, 2];
    await writeFile(join(path, 'file'), '');
    const file = await open(join(path, 'file'), 'r');
    const directory = await open(path, 'r');
    t.equal(await ioctl(file.fd, command(WRITE, 1, 5), Buffer.from('hello')), 5, 'the result of the handler');
    const buffer = Buffer.alloc(5);
    await ioctl(directory.fd, command(READ, 2, 5), buffer);
    t.equal(buffer.toString(), 'hello');
    const large = Buffer.from(Array.from({ length: 16_383 }, (_, i) => i % 251));
    const reversed = Buffer.from(large).reverse();
    await ioctl(file.fd, command(READ | WRITE, 3, large.length), large);
    t.ok(large.equals(reversed));
    await t.rejects(ioctl(file.fd, command(READ, 99, 4), Buffer.alloc(4)), {
      code: 'ENOTTY',
      syscall: 'ioctl',
    });
    t.throws(() => void ioctl(file.fd, command(READ, 2, 100), Buffer.alloc(99)), TypeError);
    await file.close();
    await directory.close();
  });

  await t.test('addon: extended attributes by path, with errors as Node has them', async (t) => {
    const { path } = await obstinate(t);
    const { getxattr, setxattr } = loadAddon();
    const [file, name] = [Buffer.from(join(path, 'file ü')), Buffer.from('user.name')];
    await writeFile(file, '');
    await t.rejects(getxattr(file, name), { code: 'ENODATA', syscall: 'getxattr' });
    const value = Buffer.alloc(60_000, 'v');
    await setxattr(file, name, value, 0);
    t.ok((await getxattr(file, name)).equals(value));
    await t.rejects(setxattr(file, name, value, 1), { code: 'EEXIST' });
    await setxattr(file, name, Buffer.of(), 2);
    t.equal((await getxattr(file, name)).length, 0);
    t.throws(() => void getxattr(Buffer.from('a\0b'), name), TypeError);
  });
}
