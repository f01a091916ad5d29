/** Scrubbing: what nobody reads is checked all the same, out of everybody's way. */
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { Activity } from '../../chunkserver/activity.js';
import { Scrubber } from '../../chunkserver/scrubber.js';
import type { Store } from '../../chunkserver/store/store.js';
import { ReadChunk, Scrub, WriteChunk } from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { openStore, ROOT } from './store-model.js';
import { pattern, startCluster, temporaryDirectory, until, withPayload } from './support.js';

t.setTimeout(60_000);

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
  const damaged: number[] = [];
  const activity = new Activity(process.environment.clock);
  const onDamage = (handle: number) => damaged.push(handle);
  const scrubber = new Scrubber({ ...process.environment, store, activity, onDamage, intervalMs });
  process.enter(() => scrubber.start());
  const flip = (handle: number) => {
    const name = handle.toString(16);
    host.disk.flipBit(`${ROOT}/chunks/${name.padStart(2, '0')}/${name.padStart(14, '0')}.chunk`, 100_000);
  };
  let reads = 0;
  host.disk.inject = (operation) => {
    if (operation === 'read') reads++;
    return undefined;
  };
  return { world, store, scrubber, activity, damaged, flip, reads: () => reads };
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
  const { world, scrubber, activity, reads } = await scrubbing();
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
  const during = reads();
  await world.runFor(900);
  t.equal(reads(), during);
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
