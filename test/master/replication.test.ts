/** Re-replication, goals and moving chunks, over chunkservers that hold no bytes. */
import t from 'tap';
import { digestState, dumpState } from '../../master/dump.js';
import { replicationDefaults } from '../../master/replication/options.js';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { type HeldChunk, TestChunkserver } from './chunkserver.js';
import { asked, cluster, WAIT_MS } from './replication-cluster.js';
import { codeOf, connect } from './support.js';

/** On a busy machine. */
t.setTimeout(600_000);

t.test(
  "re-replication: a lost server's chunks are back at goal, after the wait and not before",
  async (t) => {
    const { world, chunkservers, byId, readable, file } = await cluster(4);
    const { id, lease } = await file('f');
    const lost = byId(lease.secondaries[0]?.serverId as string);
    lost.crash();
    await world.runFor(WAIT_MS - 1_000);
    t.strictSame(asked(chunkservers, 'clone'), []);
    t.equal((await readable(id)).length, 2);
    await world.runFor(3_000);
    t.equal((await readable(id)).length, 3);
    t.strictSame(asked(chunkservers, 'clone'), [`clone ${lease.handle} 1`]);
    t.ok(
      byId(lease.primary.serverId).asked.includes(`revoke ${lease.handle} 1`),
      'the lease ended before the copy became a replica',
    );
  },
);

t.test('re-replication: a server that restarts in time costs nothing', async (t) => {
  const { world, chunkservers, byId, readable, file } = await cluster(4);
  const { id, lease } = await file('f');
  const lost = byId(lease.secondaries[0]?.serverId as string);
  lost.crash();
  await world.runFor(WAIT_MS - 2_000);
  await lost.restart();
  await world.runFor(2 * WAIT_MS);
  t.strictSame(asked(chunkservers, 'clone'), []);
  t.equal((await readable(id)).length, 3);
});

t.test(
  're-replication: a server that is back and still tells what it has costs nothing either',
  async (t) => {
    const { world, chunkservers, byId, readable, file } = await cluster(4);
    const { id, lease } = await file('f');
    const lost = byId(lease.secondaries[0]?.serverId as string);
    lost.crash();
    await world.runFor(1_000);
    lost.reportMs = 2 * WAIT_MS;
    await lost.restart();
    t.strictSame(asked(chunkservers, 'clone'), []);
    await world.runFor(2_000);
    t.strictSame(asked(chunkservers, 'clone'), []);
    t.equal((await readable(id)).length, 3);
  },
);

t.test('re-replication: the last copy waits a quarter, and goes before others', async (t) => {
  const { world, chunkservers, byId, file, readable } = await cluster(5, () => ({ cloneMs: 300 }), {
    replication: { ...replicationDefaults, maxClones: 1 },
  });
  const files = await Promise.all([file('a')]);
  for (const name of ['b', 'c', 'd', 'e', 'f', 'g']) files.push(await file(name));
  const members = ({ lease }: { lease: m.Lease }) =>
    [lease.primary, ...lease.secondaries].map(({ serverId }) => serverId);
  const [first] = files as [(typeof files)[0]];
  const [gone, goneToo] = members(first) as [string, string];
  byId(gone).crash();
  byId(goneToo).crash();
  await world.runFor(WAIT_MS / 4 + 2_000);
  const early = asked(chunkservers, 'clone').map((line) => Number(line.split(' ')[1]));
  const single = files.filter((each) => members(each).includes(gone) && members(each).includes(goneToo));
  t.ok(early.length > 0 && early.every((handle) => single.some(({ lease }) => lease.handle === handle)));
  await world.runFor(60_000);
  for (const { id } of files) t.equal((await readable(id)).length, 3);
});

t.test('re-replication: files that are deleted come after those that live', async (t) => {
  const { world, client, chunkservers, byId, file } = await cluster(4, () => ({ cloneMs: 200 }), {
    replication: { ...replicationDefaults, maxClones: 1 },
  });
  const files: { name: string; lease: m.Lease }[] = [];
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) files.push({ name, ...(await file(name)) });
  for (const name of ['a', 'b', 'c', 'd']) await client.unlink(m.ROOT_ID, name);
  byId('cs0').crash();
  await world.runFor(WAIT_MS + 30_000);
  const order = chunkservers
    .flatMap((chunkserver) => chunkserver.adopted)
    .sort((a, b) => a.atMs - b.atMs)
    .map(({ handle }) => files.find(({ lease }) => lease.handle === handle)?.name as string);
  t.ok(order.length >= 4);
  const live = order.map((name) => 'efgh'.includes(name));
  t.strictSame(
    live,
    [...live].sort((a, b) => Number(b) - Number(a)),
    order.join(' '),
  );
});

