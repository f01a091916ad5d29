/** What simulations have found about data that was acknowledged, flushed or lost. */
import t from 'tap';
import type { OpenFile } from '../../client/open-file.js';
import { readWhole } from './reading.js';
import { bytes, create, scenario, textOf } from './scene.js';

/** On a busy machine. */
t.setTimeout(600_000);

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
