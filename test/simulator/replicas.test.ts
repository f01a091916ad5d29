/** What simulations have found about the replicas of a chunk: repaired, replaced, damaged, copied. */
import t from 'tap';
import { copyRange } from '../../client/index.js';
import { GetStatus, ReadChunk, ROOT_ID, type Server, Snapshot } from '../../protocol/messages/index.js';
import { connectClient } from './members.js';
import type { Member } from './programs.js';
import { readWhole } from './reading.js';
import { bytes, create, type Scene, scenario, textOf } from './scene.js';
import { clusterDefaults } from './shape.js';

/** On a busy machine. */
t.setTimeout(600_000);

const ABSENT = ['STALE_CHUNK_VERSION', 'NO_SUCH_CHUNK', 'UNREACHABLE', 'DISCONNECTED'];

/** What each replica holds of a chunk, at the version that the master knows. */
async function replicasOf(scene: Scene, servers: readonly Server[], handle: number) {
  const version = scene.cluster.master.master?.state.chunks.get(handle)?.version ?? 0;
  const contents: string[] = [];
  for (const server of servers) {
    try {
      const peer = await scene.connections.to(server);
      const body = { handle, version, offset: 0, length: clusterDefaults.chunkBytes };
      contents.push((await peer.call(ReadChunk, body)).payload?.bytes.toString('latin1') ?? '');
    } catch (thrown) {
      // It is down, was left behind, or has still to be compared: nobody is sent there.
      if (!ABSENT.includes((thrown as { code?: string }).code ?? '')) throw thrown;
    }
  }
  return contents;
}

for (const victimIndex of [0, 1, 2]) {
  const victimName = ['primary', 'first secondary', 'second secondary'][victimIndex];
  scenario(
    `repair: the ${victimName} dies at any step of a write: replicas end up equal, a snapshot never changes`,
    async (t, scene) => {
      const [client, other] = [await scene.client('a'), await scene.client('b')];
      for (let step = 0; step < 8; step++) {
        const file = await create(client, `f${step}`);
        await file.write(0, bytes('a', 100_000));
        await file.flush({});
        const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
        const servers = [lease.primary, ...lease.secondaries];
        const victim = scene.serverAt(servers[victimIndex]?.host as string);
        await file.write(50_000, bytes('b', 100_000));
        const flushed = file.flush({}).catch(() => undefined);
        await scene.sleep(step * 0.7);
        victim.process?.crash();
        const body = { id: file.id, parent: ROOT_ID, name: `s${step}` };
        const { attributes } = await other.master.mutate(Snapshot, body);
        const atOnce = await replicasOf(scene, servers, lease.handle);
        await flushed;
        victim.start();
        await file.write(20_000, bytes('c'));
        await file.flush({}).catch(() => undefined);
        // The next primary loses its power, with what it had not flushed.
        const next = await client.locations.lease(file.id, 0, {}, client.master.deadline());
        const host = scene.serverAt(next.primary.host);
        host.host.crash();
        await scene.sleep(100);
        host.host.boot();
        host.start();
        await scene.sleep(3_000);
        await file.write(30_000, bytes('d'));
        await file.flush({}).catch(() => undefined);
        const { handle } = await client.locations.lease(file.id, 0, {}, client.master.deadline());
        t.not(handle, lease.handle, 'the snapshot has the chunk, the file a copy');
        const written = await replicasOf(scene, servers, handle);
        t.ok(written.length > 0);
        t.equal(new Set(written).size, 1, `step ${step}: the replicas of the file are equal`);
        const now = await replicasOf(scene, servers, lease.handle);
        t.ok(atOnce.length > 0);
        t.equal(new Set([...atOnce, ...now]).size, 1, `step ${step}: the snapshot is the same everywhere`);
        const content = await textOf(other, attributes.id);
        t.equal(content, now[0]?.slice(0, content.length), `step ${step}: as it is read`);
      }
    },
  );
}

scenario(
  "append: over a chunk's end, with client and primary killed at any step, none of it or all is seen",
  async (t, scene) => {
    const survivor = await scene.client('b');
    for (let step = 0; step < 8; step++) {
      const process = scene.world.process('a');
      const client = await connectClient(process);
      const file = await create(client, `f${step}`);
      const filled = clusterDefaults.chunkBytes - 1_000;
      await file.append(bytes('.', filled));
      await file.flush({});
      const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
      void file.append(bytes('a', 5_000)).catch(() => undefined);
      await scene.sleep(step * 0.6);
      process.crash();
      const primary = scene.serverAt(lease.primary.host);
      primary.process?.crash();
      const other = await survivor.open(file.id, {});
      await other.append(bytes('b', 3_000));
      await other.flush({});
      primary.start();
      const appended = (await textOf(survivor, file.id)).slice(filled);
      t.match(appended, /^(a{5000})?b{3000}$/, `step ${step}`);
      await survivor.close(other);
      await scene.sleep(2_000);
    }
  },
);