t.test('re-replication: no more clones at once than the limits say, to a server and in all', async (t) => {
  const { world, chunkservers, byId, file, readable } = await cluster(5, () => ({ cloneMs: 100 }), {
    replication: { ...replicationDefaults, maxClones: 3, maxClonesPerServer: 2 },
  });
  const files = [];
  for (let at = 0; at < 40; at++) files.push(await file(`f${at}`));
  let most = 0;
  for (const each of chunkservers)
    each.onClone = () => {
      most = Math.max(most, 1 + chunkservers.reduce((sum, { cloning }) => sum + cloning, 0));
    };
  byId('cs0').crash();
  await world.runFor(WAIT_MS + 20_000);
  for (const { id } of files) t.equal((await readable(id)).length, 3);
  t.ok(chunkservers.every(({ mostCloning }) => mostCloning <= 2));
  t.equal(most, 3);
});

t.test('re-replication: the limits on bytes per second go with every clone', async (t) => {
  const rates = { cloneRateBps: 3_000_000, serverRateBps: 7_000_000 };
  const { world, chunkservers, byId, file, readable } = await cluster(4, () => ({}), {
    replication: { ...replicationDefaults, ...rates },
  });
  const { id, lease } = await file('f');
  byId(lease.primary.serverId).crash();
  await world.runFor(WAIT_MS + 20_000);
  t.equal((await readable(id)).length, 3);
  const sent = chunkservers.flatMap((chunkserver) => chunkserver.rates);
  t.strictSame(sent, [{ rateBps: 3_000_000, serverRateBps: 7_000_000 }]);
});

t.test('re-replication: a chunk that a reader waits for goes before the others', async (t) => {
  const { world, client, chunkservers, byId, file } = await cluster(4, () => ({ cloneMs: 200 }), {
    replication: { ...replicationDefaults, maxClones: 1 },
  });
  const files = [];
  for (let at = 0; at < 12; at++) files.push(await file(`f${at}`));
  byId('cs0').crash();
  await world.runFor(WAIT_MS + 500);
  const [last] = files.filter(({ lease }) => byId('cs0').chunks.has(lease.handle)).slice(-1);
  const { id, lease } = last as (typeof files)[0];
  t.notOk(asked(chunkservers, 'clone').includes(`clone ${lease.handle} 1`), 'its turn has not come');
  const before = chunkservers.reduce((sum, { adopted }) => sum + adopted.length, 0);
  await client.call(m.GetChunks, { id, index: 0, count: 1 });
  await world.runFor(10_000);
  const order = chunkservers
    .flatMap((chunkserver) => chunkserver.adopted)
    .sort((a, b) => a.atMs - b.atMs)
    .map(({ handle }) => handle);
  t.ok(order.length > before + 3, 'others waited longer');
  // One was under way.
  t.equal(order.indexOf(lease.handle), before + 1, order.join(' '));
});

t.test('re-replication: what is written meanwhile is fetched too, under no lease', async (t) => {
  const { world, chunkservers, byId, having, file } = await cluster(4);
  const { lease } = await file('f');
  const target = chunkservers.find(({ chunks }) => !chunks.has(lease.handle)) as TestChunkserver;
  let writes = 1;
  target.onClone = () => {
    if (writes-- <= 0) return;
    for (const each of having(lease.handle)) {
      const chunk = each.chunks.get(lease.handle) as HeldChunk;
      chunk.appliedSerial++;
      chunk.digest++;
    }
  };
  byId(lease.secondaries[0]?.serverId as string).crash();
  await world.runFor(WAIT_MS + 2_000);
  t.equal(asked([target], 'clone').length, 2);
  const source = byId(lease.primary.serverId).chunks.get(lease.handle) as HeldChunk;
  t.equal(target.chunks.get(lease.handle)?.appliedSerial, source.appliedSerial);
  t.equal(target.chunks.get(lease.handle)?.digest, source.digest);
});

