import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Cloner } from '../../chunkserver/clone.js';
import { Peers } from '../../chunkserver/peers.js';
import { Store } from '../../chunkserver/store/store.js';
import { Throttle } from '../../chunkserver/throttle.js';
import { MIB, SEGMENT_BYTES } from '../../protocol/limits.js';
import {
  AdoptClone,
  AppendChunk,
  CloneChunk,
  DeleteChunks,
  PrepareVersion,
  ReadChunk,
  WriteChunk,
} from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer, type PeerOptions } from '../../protocol/peer.js';
import { Service } from '../../protocol/rpc.js';
import { type FakeProcess, SimulatedWorld } from '../fakes/index.js';
import { contextOf, ROOT } from './store-model.js';
import {
  CHUNK_BYTES,
  type Cluster,
  pattern,
  startCluster,
  temporaryDirectory,
  until,
  withPayload,
} from './support.js';

const HANDLE = 1;
let lastSequence = 0;

/** Chunk 1 at version 1 on all servers but the last; the first is primary. */
async function setUp(t: Test, count = 2) {
  const cluster = await startCluster(
    count,
    temporaryDirectory((end) => t.teardown(end)),
    // Damage is to be found by whoever clones.
    { scrubIntervalMs: 0 },
  );
  t.teardown(() => cluster.stop());
  const destination = cluster.ids.at(-1) as string;
  await cluster.master.grant(HANDLE, 1, cluster.ids.slice(0, -1));
  return { ...cluster, destination, restart: cluster.restart };
}

function write(cluster: Cluster, offset: number, bytes: Uint8Array, version = 1) {
  const body = { handle: HANDLE, version, offset, length: bytes.byteLength };
  const options = withPayload(bytes, { session: 1, sequence: ++lastSequence });
  return (cluster.clients[0] as Peer).call(WriteChunk, body, options);
}

async function clone({ master, ids }: Cluster, from: number, to: string, version = 1) {
  const source = master.server(ids[from] as string);
  const body = { handle: HANDLE, version, source, rateBps: 0, serverRateBps: 0 };
  return (await master.call(to, CloneChunk, body)).body;
}

async function contentOf(cluster: Cluster, server: number, version = 1): Promise<Buffer> {
  const body = { handle: HANDLE, version, offset: 0, length: CHUNK_BYTES };
  const { payload } = await (cluster.clients[server] as Peer).call(ReadChunk, body);
  return payload?.bytes ?? Buffer.alloc(0);
}

t.test('clone: nobody sees it before it is adopted, and then it is a replica like the others', async (t) => {
  const cluster = await setUp(t);
  const { master, destination } = cluster;
  const content = pattern(300_000);
  await write(cluster, 0, content);
  const { appliedSerial, digest, lengthBytes, fetchedBytes } = await clone(cluster, 0, destination);
  t.equal(lengthBytes, 300_000);
  t.equal(fetchedBytes, 300_000);
  await t.rejects(contentOf(cluster, 1), { code: 'NO_SUCH_CHUNK' });
  const raise = { handle: HANDLE, version: 2, create: false };
  await t.rejects(master.call(destination, PrepareVersion, raise), { code: 'NO_SUCH_CHUNK' });

  const adopt = { handle: HANDLE, version: 1, appliedSerial };
  await t.rejects(master.call(destination, AdoptClone, { ...adopt, appliedSerial: appliedSerial + 1 }), {
    code: 'NO_SUCH_CHUNK',
  });
  await master.call(destination, AdoptClone, adopt);
  await master.call(destination, AdoptClone, adopt);
  t.ok((await contentOf(cluster, 1)).equals(content));
  await t.rejects(clone(cluster, 0, destination), { code: 'EXISTS' });

  await cluster.restart(1);
  t.match(master.reports.get(destination), [
    { handle: HANDLE, version: 1, lengthBytes: 300_000, suspect: false },
  ]);
  t.ok((await contentOf(cluster, 1)).equals(content));
  const [id] = cluster.ids as [string];
  const answers = await Promise.all(
    [id, destination].map(async (each) => (await master.call(each, PrepareVersion, raise)).body),
  );
  t.same(answers[0], answers[1], 'equal in content, length and applied serial');
  t.equal(answers[0]?.digest, digest);
});

