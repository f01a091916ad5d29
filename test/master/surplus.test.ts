/** Replicas that are to go, beyond a goal or on servers that are drained, over chunkservers that hold no bytes. */
import t from 'tap';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import type { HeldChunk, TestChunkserver } from './chunkserver.js';
import { asked, cluster, WAIT_MS } from './replication-cluster.js';
import { codeOf } from './support.js';

/** On a busy machine. */
t.setTimeout(600_000);

t.test('excess: a server that comes back after all brings too many; the least useful goes', async (t) => {
  const racks = ['a', 'a', 'b', 'c'];
  const { world, byId, having, readable, file } = await cluster(4, (at) => ({ rack: racks[at] as string }));
  const { id, lease } = await file('f');
  t.strictSame(
    having(lease.handle).map(({ rack }) => rack),
    ['a', 'b', 'c'],
  );
  const lost = byId('cs2');
  lost.crash();
  await world.runFor(WAIT_MS + 5_000);
  t.equal(having(lease.handle).length, 4, 'the copy on the lost one is there still');
  t.equal((await readable(id)).length, 3);
  await lost.restart();
  await world.runFor(5_000);
  t.equal((await readable(id)).length, 3);
  t.strictSame(
    having(lease.handle).map(({ rack }) => rack),
    lease.primary.serverId === 'cs2' ? ['a', 'a', 'c'] : ['a', 'b', 'c'],
    'of two in one rack one goes, unless what came back is stale',
  );
});

t.test(
  'excess: what could not go because its lease could not be ended goes when it can, by no census',
  async (t) => {
    const { world, client, byId, having, file } = await cluster(3);
    const { id, lease } = await file('f');
    byId(lease.primary.serverId).failing.set('revoke', new GfsError('OVERLOADED'));
    await client.mutate(m.SetGoal, { ids: [id], goal: 2 });
    await world.runFor(3_000);
    t.equal(having(lease.handle).length, 3);
    byId(lease.primary.serverId).failing.clear();
    await world.runFor(5_000);
    t.equal(having(lease.handle).length, 2);
  },
);

t.test(
  'excess: a copy on write is made where its original is, and has what its file wants soon',
  async (t) => {
    const { world, client, having, lease, file } = await cluster(3);
    const { id } = await file('f');
    await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
    const copy = (await client.lookup('/copy')).id;
    await client.mutate(m.SetGoal, { ids: [copy], goal: 1 });
    await world.runFor(5_000);
    const { handle } = await lease(copy);
    t.equal(having(handle).length, 3);
    await world.runFor(5_000);
    t.equal(having(handle).length, 1, 'by no census');
  },
);

t.test(
  'drain: a server is emptied with every goal held, gets nothing new, also after a restart',
  async (t) => {
    const { world, host, client, chunkservers, byId, readable, file } = await cluster(4);
    const files = [];
    for (let at = 0; at < 12; at++) files.push((await file(`f${at}`)).id);
    const drained = byId('cs1');
    t.ok(drained.chunks.size > 0);
    t.equal(await codeOf(client.call(m.SetDrain, { serverId: 'nobody', on: true })), 'NOT_FOUND');
    await client.call(m.SetDrain, { serverId: 'cs1', on: true });
    let fewest = 3;
    for (let step = 0; step < 40; step++) {
      await world.runFor(200);
      for (const id of files) fewest = Math.min(fewest, (await readable(id)).length);
    }
    t.equal(fewest, 3, 'at every step');
    t.same((await client.call(m.GetStatus, {})).replication?.drains, [{ serverId: 'cs1', chunksLeft: 0 }]);
    await world.runFor(5_000);
    t.equal(drained.chunks.size, 0);
    await host.restart();
    for (const each of chunkservers) await each.register();
    await client.register(client.session);
    const { lease } = await file('later');
    t.notOk([lease.primary, ...lease.secondaries].some(({ serverId }) => serverId === 'cs1'));
    await client.call(m.SetDrain, { serverId: 'cs1', on: false });
    t.same((await client.call(m.GetStatus, {})).replication?.drains, []);
  },
);

