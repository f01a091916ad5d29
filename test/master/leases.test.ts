import t from 'tap';
import { digestState, dumpState } from '../../master/dump.js';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { type HeldChunk, TestChunkserver } from './chunkserver.js';
import { CHUNK_BYTES, codeOf, MasterHost, TestClient } from './support.js';

let seed = 100;

async function cluster(servers = 3, set: Partial<TestChunkserver>[] = []) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world).start();
  const client = await TestClient.start(world);
  const chunkservers: TestChunkserver[] = [];
  for (let at = 0; at < servers; at++)
    chunkservers.push(await TestChunkserver.start(world, `cs${at}`, set[at]));
  // With fewer than the goal the master waits a little after its start for others to come.
  if (servers < 3) await world.runFor(2_100);
  const byId = (serverId: string): TestChunkserver =>
    chunkservers.find((chunkserver) => chunkserver.serverId === serverId) as TestChunkserver;
  const lease = async (id: number, index = 0, version = 0, failed: string[] = []): Promise<m.Lease> =>
    (await client.call(m.GetLease, { id, index, version, failed })).lease;
  return { world, host, client, chunkservers, byId, lease };
}

const members = (lease: m.Lease): string[] =>
  [lease.primary, ...lease.secondaries].map(({ serverId }) => serverId).sort();
const held = (chunkserver: TestChunkserver, handle: number): HeldChunk =>
  chunkserver.chunks.get(handle) as HeldChunk;