t.test('re-replication: when the primary is lost the chunk gets a new version first', async (t) => {
  const { world, chunkservers, byId, having, readable, file } = await cluster(4);
  const { id, lease } = await file('f');
  byId(lease.primary.serverId).crash();
  await world.runFor(WAIT_MS + 2_000);
  t.equal((await readable(id)).length, 3);
  t.strictSame(
    having(lease.handle)
      .filter(({ serverId }) => serverId !== lease.primary.serverId)
      .map(({ chunks }) => chunks.get(lease.handle)?.version),
    [2, 2, 2],
  );
  await byId(lease.primary.serverId).restart();
  const { drop } = await byId(lease.primary.serverId).heartbeat();
  t.ok(drop.includes(lease.handle), 'it comes back stale');
  t.equal(asked(chunkservers, 'clone').length, 1);
});

t.test('re-replication: a failed clone backs off, tries another target, and raises an alarm', async (t) => {
  const { world, client, chunkservers, byId, readable, file, having } = await cluster(5);
  const { id, lease } = await file('f');
  const [a, b] = chunkservers.filter(({ chunks }) => !chunks.has(lease.handle)) as [
    TestChunkserver,
    TestChunkserver,
  ];
  for (const each of [a, b]) each.failing.set('clone', new GfsError('NO_SPACE'));
  byId(lease.secondaries[0]?.serverId as string).crash();
  await world.runFor(WAIT_MS + 1_000);
  t.ok(asked([a], 'clone').length > 0 && asked([b], 'clone').length > 0, 'both were tried');
  await world.runFor(20_000);
  const tries = asked(chunkservers, 'clone').length;
  t.ok(tries >= 5 && tries < 10, `${tries} tries in 20 s`);
  const { replication } = await client.call(m.GetStatus, {});
  t.equal(replication?.alarms, 1);
  t.equal(replication?.belowGoal, 1);
  t.ok(world.log.lines.some(({ level, message }) => level === 'error' && message.includes('keep failing')));
  b.failing.clear();
  await world.runFor(60_000);
  t.equal((await readable(id)).length, 3);
  t.ok(having(lease.handle).includes(b));
  t.equal((await client.call(m.GetStatus, {})).replication?.alarms, 0);
});

t.test(
  're-replication: a damaged replica is replaced, then deleted, also where no server is left',
  async (t) => {
    for (const servers of [3, 4]) {
      const { world, byId, having, readable, file } = await cluster(servers);
      const { id, lease } = await file('f');
      const bad = byId(lease.secondaries[0]?.serverId as string);
      await bad.call(m.ReportDamage, { handle: lease.handle, version: 1 });
      await world.runFor(5_000);
      t.equal((await readable(id)).length, 3);
      t.equal(having(lease.handle).length, 3);
      t.equal(having(lease.handle).includes(bad), servers === 3);
      t.ok(bad.asked.includes(`delete ${lease.handle} 0`));
    }
  },
);

t.test('re-replication: a suspect replica is compared, and not copied anew', async (t) => {
  const { world, chunkservers, byId, having, readable, file } = await cluster(3);
  const { id, lease } = await file('f');
  const crashed = byId(lease.secondaries[0]?.serverId as string);
  crashed.crash();
  await world.runFor(100);
  Object.assign(crashed.chunks.get(lease.handle) as HeldChunk, { suspect: true, digest: 7 });
  await crashed.restart();
  t.equal((await readable(id)).length, 2);
  await world.runFor(5_000);
  t.equal((await readable(id)).length, 3);
  t.strictSame(asked(chunkservers, 'clone'), []);
  t.strictSame(
    having(lease.handle).map(({ chunks }) => chunks.get(lease.handle)?.digest),
    [0, 0, 0],
  );
});

t.test(
  're-replication: a chunk that a comparison leaves with a replica fewer is healed now, by no census',
  async (t) => {
    for (const servers of [3, 4]) {
      const { world, client, byId, readable, file } = await cluster(servers);
      const { id, lease } = await file('f');
      await world.runFor(2_000);
      byId(lease.primary.serverId).agreed = false;
      const missing = byId(lease.secondaries[0]?.serverId as string);
      missing.failing.set('prepare', new GfsError('INTERNAL'));
      await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
      missing.failing.clear();
      t.equal((await readable(id)).length, 2, 'one has the version before');
      await world.runFor(WAIT_MS);
      t.equal((await readable(id)).length, 3, `${servers} servers`);
    }
  },
);