scenario('append: a retry finds its first result at a replica that was repaired', async (t, scene) => {
  const { network } = scene.world;
  const client = await scene.client('a');
  const file = await create(client, 'f');
  await file.append(bytes('first '));
  await file.flush({});
  const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
  const primary = lease.primary.host;
  const [repaired, other] = lease.secondaries.map(({ host }) => host) as [string, string];
  // The primary and one secondary have the append, the other does not; the client hears of nothing.
  network.cutOneWay(primary, repaired);
  // Nor can it have the one that does not answer dropped.
  network.cut(primary, 'master');
  const appended = file.append(bytes('<once>'));
  await scene.sleep(3);
  network.cut('a', primary);
  // What is on its way to it arrives once the next version is prepared there, and is refused.
  await scene.sleep(4_500);
  network.heal(primary, repaired);
  const state = scene.cluster.master.master?.state;
  while ((state?.chunks.get(lease.handle)?.version ?? 0) === lease.version) await scene.sleep(10);
  // It is repaired now, and the only one that is left.
  scene.serverAt(primary).process?.crash();
  scene.serverAt(other).process?.crash();
  await appended;
  await file.flush({});
  t.equal(await textOf(await scene.client('b'), file.id), 'first <once>');
});

scenario(
  're-replication: a secondary that was dropped is replaced soon, not at the next census',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 100_000));
    await file.flush({});
    const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
    const dropped = lease.secondaries[0]?.host as string;
    scene.world.network.cut(lease.primary.host, dropped);
    await file.write(0, bytes('y', 100_000));
    await file.flush({});
    scene.world.network.heal(lease.primary.host, dropped);
    await scene.sleep(15_000);
    const { chunksBelowGoal } = await client.master.query(GetStatus, {});
    t.equal(chunksBelowGoal, 0);
    await client.close(file);
  },
);

scenario(
  're-replication: what a host crash has made suspect is compared soon, and counts again',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 300_000));
    await file.flush({});
    const [member] = scene.cluster.chunkservers;
    member?.host.crash();
    await scene.sleep(100);
    member?.host.boot();
    member?.start();
    await scene.sleep(15_000);
    const { chunksBelowGoal, chunksUnavailable } = await client.master.query(GetStatus, {});
    t.equal(chunksBelowGoal + chunksUnavailable, 0);
    await client.close(file);
  },
);

scenario(
  're-replication: a chunk made while a server was full is copied to it once it has room',
  async (t, scene) => {
    const client = await scene.client('a');
    const member = scene.cluster.chunkservers[0] as Member;
    member.host.disk.limitBytes = member.host.disk.usedBytes() + 100_000;
    // It says so with its next heartbeat.
    await scene.sleep(6_000);
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.flush({});
    await client.close(file);
    t.equal((await client.master.query(GetStatus, {})).chunksBelowGoal, 1);
    member.host.disk.limitBytes = undefined;
    await scene.sleep(15_000);
    t.equal((await client.master.query(GetStatus, {})).chunksBelowGoal, 0);
  },
);

function damageChunks({ host }: Member): void {
  for (const shard of host.disk.namesIn('/data/chunks')) {
    for (const name of host.disk.namesIn(`/data/chunks/${shard}`)) {
      if (name.endsWith('.chunk')) host.disk.flipBit(`/data/chunks/${shard}/${name}`, 100);
    }
  }
}

scenario(
  'damage: a damaged primary is replaced where it was, with no other server to copy to',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.sync({});
    const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
    await client.close(file);
    damageChunks(scene.serverAt(lease.primary.host));
    const server = await scene.connections.to(lease.primary);
    const body = { handle: lease.handle, version: lease.version, offset: 0, length: 1_000 };
    await t.rejects(server.call(ReadChunk, body), { code: 'CHUNK_CORRUPT' });
    await scene.sleep(20_000);
    const { chunksBelowGoal } = await client.master.query(GetStatus, {});
    t.equal(chunksBelowGoal, 0);
    t.equal(await textOf(await scene.client('b'), file.id), 'x'.repeat(200_000));
  },
);

