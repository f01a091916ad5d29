/** Re-replication, goals and draining with real processes: what users and their operators see. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cannotMount, eventually, RealCluster } from './cluster.js';

// Each step has its own time limit.
t.setTimeout(0);

const HEALING_MS = 30_000;
const SETTINGS = ['replication.wait=500ms', 'chunk_server.heartbeat_interval=500ms'];

/** A few files of one and of several chunks; returns how to see that all are as they were. */
function makeFiles(cluster: RealCluster): () => boolean {
  const sums = new Map<string, string>();
  mkdirSync(join(cluster.mountPoint, 'd'));
  for (let at = 0; at < 30; at++) {
    const path = join(cluster.mountPoint, 'd', `file-${at}`);
    const content = Buffer.alloc(at % 5 === 0 ? 2_500_000 : 1 + at * 997, `content of ${at} `);
    writeFileSync(path, content);
    sums.set(path, createHash('sha256').update(content).digest('hex'));
  }
  return () =>
    [...sums].every(([path, sum]) => createHash('sha256').update(readFileSync(path)).digest('hex') === sum);
}

/** Waits until every chunk has its goal's replicas on the servers that live, and no more. */
async function allAtGoal(cluster: RealCluster, goal: number, alive: number): Promise<void> {
  await eventually(async () => {
    const { chunks, chunksBelowGoal, servers } = await cluster.status();
    const live = servers.filter(({ state }) => state === 'alive');
    const replicas = live.reduce((sum, server) => sum + server.chunks, 0);
    if (live.length === alive && chunksBelowGoal === 0 && replicas === goal * chunks) return true;
    return `${live.length} servers, ${chunksBelowGoal} of ${chunks} chunks below goal, ${replicas} replicas`;
  }, HEALING_MS);
}

async function gfs(t: Test, cluster: RealCluster, words: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await cluster.gfs(words);
  t.equal(status, 0, `gfs ${words.join(' ')}: ${stderr}`);
  return stdout;
}

t.test(
  'healing: a server is killed, its chunks are back at goal; it comes back, and what is too much goes',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { servers: 4, set: SETTINGS });
    const intact = makeFiles(cluster);
    const [lost] = cluster.chunkservers;
    await lost?.kill();
    await allAtGoal(cluster, 3, 3);
    t.ok(intact());
    await cluster.chunkservers[1]?.kill();
    t.ok(intact(), 'what was cloned serves');
    await cluster.startChunkserver(0);
    await cluster.startChunkserver(1);
    await allAtGoal(cluster, 3, 4);
    t.ok(intact());
  },
);

t.test(
  'goal and drain: set by command and attribute, and nothing is lost on the way',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { servers: 4, set: SETTINGS });
    const intact = makeFiles(cluster);
    const d = join(cluster.mountPoint, 'd');
    const file = join(d, 'file-1');
    t.match(await gfs(t, cluster, ['goal', 'get', file]), /^3 \(the cluster's default\)/);
    await gfs(t, cluster, ['goal', 'set', '-r', '2', d]);
    await allAtGoal(cluster, 2, 4);
    t.equal((await cluster.shell('getfattr --only-values -n user.gfs.goal d/file-1')).stdout, '2');
    t.same(JSON.parse(await gfs(t, cluster, ['goal', 'get', '-r', '--json', d])).goals, [
      { goal: 2, files: 30 },
    ]);
    const tooMany = await cluster.gfs(['goal', 'set', '5', file]);
    t.equal(tooMany.status, 1);
    t.match(tooMany.stderr, /4 chunkservers are connected/);
    t.equal((await cluster.gfs(['goal', 'set', '0', file])).status, 2);
    t.not((await cluster.shell('setfattr -n user.gfs.goal -v 9 d/file-1')).status, 0);
    t.equal((await cluster.shell('setfattr -n user.gfs.goal -v 3 d/file-1')).status, 0);
    t.equal((await gfs(t, cluster, ['goal', 'get', file])).trim(), '3');
    await gfs(t, cluster, ['goal', 'set', '-r', 'default', d]);
    await allAtGoal(cluster, 3, 4);

    const { servers } = await cluster.status();
    const serverId = servers[0]?.server.serverId as string;
    const nobody = await cluster.gfs(['drain', 'nobody', '--master', cluster.address]);
    t.equal(nobody.status, 1);
    t.match(nobody.stderr, /ls-servers/);
    const drained = await gfs(t, cluster, ['drain', serverId, '--wait', '--master', cluster.address]);
    t.match(drained, /can be taken away/);
    const { servers: after, chunks } = await cluster.status();
    t.equal(after.find(({ server }) => server.serverId === serverId)?.chunks, 0);
    t.equal(
      after.reduce((sum, server) => sum + server.chunks, 0),
      3 * chunks,
    );
    t.ok(intact());
    t.match(await gfs(t, cluster, ['drain', '--master', cluster.address]), /empty/);
    // It is taken away, and another is put in its place.
    const directories = [0, 1, 2, 3].map((at) => cluster.workspace.path(`chunkserver-${at}`));
    const index = directories.findIndex((directory) => {
      return readFileSync(join(directory, 'superblock')).includes(serverId);
    });
    await cluster.chunkservers[index]?.kill();
    await eventually(async () => {
      const shown = await gfs(t, cluster, ['drain', '--master', cluster.address]);
      return /not connected/.test(shown) || shown;
    }, HEALING_MS);
    rmSync(directories[index] as string, { recursive: true });
    await cluster.startChunkserver(index);
    await allAtGoal(cluster, 3, 4);
    t.ok(intact());
    await gfs(t, cluster, ['drain', serverId, '--cancel', '--master', cluster.address]);
    t.match(await gfs(t, cluster, ['drain', '--master', cluster.address]), /No chunkserver/);
  },
);