t.test(
  're-replication: a server that came back while a copy was on its way to the log is missed now',
  async (t) => {
    const { world, client, byId, readable, file } = await cluster(4);
    const { id, lease } = await file('f');
    await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
    // The next writer's chunk is copied first. Of the servers that have it one is slow to say so.
    const slow = byId(lease.secondaries[0]?.serverId as string);
    const back = byId(lease.primary.serverId);
    world.network.slow(slow.serverId, 'master', 500);
    const granted = world.until(client.send(m.GetLease, { id, index: 0, version: 0, failed: [] }));
    while (asked([back], 'copy').length < 1) await world.runFor(1);
    await world.runFor(10);
    back.crash();
    await world.runFor(10);
    // It tells what it has when the log has no chunk of that name.
    await back.restart();
    t.equal((await granted).lease.secondaries.length, 2, 'it counts as one of those that have it');
    await world.runFor(WAIT_MS);
    t.equal((await readable(id)).length, 3, 'by no census');
  },
);

t.test('re-replication: after a restart of the master it waits for those who were there', async (t) => {
  const { world, host, chunkservers, byId, file, client } = await cluster(4);
  const { lease } = await file('f');
  const late = byId(lease.secondaries[0]?.serverId as string);
  late.crash();
  await host.restart();
  for (const each of chunkservers) if (each !== late) await each.register();
  await world.runFor(WAIT_MS - 4_000);
  t.strictSame(asked(chunkservers, 'clone'), []);
  await late.restart();
  await world.runFor(2 * WAIT_MS);
  t.strictSame(asked(chunkservers, 'clone'), []);
  t.ok(client.session > 0);
});

t.test('goal: set on a directory it is inherited, and chunks that are there follow', async (t) => {
  const { world, host, client, having, lease, chunkservers } = await cluster(5);
  const d = await client.mkdir(m.ROOT_ID, 'd');
  const old = await client.create(d, 'old');
  const { handle } = await lease(old);
  const goalOf = (id: number) => client.call(m.GetGoal, { id });
  t.same(await goalOf(d), { goal: 3, own: false });
  t.same(await client.mutate(m.SetGoal, { ids: [d, old], goal: 5 }), { count: 2 });
  const young = await client.create(d, 'young');
  t.same(await goalOf(young), { goal: 5, own: true });
  t.equal(having((await lease(young)).handle).length, 5);
  await world.runFor(3_000);
  t.equal(having(handle).length, 5, 'raised');
  await client.mutate(m.SetGoal, { ids: [old], goal: 2 });
  await world.runFor(5_000);
  t.equal(having(handle).length, 2, 'lowered');
  await client.mutate(m.SetGoal, { ids: [old, d] });
  t.same(await goalOf(old), { goal: 3, own: false });
  await world.runFor(5_000);
  t.equal(having(handle).length, 3, "back to the cluster's default");
  await host.restart();
  for (const each of chunkservers) await each.register();
  await client.register(client.session);
  t.same(await client.call(m.GetGoal, { id: young }), { goal: 5, own: true }, 'it is logged');
});

t.test('goal: a chunk that a snapshot shares has the highest goal of its files', async (t) => {
  const { world, client, having, file } = await cluster(5);
  const { id, lease } = await file('f');
  await client.mutate(m.SetGoal, { ids: [id], goal: 4 });
  await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
  const copy = (await client.lookup('/copy')).id;
  t.same(await client.call(m.GetGoal, { id: copy }), { goal: 4, own: true }, 'copied with the rest');
  await client.mutate(m.SetGoal, { ids: [id], goal: 1 });
  await world.runFor(10_000);
  t.equal(having(lease.handle).length, 4);
  await client.mutate(m.SetGoal, { ids: [copy], goal: 2 });
  await world.runFor(10_000);
  t.equal(having(lease.handle).length, 2);
});