t.test('clone: what was done by whom comes along: a retry at the copy finds the first result', async (t) => {
  const cluster = await setUp(t);
  const { master, destination, clients } = cluster;
  const [first, copy] = clients as [Peer, Peer];
  const record = withPayload(Buffer.from('a record'), { session: 7, sequence: 1 });
  const append = (peer: Peer, version: number) =>
    peer.call(AppendChunk, { handle: HANDLE, version, mode: 'record', from: 0 }, record);
  await append(first, 1);
  const { appliedSerial } = await clone(cluster, 0, destination);
  await master.call(destination, AdoptClone, { handle: HANDLE, version: 1, appliedSerial });
  await master.grant(HANDLE, 2, [destination]);
  t.equal((await append(copy, 2)).body.offset, 0);
  t.equal((await contentOf(cluster, 1, 2)).toString(), 'a record', 'and it is there once');
});

t.test('clone: asked again it fetches only what has changed, also from another source', async (t) => {
  const cluster = await setUp(t, 3);
  const { destination, master } = cluster;
  const content = pattern(600_000);
  await write(cluster, 0, content);
  const first = await clone(cluster, 0, destination);
  pattern(1_000, 2).copy(content, 70_000);
  await write(cluster, 70_000, pattern(1_000, 2));
  const longer = Buffer.concat([content, pattern(300_000, 3)]);
  await write(cluster, 600_000, pattern(300_000, 3));
  await cluster.chunkservers[0]?.stop();
  const second = await clone(cluster, 1, destination);
  t.ok(second.appliedSerial > first.appliedSerial);
  t.ok(second.fetchedBytes < 450_000, `${second.fetchedBytes} bytes of 900,000`);
  await master.call(destination, AdoptClone, {
    handle: HANDLE,
    version: 1,
    appliedSerial: second.appliedSerial,
  });
  t.ok((await contentOf(cluster, 2)).equals(longer));
});

t.test('clone: a damaged source, another version, a chunk that is not there: refused', async (t) => {
  const cluster = await setUp(t, 3);
  const { destination, master, ids, directories } = cluster;
  const content = pattern(300_000);
  await write(cluster, 0, content);
  await t.rejects(clone(cluster, 0, destination, 2), { code: 'STALE_CHUNK_VERSION' });
  await cluster.restart(0);
  const file = join(directories[0] as string, 'chunks/01/00000000000001.chunk');
  const raw = readFileSync(file);
  raw[200_000] = (raw[200_000] as number) ^ 0x10;
  writeFileSync(file, raw);
  await t.rejects(clone(cluster, 0, destination), { code: 'CHUNK_CORRUPT' });
  await until(() => master.damaged.some(({ serverId }) => serverId === ids[0]));
  const { appliedSerial } = await clone(cluster, 1, destination);
  await master.call(destination, AdoptClone, { handle: HANDLE, version: 1, appliedSerial });
  t.ok((await contentOf(cluster, 2)).equals(content), 'the other source has it');
  const peer = cluster.clients[2] as Peer;
  const asked = peer.call(AdoptClone, { handle: HANDLE, version: 1, appliedSerial });
  await t.rejects(asked, { code: 'NOT_PERMITTED' }, 'only a master may');
});

t.test('clone: what was never adopted is gone after a restart, or when the master says so', async (t) => {
  const cluster = await setUp(t);
  const { destination, master } = cluster;
  await write(cluster, 0, pattern(300_000));
  await clone(cluster, 0, destination);
  await cluster.restart(1);
  t.same(master.reports.get(destination), []);
  const { appliedSerial, fetchedBytes } = await clone(cluster, 0, destination);
  t.equal(fetchedBytes, 300_000);
  await master.call(destination, DeleteChunks, { handles: [HANDLE] });
  const adopt = master.call(destination, AdoptClone, { handle: HANDLE, version: 1, appliedSerial });
  await t.rejects(adopt, { code: 'NO_SUCH_CHUNK' });
});

t.test('clone: a throttle spreads bytes over time, for all who take from it', async (t) => {
  const world = new SimulatedWorld(1);
  const { clock, timers } = world.process('server').environment;
  const throttle = new Throttle(clock, timers);
  const startMs = clock.monotonicMs();
  const taken = Promise.all(Array.from({ length: 20 }, () => throttle.take(1_000_000, 10_000_000)));
  await world.until(taken);
  const tookMs = clock.monotonicMs() - startMs;
  t.ok(tookMs >= 1_800 && tookMs < 2_000, `20 MB at 10 MB/s took ${tookMs} ms`);
  const beforeMs = clock.monotonicMs();
  const next = new Throttle(clock, timers);
  next.charge(1_000_000, 10_000_000);
  await world.until(next.take(0, 10_000_000));
  const waitedMs = clock.monotonicMs() - beforeMs;
  t.ok(waitedMs >= 50 && waitedMs <= 110, `what has gone already is waited for: ${waitedMs} ms`);
  await throttle.take(1_000_000_000, 0);
  t.ok(clock.monotonicMs() - startMs < 2_200, '0 is no limit');
});

