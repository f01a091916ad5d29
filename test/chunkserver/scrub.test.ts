/** Scrubbing: what nobody reads is checked all the same, out of everybody's way. */
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { Activity } from '../../chunkserver/activity.js';
import { DamageReports } from '../../chunkserver/damage-reports.js';
import { Scrubber } from '../../chunkserver/scrubber.js';
import type { Store } from '../../chunkserver/store/store.js';
import { GfsError } from '../../protocol/errors.js';
import { ReadChunk, Scrub, WriteChunk } from '../../protocol/messages/index.js';
import type { Peer } from '../../protocol/peer.js';
import { type FakeHost, type FakeProcess, SimulatedWorld } from '../fakes/index.js';
import { openStore, ROOT } from './store-model.js';
import { pattern, startCluster, temporaryDirectory, until, withPayload } from './support.js';

t.setTimeout(600_000);

const DAY_MS = 86_400_000;
const CHUNKS = 20;
let seed = 1;

async function scrubbing(intervalMs = 7 * DAY_MS) {
  const world = new SimulatedWorld(seed++);
  const host = world.host('a');
  const process = host.start('chunkserver');
  const store: Store = await world.until(openStore(process));
  for (let handle = 1; handle <= CHUNKS; handle++) {
    const chunk = await world.until(store.create(handle, 1));
    const bytes = pattern(300_000, handle);
    await world.until(
      chunk.mutate({ kind: 'write', serial: 2 ** 24 + 1, offset: 0, bytes, session: 0, sequence: 0 }),
    );
  }
  await world.until(store.directories[0]!.checkpointNow());
  const flip = (handle: number) => host.disk.flipBit(chunkFile(handle), 100_000);
  let reads: string[] = [];
  host.disk.inject = (operation, path) => {
    if (operation === 'read') reads.push(path);
    return undefined;
  };
  /** What was read since this was last asked. */
  const takeReads = () => {
    const taken = reads;
    reads = [];
    return taken;
  };
  return { world, host, process, flip, takeReads, ...startScrubber(process, store, intervalMs) };
}

function chunkFile(handle: number): string {
  const name = handle.toString(16);
  return `${ROOT}/chunks/${name.padStart(2, '0')}/${name.padStart(14, '0')}.chunk`;
}

function startScrubber(process: FakeProcess, store: Store, intervalMs = 7 * DAY_MS) {
  const damaged: number[] = [];
  const activity = new Activity(process.environment.clock);
  const onDamage = (handle: number) => damaged.push(handle);
  const scrubber = new Scrubber({ ...process.environment, store, activity, onDamage, intervalMs });
  process.enter(() => scrubber.start());
  return { store, scrubber, activity, damaged };
}

t.test(
  'scrub: every replica is checked within the interval, and a flipped bit is reported once found',
  async (t) => {
    const { world, scrubber, damaged, flip } = await scrubbing();
    flip(7);
    await world.runFor(60_000);
    t.match(scrubber.progress, { running: false, checked: CHUNKS, total: CHUNKS, damaged: 1, passes: 1 });
    t.strictSame(damaged, [7]);
    flip(11);
    await world.runFor(6.9 * DAY_MS);
    t.strictSame(damaged, [7]);
    await world.runFor(0.2 * DAY_MS);
    t.equal(scrubber.progress.passes, 2);
    t.ok(damaged.includes(11));
  },
);

t.test('scrub: stops at once when clients come, and goes on when they are quiet', async (t) => {
  const { world, scrubber, activity, takeReads } = await scrubbing();
  for (let count = 0; count < 100; count++) {
    activity.note();
    await world.runFor(900);
  }
  t.equal(scrubber.progress.checked, 0, 'nobody was quiet for a second');
  await world.runFor(300);
  const before = scrubber.progress.checked;
  t.ok(before > 0 && before < CHUNKS, `${before} checked`);
  activity.note();
  await world.runFor(50);
  takeReads();
  await world.runFor(900);
  t.strictSame(takeReads(), []);
  let finish: () => void = () => undefined;
  const slow = activity.during(new Promise<void>((resolve) => (finish = resolve)));
  await world.runFor(30_000);
  t.strictSame(takeReads(), [], 'a client waits for something that takes long');
  finish();
  await slow;
  await world.runFor(60_000);
  t.equal(scrubber.progress.passes, 1);
});

t.test('scrub: without an interval only when it is asked for', async (t) => {
  const { world, scrubber, damaged, flip } = await scrubbing(0);
  flip(3);
  await world.runFor(30 * DAY_MS);
  t.match(scrubber.progress, { checked: 0, passes: 0 });
  scrubber.beginNow();
  await world.runFor(10_000);
  t.equal(scrubber.progress.passes, 1);
  t.strictSame(damaged, [3]);
  scrubber.stop();
  scrubber.beginNow();
  await world.runFor(10_000);
  t.equal(scrubber.progress.passes, 1);
});

