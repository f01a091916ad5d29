import t from 'tap';
import { checkTree } from '../../client/inspection.js';
import type { MasterSession } from '../../client/session.js';
import type { Journal } from '../../master/journal.js';
import { OrphanScan } from '../../master/orphans.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { type HeldChunk, TestChunkserver } from './chunkserver.js';
import { CHUNK_BYTES, codeOf, MasterHost, TestClient } from './support.js';

let seed = 9000;
const ROOT = m.ROOT_ID;

async function cluster(servers = 3, set: Partial<TestChunkserver>[] = []) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, { orphanScanIntervalMs: 5_000 }).start();
  const client = await TestClient.start(world);
  const chunkservers: TestChunkserver[] = [];
  for (let at = 0; at < servers; at++)
    chunkservers.push(await TestChunkserver.start(world, `cs${at}`, set[at]));
  const lease = async (id: number, index = 0): Promise<m.Lease> =>
    (await client.call(m.GetLease, { id, index, version: 0, failed: [] })).lease;
  /** The client library's walk, over this client's connection. */
  const check = async (root: number, deleted = false) => {
    const problems: m.ChunkProblem[] = [];
    const master = { query: (method: typeof m.CheckTree, body: never) => client.call(method, body) };
    const summary = await checkTree(
      master as unknown as MasterSession,
      root,
      {},
      { deleted, onProblems: (some) => problems.push(...some) },
    );
    return { summary, problems };
  };
  return { world, host, client, chunkservers, lease, check };
}

t.test('fsck: a tree is walked to its end in pieces, each name and each file once', async (t) => {
  const { client, check } = await cluster(0);
  const top = await client.mkdir(ROOT, 'top');
  let inner = top;
  for (let depth = 0; depth < 40; depth++) inner = await client.mkdir(inner, `d${depth}`);
  const files: Promise<unknown>[] = [];
  for (let at = 0; at < 1200; at++)
    files.push(
      client.send(
        m.Create,
        { parent: at % 2 ? top : inner, name: `f${at}`, mode: 0o100644, rdev: 0, exclusive: true },
        { sequence: ++client.sequence },
      ),
    );
  await client.world.until(Promise.all(files));
  await client.mutate(m.Symlink, { parent: top, name: 'link', target: 'x' });
  const shared = (await client.lookup('/top/f1')).id;
  await client.mutate(m.Link, { id: shared, parent: inner, name: 'second' });
  await client.mutate(m.Link, { id: shared, parent: ROOT, name: 'third' });
  const { summary } = await check(ROOT);
  t.match(summary, { files: 1200, directories: 42, others: 1, bytes: 0, chunks: 0 });
  t.equal((await check(inner)).summary.files, 601, 'a file counts where its first name is not in the tree');
  t.equal((await check(shared)).summary.files, 1);
  const part = await client.call(m.CheckTree, { root: ROOT, deleted: false });
  t.ok(part.cursor !== undefined && part.files < 1200, 'one piece is bounded');
  t.equal(await codeOf(client.call(m.CheckTree, { root: 77_777, deleted: false })), 'STALE_NODE');
  const odd = { stack: [1, 2, 3], chunks: 0 };
  t.equal(await codeOf(client.call(m.CheckTree, { root: ROOT, cursor: odd, deleted: false })), 'MALFORMED');
});

t.test('fsck: names the files whose chunks are lost, below their goal, stale or damaged', async (t) => {
  const { world, client, chunkservers, lease, check } = await cluster();
  const [a, b, c] = [
    await client.create(ROOT, 'a'),
    await client.create(ROOT, 'b'),
    await client.create(ROOT, 'c'),
  ];
  const leases = [await lease(a), await lease(b), await lease(c)] as [m.Lease, m.Lease, m.Lease];
  await client.mutate(m.ExtendFile, { id: a, size: CHUNK_BYTES });
  await client.unlink(ROOT, 'c');
  t.match((await check(ROOT, true)).summary, {
    files: 2,
    deletedFiles: 1,
    chunks: 3,
    healthy: 3,
    replicas: 9,
  });
  await chunkservers[0]?.call(m.ReportDamage, { handle: leases[0].handle, version: 1 });
  for (const server of chunkservers)
    await server.call(m.ReportDamage, { handle: leases[2].handle, version: 1 });
  const { summary, problems } = await check(ROOT, true);
  t.match(summary, { healthy: 1, belowGoal: 1, lost: 1, bytes: CHUNK_BYTES });
  t.match(problems, [
    { path: '/a', health: 'belowGoal', current: 2, deleted: false, goal: 3 },
    { path: '/c', health: 'lost', current: 0, deleted: true },
  ]);
  const { chunks } = await client.call(m.DescribeChunks, { id: a, index: 0, count: 9 });
  t.strictSame(chunks[0]?.replicas.map(({ state }) => state).sort(), ['current', 'current']);
  t.equal(chunks[0]?.primary, leases[0].primary.serverId);
  t.ok((chunks[0]?.leaseMs ?? 0) > 50_000);
  await world.runFor(1);
});

