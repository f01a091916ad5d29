/** What simulations have found, each as a script: a cluster, what happened, what must hold. */
import t, { type Test } from 'tap';
import { ChunkserverConnections } from '../../client/connections.js';
import { copyRange, type GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import {
  Create,
  GetStatus,
  ReadChunk,
  ROOT_ID,
  type Server,
  Snapshot,
} from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from './cluster.js';
import { connectClient } from './members.js';
import type { Member } from './programs.js';
import { readWhole } from './reading.js';
import { clusterDefaults } from './shape.js';

/** On a busy machine. */
t.setTimeout(600_000);

/** A cluster, and one client at a time that the script speaks for. */
class Scene {
  readonly world: SimulatedWorld;
  readonly cluster: SimulatedCluster;
  /** For one who looks at a replica by itself. */
  readonly connections: ChunkserverConnections;

  constructor(seed: number) {
    this.world = new SimulatedWorld(seed);
    this.cluster = new SimulatedCluster(
      this.world,
      { ...clusterDefaults, clients: 0 },
      async () => undefined,
    );
    this.cluster.start();
    this.connections = new ChunkserverConnections(
      this.world.process('reader').environment,
      'reader',
      () => '',
    );
  }

  client(name: string, options: { readonly caches?: boolean } = {}): Promise<GfsClient> {
    return connectClient(this.world.process(name), options);
  }

  serverAt(host: string): Member {
    return this.cluster.chunkservers.find((member) => member.host.name === host) as Member;
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.world.scheduler.after(delayMs, resolve));
  }

  /** The power of all chunkservers fails, and comes back. */
  async blackout(): Promise<void> {
    for (const { host } of this.cluster.chunkservers) {
      // By the seed: all that was not flushed is lost, or this and that.
      host.disk.losesAll = this.world.seed % 2 === 1;
      host.crash();
    }
    await this.sleep(100);
    for (const chunkserver of this.cluster.chunkservers) {
      chunkserver.host.boot();
      chunkserver.start();
    }
  }

  /** All chunkservers are killed with -9 and started again: the page cache stays. */
  async kill(): Promise<void> {
    for (const { process } of this.cluster.chunkservers) process?.crash();
    await this.sleep(100);
    for (const chunkserver of this.cluster.chunkservers) chunkserver.start();
  }
}

/** Runs the script on several seeds: what is lost differs, and when things happen. */
function scenario(fact: string, script: (t: Test, scene: Scene) => Promise<void>): void {
  t.test(fact, async (t) => {
    for (let seed = 1; seed <= 5; seed++) {
      const scene = new Scene(seed);
      await scene.world.until(script(t, scene));
      t.same(scene.world.failures, [], `seed ${seed}`);
    }
  });
}

const bytes = (text: string, count = 1) => Buffer.from(text.repeat(count), 'latin1');

async function create(client: GfsClient, name: string): Promise<OpenFile> {
  const body = { parent: ROOT_ID, name, mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await client.master.mutate(Create, body);
  return client.open(attributes.id, {}, true);
}

async function textOf(client: GfsClient, id: number): Promise<string> {
  const file = await client.open(id, {});
  const content = await readWhole(file);
  await client.close(file);
  return content.toString('latin1');
}

scenario('fsync: covers what was written before the file was closed and opened again', async (t, scene) => {
  const client = await scene.client('a');
  const first = await create(client, 'f');
  await first.write(0, bytes('kept', 20_000));
  await first.flush({});
  await client.close(first);
  const again = await client.open(first.id, {});
  await again.sync({});
  await client.close(again);
  await scene.blackout();
  t.equal(await textOf(await scene.client('b'), first.id), 'kept'.repeat(20_000));
});

scenario('fsync: does not vouch for writes that were lost, whatever was written later', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  await file.write(0, bytes('early', 30_000));
  await file.flush({});
  await scene.blackout();
  await file.write(200_000, bytes('late'));
  await t.rejects(file.sync({}), { code: 'REPLICA_FAILED' });
  await file.write(0, bytes('again', 30_000));
  await file.sync({});
  await scene.blackout();
  const content = await textOf(await scene.client('b'), file.id);
  t.equal(content.slice(0, 150_000), 'again'.repeat(30_000), 'told once, and good from then on');
});

scenario('fsync: covers what the chunkservers took before they were killed', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  await file.write(0, bytes('kept', 50_000));
  await file.flush({});
  await scene.kill();
  await file.sync({});
  await scene.blackout();
  t.equal(await textOf(await scene.client('b'), file.id), 'kept'.repeat(50_000));
});