const CLONE_PORT = 1;
const CLONED_BYTES = 4 * MIB;

/** Stores and cloners on simulated hosts, and a master that orders clones: their time is virtual. */
class CloningWorld {
  readonly #world = new SimulatedWorld(1);
  readonly #stores = new Map<string, Store>();
  readonly #processes = new Map<string, FakeProcess>();

  async start(name: string): Promise<void> {
    const process = this.#world.process(name);
    this.#processes.set(name, process);
    const { environment } = process;
    const { clock, timers, network } = environment;
    const context = contextOf(process, 'memory');
    const store = await this.#world.until(Store.open(context, [ROOT], name));
    this.#stores.set(name, store);
    const service = new Service();
    const term = () => 1;
    const peers = new Peers(environment, { identity: store, service, pool: context.pool, term });
    const parts = { clock, timers, store, peers, term, inTouch: () => true, onDamage: () => undefined };
    new Cloner(parts).register(service);
    const options: PeerOptions = {
      ...{ ...environment, role: 'chunkserver', id: name, pool: context.pool, service, term },
      clusterId: () => store.clusterId,
    };
    await network.listen(name, CLONE_PORT, (socket) => void new Peer(socket, options));
  }

  async fill(name: string, handle: number): Promise<void> {
    const store = this.#stores.get(name) as Store;
    const chunk = await this.#world.until(store.create(handle, 1));
    for (let offset = 0; offset < CLONED_BYTES; offset += SEGMENT_BYTES) {
      const bytes = pattern(SEGMENT_BYTES, offset + handle);
      const about = { session: 1, sequence: offset + 1, serial: offset + 2 };
      await this.#world.until(chunk.mutate({ kind: 'write', offset, bytes, ...about }));
    }
  }

  /** One more mutation of what {@link fill} made. */
  async change(name: string, handle: number, offset: number): Promise<void> {
    const chunk = (this.#stores.get(name) as Store).get(handle);
    const about = { session: 1, sequence: CLONED_BYTES, serial: chunk.state.serial + 1 };
    await this.#world.until(chunk.mutate({ kind: 'write', offset, bytes: pattern(100, 7), ...about }));
  }

  describe(name: string, handle: number) {
    const store = this.#stores.get(name) as Store;
    return this.#world.until(store.describe(store.get(handle)));
  }

  async #masterOf(to: string): Promise<Peer> {
    const { environment } = this.#world.process('master');
    const options: PeerOptions = {
      ...{ ...environment, role: 'master', id: 'master', pool: new BufferPool(), service: new Service() },
      ...{ term: () => 1, clusterId: () => '' },
    };
    const peer = new Peer(await environment.network.connect(to, CLONE_PORT, 1_000), options);
    await peer.ready();
    return peer;
  }

  /** As the master orders it. */
  async order({ handle, from, to }: Ordered, rates: Rates) {
    const peer = await this.#masterOf(to);
    const source = { serverId: from, host: from, port: CLONE_PORT };
    const body = { handle, version: 1, source, ...rates };
    return (await peer.call(CloneChunk, body, { deadlineMs: 60_000 })).body;
  }

  async adopt(to: string, handle: number, appliedSerial: number): Promise<void> {
    const peer = await this.#masterOf(to);
    await peer.call(AdoptClone, { handle, version: 1, appliedSerial });
  }

  /** The power of its host fails. @returns its store as it is afterwards */
  async powerCut(name: string): Promise<Store> {
    const { host } = this.#processes.get(name) as FakeProcess;
    host.disk.losesAll = true;
    host.crash();
    host.boot();
    return this.#world.until(Store.open(contextOf(host.start('again'), 'memory'), [ROOT], name));
  }

  /** @returns how many seconds it takes until all of them are there */
  async clone(clones: readonly Ordered[], rates: Rates): Promise<number> {
    const { clock } = this.#world.process('master').environment;
    const startMs = clock.monotonicMs();
    const done = clones.map((each) => this.order(each, rates));
    for (const { fetchedBytes } of await this.until(Promise.all(done)))
      if (fetchedBytes !== CLONED_BYTES) throw new Error(`${fetchedBytes} bytes were fetched`);
    return (clock.monotonicMs() - startMs) / 1000;
  }