t.test(
  'health: after a start what nobody has reported yet is unknown, and lost only once the servers had their time',
  async (t) => {
    const { world, host, client, chunkservers, lease, check } = await cluster();
    const a = await client.create(ROOT, 'a');
    await lease(a);
    for (const server of chunkservers) server.crash();
    await host.restart();
    await client.register(client.session);
    t.match((await check(a)).summary, { unknown: 1, lost: 0 });
    t.match(await client.call(m.GetStatus, {}), { chunksUnavailable: 1, chunksUnknown: 1 });
    await world.runFor(3_000);
    await client.register();
    t.match((await check(a)).summary, { unknown: 0, lost: 1 });
    t.match(await client.call(m.GetStatus, {}), { chunksUnavailable: 1, chunksUnknown: 0 });
    await chunkservers[0]?.restart();
    t.match((await check(a)).summary, { belowGoal: 1, lost: 0 });
  },
);

t.test(
  'fileinfo: chunks are described with racks, coordinates, distances and scores; holes are left out',
  async (t) => {
    const { client, lease } = await cluster(3, [
      { location: { x: 0, y: 3 }, rack: 'r1' },
      { location: { x: 4, y: 0 }, rack: 'r2' },
      {},
    ]);
    const near = await TestClient.start(client.world, 'near');
    await near.call(m.RegisterClient, {
      clientId: 'near',
      hostname: 'near',
      location: { x: 0, y: 0 },
      resume: near.session,
    });
    const a = await client.create(ROOT, 'a');
    await lease(a, 5);
    await lease(a, 9);
    const { chunks, next } = await near.call(m.DescribeChunks, { id: a, index: 0, count: 1 });
    t.equal(next, 9);
    t.strictSame(
      chunks.map(({ index }) => index),
      [5],
    );
    const of = (serverId: string) => chunks[0]?.replicas.find(({ server }) => server.serverId === serverId);
    t.match(of('cs0'), { rack: 'r1', location: { x: 0, y: 3 }, distance: 3, state: 'current' });
    t.match(of('cs1'), { rack: 'r2', distance: 4 });
    t.ok((of('cs0')?.score ?? 9) < (of('cs1')?.score ?? 0));
    t.equal(of('cs2')?.distance, 0);
    t.equal(await codeOf(client.call(m.DescribeChunks, { id: ROOT, index: 0, count: 1 })), 'IS_DIRECTORY');
  },
);

t.test('garbage: a chunk shared with a snapshot outlives the deleted file', async (t) => {
  const { world, host, client, chunkservers, lease } = await cluster();
  const a = await client.create(ROOT, 'a');
  const { handle } = await lease(a);
  await client.mutate(m.Snapshot, { id: a, parent: ROOT, name: 'copy' });
  await client.unlink(ROOT, 'a');
  await client.mutate(m.Purge, { ids: [a] });
  await world.runFor(8_000);
  t.notOk(host.master.state.nodes.has(a), 'the file is gone');
  for (const server of chunkservers) {
    t.strictSame((await server.heartbeat()).drop, []);
    t.ok(server.chunks.has(handle));
  }
  const copy = (await client.lookup('/copy')).id;
  await client.unlink(ROOT, 'copy');
  await client.mutate(m.Purge, { ids: [copy] });
  await world.runFor(8_000);
  for (const server of chunkservers) t.notOk(server.chunks.has(handle), 'with its last file it goes');
});

t.test(
  'garbage: a chunk of a deleted file that is open stays on its servers, also over a restart of the master',
  async (t) => {
    const { world, host, client, chunkservers, lease } = await cluster();
    const a = await client.create(ROOT, 'a');
    const { handle } = await lease(a);
    await client.call(m.Renew, { opened: [a], closed: [] });
    await client.unlink(ROOT, 'a');
    await client.mutate(m.Purge, { ids: [a] });
    await world.runFor(8_000);
    await host.restart();
    for (const server of chunkservers) await server.register();
    await world.runFor(8_000);
    await client.register(client.session);
    await client.call(m.Renew, { opened: [a], closed: [] });
    await world.runFor(8_000);
    for (const server of chunkservers) {
      t.strictSame((await server.heartbeat()).drop, []);
      t.ok(server.chunks.has(handle) as boolean);
    }
    await client.call(m.Renew, { opened: [], closed: [a] });
    await world.runFor(4_000);
    for (const server of chunkservers) t.notOk(server.chunks.has(handle));
  },
);

