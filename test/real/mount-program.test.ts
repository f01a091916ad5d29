/** The mount as a program: its supervisor, its options, mount(8)'s helper, ordinary users. */
import { chmod, mkdir, open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { mountAt } from '../../cli/mounts.js';
import { repositoryPath } from '../repository.js';
import { cannotMount, eventually, RealCluster } from './cluster.js';
import { runCommand } from './processes.js';

t.setTimeout(600_000);
const skip = cannotMount !== false ? cannotMount : process.geteuid?.() === 0 ? false : 'needs root';

async function parentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]);
}

/** One that nobody has waited for yet has no words any more. */
async function isRunning(pid: number): Promise<boolean> {
  return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')) !== '';
}

t.test('mount program', { skip }, async (t) => {
  const cluster = await RealCluster.start(t);
  const { workspace } = cluster;
  const at = (...names: string[]) => workspace.path(...names);
  await writeFile(join(cluster.mountPoint, 'f'), 'content');

  /** Mounts in the background, as a user does. */
  const mount = async (name: string, words: readonly string[] = []) => {
    const directory = workspace.makeDirectory(name);
    const addressFile = at(`${name}.json`);
    const { status, stderr } = await cluster.gfs([
      ...['mount', cluster.address, directory, '--address-file', addressFile],
      ...['--log-file', at(`${name}.log`), ...words],
    ]);
    t.equal(status, 0, stderr);
    const pid = async () => (JSON.parse(await readFile(addressFile, 'utf8')) as { pid: number }).pid;
    return { directory, pid, read: () => readFile(join(directory, 'f'), 'utf8') };
  };
  const readAgain = (read: () => Promise<string>) =>
    eventually(async () => (await read()) === 'content' || 'other content', 20_000);

  t.test('supervisor: a mount whose process is killed is there again', async (t) => {
    const { directory, pid, read } = await mount('supervised');
    const first = await pid();
    process.kill(first, 'SIGKILL');
    await readAgain(read);
    t.not(await pid(), first);
    t.equal((await cluster.gfs(['umount', directory])).status, 0);
    // Longer than the pause after which it would have come back.
    await delay(2_500);
    t.equal(mountAt(directory), undefined, 'what was unmounted stays so');
  });

  t.test(
    'supervisor: one that mounted again ends with umount, and by SIGTERM, as the first did',
    async (t) => {
      for (const end of ['umount', 'SIGTERM']) {
        const directory = workspace.makeDirectory(`again-${end}`);
        const words = ['mount', cluster.address, directory, '--log-file', at(`again-${end}.log`)];
        t.equal((await cluster.gfs(words)).status, 0);
        const pid = async (): Promise<number> =>
          (JSON.parse(await readFile(join(directory, '.gfs/config'), 'utf8')) as { pid: number }).pid;
        const first = await pid();
        const supervisor = await parentOf(first);
        process.kill(first, 'SIGKILL');
        await eventually(async () => (await pid()) !== first || 'the old one', 20_000);
        const second = await pid();
        if (end === 'umount') t.equal((await cluster.gfs(['umount', directory])).status, 0);
        else process.kill(supervisor, 'SIGTERM');
        for (const one of [second, supervisor])
          await eventually(async () => !(await isRunning(one)) || `${one} is still there`, 20_000);
        t.equal(mountAt(directory), undefined);
      }
    },
  );

  t.test('supervisor: a mount that hangs is killed, which frees who waits in it', async (t) => {
    const { directory, pid, read } = await mount('hanging', ['--set', 'client.watchdog=2s']);
    process.kill(await pid(), 'SIGSTOP');
    const waiting = await runCommand(['cat', join(directory, 'not-cached')]);
    t.not(waiting.status, 0);
    await readAgain(read);
    t.equal((await cluster.gfs(['umount', directory])).status, 0);
  });

  t.test('supervisor: a mount that cannot be is refused once, SIGTERM ends one that is', async (t) => {
    const directory = workspace.makeDirectory('refused');
    const words = ['mount', `${cluster.address}:/nothing`, directory, '--log-file', at('refused.log')];
    t.equal((await cluster.gfs(words)).status, 1);
    const foreground = workspace.makeDirectory('foreground');
    const program = [...workspace.gfs, 'mount', '-f', '--supervise', cluster.address, foreground];
    const running = workspace.spawnProgram('supervisor', program);
    await readAgain(() => readFile(join(foreground, 'f'), 'utf8'));
    const held = await open(join(foreground, 'held'), 'w');
    await held.write('written and not flushed');
    t.match(await running.stop(), { code: 0 });
    t.equal(mountAt(foreground), undefined);
    await held.close().catch(() => undefined);
    t.equal(await readFile(join(cluster.mountPoint, 'held'), 'utf8'), 'written and not flushed');
  });

  t.test('options: as of mount(8), each does what it says', async (t) => {
    const { directory } = await mount('options', ['-o', 'ro,noexec,noatime,_netdev,x-systemd.automount']);
    const [line] = (await readFile('/proc/mounts', 'utf8'))
      .split('\n')
      .filter((each) => each.includes(directory));
    t.match(line, / fuse\.gfs ro,nosuid,nodev,noexec,noatime,/);
    await t.rejects(writeFile(join(directory, 'f'), 'x'), { code: 'EROFS' });
    await writeFile(join(cluster.mountPoint, 'script'), '#!/bin/sh\n');
    await chmod(join(cluster.mountPoint, 'script'), 0o755);
    t.match((await runCommand(['sh', '-c', join(directory, 'script')])).stderr, /denied/);
    t.equal((await cluster.gfs(['umount', directory])).status, 0);
  });

  t.test('options: reading moves atime once after each change, always, or never', async (t) => {
    const atime = async (directory: string) => (await stat(join(directory, 'f'))).atimeMs;
    const read = async (directory: string) => {
      await delay(5);
      await runCommand(['sh', '-c', `cat ${join(directory, 'f')}`]);
      return atime(directory);
    };
    await writeFile(join(cluster.mountPoint, 'f'), 'content');
    const written = await atime(cluster.mountPoint);
    const first = await read(cluster.mountPoint);
    t.ok(first > written, 'relatime: the first read after a change');
    t.equal(await read(cluster.mountPoint), first, 'relatime: not the second');
    const never = await mount('noatime', ['-o', 'noatime']);
    await writeFile(join(never.directory, 'f'), 'content');
    t.equal(await read(never.directory), await atime(never.directory));
    await eventually(
      async () => (await atime(never.directory)) === first || 'the master was not told',
      5_000,
    );
    t.equal((await cluster.gfs(['umount', never.directory])).status, 0);
    const always = await mount('strictatime', ['-o', 'strictatime']);
    const second = await read(always.directory);
    t.ok(second > first);
    t.equal((await cluster.gfs(['umount', always.directory])).status, 0);
  });

  t.test('mount(8): the helper takes its calling convention and answers with its exit codes', async (t) => {
    const sbin = workspace.makeDirectory('sbin');
    t.equal((await cluster.gfs(['install-helper', '--directory', sbin])).status, 0);
    const helper = (...words: string[]) => runCommand([join(sbin, 'mount.fuse.gfs'), ...words]);
    const directory = workspace.makeDirectory('helped');
    const options = ['-o', 'rw,_netdev,nofail,user=somebody', '-o', 'comment=ours'];
    const { status, stderr } = await helper(`${cluster.address}:/`, directory, '-n', ...options);
    t.equal(status, 0, stderr);
    t.equal(await readFile(join(directory, 'f'), 'utf8'), 'content');
    t.equal((await runCommand(['umount', directory])).status, 0);
    t.match(await helper(cluster.address, directory, '-o', 'rw,_netdv'), {
      status: 1,
      stderr: /unknown mount option _netdv: did you mean _netdev\?/,
    });
    t.match(await helper(cluster.address, at('nowhere')), { status: 32, stderr: /does not exist/ });
    t.match(await helper('only-one'), { status: 1, stderr: /usage/ });
    t.equal((await helper(cluster.address, directory, '-f')).status, 0);
    t.equal(mountAt(directory), undefined, 'fake');
    t.equal((await cluster.gfs(['install-helper', '--directory', sbin, '--remove'])).status, 0);
    await writeFile(join(sbin, 'mount.gfs'), 'of somebody else');
    t.equal((await cluster.gfs(['install-helper', '--directory', sbin])).status, 1);
  });

  t.test('ordinary users mount by fusermount3, for themselves', async (t) => {
    const home = workspace.makeDirectory('home');
    await runCommand(['chown', 'nobody', home]);
    await mkdir(join(home, 'mnt'));
    await runCommand(['chown', 'nobody', join(home, 'mnt')]);
    await runCommand(['chmod', '777', cluster.mountPoint]);
    const [node, script] = workspace.gfs;
    // With a /dev/fuse that is for everybody, as most hosts have it; in a namespace of its own, for this one may not be.
    const device = at('fuse');
    // Without what the test runner has set: its directories are not theirs.
    const theirs = `setpriv --reuid nobody --clear-groups env -i PATH="$PATH" HOME=${home} TMPDIR=${home}`;
    const gfs = `${theirs} ${node} ${script}`;
    const program = `
      mknod ${device} c 10 229 && chmod 666 ${device} && mount --bind ${device} /dev/fuse
      cd ${home}
      ${gfs} mount ${cluster.address} mnt -o noallow_other || exit 1
      ${theirs} sh -c 'echo mine > mnt/g && cat mnt/f'
      ${gfs} umount mnt || exit 2
    `;
    const result = await runCommand(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', program]);
    t.equal(result.status, 0, result.stderr);
    t.equal(result.stdout, 'content');
    t.equal((await stat(join(cluster.mountPoint, 'g'))).uid, 65534);
  });

  t.test('mount(8): fstab and -t fuse.gfs with _netdev, in a root of their own', async (t) => {
    const directory = workspace.makeDirectory('from-fstab');
    const own = workspace.makeDirectory('own-sbin');
    const original = workspace.makeDirectory('original-sbin');
    await writeFile(
      at('fstab'),
      `${cluster.address}:/  ${directory}  fuse.gfs  defaults,_netdev,noatime,noauto  0  0\n`,
    );
    t.equal((await cluster.gfs(['install-helper', '--directory', own])).status, 0);
    // mount(8) looks for helpers in /sbin alone: there, for these commands only, is ours beside what is there.
    const program = `
      set -e
      sbin=$(readlink -f /sbin)
      mount --bind "$sbin" ${original}
      for each in ${original}/*; do name=$(basename "$each"); [ -e ${own}/"$name" ] || ln -s "$each" ${own}/; done
      mount --bind ${own} "$sbin"
      mount -T ${at('fstab')} ${directory}
      grep ' ${directory} ' /proc/mounts
      cat ${directory}/f; echo
      umount ${directory}
      mount -t fuse.gfs ${cluster.address}:/ ${directory} -o _netdev,ro
      grep ' ${directory} ' /proc/mounts
      umount -t fuse.gfs ${directory}
      ! mount -t fuse.gfs ${cluster.address}:/ ${directory} -o _netdv
    `;
    const words = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', program];
    const { status, stdout, stderr } = await runCommand(words);
    t.equal(status, 0, stderr);
    t.match(stdout, / fuse\.gfs rw,nosuid,nodev,noatime,.*\ncontent\n.* fuse\.gfs ro,nosuid,/s);
    t.match(stderr, /unknown mount option _netdv: did you mean _netdev\?/);
  });

  t.test('locks: those lost in an absence are EIO to who held them, until the file is closed', async (t) => {
    const { directory, pid } = await mount('absent', ['--set', 'client.watchdog=0s']);
    const script = `
      import fcntl, os, sys, time
      def take():
          fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
          fcntl.flock(fd, fcntl.LOCK_EX)
          return fd
      fd = take()
      other = os.open(sys.argv[1], os.O_RDWR)
      print('held', flush=True)
      while True:
          try: os.pwrite(fd, b'mine', 0); os.fsync(fd)
          except OSError as error:
              print('errno', error.errno, flush=True)
              break
          time.sleep(0.05)
      os.pwrite(other, b'x', 10)
      try: fcntl.flock(fd, fcntl.LOCK_SH)
      except OSError as error: print('lock', error.errno, flush=True)
      os.close(fd)
      fd = take()
      print(os.pwrite(fd, b'mine', 0), 'written again', flush=True)
    `.replaceAll(/^ {6}/gm, '');
    const path = join(directory, 'locked');
    const program = workspace.spawnProgram('holder', ['python3', '-c', script, path]);
    await eventually(async () => program.log.includes('held') || program.log, 20_000);
    process.kill(await pid(), 'SIGSTOP');
    // Somebody else waits for it, gets it when the session of the one that is gone is over, and changes the file.
    const taken = await cluster.shell('flock locked sh -c "echo theirs > locked"', { timeoutMs: 60_000 });
    t.equal(taken.status, 0, taken.stderr);
    process.kill(await pid(), 'SIGCONT');
    await eventually(async () => program.log.includes('written again') || program.log, 40_000);
    t.match(program.log, /held\nerrno 5\nlock 5\n4 written again\n/);
    t.equal((await cluster.gfs(['umount', directory])).status, 0);
  });

  t.test('restarts: of the master and of chunkservers, files that are open go on', async (t) => {
    const script = `
      import os, sys, time
      fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
      for number in range(100000):
          os.write(fd, f'{number},'.encode()); os.fsync(fd)
          print(f'wrote {number}.', flush=True)
          time.sleep(0.02)
    `.replaceAll(/^ {6}/gm, '');
    const path = join(cluster.mountPoint, 'open');
    const program = workspace.spawnProgram('writer', ['python3', '-c', script, path]);
    const wrote = () => Number(/wrote (\d+)\.\n$/.exec(program.log)?.[1] ?? -1);
    const goesOn = async () => {
      const before = wrote();
      await eventually(async () => wrote() > before + 5 || `stands at ${before}`, 30_000);
    };
    await goesOn();
    await cluster.master.kill();
    await cluster.startMaster();
    await goesOn();
    for (const [index, server] of cluster.chunkservers.entries()) {
      await server.kill();
      await cluster.startChunkserver(index);
      await goesOn();
    }
    const last = wrote();
    await program.kill();
    const numbers = (await readFile(path, 'utf8')).split(',').slice(0, last + 1);
    t.strictSame(
      numbers,
      Array.from({ length: last + 1 }, (_, number) => String(number)),
    );
  });
});

t.test('native-deps.md: the table of what each binding can do is what the bindings say', async (t) => {
  const { nodeEnvironment } = await import('../../environment/node/index.js');
  const { kernelBinding } = await import('../../fuse-client/kernel/index.js');
  const { fuseNativeBinding } = await import('../../fuse-client/fuse-native/index.js');
  const environment = nodeEnvironment({ role: 'test', logLevel: 'silent' });
  const kernel = kernelBinding(environment, { acls: true, locks: true }).capabilities;
  const native = fuseNativeBinding(environment).capabilities;
  const text = await readFile(repositoryPath('native-deps.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)` \| [^|]+ \| (yes|no) \| (yes|no) \|$/gm)];
  const table = rows.map(([, name, one, other]) => [name, one, other]).sort();
  const known = [...new Set([...kernel, ...native])].sort();
  const said = known.map((name) => [name, kernel.has(name) ? 'yes' : 'no', native.has(name) ? 'yes' : 'no']);
  t.strictSame(table, said);
});