scenario(
  'power failure: a file whose bytes are lost can be read and written all the same',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 100_000));
    await file.flush({});
    await scene.blackout();
    t.equal((await textOf(await scene.client('b'), file.id)).length, 100_000);
    await file.write(0, bytes('new'));
    await file.flush({});
    t.equal((await textOf(await scene.client('c'), file.id)).slice(0, 3), 'new');
  },
);

scenario('errors: of data on its way surface at the next write, at fsync, or at close', async (t, scene) => {
  const client = await scene.client('a');
  const files = [await create(client, 'f'), await create(client, 'g'), await create(client, 'h')] as const;
  for (const file of files) {
    await file.write(0, bytes('kept'));
    await file.sync({});
  }
  for (const { host } of scene.cluster.chunkservers) host.disk.limitBytes = 0;
  for (const file of files) await file.write(4, bytes('lost', 1_000));
  await scene.sleep(3_000);
  const [written, synced, closed] = files;
  await t.rejects(written.write(8_000, bytes('more')), { code: 'NO_SPACE' });
  await t.rejects(synced.sync({}), { code: 'NO_SPACE' });
  await t.rejects(closed.flush({}), { code: 'NO_SPACE' });
  for (const { host } of scene.cluster.chunkservers) host.disk.limitBytes = undefined;
  await scene.sleep(3_000);
  for (const file of files) {
    await file.flush({}).catch(() => undefined);
    await file.write(4, bytes('again'));
    await file.sync({});
    t.match(await textOf(client, file.id), /^keptagain/, 'told once, and good from then on');
  }
});

scenario('power failure: several chunks that are read at once are there soon after it', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  const content = bytes('kept', client.chunkBytes);
  await file.write(0, content);
  await file.sync({});
  await scene.blackout();
  const other = await scene.client('b');
  const before = scene.world.scheduler.nowMs;
  t.ok((await readWhole(await other.open(file.id, {}))).equals(content));
  t.ok(scene.world.scheduler.nowMs - before < 5_000, `${scene.world.scheduler.nowMs - before} ms`);
});

scenario('truncate: cuts what the master has not heard of yet', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  await file.write(0, bytes('x', 1_000));
  await client.setAttributes(file.id, { size: 600 }, {});
  await file.write(900, bytes('end'));
  await file.flush({});
  const expected = `${'x'.repeat(600)}${'\0'.repeat(300)}end`;
  t.equal((await readWhole(file)).toString('latin1'), expected);
  t.equal(await textOf(await scene.client('b'), file.id), expected);
});

scenario(
  'snapshot: a reader that holds old locations never sees bytes of the other file',
  async (t, scene) => {
    const [writer, reader] = [await scene.client('a'), await scene.client('b')];
    const file = await create(writer, 'f');
    await file.write(0, bytes('original', 1_000));
    await file.flush({});
    const held = await reader.open(file.id, {});
    t.equal((await readWhole(held)).toString('latin1'), 'original'.repeat(1_000));
    const body = { id: file.id, parent: ROOT_ID, name: 's' };
    const { attributes } = await writer.master.mutate(Snapshot, body);
    // The file gets a chunk of its own; the old one is the snapshot's alone, and is written to.
    await file.write(0, bytes('replaced', 1_000));
    await file.flush({});
    const snapshot = await writer.open(attributes.id, {});
    await snapshot.write(0, bytes('snapshot', 1_000));
    await snapshot.flush({});
    t.equal((await readWhole(held)).toString('latin1'), 'replaced'.repeat(1_000));
  },
);

scenario(
  'host crash: a secondary that comes back within a lease does not pass for a whole one',
  async (t, scene) => {
    const client = await scene.client('a');
    const file = await create(client, 'f');
    await file.write(0, bytes('x', 200_000));
    await file.flush({});
    // New chunks have the journals flushed, with the records of what was written; the bytes themselves are not.
    const others: OpenFile[] = [];
    for (const name of ['g', 'h', 'i', 'j', 'k', 'l']) others.push(await create(client, name));
    for (const other of others) await other.append(bytes('other'));
    const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
    const secondary = scene.serverAt(lease.secondaries[0]?.host as string);
    secondary.host.disk.losesAll = true;
    secondary.host.crash();
    await scene.sleep(100);
    secondary.host.boot();
    secondary.start();
    await scene.sleep(3_000);
    // The primary of each connects to it again.
    for (const other of others) await other.append(bytes('more'));
    // Under the same lease first, then under a new one, for which the replicas are compared.
    await file.write(200_000, bytes('y', 10_000));
    await file.flush({});
    // It is the first to answer: the others have slow disks.
    for (const { host } of scene.cluster.chunkservers) if (host !== secondary.host) host.disk.slowness = 30;
    await client.setAttributes(file.id, { size: 205_000 }, {});
    await file.write(205_000, bytes('z'));
    await file.flush({});
    const expected = `${'x'.repeat(200_000)}${'y'.repeat(5_000)}z`;
    t.equal(await textOf(await scene.client('b'), file.id), expected);
  },
);

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

