/** What an fsync has to cover, with a real master: the table stays within its bound. */
import t from 'tap';
import { clientDefaults, copyRange, defaultCacheLimits, GfsClient, punchHole } from '../../client/index.js';
import * as m from '../../protocol/messages/index.js';
import { clusterDefaults } from '../simulator/shape.js';
import { startTwoClients } from './two-clients.js';

t.setTimeout(600_000);

const MAX_CHUNKS = 4;

/** With a client whose table is small. */
async function setUp(seed: number) {
  const { world, sleep, b } = await startTwoClients(seed);
  const client = await world.until(
    GfsClient.connect(world.process('c').environment, {
      ...{ ...clientDefaults, masters: [{ host: 'master', port: 5000 }], caches: true },
      cacheLimits: { ...defaultCacheLimits, unsyncedChunks: MAX_CHUNKS },
    }),
  );
  return { world, sleep, client, other: b };
}

t.test('unsynced: chunks of files that are gone leave the table', async (t) => {
  const { world, sleep, client } = await setUp(9500);
  for (let i = 0; i < 40; i++) {
    const request = { parent: m.ROOT_ID, mode: 0o100644 };
    const { file } = await world.until(client.createTmpfile(request, {}));
    await world.until(file.write(0, Buffer.from('never flushed to disk')));
    await world.until(client.close(file));
    // Until the master has heard that nobody has it open any more.
    await sleep(5_000);
    t.ok(client.usage.unsyncedChunks <= 2 * MAX_CHUNKS, `${client.usage.unsyncedChunks} after ${i}`);
  }
});

const { chunkBytes } = clusterDefaults;

/** A file of four chunks, all on disk. */
async function fileOf4Chunks({ world, client }: Awaited<ReturnType<typeof setUp>>) {
  const request = { parent: m.ROOT_ID, name: 'source', mode: 0o100644, rdev: 0, exclusive: true };
  const { file } = await world.until(client.create(request, {}));
  await world.until(file.write(0, Buffer.alloc(4 * chunkBytes, 1)));
  await world.until(file.sync({}));
  return file;
}

t.test('unsynced: shared chunks of files that are gone leave the table', async (t) => {
  const cluster = await setUp(9501);
  const { world, sleep, client } = cluster;
  const source = await fileOf4Chunks(cluster);
  for (let i = 0; i < 20; i++) {
    const { file } = await world.until(client.createTmpfile({ parent: m.ROOT_ID, mode: 0o100644 }, {}));
    const from = { file: source, offset: 0 };
    t.equal(
      await world.until(copyRange(client, from, { file, offset: 0 }, 4 * chunkBytes, {})),
      4 * chunkBytes,
    );
    await world.until(client.close(file));
    await sleep(5_000);
    t.ok(client.usage.unsyncedChunks <= 2 * MAX_CHUNKS, `${client.usage.unsyncedChunks} after ${i}`);
  }
});

t.test('unsynced: of shared chunks that no longer fit each is flushed once', async (t) => {
  const cluster = await setUp(9502);
  const { world, sleep, client } = cluster;
  const source = await fileOf4Chunks(cluster);
  for (let i = 0; i < 5; i++) {
    const request = { parent: m.ROOT_ID, name: `copy${i}`, mode: 0o100644, rdev: 0, exclusive: true };
    const { file } = await world.until(client.create(request, {}));
    await world.until(
      copyRange(client, { file: source, offset: 0 }, { file, offset: 0 }, 4 * chunkBytes, {}),
    );
  }
  await sleep(1_000);
  t.equal(client.usage.unsyncedChunks, MAX_CHUNKS);
});

t.test('unsynced: a shared chunk that another client has punched out needs no flush', async (t) => {
  const cluster = await setUp(9503);
  const { world, client, other } = cluster;
  const source = await fileOf4Chunks(cluster);
  // Written once more: its copy is not on disk either.
  await world.until(source.write(0, Buffer.alloc(chunkBytes, 2)));
  const request = { parent: m.ROOT_ID, name: 'copy', mode: 0o100644, rdev: 0, exclusive: true };
  const { file } = await world.until(client.create(request, {}));
  await world.until(copyRange(client, { file: source, offset: 0 }, { file, offset: 0 }, 4 * chunkBytes, {}));
  const there = await world.until(other.open(file.id, {}));
  await world.until(punchHole(other, there, 0, chunkBytes, {}));
  await world.until(file.sync({}));
  t.pass('and none is said to be lost');
});
