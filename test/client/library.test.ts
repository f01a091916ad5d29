/** The client library as another program has it, over a simulated cluster. */
import t from 'tap';
import { Primary } from '../../chunkserver/primary.js';
import { Layout } from '../../chunkserver/store/layout.js';
import { OpenFile } from '../../client/index.js';
import { FileSystem, GfsError } from '../../client/main.js';
import { MIB } from '../../protocol/limits.js';
import { ReportCorrupt } from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

t.test('library: what is no offset, length or data is refused at once, and changes nothing', async (t) => {
  const { world, a } = await startTwoClients(1);
  const gfs = new FileSystem(a);
  const file = await world.until(gfs.open('/file', { create: true }));
  await world.until(file.write(0, Buffer.from('content')));
  t.equal((await world.until(file.read(0, 100))).toString(), 'content', 'what is on its way is seen');
  const some = Buffer.from('x');
  for (const wrong of [-5, 0.5, Number.NaN, 2 ** 60]) {
    await t.rejects(file.write(wrong, some), { code: 'INVALID' }, `write at ${wrong}`);
    await t.rejects(file.read(wrong, 1), { code: 'INVALID' }, `read at ${wrong}`);
    await t.rejects(file.read(0, wrong), { code: 'INVALID' }, `read ${wrong}`);
    await t.rejects(file.truncate(wrong), { code: 'INVALID' }, `truncate to ${wrong}`);
    await t.rejects(file.readStream(wrong).next(), { code: 'INVALID' }, `stream from ${wrong}`);
  }
  const text = 'no bytes' as unknown as Uint8Array;
  await t.rejects(file.write(0, text), { code: 'INVALID' });
  await t.rejects(file.append(text), { code: 'INVALID' });
  await t.rejects(file.recordAppend(text), { code: 'INVALID' });
  await world.until(file.sync());
  t.equal((await world.until(file.read(0, 100))).toString(), 'content');
  await world.until(file.close());
  const closed = { code: 'INVALID' };
  await t.rejects(file.write(0, some), closed, 'told by a promise');
  await t.rejects(file.append(some), closed);
  await t.rejects(file.flush(), closed);
  await t.rejects(gfs.open('relative'), { code: 'INVALID' });
});

t.test('library: a file that cannot be cut is not left open', async (t) => {
  const { world, cluster, a } = await startTwoClients(2);
  const gfs = new FileSystem(a);
  const file = await world.until(gfs.open('/file', { create: true }));
  await world.until(file.write(0, Buffer.from('content')));
  await world.until(file.close());
  const { setAttributes } = OpenFile.prototype;
  t.teardown(() => {
    OpenFile.prototype.setAttributes = setAttributes;
  });
  OpenFile.prototype.setAttributes = () => Promise.reject(new GfsError('READ_ONLY'));
  await t.rejects(world.until(gfs.open('/file', { truncate: true })), { code: 'READ_ONLY' });
  t.equal(a.usage.openFiles, 0);
  t.ok(cluster.master.process?.alive);
});

t.test('library: a reader can give up', async (t) => {
  const { world, cluster, a } = await startTwoClients(3);
  const gfs = new FileSystem(a);
  const stop = new AbortController();
  const file = await world.until(gfs.open('/file', { create: true }));
  await world.until(file.write(0, Buffer.from('content')));
  await world.until(file.sync());
  const given = gfs.with(stop.signal);
  const reading = await world.until(given.open('/file'));
  for (const { host } of cluster.chunkservers) world.network.cut('a', host.name);
  const read = t.rejects(world.until(reading.read(0, 7)), { code: 'CANCELLED' });
  await world.runFor(200);
  stop.abort();
  await read;
  await t.rejects(world.until(given.stat('/file')), { code: 'CANCELLED' });
  for (const { host } of cluster.chunkservers) world.network.heal('a', host.name);
  await world.until(reading.write(0, Buffer.from('C')));
  await world.until(reading.close());
  t.equal((await world.until(file.read(0, 7))).toString(), 'Content', 'what was written is not given up');
});

t.test('library: of a large write no more is taken than there is room for', async (t) => {
  const { world, a } = await startTwoClients(4);
  const gfs = new FileSystem(a);
  const file = await world.until(gfs.open('/file', { create: true }));
  const content = Buffer.alloc(5 * MIB + 1, 'much ');
  const written = file.write(0, content);
  t.equal(a.usage.writeBehindBytes, 4 * MIB);
  await world.until(written);
  await world.until(file.sync());
  t.ok((await world.until(file.read(0, content.byteLength + 1))).equals(content));
});

t.test('library: a damaged replica is told to the master, and the bytes come from another', async (t) => {
  const { world, cluster, a, b } = await startTwoClients(5);
  const writer = await world.until(new FileSystem(a).open('/file', { create: true }));
  const content = Buffer.alloc(200_000, 'good ');
  await world.until(writer.write(0, content));
  await world.until(writer.sync());
  const gfs = new FileSystem(b);
  const file = await world.until(gfs.open('/file'));
  const { id } = await world.until(gfs.stat('/file'));
  const { handle, replicas } = await world.until(b.locations.chunk(id, 0, {}, b.master.deadline()));
  const layout = new Layout('/data');
  // The last one that it asks is well.
  const damaged = replicas.slice(0, -1);
  for (const { host } of damaged)
    cluster.chunkservers
      .find((server) => server.host.name === host)
      ?.host.disk.flipBit(layout.chunkFile(handle), 70_000);
  const told: string[] = [];
  const query = b.master.query.bind(b.master);
  b.master.query = (method, body, ...rest) => {
    if (method.number === ReportCorrupt.number) told.push((body as { serverId: string }).serverId);
    return query(method, body, ...rest);
  };
  t.ok((await world.until(file.read(0, content.byteLength))).equals(content));
  t.strictSame(
    told,
    damaged.map(({ serverId }) => serverId),
  );
});

t.test('library: a location that proves wrong is asked for again', async (t) => {
  const { world, a } = await startTwoClients(6);
  const gfs = new FileSystem(a);
  const file = await world.until(gfs.open('/file', { create: true }));
  await world.until(file.write(0, Buffer.from('content')));
  await world.until(file.sync());
  const { id } = await world.until(gfs.stat('/file'));
  const known = () => world.until(a.locations.chunk(id, 0, {}, a.master.deadline()));
  const { version } = await known();
  // As if the chunk had gone on elsewhere, and come back.
  Object.assign(await known(), { version: version + 1 });
  t.equal((await known()).version, version + 1);
  t.equal((await world.until(file.read(0, 7))).toString(), 'content');
  t.equal((await known()).version, version);
});

t.test('library: an append whose answer was lost is asked for again, and there once', async (t) => {
  const { world, a } = await startTwoClients(7);
  const file = await world.until(new FileSystem(a).open('/file', { create: true }));
  const { append } = Primary.prototype;
  t.teardown(() => {
    Primary.prototype.append = append;
  });
  let attempts = 0;
  Primary.prototype.append = async function (this: Primary, ...asked) {
    const done = await append.apply(this, asked);
    if (++attempts % 3 !== 0) throw new GfsError('OVERLOADED');
    return done;
  };
  t.equal(await world.until(file.append(Buffer.from('once'))), 0);
  t.equal(await world.until(file.recordAppend(Buffer.from('more'))), 4);
  t.equal(attempts, 6);
  t.equal((await world.until(file.read(0, 100))).toString(), 'oncemore');
});
