import t from 'tap';
import { digestState, dumpState } from '../../master/dump.js';
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
    await lease(file),
    { ...granted, remainingMs: (await lease(file)).remainingMs },
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

t.test('lease: without chunkservers the client is told to wait', async (t) => {
  const { client, lease } = await cluster(0);
  t.equal(await codeOf(lease(await client.create(m.ROOT_ID, 'f'))), 'NO_CHUNKSERVERS');
});