scenario(
  'damage: where every replica is damaged a reader hears so at once, whatever was deleted before',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.sync({});
    await client.close(file);
    for (const member of scene.cluster.chunkservers) damageChunks(member);
    const reader = await scene.client('b');
    const beganMs = scene.world.scheduler.nowMs;
    await t.rejects(textOf(reader, file.id), { code: 'CHUNK_LOST' });
    t.ok(scene.world.scheduler.nowMs - beganMs < 2_000);
  },
);

scenario(
  'damage: what was synced and flips on two replicas before a power cut is had from the third, however late',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.sync({});
    await client.close(file);
    const [late, ...others] = scene.cluster.chunkservers as unknown as [Member, ...Member[]];
    for (const member of others) damageChunks(member);
    for (const { host } of scene.cluster.chunkservers) host.crash();
    for (const member of others) {
      member.host.boot();
      member.start();
    }
    // Long enough for those that are there to be compared without it.
    await scene.sleep(10_000);
    late.host.boot();
    late.start();
    t.equal(await textOf(await scene.client('b'), file.id), 'x'.repeat(200_000));
    await scene.sleep(20_000);
    const { chunksBelowGoal } = await client.master.query(GetStatus, {});
    t.equal(chunksBelowGoal, 0, 'and the damaged ones are made anew');
  },
);

scenario('copy: ragged ends are copied by the chunkservers, past the client', async (t, scene) => {
  const client = await scene.client('a');
  const { chunkBytes } = client;
  const file = await create(client, 'f');
  const content = Buffer.from(Array.from({ length: 3 * chunkBytes }, (_, at) => (at * 7 + (at >> 9)) & 0xff));
  await file.write(0, content);
  await file.sync({});
  let carriedBytes = 0;
  scene.world.network.onSent = (_connection, from, to, { byteLength }) => {
    if (from.host.name === 'a' || to.host.name === 'a') carriedBytes += byteLength;
  };
  const copy = await create(client, 'copy');
  const [at, to, length] = [100_000, 30_000, 2 * chunkBytes];
  for (let done = 0; done < length; ) {
    const source = { file, offset: at + done };
    done += await copyRange(client, source, { file: copy, offset: to + done }, length - done, {});
  }
  await copy.flush({});
  // What is smaller than a message goes the ordinary way.
  t.ok(carriedBytes < length / 4, `${carriedBytes} of ${length} bytes`);
  scene.world.network.onSent = undefined;
  const expected = Buffer.concat([Buffer.alloc(to), content.subarray(at, at + length)]);
  t.ok((await readWhole(copy)).equals(expected));
  // An fsync covers it as it covers what was written.
  await copy.sync({});
  await scene.blackout();
  const other = await scene.client('b');
  t.ok((await readWhole(await other.open(copy.id, {}))).equals(expected), 'after a power cut');
});

scenario('copy: goes on past a chunkserver that is gone, and one that lacks the source', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  const content = bytes('what is copied. ', 10_000);
  await file.write(0, content);
  await file.sync({});
  const copy = await create(client, 'copy');
  const [first] = scene.cluster.chunkservers;
  first?.process?.crash();
  const done = await copyRange(
    client,
    { file, offset: 0 },
    { file: copy, offset: 5 },
    content.byteLength,
    {},
  );
  t.equal(done, content.byteLength);
  t.ok((await readWhole(copy)).subarray(5).equals(content));
  first?.start();
});

scenario(
  'hang: a server that stands still, as in a flush that does not end, is done without, and comes back',
  async (t, scene) => {
    const [client, reader] = [await scene.client('a'), await scene.client('b')];
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.sync({});
    const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
    // The whole process: a flush may be done on the thread that does everything (environment/node/quick-calls.ts).
    const { process } = scene.serverAt(lease.primary.host);
    process?.pause();
    const beganMs = scene.world.scheduler.nowMs;
    const tookMs = () => scene.world.scheduler.nowMs - beganMs;
    const reading = textOf(reader, file.id).then((text) => {
      t.equal(text, 'x'.repeat(200_000));
      t.ok(tookMs() <= 3_000, `a reader waits ${tookMs()} ms`);
    });
    await file.write(200_000, bytes('y', 1_000));
    await file.sync({});
    t.ok(tookMs() <= 3_000, `a writer waits ${tookMs()} ms`);
    await reading;
    // As long as Linux waits for a device by itself.
    await scene.sleep(30_000);
    process?.resume();
    await scene.sleep(30_000);
    t.equal((await client.master.query(GetStatus, {})).chunksBelowGoal, 0);
    await file.write(201_000, bytes('z', 1_000));
    await file.sync({});
    t.equal(await textOf(reader, file.id), `${'x'.repeat(200_000)}${'y'.repeat(1_000)}${'z'.repeat(1_000)}`);
  },
);