  until<T>(work: Promise<T>): Promise<T> {
    return this.#world.until(work);
  }

  runFor(durationMs: number): Promise<void> {
    return this.#world.runFor(durationMs);
  }

  async killAfter(name: string, delayMs: number): Promise<void> {
    await this.runFor(delayMs);
    this.#processes.get(name)?.crash();
  }
}

interface Ordered {
  readonly handle: number;
  readonly from: string;
  readonly to: string;
}

interface Rates {
  readonly rateBps: number;
  readonly serverRateBps: number;
}

t.test('clone: resumes: what came before its source was killed is not fetched again', async (t) => {
  const world = new CloningWorld();
  for (const name of ['a', 'b', 'c']) await world.start(name);
  for (const name of ['a', 'b']) await world.fill(name, 1);
  const rates = { rateBps: MIB, serverRateBps: 0 };
  const interrupted = world.order({ handle: 1, from: 'a', to: 'c' }, rates);
  const refused = t.rejects(interrupted, { code: 'UNREACHABLE' });
  await world.killAfter('a', 1_500);
  await world.until(refused);
  const { fetchedBytes } = await world.until(world.order({ handle: 1, from: 'b', to: 'c' }, rates));
  t.equal(fetchedBytes, CLONED_BYTES - 2 * SEGMENT_BYTES, 'two segments of four had come');
});

t.test('clone: of a source that is written meanwhile it is as of one moment, which it tells', async (t) => {
  const world = new CloningWorld();
  for (const name of ['a', 'b']) await world.start(name);
  await world.fill('a', 1);
  const cloned = world.order({ handle: 1, from: 'a', to: 'b' }, { rateBps: MIB, serverRateBps: 0 });
  await world.runFor(500);
  await world.change('a', 1, CLONED_BYTES - 1_000);
  const { digest, lengthBytes, appliedSerial } = await world.until(cloned);
  t.match(await world.describe('a', 1), { digest, lengthBytes, appliedSerial });
});

t.test('clone: one that was adopted survives the host', async (t) => {
  const world = new CloningWorld();
  for (const name of ['a', 'b']) await world.start(name);
  await world.fill('a', 1);
  const cloned = world.order({ handle: 1, from: 'a', to: 'b' }, { rateBps: 0, serverRateBps: 0 });
  const { digest, lengthBytes, appliedSerial } = await world.until(cloned);
  await world.until(world.adopt('b', 1, appliedSerial));
  const store = await world.powerCut('b');
  t.match(await world.until(store.describe(store.get(1))), { digest, lengthBytes, appliedSerial });
});

t.test('clone: bytes per second are limited, per clone and per server', async (t) => {
  // The first segment goes at once, so 4 MiB at 1 MiB/s take three seconds, less the burst.
  const limited = { rateBps: MIB, serverRateBps: 0 };
  const shared = { rateBps: 0, serverRateBps: MIB };
  const world = new CloningWorld();
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await world.start(name);
  for (const handle of [1, 2, 3, 4]) await world.fill('a', handle);
  await world.fill('b', 5);

  const freeS = await world.clone([{ handle: 1, from: 'a', to: 'c' }], { rateBps: 0, serverRateBps: 0 });
  t.ok(freeS < 1, `without a limit ${freeS} s`);

  const oneS = await world.clone([{ handle: 2, from: 'a', to: 'c' }], limited);
  t.ok(oneS >= 2.9 && oneS < 4, `one clone at 1 MiB/s: ${oneS} s`);
  const both = [
    { handle: 3, from: 'a', to: 'c' },
    { handle: 4, from: 'a', to: 'c' },
  ];
  const eachS = await world.clone(both, limited);
  t.ok(eachS >= 2.9 && eachS < 4, `two at a time, each with 1 MiB/s of its own: ${eachS} s`);

  const toTwo = [
    { handle: 1, from: 'a', to: 'd' },
    { handle: 2, from: 'a', to: 'e' },
  ];
  const fromOneS = await world.clone(toTwo, shared);
  t.ok(fromOneS >= 6.9 && fromOneS < 9, `two from one server that sends 1 MiB/s: ${fromOneS} s`);

  const fromTwo = [
    { handle: 3, from: 'a', to: 'f' },
    { handle: 5, from: 'b', to: 'f' },
  ];
  const toOneS = await world.clone(fromTwo, shared);
  t.ok(toOneS >= 5.9 && toOneS < 9, `two to one server that receives 1 MiB/s: ${toOneS} s`);
});