t.test('goal: a chunk that is not shared any more has that of the file that is left', async (t) => {
  const { world, client, having, file } = await cluster(4);
  const { id, lease } = await file('f');
  await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
  const copy = (await client.lookup('/copy')).id;
  await client.mutate(m.SetGoal, { ids: [copy], goal: 1 });
  await world.runFor(10_000);
  t.equal(having(lease.handle).length, 3);
  await client.mutate(m.Unlink, { parent: m.ROOT_ID, name: 'f', directory: false });
  await client.mutate(m.Purge, { ids: [id] });
  await world.runFor(10_000);
  // All files are gone through every ten minutes, and when a goal is set.
  await client.mutate(m.SetGoal, { ids: [(await file('other')).id], goal: 2 });
  await world.runFor(5_000);
  t.equal(having(lease.handle).length, 1);
});

t.test(
  'goal: of 0, or more than there are servers, or by a stranger: refused, and nothing changes',
  async (t) => {
    const { client, file, host } = await cluster(3);
    const { id } = await file('f');
    const before = digestState(host.master.state);
    for (const goal of [0, 4, 17, 4_000_000_000])
      t.equal(await codeOf(client.mutate(m.SetGoal, { ids: [id], goal })), 'INVALID', `${goal}`);
    client.uid = 1000;
    t.equal(await codeOf(client.mutate(m.SetGoal, { ids: [id], goal: 1 })), 'ACCESS_DENIED');
    t.equal(digestState(host.master.state), before);
  },
);

t.test('rebalancing: a new server is filled slowly; goal and racks hold at every step', async (t) => {
  const racks = ['a', 'b', 'c', 'c'];
  const { world, client, chunkservers, readable, file } = await cluster(
    3,
    (at) => ({ rack: racks[at] as string, cloneMs: 400 }),
    { leaseDurationMs: 2_000, chunkBytes: 1024 ** 3 },
  );
  const files = [];
  for (let at = 0; at < 60; at++) files.push(await file(`f${at}`));
  for (const each of chunkservers) for (const chunk of each.chunks.values()) chunk.lengthBytes = 1024 ** 3;
  await world.runFor(10_000);
  const fourth = await TestChunkserver.start(world, 'cs3', { rack: 'c', cloneMs: 400 });
  chunkservers.push(fourth);
  const use = (each: TestChunkserver): number => each.space.usedBytes / each.space.totalBytes;
  let most = 0;
  for (let second = 0; second < 60; second++) {
    for (const each of chunkservers) await each.heartbeat();
    await world.runFor(1_000);
    most = Math.max(most, ...chunkservers.map(({ mostCloning }) => mostCloning));
    const [some] = files.slice(second, second + 1);
    if (some !== undefined) t.equal((await readable(some.id)).length, 3);
  }
  await world.runFor(10_000);
  const uses = chunkservers.map(use);
  // The new one stands in a rack that has one already: what the other racks have stays there.
  const inRack = uses.slice(2);
  t.ok(Math.max(...inRack) - Math.min(...inRack) <= 0.05, uses.join(' '));
  t.ok(most <= 2, `${most} at once`);
  for (const { id } of files) {
    const servers = await readable(id);
    t.equal(new Set(servers.map((serverId) => racks[Number(serverId.slice(2))])).size, 3, 'on three racks');
  }
  t.equal((await client.call(m.GetStatus, {})).replication?.belowGoal, 0);
});

t.test(
  'rebalancing: what is on its way counts in whole bytes, also where nobody told how much it is',
  async (t) => {
    const { world, client, chunkservers, file } = await cluster(3, () => ({ cloneMs: 50 }), {
      leaseDurationMs: 2_000,
      chunkBytes: 1024 ** 3,
    });
    for (let at = 0; at < 60; at++) await file(`f${at}`);
    for (const each of chunkservers)
      for (const [at, chunk] of [...each.chunks.values()].entries()) chunk.lengthBytes = 1024 ** 3 - (at % 7);
    await world.runFor(10_000);
    for (const each of chunkservers) await each.heartbeat();
    chunkservers.push(await TestChunkserver.start(world, 'cs3'));
    await world.runFor(5_000);
    const { servers } = await client.call(m.GetStatus, {});
    t.ok((servers.find(({ server }) => server.serverId === 'cs3')?.chunks ?? 0) > 0, 'chunks have moved');
    t.ok(servers.every(({ availableBytes }) => Number.isInteger(availableBytes)));
  },
);

