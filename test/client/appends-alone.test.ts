/** Appends that are acknowledged before they are sent: what others see of them (docs/decisions/0022). */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import * as m from '../../protocol/messages/index.js';
import type { SimulatedWorld } from '../fakes/index.js';
import { clusterDefaults } from '../simulator/shape.js';
import { startTwoClients } from './two-clients.js';

t.setTimeout(600_000);

let seed = 8100;
const LEASE_MS = 5_000;

async function setUp(leaseDurationMs = LEASE_MS) {
  const { world, cluster, client, sleep, a, b } = await startTwoClients(seed++, { leaseDurationMs });
  const request = { parent: m.ROOT_ID, name: 'log', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await world.until(a.master.mutate(m.Create, request));
  const open = (gfs: GfsClient) => world.until(gfs.open(attributes.id, {}));
  return { world, cluster, client, sleep, a, b, id: attributes.id, open, log: await open(a) };
}

/** As read(2) does it: to the end as it is then. */
async function contentOf(world: SimulatedWorld, file: OpenFile): Promise<string> {
  const { buffers, release } = await world.until(file.read(0, 1_000_000, {}));
  const content = Buffer.concat(buffers).toString();
  release();
  return content;
}

/** @returns how long it took until it was acknowledged */
async function append(world: SimulatedWorld, file: OpenFile, line: string): Promise<number> {
  const before = world.scheduler.nowMs;
  await world.until(file.append(Buffer.from(line), () => undefined));
  return world.scheduler.nowMs - before;
}

t.test('alone: the only writer of a file does not wait for its appends', async (t) => {
  const { world, log } = await setUp();
  await append(world, log, 'first\n');
  for (let i = 0; i < 50; i++) t.equal(await append(world, log, `line ${i}\n`), 0, `${i}`);
  await world.until(log.flush({}));
});

t.test('alone: an append over a chunk’s end waits for nobody', async (t) => {
  const { world, b, log } = await setUp();
  const bytes = clusterDefaults.chunkBytes;
  const blockBytes = Math.floor(bytes / 4) - 100;
  const started = world.scheduler.nowMs;
  for (let i = 0; i < 20; i++) await append(world, log, String.fromCharCode(97 + i).repeat(blockBytes));
  await world.until(log.flush({}));
  t.ok(world.scheduler.nowMs - started < 1_000, 'not even for the master to ask its own client');
  const file = await world.until(b.open(log.id, {}));
  t.equal(file.size, 20 * blockBytes);
  const { buffers, release } = await world.until(file.read(0, file.size, {}));
  const content = Buffer.concat(buffers);
  release();
  for (let i = 0; i < 20; i++)
    t.ok(
      content.subarray(i * blockBytes, (i + 1) * blockBytes).equals(Buffer.alloc(blockBytes, 97 + i)),
      `${i}`,
    );
});

t.test('alone: two that append over the ends of chunks do not wait for each other', async (t) => {
  const { world, b, log, open } = await setUp();
  const other = await open(b);
  const blockBytes = Math.floor(clusterDefaults.chunkBytes / 4) - 100;
  const started = world.scheduler.nowMs;
  const appendAll = async (file: OpenFile, letter: string) => {
    for (let i = 0; i < 20; i++) await file.append(Buffer.from(letter.repeat(blockBytes)), () => undefined);
  };
  await world.until(Promise.all([appendAll(log, 'a'), appendAll(other, 'b')]));
  t.ok(world.scheduler.nowMs - started < 5_000, 'which would be until a question is over its deadline');
  const { size } = await world.until(b.metadata.attributes(log.id, {}));
  t.equal(size, 40 * blockBytes);
});

t.test('alone: whoever looks sees every append that was acknowledged', async (t) => {
  const { world, b, id, open, log } = await setUp();
  let expected = '';
  const seen: OpenFile = await open(b);
  for (let i = 0; i < 30; i++) {
    for (let k = 0; k < 5; k++) {
      await append(world, log, `${i}.${k}\n`);
      expected += `${i}.${k}\n`;
    }
    const attributes = await world.until(b.metadata.attributes(id, {}));
    t.equal(attributes.size, expected.length, 'by stat');
    if (i % 5 !== 0) continue;
    const reader = i % 10 === 0 ? seen : await open(b);
    t.equal(await contentOf(world, reader), expected, 'by reading');
  }
});

t.test('alone: a second appender never gets ahead of what was acknowledged', async (t) => {
  const { world, cluster, sleep, b, open, log } = await setUp();
  let expected = '';
  const other = await open(b);
  // What is held back stays on its way for long enough to be overtaken.
  for (const { host } of cluster.chunkservers) world.network.slow('a', host.name, 300);
  for (let i = 0; i < 20; i++) {
    for (const file of [log, log, log, other]) {
      const line = `${i} ${file === log ? 'a' : 'b'}\n`;
      await append(world, file, line);
      expected += line;
    }
    // Sometimes long enough for the first to be alone again.
    if (i % 3 === 2) await sleep(2 * LEASE_MS);
  }
  await world.until(log.flush({}));
  await world.until(other.flush({}));
  t.equal(await contentOf(world, await open(b)), expected);
});

t.test('alone: snapshots and truncations of others take in what was acknowledged', async (t) => {
  const { world, b, id, open, log } = await setUp();
  for (let i = 0; i < 5; i++) await append(world, log, 'line\n');
  const snapshot = { id, parent: m.ROOT_ID, name: 'copy' };
  const copy = await world.until(b.master.mutate(m.Snapshot, snapshot));
  t.equal(copy.attributes.size, 25);
  for (let i = 0; i < 5; i++) await append(world, log, 'more\n');
  await world.until(b.setAttributes(id, { size: 27 }, {}));
  await append(world, log, 'end\n');
  await world.until(log.flush({}));
  t.equal(await contentOf(world, await open(b)), `${'line\n'.repeat(5)}moend\n`);
});

t.test('alone: one that is cut off from the master waits again, and takes nothing from others', async (t) => {
  const { world, sleep, b, open, log } = await setUp();
  await append(world, log, 'before\n');
  await append(world, log, 'alone\n');
  await world.until(log.flush({}));
  world.network.cut('a', 'master');
  await sleep(3_000);
  const other = await open(b);
  await append(world, other, 'other\n');
  const late = world.until(log.append(Buffer.from('late\n'), () => undefined));
  await sleep(100);
  world.network.heal('a', 'master');
  await late;
  await world.until(log.flush({}));
  const content = await contentOf(world, await open(b));
  t.equal(content, 'before\nalone\nother\nlate\n');
});

t.test('alone: a lease that took longer to grant than it lasts lets nobody else be alone', async (t) => {
  const leaseMs = 1_000;
  const { world, sleep, b, open, log } = await setUp(leaseMs);
  const other = await open(b);
  await append(world, log, 'first\n');
  await world.until(log.flush({}));
  // The next lease is granted when the master has given up one of the replicas.
  await sleep(10 * leaseMs);
  world.network.hang('master', 'chunkserver2');
  // And one who was told of it first hears of it last.
  world.network.slow('b', 'master', 10);
  const offsets = new Map<string, number>();
  const appendTo = async (file: OpenFile, who: string) => {
    for (let i = 0; i < 5; i++) {
      const line = `${who} ${i}\n`;
      const noteOffset = (offset: number) => offsets.set(line, offset);
      noteOffset(await file.append(Buffer.from(line), (offset) => t.fail(`${line} is at ${offset}`)));
    }
  };
  const asksFirst = appendTo(other, 'b');
  await sleep(20);
  await world.until(Promise.all([asksFirst, appendTo(log, 'a')]));
  await world.until(log.flush({}));
  await world.until(other.flush({}));
  const content = await contentOf(world, await open(b));
  for (const [line, offset] of offsets) t.equal(content.indexOf(line), offset, line);
});
