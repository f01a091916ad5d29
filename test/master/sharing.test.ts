import t, { type Test } from 'tap';
import { digestState, dumpState } from '../../master/dump.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { TestChunkserver } from './chunkserver.js';
import { CHUNK_BYTES, codeOf, MasterHost, TestClient } from './support.js';

let seed = 900;

async function cluster() {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world).start();
  const client = await TestClient.start(world);
  const chunkservers: TestChunkserver[] = [];
  for (let at = 0; at < 3; at++) chunkservers.push(await TestChunkserver.start(world, `cs${at}`));
  const lease = async (id: number, index = 0): Promise<m.Lease> =>
    (await client.call(m.GetLease, { id, index, version: 0, failed: [] })).lease;
  /** A file of `chunks` chunks and `size` bytes. */
  const make = async (name: string, chunks: number, size = chunks * CHUNK_BYTES) => {
    const id = await client.create(m.ROOT_ID, name);
    const leases: m.Lease[] = [];
    for (let index = 0; index < chunks; index++) leases.push(await lease(id, index));
    if (size > 0) await client.mutate(m.ExtendFile, { id, size });
    return { id, leases, handles: leases.map(({ handle }) => handle) };
  };
  const chunksOf = async (id: number, count: number) =>
    (await client.call(m.GetChunks, { id, index: 0, count })).chunks
      .slice(0, count)
      .map(({ handle, validBytes }) => [handle, validBytes]);
  const share = (source: number, index: number, id: number, toIndex: number, bytes: number) =>
    client.mutate(m.ShareChunks, { source, index, id, toIndex, bytes });
  /** A restarted master has the same state. */
  const replays = async (t: Test): Promise<void> => {
    const live = dumpState(host.master.state);
    const digest = digestState(host.master.state);
    await world.runFor(10);
    await host.restart();
    t.strictSame(dumpState(host.master.state), live);
    t.equal(digestState(host.master.state), digest);
  };
  return { world, host, client, chunkservers, lease, make, chunksOf, share, replays };
}

t.test('sharing: both files have the chunks, and a write to one copies it there', async (t) => {
  const { host, chunkservers, lease, make, chunksOf, share, replays } = await cluster();
  const source = await make('source', 3);
  const target = await make('target', 0, 0);
  const first = source.leases[0] as m.Lease;
  const { bytes, attributes } = await share(source.id, 0, target.id, 1, 3 * CHUNK_BYTES);
  t.equal(bytes, 3 * CHUNK_BYTES);
  t.equal(attributes.size, 4 * CHUNK_BYTES);
  const primary = chunkservers.find(({ serverId }) => serverId === first.primary.serverId);
  t.ok(primary?.asked.includes(`revoke ${first.handle} 1`), 'nobody writes it any more under the old lease');
  t.strictSame(await chunksOf(target.id, 4), [
    [0, 0],
    ...source.handles.map((handle) => [handle, CHUNK_BYTES]),
  ]);
  for (const handle of source.handles) t.equal(host.master.state.chunks.get(handle)?.references, 2);
  const written = await lease(target.id, 1);
  t.not(written.handle, first.handle);
  t.equal((await lease(source.id, 0)).handle, first.handle, 'the source has its own for itself again');
  await replays(t);
});

t.test('sharing: what the target had there is replaced, and given up with its last file', async (t) => {
  const { host, make, chunksOf, share, replays } = await cluster();
  const source = await make('source', 1);
  const target = await make('target', 2);
  await share(source.id, 0, target.id, 0, CHUNK_BYTES);
  t.strictSame(await chunksOf(target.id, 2), [
    [source.handles[0], CHUNK_BYTES],
    [target.handles[1], CHUNK_BYTES],
  ]);
  t.notOk(host.master.state.chunks.has(target.handles[0] as number));
  // Chunk 5 of the source is a hole, and so becomes chunk 1 of the target.
  const sparse = await make('sparse', 0, 6 * CHUNK_BYTES);
  await share(sparse.id, 5, target.id, 1, CHUNK_BYTES);
  t.strictSame((await chunksOf(target.id, 2))[1], [0, 0]);
  t.notOk(host.master.state.chunks.has(target.handles[1] as number));
  await replays(t);
});

t.test('sharing: the part of a chunk is shared only where the copy ends with it', async (t) => {
  const { client, make, chunksOf, share, replays } = await cluster();
  const source = await make('source', 2, CHUNK_BYTES + 1000);
  const small = await make('small', 0, 0);
  t.equal((await share(source.id, 0, small.id, 0, 10 * CHUNK_BYTES)).bytes, CHUNK_BYTES + 1000);
  t.strictSame((await chunksOf(small.id, 2))[1], [source.handles[1], 1000], 'what is behind it is zeros');
  const long = await make('long', 0, 3 * CHUNK_BYTES);
  t.equal((await share(source.id, 0, long.id, 0, 10 * CHUNK_BYTES)).bytes, CHUNK_BYTES);
  t.equal((await share(source.id, 1, long.id, 1, 1000)).bytes, 0);
  t.equal((await share(source.id, 7, small.id, 0, 1000)).bytes, 0, 'behind the end there is nothing');
  t.equal((await client.lookup('/long')).size, 3 * CHUNK_BYTES);
  // Within one file.
  t.equal((await share(small.id, 0, small.id, 2, CHUNK_BYTES)).bytes, CHUNK_BYTES);
  await client.unlink(m.ROOT_ID, 'source');
  await replays(t);
});

t.test('sharing: what is no file, or too far out, is refused', async (t) => {
  const { client, make, share } = await cluster();
  const source = await make('source', 1);
  const directory = await client.mkdir(m.ROOT_ID, 'd');
  t.equal(await codeOf(share(directory, 0, source.id, 0, 1)), 'IS_DIRECTORY');
  t.equal(await codeOf(share(source.id, 0, directory, 0, 1)), 'IS_DIRECTORY');
  t.equal(await codeOf(share(source.id, 0, 999_999, 0, 1)), 'STALE_NODE');
  t.equal(await codeOf(share(source.id, 0, source.id, 2 ** 50, CHUNK_BYTES)), 'FILE_TOO_BIG');
  t.equal(
    await codeOf(client.mutate(m.PunchHole, { id: source.id, index: 1, count: Number.MAX_SAFE_INTEGER })),
    'FILE_TOO_BIG',
  );
});

t.test('punching: whole chunks leave the file, also one that was cut short', async (t) => {
  const { host, client, make, chunksOf, replays } = await cluster();
  const { id, handles } = await make('file', 4);
  await client.mutate(m.SetAttributes, { id, changes: { size: 3 * CHUNK_BYTES + 5 } });
  const { attributes } = await client.mutate(m.PunchHole, { id, index: 1, count: 100 });
  t.equal(attributes.size, 3 * CHUNK_BYTES + 5);
  t.strictSame(await chunksOf(id, 4), [
    [handles[0], CHUNK_BYTES],
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
  t.equal(host.master.state.chunks.size, 1);
  await replays(t);
});