t.test('lease: a fresh chunk is made on as many servers as the goal says, at version 1', async (t) => {
  const { client, chunkservers, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const granted = await lease(file);
  t.equal(granted.version, 1);
  t.strictSame(members(granted), ['cs0', 'cs1', 'cs2']);
  t.ok(granted.remainingMs > 50_000 && granted.remainingMs <= 60_000);
  for (const chunkserver of chunkservers) t.equal(held(chunkserver, granted.handle).version, 1);
  const primary = held(byId(granted.primary.serverId), granted.handle);
  t.strictSame(primary.lease?.secondaries.sort(), granted.secondaries.map(({ serverId }) => serverId).sort());
  t.same(
    { ...(await lease(file)), remainingMs: granted.remainingMs },
    granted,
    'asking again gives the same',
  );
});

t.test('lease: a client whose lease failed gets a higher version', async (t) => {
  const { client, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const second = await lease(file, 0, first.version, [first.secondaries[0]?.serverId ?? '']);
  t.equal(second.version, 2);
  t.equal(members(second).length, 3, 'a server that is named once may only have restarted');
  const third = await lease(file, 0, second.version, [first.secondaries[0]?.serverId ?? '']);
  t.equal(members(third).length, 2, 'one that is named again is left out');
  t.ok(third.version > second.version);
});
t.test(
  'truncation: the lease of what is cut is revoked first, and the next lease cuts the replicas',
  async (t) => {
    const { client, chunkservers, byId, lease } = await cluster();
    const file = await client.create(m.ROOT_ID, 'f');
    const first = await lease(file, 0);
    const last = await lease(file, 1);
    for (const chunkserver of chunkservers) held(chunkserver, first.handle).lengthBytes = CHUNK_BYTES;
    await client.mutate(m.ExtendFile, { id: file, size: CHUNK_BYTES + 10 });
    const { attributes } = await client.mutate(m.SetAttributes, { id: file, changes: { size: 100 } });
    t.equal(attributes.size, 100);
    t.ok(byId(first.primary.serverId).asked.includes(`revoke ${first.handle} 1`));
    t.ok(byId(last.primary.serverId).asked.includes(`revoke ${last.handle} 1`));
    const { chunks } = await client.call(m.GetChunks, { id: file, index: 0, count: 2 });
    t.strictSame(
      chunks.map(({ handle, validBytes }) => [handle, validBytes]),
      [
        [first.handle, 100],
        [0, 0],
      ],
    );
    const next = await lease(file, 0);
    t.equal(next.version, 2);
    for (const chunkserver of chunkservers) t.equal(held(chunkserver, first.handle).lengthBytes, 100);
    t.equal(
      (await client.call(m.GetChunks, { id: file, index: 0, count: 1 })).chunks[0]?.validBytes,
      CHUNK_BYTES,
    );
  },
);

t.test(
  'snapshot: leases are revoked, and the first write after it copies the chunk on its servers',
  async (t) => {
    const { client, byId, lease, host } = await cluster();
    const file = await client.create(m.ROOT_ID, 'f');
    const first = await lease(file);
    await client.mutate(m.Snapshot, { id: file, parent: m.ROOT_ID, name: 'copy' });
    t.ok(byId(first.primary.serverId).asked.includes(`revoke ${first.handle} 1`));
    const second = await lease(file);
    t.not(second.handle, first.handle);
    t.strictSame(members(second), members(first));
    const copy = await client.lookup('/copy');
    const { chunks } = await client.call(m.GetChunks, { id: copy.id, index: 0, count: 1 });
    t.equal(chunks[0]?.handle, first.handle, 'the snapshot keeps the old chunk');
    const third = await lease(copy.id);
    t.equal(third.handle, first.handle, 'which is its own again, and is not copied');
    const live = dumpState(host.master.state);
    const digest = digestState(host.master.state);
    await client.world.runFor(10);
    await host.restart();
    t.strictSame(dumpState(host.master.state), live);
    t.equal(digestState(host.master.state), digest);
  },
);

t.test('snapshot: replicas are made equal first where their primary does not vouch for them', async (t) => {
  for (const how of ['failed', 'gone', 'expired'] as const) {
    const { world, client, chunkservers, byId, lease } = await cluster();
    const file = await client.create(m.ROOT_ID, 'f');
    const { handle, primary, secondaries } = await lease(file);
    const behind = byId(secondaries[0]?.serverId as string);
    for (const chunkserver of chunkservers)
      Object.assign(held(chunkserver, handle), { digest: 7, appliedSerial: 2, lengthBytes: 200 });
    // A write reached all but one.
    Object.assign(held(behind, handle), { digest: 5, appliedSerial: 1, lengthBytes: 100 });
    byId(primary.serverId).agreed = false;
    if (how === 'gone') byId(primary.serverId).crash();
    if (how === 'expired') await world.runFor(70_000);
    await client.mutate(m.Snapshot, { id: file, parent: m.ROOT_ID, name: 'copy' });
    t.equal(held(behind, handle).digest, 7, how);
    const copy = await client.lookup('/copy');
    const { chunks } = await client.call(m.GetChunks, { id: copy.id, index: 0, count: 1 });
    t.equal(chunks[0]?.handle, handle);
    t.equal(chunks[0]?.replicas.length, how === 'gone' ? 2 : 3);
    const asked = behind.asked.length;
    await client.mutate(m.Snapshot, { id: file, parent: m.ROOT_ID, name: 'again' });
    t.equal(behind.asked.length, asked, 'what is shared is equal for good');
  }
});

t.test(
  'drop secondary: a silent one is left out at once, one that refused is made equal again',
  async (t) => {
    for (const silent of [true, false]) {
      const { client, byId, lease } = await cluster();
      const file = await client.create(m.ROOT_ID, 'f');
      const first = await lease(file);
      const { handle, version } = first;
      const [failed, other] = first.secondaries.map(({ serverId }) => serverId) as [string, string];
      const primary = byId(first.primary.serverId);
      const body = { handle, version, failed: [{ serverId: failed, silent }] };
      t.equal(await codeOf(byId(other).call(m.DropSecondary, body)), 'NOT_PRIMARY', 'only the primary may');
      const dropped = await primary.call(m.DropSecondary, body);
      t.strictSame(dropped, { primary: primary.serverId, version: version + 1 });
      const next = await lease(file, 0, version);
      t.equal(next.version, version + 1, 'clients hear of the same lease');
      t.equal(members(next).includes(failed), !silent);
      t.strictSame(await primary.call(m.DropSecondary, body), dropped, 'asked late it hears of it too');
    }
  },
);

t.test('lease: ends with the session of its holder, and is granted to another replica', async (t) => {
  const { client, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const primary = byId(first.primary.serverId);
  primary.peer.close();
  await client.world.runFor(50);
  const second = await lease(file);
  t.equal(second.version, 2, 'no client waits for the lease to run out');
  t.not(second.primary.serverId, first.primary.serverId);
});

t.test('lease: one that nobody extends runs out, and the next has a higher version', async (t) => {
  const { client, world, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  await world.runFor(first.remainingMs - 1_000);
  t.equal((await lease(file)).version, 1);
  await world.runFor(2_000);
  t.equal((await lease(file)).version, 2);
});

t.test('lease: without chunkservers the client is told to wait', async (t) => {
  const { client, lease } = await cluster(0);
  t.equal(await codeOf(lease(await client.create(m.ROOT_ID, 'f'))), 'NO_CHUNKSERVERS');
});

t.test(
  'lease: raised after a restart of the master, in two steps, for nobody knows what was sent before',
  async (t) => {
    const { world, host, client, chunkservers, lease } = await cluster();
    const file = await client.create(m.ROOT_ID, 'f');
    const first = await lease(file);
    await host.restart();
    for (const chunkserver of chunkservers) await chunkserver.register();
    await client.register(client.session);
    await world.runFor(10);
    const second = await lease(file);
    t.equal(second.version, first.version + 2);
    t.equal(members(second).length, 3);
  },
);

t.test('lease: after a restart of everything it waits a while for all replicas of the chunk', async (t) => {
  const { world, host, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  await lease(file);
  const [first, second, late] = chunkservers as [TestChunkserver, TestChunkserver, TestChunkserver];
  for (const chunkserver of chunkservers) chunkserver.crash();
  await host.restart();
  await client.register(client.session);
  await first.restart();
  await second.restart();
  await world.runFor(3_000);
  t.equal(await codeOf(lease(file)), 'NOT_READY', 'else the late one would be stale for ever');
  await late.restart();
  t.equal(members(await lease(file)).length, 3);
  for (const chunkserver of chunkservers) chunkserver.crash();
  await host.restart();
  await client.register(client.session);
  await first.restart();
  await world.runFor(10_500);
  t.equal(members(await lease(file)).length, 1, 'but not for ever');
});

t.test('lease: a server that failed to acknowledge a version is in no lease of it', async (t) => {
  const { client, chunkservers, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const failing = first.secondaries[0]?.serverId as string;
  byId(failing).failing.set('prepare', new GfsError('INTERNAL'));
  const second = await lease(file, 0, first.version);
  t.notOk(members(second).includes(failing));
  t.equal(second.version, 3, 'it may have version 2, so the lease has version 3');
  t.equal(held(byId(failing), first.handle).version, 1);
  byId(failing).failing.clear();
  const { drop } = await byId(failing).heartbeat();
  t.strictSame(drop, [first.handle], 'its stale replica is collected while good ones live');
  for (const chunkserver of chunkservers) {
    if (chunkserver.serverId !== failing) t.strictSame((await chunkserver.heartbeat()).drop, []);
  }
});

t.test('lease: replicas that differ are made equal before anyone hears of it', async (t) => {
  const { client, chunkservers, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  for (const chunkserver of chunkservers)
    Object.assign(held(chunkserver, first.handle), { digest: 5, appliedSerial: 3 });
  const ahead = byId(first.secondaries[1]?.serverId as string);
  Object.assign(held(ahead, first.handle), { digest: 6, appliedSerial: 4 });
  const second = await lease(file, 0, first.version);
  t.equal(second.primary.serverId, ahead.serverId, 'the one that applied most is the source');
  t.strictSame(
    chunkservers.map((chunkserver) => held(chunkserver, first.handle).digest),
    [6, 6, 6],
  );
  Object.assign(held(ahead, first.handle), { digest: 9, appliedSerial: 9, suspect: true });
  const third = await lease(file, 0, second.version);
  t.not(third.primary.serverId, ahead.serverId, 'a suspect replica is no source while there is a clean one');
  t.strictSame(
    chunkservers.map((chunkserver) => held(chunkserver, first.handle).digest),
    [6, 6, 6],
  );
});

t.test('lease: extended by heartbeats, only for its holder and its version', async (t) => {
  const { world, client, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const primary = byId(first.primary.serverId);
  const other = byId(first.secondaries[0]?.serverId as string);
  const named = { handle: first.handle, version: first.version };
  await world.runFor(40_000);
  t.strictSame((await primary.heartbeat([named])).extended, [{ handle: first.handle, remainingMs: 60_000 }]);
  t.strictSame((await other.heartbeat([named])).extended, []);
  t.strictSame((await primary.heartbeat([{ ...named, version: 9 }])).extended, []);
  await world.runFor(40_000);
  t.equal((await lease(file)).version, first.version, 'it still runs');
  await world.runFor(61_000);
  t.equal((await lease(file)).version, first.version + 1);
});

t.test('lease: a primary that is gone is replaced, and comes back stale', async (t) => {
  const { world, client, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const primary = byId(first.primary.serverId);
  primary.crash();
  await world.runFor(10);
  const second = await lease(file, 0, first.version, [primary.serverId]);
  t.equal(members(second).length, 2);
  await primary.restart();
  const { chunks } = await client.call(m.GetChunks, { id: file, index: 0, count: 1 });
  t.equal(chunks[0]?.replicas.length, 2, 'readers are not sent to it');
});

t.test('truncation: a primary that cannot be reached is fenced by the others', async (t) => {
  const { world, client, chunkservers, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  byId(first.primary.serverId).process.pause();
  await client.mutate(m.ExtendFile, { id: file, size: 1000 });
  const { attributes } = await client.mutate(m.SetAttributes, { id: file, changes: { size: 0 } });
  t.equal(attributes.size, 0);
  const raised = chunkservers.filter(({ serverId }) => serverId !== first.primary.serverId);
  t.strictSame(
    raised.map((chunkserver) => chunkserver.chunks.get(first.handle)?.version ?? 2),
    [2, 2],
  );
  await world.runFor(10);
});

t.test('truncation: with no replica in reach it waits until the lease has run out', async (t) => {
  const { world, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  await lease(file);
  for (const chunkserver of chunkservers) chunkserver.crash();
  await world.runFor(10);
  await client.mutate(m.ExtendFile, { id: file, size: 1000 });
  const cut = () => codeOf(client.mutate(m.SetAttributes, { id: file, changes: { size: 0 } }));
  t.equal(await cut(), 'CHUNK_UNAVAILABLE');
  await world.runFor(62_000);
  t.equal(await cut(), 'none');
});

t.test('replicas: one version ahead of the log is adopted, further ahead is quarantined', async (t) => {
  const { world, client, host, byId, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  const ahead = byId(first.secondaries[0]?.serverId as string);
  ahead.crash();
  held(ahead, first.handle).version = 2;
  await ahead.restart();
  await world.runFor(20);
  // And perhaps compared with the others by now, under a version of its own.
  t.ok((host.master.state.chunks.get(first.handle)?.version ?? 0) >= 2);
  const second = await lease(file, 0, 1);
  t.equal(members(second).length, 3, 'the others are suspect, not stale: they are compared and kept');
  ahead.crash();
  held(ahead, first.handle).version = second.version + 2;
  await ahead.restart();
  await world.runFor(20);
  t.equal(host.master.state.chunks.get(first.handle)?.version, second.version);
  const { chunks } = await client.call(m.GetChunks, { id: file, index: 0, count: 1 });
  t.notOk(chunks[0]?.replicas.some(({ serverId }) => serverId === ahead.serverId));
  t.strictSame((await ahead.heartbeat()).drop, [], 'and nobody deletes it');
});

t.test('replicas: when every one is suspect they are compared before one is read', async (t) => {
  const { world, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  for (const chunkserver of chunkservers) chunkserver.crash();
  await world.runFor(10);
  for (const [at, chunkserver] of chunkservers.entries()) {
    Object.assign(held(chunkserver, first.handle), { suspect: true, digest: at, appliedSerial: at });
    await chunkserver.restart();
  }
  const { chunks } = await client.call(m.GetChunks, { id: file, index: 0, count: 1 });
  t.equal(chunks[0]?.replicas.length, 3);
  t.strictSame(
    chunkservers.map((chunkserver) => held(chunkserver, first.handle).digest),
    [2, 2, 2],
  );
  t.ok(chunkservers.every((chunkserver) => held(chunkserver, first.handle).lease === undefined));
});

t.test('replicas: a damaged one is not read, and deleted only while a good one lives', async (t) => {
  const { world, client, byId, lease } = await cluster(2);
  const file = await client.create(m.ROOT_ID, 'f');
  const { handle, version, primary, secondaries } = await lease(file);
  const [a, b] = [byId(primary.serverId), byId(secondaries[0]?.serverId as string)];
  await a.call(m.ReportDamage, { handle, version });
  const readers = async () =>
    (await client.call(m.GetChunks, { id: file, index: 0, count: 1 })).chunks[0]?.replicas;
  t.strictSame(
    (await readers())?.map(({ serverId }) => serverId),
    [b.serverId],
  );
  b.crash();
  await world.runFor(10);
  t.strictSame((await a.heartbeat()).drop, [], 'the last one is kept, whatever it is worth');
  await b.restart();
  t.strictSame((await a.heartbeat()).drop, [handle]);
});

t.test(
  'replicas: when all are damaged the reader is told at once, and the log names the chunk',
  async (t) => {
    const { world, client, byId, lease } = await cluster(2);
    const file = await client.create(m.ROOT_ID, 'f');
    const { handle, version, primary, secondaries } = await lease(file);
    const read = () => codeOf(client.call(m.GetChunks, { id: file, index: 0, count: 1 }));
    for (const { serverId } of [primary, ...secondaries]) {
      t.equal(await read(), 'none');
      await byId(serverId).call(m.ReportDamage, { handle, version });
    }
    t.equal(await read(), 'CHUNK_LOST');
    t.ok(world.log.lines.some(({ level, fields }) => level === 'error' && fields.handle === handle));
  },
);

t.test(
  'replicas: no chunk is said to be lost while a server is away or still tells what it has',
  async (t) => {
    const { world, client, byId, lease } = await cluster(3);
    const file = await client.create(m.ROOT_ID, 'f');
    const { handle, version, primary, secondaries } = await lease(file);
    const [back, ...others] = [primary, ...secondaries].map(({ serverId }) => byId(serverId));
    t.ok(back);
    back?.crash();
    for (const other of others) await other.call(m.ReportDamage, { handle, version });
    const read = async () =>
      (await client.call(m.GetChunks, { id: file, index: 0, count: 1 })).chunks[0]?.replicas.length;
    await world.runFor(30_000);
    t.equal(await read(), 0, 'its server may come back with it');
    Object.assign(back as TestChunkserver, { reportMs: 1_000 });
    const restarted = back?.restart();
    await world.runFor(500);
    t.equal(await read(), 0, 'whoever reads waits');
    await restarted;
    t.equal(await read(), 1);
  },
);

t.test('session: a master that was stopped for a while does not take everyone for dead', async (t) => {
  const { world, host, client, chunkservers } = await cluster();
  host.process.pause();
  await world.runFor(8_000);
  host.process.resume();
  await world.runFor(1_500);
  t.notOk(client.peer.closed);
  for (const { peer } of chunkservers) t.notOk(peer.closed);
});

t.test('chunkserver: one server id, one server', async (t) => {
  const { world, chunkservers } = await cluster();
  const double = new TestChunkserver(world, 'cs0');
  t.equal(await codeOf(double.register()), 'DUPLICATE_SERVER');
  chunkservers[0]?.process.pause();
  const started = world.scheduler.nowMs;
  t.equal(await codeOf(double.register()), 'none', 'unless the one before has fallen silent');
  t.ok(world.scheduler.nowMs - started <= 3_000);
});

t.test(
  'chunkserver: chunks that no file has are garbage, those on their way into the log are not',
  async (t) => {
    const { world, client, chunkservers, lease } = await cluster();
    const first = chunkservers[0] as TestChunkserver;
    const orphan: HeldChunk = {
      version: 1,
      lengthBytes: 0,
      digest: 0,
      appliedSerial: 0,
      suspect: false,
      lease: undefined,
    };
    first.chunks.set(999_999, orphan);
    t.strictSame((await first.heartbeat()).drop, [999_999]);
    first.chunks.delete(999_999);
    // Creating many makes some ahead: they are on the servers, and in no file yet.
    for (let at = 0; at < 12; at++) await lease(await client.create(m.ROOT_ID, `f${at}`));
    await world.runFor(50);
    t.ok(first.chunks.size > 12, 'chunks were made ahead');
    t.strictSame((await first.heartbeat()).drop, []);
    await world.runFor(60_000);
    t.equal(first.chunks.size, 12, 'and deleted when nobody wanted them');
  },
);

t.test(
  'lease: chunks are made ahead many in one message, their leases spread over the servers',
  async (t) => {
    const { world, client, chunkservers, byId, lease } = await cluster();
    const leases: m.Lease[] = [];
    for (let at = 0; at < 60; at++) {
      leases.push(await lease(await client.create(m.ROOT_ID, `f${at}`)));
      await world.runFor(2);
    }
    for (const chunkserver of chunkservers) {
      const messages = chunkserver.asked.filter((line) => /^(make|prepare)/.test(line));
      const made = messages.filter((line) => line.startsWith('make')).length;
      t.ok(made > 0 && made <= leases.length / 2, `${made} messages for more than ${leases.length} chunks`);
    }
    t.equal(new Set(leases.map(({ handle }) => handle)).size, 60, 'no two files have the same');
    for (const { handle, primary, secondaries } of leases) {
      t.strictSame(
        held(byId(primary.serverId), handle).lease?.secondaries.sort(),
        secondaries.map(({ serverId }) => serverId).sort(),
      );
      for (const { serverId } of secondaries) t.notOk(held(byId(serverId), handle).lease);
    }
    for (const { serverId } of chunkservers)
      t.ok(
        leases.some(({ primary }) => primary.serverId === serverId),
        `${serverId} is primary of some`,
      );
  },
);

t.test('lease: of chunks made ahead none is used when one server failed to make them', async (t) => {
  const { world, client, byId, lease } = await cluster(4);
  byId('cs1').failing.set('make', new GfsError('NO_SPACE'));
  const leases: m.Lease[] = [];
  for (let at = 0; at < 30; at++) {
    leases.push(await lease(await client.create(m.ROOT_ID, `f${at}`)));
    await world.runFor(2);
  }
  for (const each of leases)
    for (const serverId of members(each))
      t.ok(byId(serverId).chunks.has(each.handle), 'it is on each member');
});

t.test('chunkserver: after a restart of the master nothing is garbage before all are back', async (t) => {
  const { world, host, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  await lease(file);
  await host.restart();
  await client.register(client.session);
  const [first] = chunkservers as [TestChunkserver];
  first.chunks.set(999_999, {
    version: 1,
    lengthBytes: 0,
    digest: 0,
    appliedSerial: 0,
    suspect: false,
    lease: undefined,
  });
  await first.register();
  t.strictSame((await first.heartbeat()).drop, []);
  t.equal(await codeOf(lease(file)), 'NOT_READY');
  t.notOk((await client.call(m.GetStatus, {})).ready);
  await world.runFor(2_100);
  t.ok((await client.call(m.GetStatus, {})).ready);
  await world.runFor(2_000);
  t.notOk(first.chunks.has(999_999));
});

t.test('snapshot: of a tree, as one, with its links, never into itself', async (t) => {
  const { client, lease, host } = await cluster();
  const tree = await client.mkdir(m.ROOT_ID, 'tree');
  const below = await client.mkdir(tree, 'below');
  const file = await client.create(below, 'f');
  await client.mutate(m.Link, { id: file, parent: tree, name: 'linked' });
  const { handle } = await lease(file);
  await client.mutate(m.ExtendFile, { id: file, size: 10 });
  const snapshot = (id: number, parent: number, name: string) =>
    client.mutate(m.Snapshot, { id, parent, name });
  t.equal(await codeOf(snapshot(tree, below, 'x')), 'INVALID');
  t.equal(await codeOf(snapshot(m.ROOT_ID, tree, 'x')), 'INVALID');
  t.equal(await codeOf(snapshot(tree, m.ROOT_ID, 'tree')), 'EXISTS');
  t.equal(await codeOf(snapshot(12345, m.ROOT_ID, 'x')), 'STALE_NODE');
  await snapshot(tree, m.ROOT_ID, 'copy');
  const copied = await client.lookup('/copy/below/f');
  t.match(copied, { size: 10, nlink: 2, id: (await client.lookup('/copy/linked')).id });
  t.not(copied.id, file);
  t.equal(host.master.state.chunks.get(handle)?.references, 2);
});

t.test('garbage: the chunks of a reclaimed file are deleted on their servers', async (t) => {
  const world = new SimulatedWorld(seed++);
  await new MasterHost(world, { retentionMs: 5_000 }).start();
  const client = await TestClient.start(world);
  const chunkserver = await TestChunkserver.start(world, 'cs0');
  await world.runFor(2_100);
  const file = await client.create(m.ROOT_ID, 'f');
  const { lease } = await client.call(m.GetLease, { id: file, index: 3, version: 0, failed: [] });
  await client.unlink(m.ROOT_ID, 'f');
  await world.runFor(3_000);
  t.ok(chunkserver.chunks.has(lease.handle));
  await client.call(m.Renew, { opened: [], closed: [] });
  await world.runFor(6_000);
  t.notOk(chunkserver.chunks.has(lease.handle));
});

t.test('garbage: where space runs out deleted files go before their time, the oldest first', async (t) => {
  const { world, client, chunkservers, lease, host } = await cluster();
  const ids: number[] = [];
  for (let at = 0; at < 100; at++) {
    ids.push(await client.create(m.ROOT_ID, `${at}`));
    await client.unlink(m.ROOT_ID, `${at}`);
  }
  await client.call(m.Renew, { opened: [ids[0] as number], closed: [] });
  await lease(await client.create(m.ROOT_ID, 'live'));
  await world.runFor(2_500);
  t.equal(host.master.state.deleted.size, 100);
  for (const chunkserver of chunkservers) {
    chunkserver.availableBytes /= 20;
    await chunkserver.heartbeat();
  }
  await world.runFor(1_100);
  t.ok(host.master.state.deleted.size < 100);
  t.ok(host.master.state.deleted.has(ids[0] as number), 'but never what is open');
  t.ok(host.master.state.deleted.has(ids[99] as number));
  await world.runFor(2_000);
  t.strictSame(
    [...host.master.state.deleted.values()].map(({ id }) => id),
    [ids[0]],
  );
  t.equal((await client.lookup('/live')).nlink, 1);
});

t.test('placement: racks are spread, full servers left out, near ones preferred', async (t) => {
  const { world, client, lease } = await cluster(5, [
    { rack: 'a', location: { x: 0, y: 0 } },
    { rack: 'a', location: { x: 1, y: 0 } },
    { rack: 'b', location: { x: 50, y: 0 } },
    { rack: 'c', availableBytes: 10 },
    { rack: 'c', location: { x: 90, y: 0 } },
  ]);
  const file = await client.create(m.ROOT_ID, 'f');
  const spread = members(await lease(file));
  t.ok(spread.includes('cs2') && spread.includes('cs4') && !spread.includes('cs3'), `${spread}`);
  const near = new TestClient(world, 'near');
  await near.register();
  near.session = (
    await near.call(m.RegisterClient, { clientId: 'near', hostname: 'near', location: { x: 49, y: 0 } })
  ).session;
  const chosen = await near.call(m.GetLease, { id: file, index: 1, version: 0, failed: [] });
  t.equal(chosen.lease.primary.serverId, 'cs2');
  const { chunks } = await near.call(m.GetChunks, { id: file, index: 0, count: 1 });
  t.equal(chunks[0]?.replicas[0]?.serverId, 'cs2', 'and read from first');
});

t.test('lease: a server that cannot make a fresh chunk is replaced, or done without', async (t) => {
  const { client, byId, lease, chunkservers } = await cluster(4);
  byId('cs1').failing.set('prepare', new GfsError('NO_SPACE'));
  const first = await lease(await client.create(m.ROOT_ID, 'a'));
  t.strictSame(members(first), ['cs0', 'cs2', 'cs3']);
  byId('cs2').failing.set('prepare', new GfsError('INTERNAL'));
  t.strictSame(members(await lease(await client.create(m.ROOT_ID, 'b'))), ['cs0', 'cs3']);
  for (const chunkserver of chunkservers) chunkserver.failing.set('prepare', new GfsError('NO_SPACE'));
  t.equal(await codeOf(lease(await client.create(m.ROOT_ID, 'c'))), 'NO_SPACE');
});

t.test('status: counts what there is', async (t) => {
  const { world, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  await lease(file);
  chunkservers[2]?.crash();
  await world.runFor(10);
  const status = await client.call(m.GetStatus, {});
  t.match(status, {
    files: 1,
    directories: 1,
    chunks: 1,
    chunksBelowGoal: 1,
    chunksUnavailable: 0,
    leases: 1,
  });
  t.strictSame(status.servers.map(({ state }) => state).sort(), ['alive', 'alive', 'silent']);
  const { totalBytes, files } = await client.call(m.StatCluster, {});
  t.equal(totalBytes, 200 * 1024 ** 3);
  t.equal(files, 2);
});

t.test('replicas: of a chunk that goes while its replicas are compared nothing is remembered', async (t) => {
  const { world, client, chunkservers, lease } = await cluster();
  const file = await client.create(m.ROOT_ID, 'f');
  const first = await lease(file);
  await client.mutate(m.ExtendFile, { id: file, size: 10 });
  await world.runFor(2 * first.remainingMs);
  for (const chunkserver of chunkservers) chunkserver.crash();
  await world.runFor(10);
  for (const [at, chunkserver] of chunkservers.entries()) {
    Object.assign(held(chunkserver, first.handle), { suspect: true, digest: at, appliedSerial: at });
    await chunkserver.restart();
  }
  // It answers late.
  const [slow] = chunkservers as [TestChunkserver];
  slow.process.pause();
  const reading = client.send(m.GetChunks, { id: file, index: 0, count: 1 });
  reading.catch(() => undefined);
  await world.runFor(50);
  await client.mutate(m.SetAttributes, { id: file, changes: { size: 0 } });
  slow.process.resume();
  await world.runFor(3_000);
  const prepared = chunkservers.filter(({ asked }) => asked.includes(`prepare ${first.handle} 2`));
  t.ok(prepared.length > 1, 'the others were raised meanwhile');
  const { servers } = await client.call(m.GetStatus, {});
  t.same(
    servers.filter(({ state }) => state === 'alive').map(({ chunks }) => chunks),
    [0, 0, 0],
  );
  await reading.catch(() => undefined);
});
