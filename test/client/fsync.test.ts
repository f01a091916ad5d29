/** What the master is told of written data, and when (docs/decisions/0017 and 0027). */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import * as m from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

t.setTimeout(600_000);

let seed = 8400;
const BYTES = 4096;

async function setUp() {
  const { world, cluster, sleep, a, b } = await startTwoClients(seed++);
  let told = 0;
  const mutate = a.master.mutate.bind(a.master);
  a.master.mutate = ((...words: Parameters<typeof mutate>) => {
    if ((words[0] as { name: string }).name === m.ExtendFile.name) told++;
    return mutate(...words);
  }) as typeof a.master.mutate;
  const request = { parent: m.ROOT_ID, name: 'file', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await world.until(a.master.mutate(m.Create, request));
  const file: OpenFile = await world.until(a.open(attributes.id, {}));
  await world.until(file.write(0, Buffer.alloc(8 * BYTES, 1)));
  await world.until(file.sync({}));
  const writeAndSync = async (i: number) => {
    await world.until(file.write((i % 8) * BYTES, Buffer.alloc(BYTES, i)));
    await world.until(file.sync({}));
  };
  return {
    ...{ world, cluster, a, b, id: attributes.id, sleep, file, writeAndSync },
    kill: () => {
      for (const process of [...world.host('a').processes]) process.crash();
    },
    told: () => told,
    timeSeenBy: async (gfs: GfsClient) => {
      const seen = await world.until(gfs.metadata.attributes(attributes.id, {}));
      return seen.mtimeSec * 1e9 + seen.mtimeNsec;
    },
  };
}

t.test('fsync: of what nobody has looked at in between, the master hears once in a while', async (t) => {
  const { world, writeAndSync, told, sleep, timeSeenBy, b } = await setUp();
  await writeAndSync(1);
  const before = told();
  const startMs = world.scheduler.nowMs;
  for (let i = 0; i < 40; i++) await writeAndSync(i);
  await sleep(25);
  const inTime = (world.scheduler.nowMs - startMs) / 20;
  t.ok(inTime < 30, 'the syncs came quickly after one another');
  t.ok(told() > before, 'soon after');
  t.ok(told() - before <= inTime, 'and not with each');
  const seen = await timeSeenBy(b);
  await writeAndSync(6);
  t.ok((await timeSeenBy(b)) > seen, 'and whoever looks sees the newest');
});

t.test('fsync: a time that somebody elsewhere saw is not the time of what was synced later', async (t) => {
  const { writeAndSync, timeSeenBy, sleep, kill, b } = await setUp();
  for (let i = 0; i < 4; i++) await writeAndSync(i);
  const seen = await timeSeenBy(b);
  await sleep(1);
  for (let i = 0; i < 4; i++) await writeAndSync(i);
  kill();
  await sleep(10_000);
  t.ok((await timeSeenBy(b)) > seen);
});

t.test('fsync: nor is one that was seen here', async (t) => {
  const { world, a, id, writeAndSync, timeSeenBy, sleep, kill, b } = await setUp();
  for (let i = 0; i < 4; i++) await writeAndSync(i);
  const attributes = await world.until(a.metadata.attributes(id, {}));
  const shown = a.withLocalChanges(attributes);
  const seen = shown.mtimeSec * 1e9 + shown.mtimeNsec;
  await sleep(1);
  await writeAndSync(5);
  kill();
  await sleep(10_000);
  t.ok((await timeSeenBy(b)) > seen);
});

t.test('fsync: a length is told before it returns', async (t) => {
  const { world, file, sleep, kill, b, id } = await setUp();
  await world.until(file.write(8 * BYTES, Buffer.alloc(BYTES, 2)));
  await world.until(file.sync({}));
  kill();
  await sleep(10_000);
  const attributes = await world.until(b.metadata.attributes(id, {}));
  t.equal(attributes.size, 9 * BYTES);
});

const WAYS: readonly (readonly [string, (file: OpenFile) => Promise<void>])[] = [
  ['a close', (file) => file.flush({})],
  ['an fsync', (file) => file.sync({})],
  ['an fdatasync', (file) => file.sync({}, true)],
  ['an O_DIRECT write', (file) => file.writeThrough(0, Buffer.alloc(BYTES, 7))],
];
const WRITTEN = Buffer.alloc(BYTES, 9);

/** What there is at `offset` for the other client, which then keeps it for as long as the promise stands. */
async function look({ world, b, id }: Awaited<ReturnType<typeof setUp>>, offset: number): Promise<Buffer> {
  const other = await world.until(b.open(id, {}));
  const { buffers, release } = await world.until(other.read(offset, BYTES, {}));
  const bytes = Buffer.concat(buffers);
  release();
  await world.until(b.close(other));
  return bytes;
}

for (const [way, acknowledge] of WAYS) {
  t.test(
    `promises: who looked while data was on its way is told before ${way} is acknowledged`,
    async (t) => {
      const all = await setUp();
      const { world, b, id, file, timeSeenBy, sleep } = all;
      await world.until(file.write(8 * BYTES, WRITTEN));
      const seen = await timeSeenBy(b);
      t.same(
        await look(all, 8 * BYTES),
        Buffer.alloc(BYTES),
        'its length is told, the bytes are not there yet',
      );
      t.not(b.metadata.known(id), undefined, 'and that is promised');
      await sleep(1);
      await world.until(acknowledge(file));
      t.equal(b.metadata.known(id), undefined);
      t.same(await look(all, 8 * BYTES), WRITTEN);
      t.ok((await timeSeenBy(b)) > seen, 'the time that was seen without the bytes is not theirs');
    },
  );

  t.test(`promises: nor does ${way} that is under way miss one who looks`, async (t) => {
    const all = await setUp();
    const { world, cluster, b, id, file } = all;
    for (const { host } of cluster.chunkservers) world.network.slow('a', host.name, 50);
    await world.until(file.write(BYTES, WRITTEN));
    const done = acknowledge(file);
    const before = await look(all, BYTES);
    const isKnown = () => b.metadata.known(id) !== undefined;
    t.ok(isKnown());
    const kept = await world.until(done.then(isKnown));
    t.same(kept ? before : WRITTEN, WRITTEN, 'whoever was not told has the bytes');
    t.same(await look(all, BYTES), WRITTEN);
  });
}

t.test('fsync: what nobody looked at is not told twice', async (t) => {
  const { world, a, b, id, file, told, sleep, timeSeenBy } = await setUp();
  await world.until(file.write(0, WRITTEN));
  // A time that was shown here is told at once, while the data is on its way.
  a.withLocalChanges(await world.until(a.metadata.attributes(id, {})));
  const before = told();
  await world.until(file.sync({}));
  t.equal(told() - before, 1);
  await sleep(25);
  await timeSeenBy(b);
  await world.until(file.flush({}));
  t.equal(told() - before, 1, 'nor when somebody looks afterwards');
});

t.test(
  'fsync: a time that was told ahead is told again where others may have looked in between',
  async (t) => {
    const { world, cluster, a, id, file, told, sleep } = await setUp();
    for (const { host } of cluster.chunkservers) world.network.slow('a', host.name, 50);
    await world.until(file.write(0, WRITTEN));
    a.withLocalChanges(await world.until(a.metadata.attributes(id, {})));
    const before = told();
    const done = file.sync({});
    await sleep(30);
    t.equal(told() - before, 1, 'the data is on its way');
    file.noteChangedElsewhere();
    await world.until(done);
    t.equal(told() - before, 2);
  },
);
