/** Shadows as processes, with kill -9 and a mount: the operation log on two hosts, as an operator meets it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { parseHostPort } from '../../cli/config/values.js';
import { queryLog, queryStatus } from '../../cli/master-query.js';
import { cannotMount, eventually, RealCluster } from './cluster.js';

t.setTimeout(600_000);
const skip = cannotMount;

function at(address: string) {
  return [parseHostPort(address, 0)];
}

async function shadowsOf(cluster: RealCluster): Promise<{ behindMs: number | null }[]> {
  return JSON.parse((await cluster.gfs(['shadows', cluster.address, '--json'])).stdout).replicas;
}

t.test(
  'shadow: the master is killed during writes: reads go on, it is promoted, nothing is lost',
  { skip },
  async (t) => {
    const cluster = await RealCluster.start(t, { shadows: 1 });
    const path = (name: string) => join(cluster.mountPoint, name);
    const content = 'x'.repeat(2_500_000);
    await writeFile(path('before'), content);
    await cluster.shell('mkdir d load && for i in $(seq 50); do echo $i > d/f$i; done');

    // Directories are made until somebody says stop; each that was made is told on the output. In a directory
    // of their own: Linux makes everybody else wait who looks into one in which a change waits.
    const making = cluster.shell(
      'for i in $(seq 100000); do [ -e stop ] && break; mkdir load/made-$i && echo $i; done',
      {
        timeoutMs: 120_000,
      },
    );
    await eventually(
      async () => (await cluster.shell('ls -d load/made-20')).status === 0 || 'not yet',
      20_000,
    );
    await cluster.master.kill();

    // The master is away, and nobody has been promoted: what is read comes from the shadow.
    const listed = await cluster.shell('ls d | wc -l');
    t.equal(listed.stdout.trim(), '50');
    t.equal((await cluster.shell('cat d/f7')).stdout, '7\n');
    t.equal((await readFile(path('before'), 'utf8')).length, content.length);
    const status = await cluster.gfs(['status', cluster.shadowAddress(0)]);
    t.equal(status.status, 1);
    t.match(status.stderr, `gfs promote ${cluster.shadowAddress(0)}`);

    const promoted = await cluster.gfs(['promote', cluster.shadowAddress(0)]);
    t.equal(promoted.status, 0, promoted.stderr);
    t.match(promoted.stdout, 'is the master, of term 2');
    t.notMatch(promoted.stdout, 'did not answer', 'its port is closed');
    // It goes on where it was, with the same session: made-1 to the last without a gap.
    await eventually(async () => {
      const { stdout } = await cluster.shell('touch on-the-new-master && ls');
      return stdout.includes('on-the-new-master') || 'not yet';
    }, 30_000);
    await cluster.shell('touch stop');
    const { stdout } = await making;
    const told = stdout.trim().split('\n');
    t.ok(told.length >= 20);
    const names = new Set((await cluster.shell('ls load')).stdout.split('\n'));
    t.same(
      told.filter((number) => !names.has(`made-${number}`)),
      [],
      'everything that was acknowledged is there',
    );
    await cluster.shell('echo more >> d/f7');
    t.equal((await cluster.shell('cat d/f7')).stdout, '7\nmore\n');

    // The old master comes back: it is fenced and says so.
    const old = cluster.workspace.spawn('old-master', [
      ...['master', '--data', cluster.workspace.path('master'), '--port', String(cluster.port)],
      ...['--set', 'master.chunk_size=1MiB'],
    ]);
    const { code } = await old.ended;
    t.equal(code, 1);
    t.match(old.log, `this master was replaced: ${cluster.shadowAddress(0)} serves`);
    t.match(old.log, 'gfs shadow --master');

    // And its directory becomes a shadow of the new one.
    const back = cluster.workspace.spawn('old-master-as-shadow', [
      ...[
        'shadow',
        '--master',
        cluster.shadowAddress(0),
        '--data',
        cluster.workspace.path('master'),
        '--port',
        '0',
      ],
    ]);
    await back.started();
    await eventually(async () => {
      const { replicas } = await queryLog(at(cluster.shadowAddress(0)));
      return replicas.some(({ state, counted }) => counted && state === 'in step') || 'it does not follow';
    }, 20_000);
  },
);

t.test(
  'shadow: it is killed: changes are refused and gfs status says why; it comes back: they go on',
  { skip },
  async (t) => {
    const cluster = await RealCluster.start(t, { shadows: 1 });
    await cluster.shell('echo before > a; mkdir one two');
    t.match((await cluster.gfs(['shadows', cluster.address])).stdout, /\d+ records?, \d+\.\d s /);
    const [following] = await shadowsOf(cluster);
    t.equal(typeof following?.behindMs, 'number', 'how old its copy is, the shadow tells');
    await cluster.shadows[0]?.kill();
    // One that was begun before anybody could know: it is done when the shadow is back. (Linux makes the
    // others of its directory wait for it.)
    const pending = cluster.shell('mkdir one/pending');
    await delay(3_000);
    await eventually(async () => {
      const { stderr } = await cluster.shell('mkdir two/refused', { timeoutMs: 5_000 });
      return stderr.includes('Read-only file system') || stderr;
    }, 20_000);
    t.equal((await cluster.shell('cat a')).stdout, 'before\n', 'reads go on');
    const status = await cluster.gfs(['status', cluster.address]);
    t.equal(status.status, 1);
    t.match(status.stdout, /CHANGES ARE REFUSED until it is back/);
    t.match(status.stdout, /gfs shadows remove [0-9a-f]{16}/);
    t.equal((await cluster.gfs(['shadows', cluster.address])).status, 1);
    t.match(await shadowsOf(cluster), [{ state: 'missing', behindMs: null }]);

    await cluster.startShadow(0);
    t.equal((await pending).status, 0);
    await eventually(async () => (await cluster.shell('mkdir -p made')).status === 0 || 'not yet', 20_000);
    t.equal((await cluster.gfs(['status', cluster.address])).status, 0);

    // Gone for good.
    await cluster.shadows[0]?.kill();
    const { replicas } = await queryLog(at(cluster.address));
    const id = replicas[0]?.member.id as string;
    const removed = await cluster.gfs(['shadows', 'remove', id, cluster.address]);
    t.equal(removed.status, 0, removed.stderr);
    t.equal((await cluster.shell('mkdir without')).status, 0);
    t.equal((await queryStatus(at(cluster.address))).directories, 6);
  },
);

t.test(
  'promote: an old master that does not answer may run on: it is said that it has to be stopped',
  { skip },
  async (t) => {
    const cluster = await RealCluster.start(t, { shadows: 1 });
    await cluster.shell('echo before > a');
    cluster.master.pause();
    const promoted = await cluster.gfs(['promote', cluster.shadowAddress(0)]);
    t.equal(promoted.status, 0, promoted.stderr);
    t.match(promoted.stdout, `The old master at ${cluster.address} did not answer`);
    t.match(promoted.stdout, 'make sure that it is stopped');
    await eventually(async () => {
      const { stdout, stderr } = await cluster.shell('echo after >> a; cat a');
      return stdout.includes('after') || stderr;
    }, 30_000);
    cluster.master.resume();
    const { code } = await cluster.master.ended;
    t.equal(code, 1, 'and one that hears of the new one ends by itself');
  },
);
