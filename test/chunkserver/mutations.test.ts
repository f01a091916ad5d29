import t, { type Test } from 'tap';
import { PushData, ReadChunk, SyncChunk, WriteChunk } from '../../protocol/messages/index.js';
import {
  CHUNK_BYTES,
  type Cluster,
  pattern,
  startCluster,
  temporaryDirectory,
  withPayload,
} from './support.js';

let sequence = 1;
const next = () => ({ session: 9, sequence: sequence++ });

async function read(
  cluster: Cluster,
  index: number,
  handle: number,
  offset = 0,
  length = CHUNK_BYTES,
): Promise<Buffer> {
  const peer = cluster.clients[index];
  const reply = await peer!.call(ReadChunk, { handle, version: 1, offset, length });
  return reply.payload?.bytes ?? Buffer.alloc(0);
}

async function assertReplicas(test: Test, cluster: Cluster, handle: number, expected: Buffer): Promise<void> {
  for (const index of cluster.ids.keys()) {
    test.ok((await read(cluster, index, handle)).equals(expected), `replica ${index}`);
  }
}

t.test('write: inline and pushed data reach every replica', async (t) => {
  const cluster = await startCluster(3, temporaryDirectory(t.teardown));
  t.teardown(() => cluster.stop());
  const { master, ids, clients } = cluster;
  await master.grant(1, 1, ids);
  const [primary] = clients;
  const expected = Buffer.alloc(400_000);
  const small = pattern(5_000, 1);
  small.copy(expected, 0);
  const write = { handle: 1, version: 1 };
  const { body } = await primary!.call(
    WriteChunk,
    { ...write, offset: 0, length: 5_000 },
    withPayload(small, next()),
  );
  t.equal(body.verifiers.length, 3);
  const large = pattern(395_000, 2);
  large.copy(expected, 5_000);
  const dataId = { session: 9, number: 1 };
  const chain = [master.server(ids[1]!), master.server(ids[2]!)];
  await primary!.call(PushData, { dataId, chain }, withPayload(large));
  await primary!.call(WriteChunk, { ...write, offset: 5_000, length: 395_000, dataId }, next());
  await assertReplicas(t, cluster, 1, expected);
  const synced = await primary!.call(SyncChunk, { ...write, secondaries: chain });
  t.strictSame(synced.body.verifiers, body.verifiers);

  const over = pattern(70_000, 3);
  over.copy(expected, 63_000);
  await primary!.call(WriteChunk, { ...write, offset: 63_000, length: 70_000 }, withPayload(over, next()));
  await assertReplicas(t, cluster, 1, expected);

  const gap = Buffer.concat([expected, Buffer.alloc(100_000), Buffer.from('after a gap')]);
  const offset = 500_000;
  await primary!.call(
    WriteChunk,
    { ...write, offset, length: 11 },
    withPayload(Buffer.from('after a gap'), next()),
  );
  await assertReplicas(t, cluster, 1, gap);
});