t.test('scrub: a restart goes on where it was, and tells again what was found', async (t) => {
  const { world, host, process, flip, takeReads, ...first } = await scrubbing();
  flip(2);
  const busyFor = async (seconds: number) => {
    for (let passedMs = 0; passedMs < seconds * 1_000; passedMs += 900) {
      first.activity.note();
      await world.runFor(900);
    }
  };
  const checkTo = async (count: number) => {
    while (first.scrubber.progress.checked < count) await world.runFor(10);
  };
  await checkTo(8);
  await busyFor(70);
  await checkTo(9);
  await world.runFor(200);
  await busyFor(10);
  process.crash();
  takeReads();

  const second = await restart(host);
  await world.runFor(60_000);
  t.match(second.scrubber.progress, { checked: CHUNKS, total: CHUNKS, damaged: 1, passes: 1 });
  t.strictSame(second.damaged, [2], 'it may not have been healed');
  const reread = new Set(takeReads());
  t.notOk(reread.has(chunkFile(1)), 'what was checked is not checked again');
  t.ok(reread.has(chunkFile(CHUNKS)));

  await world.runFor(3 * DAY_MS);
  host.crash();
  host.boot();
  const third = await restart(host);
  await world.runFor(3.9 * DAY_MS);
  t.match(third.scrubber.progress, { running: false, checked: CHUNKS, passes: 1 }, 'the next is not due');
  await world.runFor(0.2 * DAY_MS);
  t.equal(third.scrubber.progress.passes, 2);

  host.crash();
  host.boot();
  host.disk.flipBit(`${ROOT}/scrub`, 20);
  const fourth = await restart(host);
  await world.runFor(60_000);
  t.match(fourth.scrubber.progress, { checked: CHUNKS, passes: 1 }, 'a damaged note is none');
});

async function restart(host: FakeHost) {
  const process = host.start('chunkserver');
  return startScrubber(process, await host.world.until(openStore(process)));
}

t.test('scrub: passes are counted and saved, but not more than once a minute', async (t) => {
  const { world, host, scrubber, activity } = await scrubbing();
  let saves = 0;
  host.disk.inject = (operation, path) => {
    if (operation === 'rename' && path.startsWith(`${ROOT}/scrub`)) saves++;
    return undefined;
  };
  while (scrubber.progress.checked < CHUNKS - 1) {
    await world.runFor(20);
    activity.note();
    await world.runFor(1_000);
  }
  await world.runFor(10_000);
  t.equal(scrubber.progress.passes, 1);
  t.equal(saves, 0, 'a pass in less than a minute');
  await world.runFor(60_000);
  t.equal(saves, 1);
  await world.runFor(3_600_000);
  t.equal(saves, 1, 'nothing has changed since');
});

t.test('scrub: the master hears of what was found, and how far it is', async (t) => {
  const cluster = await startCluster(
    1,
    temporaryDirectory((end) => t.teardown(end)),
    { checkpointBytes: 1_000, scrubIntervalMs: 0 },
  );
  t.teardown(() => cluster.stop());
  const { master, ids, clients } = cluster;
  const [client] = clients;
  await master.grant(1, 1, ids);
  const bytes = pattern(200_000);
  await client!.call(
    WriteChunk,
    { handle: 1, version: 1, offset: 0, length: bytes.byteLength },
    withPayload(bytes),
  );
  const path = `${cluster.directories[0]}/chunks/01/00000000000001.chunk`;
  await cluster.restart(0);
  const raw = await readFile(path);
  raw[150_000]! ^= 4;
  await writeFile(path, raw);
  await cluster.clients[0]!.call(Scrub, { now: true });
  await until(() => master.damaged.length > 0, 10_000);
  t.strictSame(master.damaged, [{ serverId: ids[0], handle: 1 }]);
  await until(() => master.heartbeats.at(-1)?.health?.scrub.passes === 1, 10_000);
  t.match(master.heartbeats.at(-1)?.health, { disks: 1, failedDisks: 0, scrub: { damaged: 1, total: 1 } });
  const damaged = { handle: 1, version: 1, offset: 0, length: 200_000 };
  await t.rejects(cluster.clients[0]!.call(ReadChunk, damaged), { code: 'CHUNK_CORRUPT' });
});

t.test('damage: what the master could not be told when it was found is told with a heartbeat', async (t) => {
  const told: number[] = [];
  let isReachable = false;
  const master = {
    call: async (_method: unknown, { handle }: { handle: number }) => {
      if (!isReachable) throw new GfsError('DEADLINE_EXCEEDED');
      told.push(handle);
      return { body: {} };
    },
  } as unknown as Peer;
  const store = { find: () => undefined, directories: [] } as unknown as Store;
  const { logger } = new SimulatedWorld(1).process('server').environment;
  const reports = new DamageReports(store, logger, 1_000);
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  reports.found(1, undefined);
  reports.found(2, master);
  await settle();
  isReachable = true;
  reports.sendNew(master);
  reports.sendNew(master);
  await settle();
  reports.sendNew(master);
  t.strictSame(told, [1, 2], 'once each');
});