scenario('write: what a power cut took from all replicas its retry writes again', async (t, scene) => {
  const { network } = scene.world;
  const [client, other] = [await scene.client('a'), await scene.client('b')];
  let unheard = 0;
  for (let step = 0; step < 4; step++) {
    const file = await create(client, `f${step}`);
    await file.write(0, bytes('x', 65_536));
    await file.sync({});
    const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
    await file.write(65_536, bytes('y', 150_000));
    let heard = false;
    const flushed = file.flush({}).then(() => {
      heard = true;
    });
    // Every replica takes the write, and its client does not hear of it.
    await scene.sleep(3.5 + step * 0.5);
    network.cutOneWay(lease.primary.host, 'a');
    await scene.sleep(20);
    // For the sake of another file the journals are flushed with its records, and not its bytes.
    const neighbour = await create(other, `n${step}`);
    await neighbour.write(0, bytes('z'));
    await neighbour.sync({});
    const wasHeard = heard;
    await scene.blackout();
    network.heal(lease.primary.host, 'a');
    await flushed;
    // What was acknowledged and not flushed to disk may be lost.
    if (wasHeard) continue;
    unheard++;
    await file.sync({});
    const content = await textOf(other, file.id);
    t.ok(content === 'x'.repeat(65_536) + 'y'.repeat(150_000), `step ${step}: ${content.indexOf('\0')}`);
  }
  t.ok(unheard > 0);
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

/** Two clients that keep what they are promised, and a file that both hold open. */
async function heldByTwo(scene: Scene, text: string): Promise<readonly [OpenFile, OpenFile, GfsClient]> {
  const a = await scene.client('a', { caches: true });
  const b = await scene.client('b', { caches: true });
  const ofA = await create(a, 'f');
  await ofA.write(0, bytes(text));
  await ofA.flush({});
  return [ofA, await b.open(ofA.id, {}), b];
}

scenario(
  'length: a write to a file that another client made longer hides nothing of it',
  async (t, scene) => {
    const [ofA, ofB] = await heldByTwo(scene, 'short');
    await ofB.write(0, bytes('longer than before'));
    await ofB.flush({});
    await ofA.write(0, bytes('L'));
    await ofA.flush({});
    t.equal((await readWhole(ofA)).toString('latin1'), 'Longer than before');
    t.equal((await readWhole(ofB)).toString('latin1'), 'Longer than before');
  },
);

scenario(
  'length: of two readers at once none believes what the other has only asked for',
  async (t, scene) => {
    const [ofA, ofB] = await heldByTwo(scene, 'short');
    await ofB.write(0, bytes('longer than before'));
    await ofB.flush({});
    const read = await Promise.all([readWhole(ofA), readWhole(ofA)]);
    t.same(
      read.map((content) => content.toString('latin1')),
      ['longer than before', 'longer than before'],
    );
  },
);

scenario(
  'length: a write to a file that another client cut does not bring its old length back',
  async (t, scene) => {
    const [ofA, ofB, b] = await heldByTwo(scene, 'a line that will not stay');
    await b.setAttributes(ofB.id, { size: 2 }, {});
    await ofA.write(1, bytes('new'));
    t.equal((await readWhole(ofA)).toString('latin1'), 'anew', 'before it is told');
    await ofA.flush({});
    t.equal((await readWhole(ofA)).toString('latin1'), 'anew');
    t.equal(await textOf(b, ofB.id), 'anew');
  },
);

scenario('promises: who was told of a chmod is told of what is cut after it', async (t, scene) => {
  const [ofA, ofB, b] = await heldByTwo(scene, 'a line that will not stay');
  t.equal((await readWhole(ofA)).byteLength, 25);
  await b.setAttributes(ofB.id, { mode: 0o100600 }, {});
  await b.setAttributes(ofB.id, { size: 6 }, {});
  t.equal((await readWhole(ofA)).toString('latin1'), 'a line');
});

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