t.test('drain: what was drained before takes again what it has still to delete', async (t) => {
  const { world, client, byId, readable, file } = await cluster(4);
  const { id, lease } = await file('f');
  const [first, second] = lease.secondaries.map(({ serverId }) => serverId) as [string, string];
  await client.call(m.SetDrain, { serverId: first, on: true });
  while ((await readable(id)).includes(first)) await world.runFor(5);
  t.ok(byId(first).chunks.has(lease.handle), 'it is told later that it may go');
  await client.call(m.SetDrain, { serverId: first, on: false });
  await client.call(m.SetDrain, { serverId: second, on: true });
  await world.runFor(10_000);
  const found = await readable(id);
  t.ok(found.includes(first) && !found.includes(second), found.join());
});

t.test(
  'drain: a copy on write that was begun before is made on the server, and leaves it by no census',
  async (t) => {
    const { world, client, byId, having, readable, file } = await cluster(4);
    const drains = async () => (await client.call(m.GetStatus, {})).replication?.drains;
    const { id, lease } = await file('f');
    await client.mutate(m.Snapshot, { id, parent: m.ROOT_ID, name: 'copy' });
    // What was made ahead is given up.
    await world.runFor(3_000);
    const [drained, slow] = lease.secondaries.map(({ serverId }) => byId(serverId)) as [
      TestChunkserver,
      TestChunkserver,
    ];
    world.network.slow(slow.serverId, 'master', 800);
    const granted = client.send(m.GetLease, { id, index: 0, version: 0, failed: [] });
    await world.runFor(10);
    await client.call(m.SetDrain, { serverId: drained.serverId, on: true });
    await world.runFor(600);
    t.same(
      await drains(),
      [{ serverId: drained.serverId, chunksLeft: 1 }],
      'what is being made there is not',
    );
    const { handle } = (await world.until(granted)).lease;
    t.notOk(having(lease.handle).includes(drained), 'what it had is gone');
    t.ok(having(handle).includes(drained), 'and there is more');
    await world.runFor(10_000);
    t.equal(drained.chunks.size, 0);
    t.equal((await readable(id)).length, 3);
  },
);

t.test(
  'drain: of a server that is not connected, or has not told all, nobody says that it is empty',
  async (t) => {
    const { world, client, byId, file } = await cluster(4);
    const { lease } = await file('f');
    const { serverId } = lease.secondaries[0] as m.Server;
    const drains = async () => (await client.call(m.GetStatus, {})).replication?.drains;
    await world.runFor(3_000);
    // So that it keeps what it has.
    for (const id of ['cs0', 'cs1', 'cs2', 'cs3']) byId(id).failing.set('clone', new GfsError('NOT_READY'));
    await client.call(m.SetDrain, { serverId, on: true });
    t.same(await drains(), [{ serverId, chunksLeft: 1 }]);
    byId(serverId).crash();
    await world.runFor(100);
    t.same(await drains(), [{ serverId, chunksLeft: 0, away: true }]);
    byId(serverId).reportMs = 1_000;
    const restarted = byId(serverId).restart();
    await world.runFor(500);
    t.same(await drains(), [{ serverId, chunksLeft: 0, away: true }]);
    await restarted;
    t.same(await drains(), [{ serverId, chunksLeft: 1 }]);
  },
);

t.test('drain: a replica that may be behind, and is not needed, is compared and goes', async (t) => {
  const { world, client, chunkservers, byId, readable, file } = await cluster(4);
  const { id, lease } = await file('f');
  const drained = byId(lease.secondaries[0]?.serverId as string);
  drained.crash();
  await world.runFor(WAIT_MS + 5_000);
  t.equal((await readable(id)).length, 3, 'cloned elsewhere');
  Object.assign(drained.chunks.get(lease.handle) as HeldChunk, { suspect: true, digest: 7 });
  await drained.restart();
  await client.call(m.SetDrain, { serverId: drained.serverId, on: true });
  await world.runFor(10_000);
  t.equal(drained.chunks.size, 0);
  t.equal((await readable(id)).length, 3);
  t.equal(asked(chunkservers, 'repair').length, 1, 'compared first');
});