t.test('rebalancing: without racks all servers end within five points of each other', async (t) => {
  const { world, chunkservers, file } = await cluster(3, () => ({ cloneMs: 50 }), {
    leaseDurationMs: 2_000,
    chunkBytes: 1024 ** 3,
  });
  for (let at = 0; at < 60; at++) await file(`f${at}`);
  for (const each of chunkservers) for (const chunk of each.chunks.values()) chunk.lengthBytes = 1024 ** 3;
  await world.runFor(10_000);
  for (const name of ['cs3', 'cs4']) chunkservers.push(await TestChunkserver.start(world, name));
  for (let second = 0; second < 90; second++) {
    for (const each of chunkservers) await each.heartbeat();
    await world.runFor(1_000);
  }
  const uses = chunkservers.map(({ space }) => space.usedBytes / space.totalBytes);
  t.ok(Math.max(...uses) - Math.min(...uses) <= 0.05, uses.join(' '));
  t.equal(
    chunkservers.reduce((sum, { chunks }) => sum + chunks.size, 0),
    180,
    'and no replica more or less',
  );
});

t.test('bad input: a chunkserver that is not what it says is refused, and nothing changes', async (t) => {
  const { world, host, client, chunkservers, file, readable } = await cluster(3);
  const { id, lease } = await file('f');
  await world.runFor(1_000);
  const before = digestState(host.master.state);
  const twin = new TestChunkserver(world, 'cs0');
  t.equal(await codeOf(twin.register()), 'DUPLICATE_SERVER', 'an id that is connected');
  const process = world.process('stranger');
  const stranger = connect(world, process.environment, 'chunkserver', 'stranger', undefined, 'elsewhere');
  t.equal(await codeOf(stranger), 'WRONG_CLUSTER', 'a disk of another cluster');
  const odd = await connect(world, process.environment, 'chunkserver', 'odd');
  const server = { serverId: 'odd', host: 'odd', port: 1 };
  const space = { totalBytes: 1, availableBytes: 1, usedBytes: 0 };
  for (const location of [
    { x: Number.NaN, y: 0 },
    { x: 0, y: Number.POSITIVE_INFINITY },
    { x: '1', y: 2 },
    [1],
  ]) {
    const body = { server, bootId: 1, space, location: location as m.Location };
    const asked = world.until(odd.call(m.RegisterChunkserver, body));
    t.equal(await codeOf(asked), 'MALFORMED', JSON.stringify(location));
  }
  t.equal(await codeOf(client.call(m.GetPriorities, { distanceWeight: -1 })), 'INVALID');
  t.equal(digestState(host.master.state), before);
  t.equal((await readable(id)).length, 3);
  t.ok(chunkservers.every(({ chunks }) => chunks.has(lease.handle)));
});

t.test('bad input: chunks nobody heard of, and versions that nobody gave out, change nothing', async (t) => {
  const { world, host, client, chunkservers, file, readable } = await cluster(4);
  const { id, lease } = await file('f');
  await world.runFor(1_000);
  const other = chunkservers.find(({ chunks }) => !chunks.has(lease.handle)) as TestChunkserver;
  const like = chunkservers.find(({ chunks }) => chunks.has(lease.handle))?.chunks.get(lease.handle);
  const nodes = () =>
    JSON.stringify([dumpState(host.master.state).nodes, dumpState(host.master.state).chunks]);
  const before = nodes();
  other.crash();
  other.chunks.set(123_456, { ...(like as HeldChunk), lease: undefined });
  other.chunks.set(lease.handle, { ...(like as HeldChunk), version: 9, lease: undefined });
  await other.restart();
  await world.runFor(5_000);
  t.notOk(other.chunks.has(123_456), 'the master never heard of it: dropped');
  t.equal(other.chunks.get(lease.handle)?.version, 9, 'further ahead than can be: kept apart');
  t.notOk((await readable(id)).includes(other.serverId));
  t.equal((await client.call(m.GetStatus, {})).replication?.quarantined, 1, 'and told');
  t.ok(world.log.lines.some(({ level, message }) => level === 'error' && message.includes('quarantined')));
  t.equal(nodes(), before);
  t.strictSame((await other.heartbeat()).drop, []);
});
