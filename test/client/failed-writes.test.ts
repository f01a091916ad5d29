/** How long a file is when writes to it have failed: no longer than what arrived makes it. */
import t from 'tap';
import { FileLength } from '../../client/file-length.js';
import { Create, ROOT_ID } from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

const FAR = 100_000;

async function setUp() {
  const { world, cluster, sleep, a, b } = await startTwoClients(1);
  const body = { parent: ROOT_ID, name: 'f', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await world.until(a.master.mutate(Create, body));
  const file = await world.until(a.open(attributes.id, {}, true));
  await world.until(file.write(0, Buffer.from('short')));
  await world.until(file.sync({}));
  const seenElsewhere = async () => (await world.until(b.metadata.attributes(file.id, {}))).size;
  const limit = (bytes: number | undefined) => {
    for (const { host } of cluster.chunkservers) host.disk.limitBytes = bytes;
  };
  return { world, sleep, file, seenElsewhere, limit };
}

t.test('write: one that met a full disk makes its file no longer', async (t) => {
  const { world, file, seenElsewhere, limit } = await setUp();
  limit(0);
  await world.until(file.write(FAR, Buffer.alloc(50_000, 'x')));
  await t.rejects(world.until(file.flush({})), { code: 'NO_SPACE' });
  t.equal(file.size, 5);
  t.equal(await seenElsewhere(), 5);
  await world.until(file.flush({}));
  t.equal(await seenElsewhere(), 5, 'nor when it is closed');
  limit(undefined);
  await world.until(file.write(5, Buffer.from('er')));
  await world.until(file.flush({}));
  t.equal(await seenElsewhere(), 7);
  const { buffers } = await world.until(file.read(0, 100, {}));
  t.equal(Buffer.concat(buffers).toString(), 'shorter');
});

t.test('write: one that failed is there for its length where something behind it arrived', async (t) => {
  const { world, file, seenElsewhere, limit } = await setUp();
  await world.until(file.write(FAR, Buffer.from('far')));
  await world.until(file.read(FAR, 3, {}));
  limit(0);
  await world.until(file.write(10, Buffer.alloc(50_000, 'x')));
  await t.rejects(world.until(file.flush({})), { code: 'NO_SPACE' });
  t.equal(file.size, FAR + 3);
  await world.until(file.flush({}));
  t.equal(await seenElsewhere(), FAR + 3);
});

t.test('write: what is on its way, or was told already, stays in the length where another fails', (t) => {
  const waiting = new FileLength(5, 1);
  waiting.wrote(100);
  waiting.wrote(300);
  waiting.failed(100);
  t.equal(waiting.bytes, 100);
  t.equal(waiting.tell(waiting.bytes), 100);

  const told = new FileLength(5, 1);
  told.wrote(300);
  t.equal(told.tell(300), 300);
  told.failed(0);
  t.equal(told.bytes, 300, 'while it is told');
  told.notTold();
  told.failed(0);
  t.equal(told.bytes, 300, 'where nobody knows whether it was');
  told.tell(300);
  told.told({ size: 300, dataVersion: 2 } as Parameters<FileLength['told']>[0], false);
  told.failed(0);
  t.equal(told.bytes, 300, 'when it was');
  t.end();
});
