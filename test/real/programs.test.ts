/** `gfs master`, `chunkserver`, `mount`, `umount`, `status`, `snapshot`, `append`, `fileinfo`: one by one. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { mountAt } from '../../cli/mounts.js';
import { cannotMount, eventually, RealCluster } from './cluster.js';
import { runCommand, Workspace } from './processes.js';

t.setTimeout(600_000);
const skip = cannotMount;

t.test('master: a second one on the same port or the same data is refused by name', async (t) => {
  const workspace = new Workspace('master');
  t.teardown(() => workspace.remove());
  const first = workspace.spawn('first', ['master', '--data', workspace.path('a'), '--port', '0']);
  const { port } = await first.started();

  const samePort = await workspace.run(['master', '--data', workspace.path('b'), '--port', String(port)]);
  t.equal(samePort.status, 1);
  t.match(samePort.stderr, `port ${port} on 127.0.0.1 is in use by process ${first.pid}`);
  t.match(samePort.stderr, /gfs master --port PORT/);

  const sameData = await workspace.run(['master', '--data', workspace.path('a'), '--port', '0']);
  t.equal(sameData.status, 1);
  t.match(sameData.stderr, `${workspace.path('a')} is in use by another master`);

  const elsewhere = await workspace.run([
    'master',
    '--data',
    workspace.path('c'),
    '--host',
    '192.0.2.1',
    '--port',
    '0',
  ]);
  t.equal(elsewhere.status, 1);
  t.match(elsewhere.stderr, /this host does not have that address/);

  t.match(await first.stop(), { code: 0 });
});

t.test('status: no master there, or something else, is told in words', async (t) => {
  const workspace = new Workspace('status');
  t.teardown(() => workspace.remove());
  const nobody = await workspace.run(['status', '127.0.0.1:1']);
  t.equal(nobody.status, 1);
  t.match(nobody.stderr, /127\.0\.0\.1:1: nobody listens there\n.*gfs up/);
  t.equal((await workspace.run(['status', 'a:b:c'])).status, 2);
});

t.test('cli: words that are none of ours are refused with exit code 2 and the nearest', async (t) => {
  const workspace = new Workspace('words');
  t.teardown(() => workspace.remove());
  const unknown = await workspace.run(['statsu']);
  t.equal(unknown.status, 2);
  t.match(unknown.stderr, /gfs: unknown command 'statsu'[\s\S]*Did you mean status/);
  t.equal((await workspace.run(['--help'])).status, 0);
  t.equal((await workspace.run(['mount', '--help'])).status, 0);
  t.match((await workspace.run(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

t.test('programs: one by one', { skip }, async (t) => {
  const cluster = await RealCluster.start(t, {
    chunkserverWords: (index) => ['--rack', `r${index}`, '--location', `${index},0`],
  });
  const at = (name: string) => join(cluster.mountPoint, name);

  t.test('status: shows servers, racks and coordinates, as a table and as JSON', async (t) => {
    const text = await cluster.gfs(['status', cluster.address]);
    t.equal(text.status, 0, text.stderr);
    t.match(text.stdout, /servers +3 of 3 alive/);
    t.match(text.stdout, /SERVER +ADDRESS +STATE +RACK +LOCATION/);
    const json = await cluster.gfs(['status', cluster.address, '--json']);
    const status = JSON.parse(json.stdout);
    t.match(status, { ready: true, chunkBytes: 1024 * 1024 });
    t.same(
      status.servers
        .map((each: { rack: string; location: { x: number } }) => [each.rack, each.location.x])
        .sort(),
      [
        ['r0', 0],
        ['r1', 1],
        ['r2', 2],
      ],
    );
    const servers = JSON.parse((await cluster.gfs(['ls-servers', cluster.address, '--json'])).stdout);
    t.equal(servers.length, 3);
  });

  t.test('fileinfo: tells every chunk of a file and its replicas', async (t) => {
    await writeFile(at('three'), Buffer.alloc(2.5 * 1024 * 1024, 'x'));
    const json = await cluster.gfs(['fileinfo', '--json', at('three')]);
    t.equal(json.status, 0, json.stderr);
    const { size, chunks } = JSON.parse(json.stdout);
    t.equal(size, 2.5 * 1024 * 1024);
    t.same(
      chunks.map((chunk: { length: number; replicas: unknown[] }) => [chunk.length, chunk.replicas.length]),
      [
        [1024 * 1024, 3],
        [1024 * 1024, 3],
        [512 * 1024, 3],
      ],
    );
    const text = await cluster.gfs(['fileinfo', at('three')]);
    t.match(text.stdout, /three: 2621440 bytes \(2\.5 MiB\), 3 chunks of up to 1\.0 MiB/);
    const several = await cluster.gfs(['fileinfo', at('three'), at('none'), at('three')]);
    t.match(several, { status: 1, stderr: /none: there is no such file/ });
    t.equal(several.stdout.split('three: 2621440 bytes').length - 1, 2, 'the others are shown');
    const away = await cluster.gfs(['fileinfo', '/etc/passwd']);
    t.equal(away.status, 1);
    t.match(away.stderr, /\/etc\/passwd is not on a mounted GFS/);
  });

  t.test('append: a record goes in whole, and its place is told', async (t) => {
    const first = await cluster.gfs(['append', '--offset', '-n', at('log'), 'one']);
    t.equal(first.status, 0, first.stderr);
    t.equal(first.stdout, '0\n');
    const second = await cluster.gfs(['append', '--json', at('log')], { input: 'two\n' });
    t.match(JSON.parse(second.stdout), { offset: 4, length: 4 });
    t.equal(await readFile(at('log'), 'utf8'), 'one\ntwo\n');

    const big = Buffer.alloc(100_000, 'b');
    const third = await cluster.gfs(['append', '--offset', at('log')], { input: big });
    t.equal(third.status, 0, third.stderr);
    const whole = await readFile(at('log'));
    const offset = Number(third.stdout);
    t.ok(whole.subarray(offset, offset + big.length).equals(big));

    const tooBig = await cluster.gfs(['append', at('log')], { input: Buffer.alloc(300 * 1024) });
    t.equal(tooBig.status, 1);
    t.match(tooBig.stderr, /at most a quarter of the chunk size/);
    t.equal((await cluster.gfs(['append', at('log'), ''])).status, 1);
  });

  t.test(
    'snapshot: a file and a tree; onto a name that is there, into itself, out of the mount',
    async (t) => {
      await mkdir(at('tree/sub'), { recursive: true });
      await writeFile(at('tree/sub/a'), 'before');
      const made = await cluster.gfs(['snapshot', at('tree'), at('copy')]);
      t.equal(made.status, 0, made.stderr);
      await writeFile(at('tree/sub/a'), 'after');
      t.equal(await readFile(at('copy/sub/a'), 'utf8'), 'before');

      // As the shell means it: beside where the command runs.
      const relative = await cluster.gfs(['snapshot', 'tree/sub/a', 'b'], { cwd: cluster.mountPoint });
      t.equal(relative.status, 0, relative.stderr);
      t.equal(await readFile(at('b'), 'utf8'), 'after');

      const refused = async (destination: string, message: RegExp) => {
        const { status, stderr } = await cluster.gfs(['snapshot', at('tree'), destination]);
        t.equal(status, 1);
        t.match(stderr, message);
      };
      await refused(at('copy'), /it is there already/);
      await refused(at('tree/sub/deeper'), /inside its own source/);
      await refused('/tmp/out', /not on the same mount/);
    },
  );

  t.test('mount: in the background it returns once it is there; umount waits until it is gone', async (t) => {
    const directory = cluster.workspace.makeDirectory('second');
    const log = ['--log-file', cluster.workspace.path('second.log')];
    const mounted = await cluster.gfs(['mount', cluster.address, directory, ...log]);
    t.equal(mounted.status, 0, mounted.stderr);
    t.equal(mountAt(directory)?.type, 'fuse.gfs');
    t.equal(await readFile(join(directory, 'b'), 'utf8'), 'after');

    const again = await cluster.gfs(['mount', cluster.address, directory, ...log]);
    t.equal(again.status, 1);
    t.match(again.stderr, /has a GFS mount .* already\nUnmount it first/);

    const busy = cluster.workspace.spawnProgram('busy', [
      'sh',
      '-c',
      `cd ${directory} && echo in && exec sleep 60`,
    ]);
    await busy.says('in');
    const refused = await cluster.gfs(['umount', directory]);
    t.equal(refused.status, 1);
    t.match(refused.stderr, /busy[\s\S]*fuser -vm[\s\S]*--force/);
    await busy.kill();

    const unmounted = await cluster.gfs(['umount', directory]);
    t.equal(unmounted.status, 0, unmounted.stderr);
    t.equal(mountAt(directory), undefined);
    t.match(await cluster.gfs(['umount', directory]), { status: 1, stderr: /nothing is mounted/ });
  });

  t.test('mount: of a directory below the root shows that directory', async (t) => {
    const process = await cluster.addMount('below', [], `${cluster.address}:/tree/sub`);
    t.equal(await readFile(cluster.workspace.path('below', 'a'), 'utf8'), 'after');
    t.match(await process.stop(), { code: 0 });
    const none = await cluster.gfs([
      'mount',
      '-f',
      `${cluster.address}:/nothing`,
      cluster.workspace.path('below'),
    ]);
    t.equal(none.status, 1);
  });

  t.test('mount: what is missing or wrong is refused by name', async (t) => {
    const missing = await cluster.gfs(['mount', cluster.address, cluster.workspace.path('none')]);
    t.match(missing, { status: 1, stderr: /does not exist\nMake it first: mkdir -p/ });
    const option = await cluster.gfs(['mount', cluster.address, cluster.mountPoint, '-o', 'allow_othr']);
    t.match(option, { status: 2, stderr: /unknown mount option allow_othr: did you mean allow_other\?/ });
    const directory = cluster.workspace.makeDirectory('nobody');
    const words = ['--set', 'client.deadline=1s', '--log-file', cluster.workspace.path('nobody.log')];
    const nobody = await cluster.gfs(['mount', '127.0.0.1:1', directory, ...words]);
    t.equal(nobody.status, 1);
    t.match(nobody.stderr, /127\.0\.0\.1:1/);
  });

  t.test(
    'mount: killed with -9, the dead mount is tidied away by the next; umount does it too',
    async (t) => {
      const first = await cluster.addMount('third');
      await first.kill();
      const second = await cluster.addMount('third');
      t.match(second.log, /whose process is dead: unmounting it/);
      t.equal(await readFile(cluster.workspace.path('third', 'b'), 'utf8'), 'after');
      await second.kill();
      t.equal((await cluster.gfs(['umount', cluster.workspace.path('third')])).status, 0);
      t.equal(mountAt(cluster.workspace.path('third')), undefined);
    },
  );

  t.test('umount: a mount that hangs is told so, and --force frees who waits in it', async (t) => {
    const directory = cluster.workspace.path('fourth');
    const process = await cluster.addMount('fourth');
    process.pause();
    const waiting = runCommand(['stat', join(directory, 'not-cached')]);
    const refused = await cluster.gfs(['umount', directory]);
    t.match(refused, { status: 1, stderr: /does not answer\n.*--force/ });
    const forced = await cluster.gfs(['umount', '--force', directory]);
    t.equal(forced.status, 0, forced.stderr);
    t.equal((await waiting).status, 1, 'who waited got an error');
    t.equal(mountAt(directory), undefined);
    await process.kill();
  });

  t.test('cluster: kill -9 of every process and start again: what was synced is there', async (t) => {
    const written = await cluster.shell('head -c 3000000 /dev/urandom > r && sync r && sha256sum r');
    t.equal(written.status, 0, written.stderr);
    await cluster.killAll();
    await cluster.startAll();
    t.equal((await cluster.shell('sha256sum r')).stdout, written.stdout);
    await eventually(async () => {
      const { chunksBelowGoal, chunksUnavailable } = await cluster.status();
      return (
        chunksBelowGoal + chunksUnavailable === 0 || `${chunksBelowGoal} below, ${chunksUnavailable} lost`
      );
    }, 10_000);
    await cluster.stopAll();
  });
});