t.test(
  'garbage: chunks that no file has are named in the reply to a heartbeat, but not by a master that has just started',
  async (t) => {
    const stray: HeldChunk = {
      version: 1,
      lengthBytes: 9,
      digest: 0,
      appliedSerial: 0,
      suspect: false,
      lease: undefined,
    };
    const { world, host, client, chunkservers, lease } = await cluster();
    const first = chunkservers[0] as TestChunkserver;
    await lease(await client.create(ROOT, 'a'));
    first.chunks.set(999, stray);
    t.strictSame((await first.heartbeat()).drop, [999]);
    first.chunks.delete(999);
    await host.restart();
    first.chunks.set(998, stray);
    await first.register();
    t.strictSame(
      (await first.heartbeat()).drop,
      [],
      'the other servers are not back: nothing is garbage yet',
    );
    t.ok(first.chunks.has(998));
    await world.runFor(3_000);
    t.notOk(first.chunks.has(998), 'it was in the report, and is deleted once the master is ready');
    first.chunks.set(997, stray);
    t.strictSame((await first.heartbeat()).drop, [997]);
  },
);

t.test(
  'orphans: a chunk that no file has is found by the scan, given up and deleted where it is',
  async (t) => {
    const { world, host, client, chunkservers, lease } = await cluster();
    const { handle } = await lease(await client.create(ROOT, 'a'));
    const { chunks } = host.master.state;
    // A fault that cannot happen: nothing but apply writes logged state.
    const orphan = handle + 1;
    chunks.add({
      handle: orphan,
      version: 1,
      references: 1,
      goal: 3,
      replicas: 3,
      holder: '',
      durationMs: 0,
    });
    const first = chunkservers[0] as TestChunkserver;
    const held = first.chunks.get(handle) as HeldChunk;
    first.chunks.set(orphan, { ...held, lease: undefined });
    t.strictSame((await first.heartbeat()).drop, [], 'the master knows it');
    await world.runFor(10_000);
    t.notOk(chunks.has(orphan));
    t.ok(chunks.has(handle), 'what a file has stays');
    t.notOk(first.chunks.has(orphan));
    await host.restart();
    t.ok(host.master.state.chunks.has(handle), 'and the log can be replayed without it');
  },
);

t.test('orphans: while files are copied, deleted and written nothing is taken for an orphan', async (t) => {
  const { world, host, client, lease } = await cluster();
  const logged: unknown[] = [];
  const journal = { commit: async (event: unknown) => logged.push(event) } as unknown as Journal;
  const scan = new OrphanScan(host.master.state, journal, host.process.environment);
  let at = await client.create(ROOT, 'f0');
  await lease(at);
  for (let round = 1; round <= 30; round++) {
    await client.mutate(m.Snapshot, { id: at, parent: ROOT, name: `f${round}` });
    const scanning = scan.scan();
    await client.unlink(ROOT, `f${round - 1}`);
    await client.mutate(m.Purge, { ids: [at] });
    t.strictSame(await world.until(scanning), []);
    await world.runFor(300);
    at = (await client.lookup(`/f${round}`)).id;
  }
  t.strictSame(logged, []);
});

t.test(
  'garbage: while a clone is under way neither its source nor the copy is deleted, and the copy goes with the file',
  async (t) => {
    const { world, host, client, chunkservers, lease } = await cluster(4, [
      { cloneMs: 20_000 },
      { cloneMs: 20_000 },
      { cloneMs: 20_000 },
      { cloneMs: 20_000 },
    ]);
    const a = await client.create(ROOT, 'a');
    const granted = await lease(a);
    const { handle } = granted;
    const byId = (serverId: string) =>
      chunkservers.find((each) => each.serverId === serverId) as TestChunkserver;
    byId(granted.secondaries[0]?.serverId as string).crash();
    const alive = chunkservers.filter((each) => each.serverId !== granted.secondaries[0]?.serverId);
    let target: TestChunkserver | undefined;
    for (let waited = 0; target === undefined && waited < 120; waited++) {
      await world.runFor(1_000);
      target = alive.find(({ cloning }) => cloning > 0);
    }
    t.ok(target !== undefined, 'a clone is under way');
    await client.call(m.Renew, { opened: [], closed: [] });
    for (const server of alive) t.strictSame((await server.heartbeat()).drop, []);
    t.equal(alive.filter(({ chunks }) => chunks.has(handle)).length, 2, 'the sources have it');
    await client.unlink(ROOT, 'a');
    await client.mutate(m.Purge, { ids: [a] });
    await world.runFor(40_000);
    t.notOk(host.master.state.chunks.has(handle));
    for (const server of alive) t.notOk(server.chunks.has(handle), `${server.serverId} has deleted it`);
  },
);
