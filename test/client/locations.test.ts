import t from 'tap';
import { type CacheLimits, defaultCacheLimits } from '../../client/cache-limits.js';
import { Locations } from '../../client/locations.js';
import { Deadline } from '../../client/retry.js';
import type { MasterSession } from '../../client/session.js';
import {
  type Attributes,
  type Chunk,
  GetChunks,
  GetFirstChunks,
  GetLease,
  type Lease,
  Promised,
} from '../../protocol/messages/index.js';
import type { Method } from '../../protocol/rpc.js';
import { SimulatedWorld } from '../fakes/index.js';

const TTL_MS = 60_000;
const LEASE_MS = 60_000;
const FILE_CHUNKS = 20;
const server = (serverId: string) => ({ serverId, host: serverId, port: 1 });

/** A master that has one file, and counts what it is asked. */
class CountingMaster {
  readonly chunkBytes = 1_000;
  caches = false;
  asked: string[] = [];
  version = 1;
  readonly failed: (readonly string[])[] = [];

  async query(method: Method<unknown, unknown>, body: unknown): Promise<unknown> {
    if (method === GetFirstChunks) {
      const { ids } = body as { ids: number[] };
      this.asked.push(`first ${ids}`);
      return { files: ids.map((id) => ({ id, chunk: this.#chunk(0) })) };
    }
    if (method !== GetChunks) throw new Error(method.name);
    const { index, count } = body as { index: number; count: number };
    this.asked.push(`chunks ${index}`);
    const chunks: Chunk[] = [];
    for (let i = index; i < Math.min(FILE_CHUNKS, index + count); i++) chunks.push(this.#chunk(i));
    const promised = this.caches ? Promised.ATTRIBUTES : 0;
    return { chunks, chunkCount: FILE_CHUNKS, size: FILE_CHUNKS * 1_000, dataVersion: 3, promised };
  }

  async mutate(method: Method<unknown, unknown>, body: unknown): Promise<{ lease: Lease }> {
    if (method !== GetLease) throw new Error(method.name);
    const { index, failed } = body as { index: number; failed: readonly string[] };
    this.asked.push(`lease ${index}`);
    this.failed.push(failed);
    const { handle, version, replicas } = this.#chunk(index);
    const [primary, ...secondaries] = replicas as [ReturnType<typeof server>];
    return { lease: { index, handle, version, primary, secondaries, remainingMs: LEASE_MS } };
  }

  #chunk(index: number): Chunk {
    const replicas = ['a', 'b', 'c'].map(server);
    return { index, handle: 100 + index, version: this.version, validBytes: 1_000, replicas };
  }
}

/** @param next the files that may be read after each */
function setUp(caches = false, limits: Partial<CacheLimits> = {}, next: readonly Attributes[] = []) {
  const world = new SimulatedWorld();
  const { environment } = world.process('client');
  const master = new CountingMaster();
  master.caches = caches;
  const session = master as unknown as MasterSession;
  /** Files that were told to be known. */
  const located: number[] = [];
  const allLimits = { ...defaultCacheLimits, ...limits };
  const locations = new Locations(session, environment.clock, TTL_MS, allLimits, {
    after: (_, isWanted) => next.filter(isWanted).map(({ id }) => id),
    used: () => undefined,
    located: (files) => located.push(...files.map(({ id }) => id)),
  });
  const deadline = () => new Deadline(environment.clock, 1_000);
  const chunk = (index: number) => locations.chunk(1, index, {}, deadline());
  const lease = (index: number) => locations.lease(1, index, {}, deadline());
  /** What the master is asked by `run`. */
  const questions = async (run: () => Promise<unknown>): Promise<string[]> => {
    master.asked = [];
    await run();
    return master.asked;
  };
  const sleep = (ms: number) => world.until(new Promise<void>((done) => world.scheduler.after(ms, done)));
  return { master, locations, located, chunk, lease, questions, sleep, deadline };
}

t.test('locations: asked for once, with those that follow, also by many at once', async (t) => {
  const { chunk, questions } = setUp();
  t.same(await questions(() => Promise.all([chunk(0), chunk(0), chunk(0)])), ['chunks 0']);
  t.same(await questions(() => Promise.all([1, 2, 7].map(chunk))), [], 'prefetched');
  t.same(await questions(() => chunk(8)), ['chunks 8']);
  t.equal((await chunk(19)).handle, 119);
  t.equal((await chunk(FILE_CHUNKS)).handle, 0, 'behind the end there is nothing');
});

t.test('locations: an entry goes with its time', async (t) => {
  const { chunk, questions, sleep } = setUp();
  await chunk(0);
  await sleep(TTL_MS - 10);
  t.same(await questions(() => chunk(0)), []);
  await sleep(20);
  t.same(await questions(() => chunk(0)), ['chunks 0']);
});

t.test('locations: an entry goes when the file is reopened', async (t) => {
  const { locations, chunk, questions, master, deadline } = setUp();
  await chunk(9);
  master.version = 2;
  const told = await locations.reopen(1, {}, deadline());
  t.match(told, { size: FILE_CHUNKS * 1_000, dataVersion: 3 });
  t.equal((await chunk(0)).version, 2);
  t.same(await questions(() => chunk(9)), ['chunks 9']);
});

t.test(
  'locations: an entry goes when a server says that it is not the primary, or has another version',
  async (t) => {
    const { locations, chunk, lease, questions } = setUp();
    const held = await lease(0);
    t.same(await questions(() => lease(0)), []);
    locations.dropLease(1, { ...held, version: held.version - 1 });
    t.same(await questions(() => lease(0)), [], 'not by the word about an older one');
    locations.dropLease(1, held);
    t.same(await questions(() => lease(0)), ['lease 0']);
    locations.dropChunk(1, 0);
    t.same(await questions(() => chunk(0)), ['chunks 0']);
    t.same(await questions(() => chunk(1)), []);
  },
);

t.test(
  "locations: an entry goes on the master's word, and an answer from before it is not kept",
  async (t) => {
    const { locations, chunk, questions } = setUp(true);
    await chunk(0);
    locations.noteChangedElsewhere(1);
    t.same(await questions(() => chunk(0)), ['chunks 0']);
    locations.noteChangedElsewhere(1);
    const late = chunk(0);
    locations.noteChangedElsewhere(1);
    await late;
    t.same(await questions(() => chunk(0)), ['chunks 0']);
  },
);

t.test(
  'locations: a lease is not used in its last moments, nor after one of its servers failed',
  async (t) => {
    const { locations, lease, questions, sleep, master } = setUp();
    await lease(0);
    await sleep(LEASE_MS - 1_500);
    t.same(await questions(() => lease(0)), []);
    await sleep(600);
    t.same(await questions(() => lease(0)), ['lease 0']);
    locations.distrust('z');
    t.same(await questions(() => lease(0)), []);
    locations.distrust('b');
    t.same(await questions(() => lease(0)), ['lease 0']);
    t.same(master.failed.at(-1), ['b'], 'the master hears which');
  },
);

const file = (id: number, size: number, mode = 0o100644) => ({ id, size, mode }) as Attributes;

t.test('locations: those of small files that may be read next come along', async (t) => {
  const next = [file(2, 500), file(3, 0), file(4, 1_001), file(5, 1_000), file(6, 10, 0o120777)];
  const { locations, questions, deadline, sleep } = setUp(true, {}, next);
  const first = (id: number) => locations.chunk(id, 0, {}, deadline());
  t.same(await questions(() => first(1)), ['first 2,5', 'chunks 0'], 'neither empty nor of several chunks');
  await sleep(1);
  t.same(await questions(() => first(2)), []);
  locations.forgetUnpromised(5);
  t.same(await questions(() => first(5)), [], 'they are promised');
  locations.noteChangedElsewhere(2);
  t.same((await questions(() => first(2))).at(-1), 'chunks 0', 'until they change');
});

t.test('locations: those that come along are not kept when the file changes meanwhile', async (t) => {
  const { locations, questions, deadline, sleep } = setUp(true, {}, [file(2, 500), file(5, 500)]);
  const asking = locations.chunk(1, 0, {}, deadline());
  locations.noteChangedElsewhere(2);
  await asking;
  await sleep(1);
  t.same(await questions(() => locations.chunk(5, 0, {}, deadline())), []);
  t.same((await questions(() => locations.chunk(2, 0, {}, deadline()))).at(-1), 'chunks 0');
});

t.test(
  'locations: what came with a lease is doubtful once the file may have been changed elsewhere',
  async (t) => {
    const { locations, chunk, lease, questions } = setUp(true);
    await lease(0);
    t.same(await questions(() => chunk(0)), []);
    locations.forgetUnpromised(1);
    t.same(await questions(() => chunk(0)), ['chunks 0']);
    t.same(await questions(() => lease(0)), [], 'the lease is good as long as its version');
    locations.forgetUnpromised(1);
    t.same(await questions(() => chunk(0)), []);
  },
);
