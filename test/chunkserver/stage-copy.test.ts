/** Bytes that chunkservers copy among themselves for copy_file_range(2): staged on each replica, then written like pushed data. */
import { readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { checksum } from '../../protocol/checksum.js';
import { type Chunk, ReadChunk, StageCopy, WriteChunk } from '../../protocol/messages/index.js';
import type { Peer } from '../../protocol/peer.js';
import { type Cluster, pattern, startCluster, temporaryDirectory, withPayload } from './support.js';

t.setTimeout(600_000);

const SESSION = 7;
const TARGET = 900;
let lastNumber = 0;

async function threeServers(t: Test): Promise<Cluster & { primary: Peer }> {
  const cluster = await startCluster(
    3,
    temporaryDirectory((end) => t.teardown(end)),
  );
  t.teardown(() => cluster.stop());
  await cluster.master.grant(TARGET, 1, cluster.ids);
  return Object.assign(cluster, { primary: cluster.clients[0] as Peer });
}

/** Makes a chunk with these bytes on the servers with these indexes. */
async function source(
  cluster: Cluster,
  handle: number,
  at: readonly number[],
  bytes: Buffer,
): Promise<Chunk> {
  const ids = at.map((index) => cluster.ids[index] as string);
  await cluster.master.grant(handle, 1, ids);
  const body = { handle, version: 1, offset: 0, length: bytes.byteLength };
  const mutation = { session: SESSION, sequence: ++lastNumber };
  await (cluster.clients[at[0] as number] as Peer).call(WriteChunk, body, withPayload(bytes, mutation));
  const replicas = ids.map((id) => cluster.master.server(id));
  return { index: 0, handle, version: 1, validBytes: 1024 * 1024, replicas };
}

/** Has it copied to the target's beginning. */
async function copy(cluster: Cluster & { primary: Peer }, from: Chunk, offset: number, length: number) {
  const { primary, master, ids } = cluster;
  const dataId = { session: SESSION, number: ++lastNumber };
  const chain = ids.slice(1).map((id) => master.server(id));
  const { body } = await primary.call(StageCopy, { dataId, source: from, offset, length, chain });
  const write = { handle: TARGET, version: 1, offset: 0, length, dataId };
  const mutation = { session: SESSION, sequence: ++lastNumber };
  const { verifiers } = (await primary.call(WriteChunk, write, mutation)).body;
  return { crc: body.crc, verifiers };
}

async function assertTarget(t: Test, cluster: Cluster, expected: Buffer): Promise<void> {
  for (const [index, peer] of cluster.clients.entries()) {
    const request = { handle: TARGET, version: 1, offset: 0, length: expected.byteLength };
    const { payload } = await peer.call(ReadChunk, request);
    t.ok(payload?.bytes.equals(expected), `replica ${index}`);
  }
}

t.test(
  'stage: each replica takes the bytes from its own replica of the source, or from another’s',
  async (t) => {
    const cluster = await threeServers(t);
    for (const [handle, at] of [[1, [0, 1, 2]] as const, [2, [2]] as const, [3, [1, 0]] as const]) {
      const bytes = pattern(300_000, handle);
      const from = await source(cluster, handle, at, bytes);
      const expected = bytes.subarray(70_001, 270_001);
      const { crc, verifiers } = await copy(cluster, from, 70_001, 200_000);
      t.equal(crc, checksum(expected));
      t.equal(verifiers.length, 3);
      await assertTarget(t, cluster, expected);
    }
  },
);

t.test('stage: behind the source’s end, and behind what is valid of it, are zeros', async (t) => {
  const cluster = await threeServers(t);
  const from = await source(cluster, 1, [0, 1], pattern(100_000));
  const expected = Buffer.alloc(150_000);
  pattern(100_000).copy(expected, 0, 50_000);
  await copy(cluster, from, 50_000, 150_000);
  await assertTarget(t, cluster, expected);
  await copy(cluster, { ...from, validBytes: 60_000 }, 50_000, 150_000);
  await assertTarget(t, cluster, expected.fill(0, 10_000));
  await copy(cluster, { ...from, validBytes: 10 }, 50_000, 150_000);
  await assertTarget(t, cluster, expected.fill(0));
});

t.test('stage: a damaged replica of the source is reported, and never copied', async (t) => {
  const cluster = await threeServers(t);
  const bytes = pattern(300_000);
  const from = await source(cluster, 1, [0, 1, 2], bytes);
  // So that the chunk's file has it all.
  await cluster.restart(1);
  await damage(cluster.directories[1] as string, 1);
  await cluster.master.grant(TARGET, 2, cluster.ids);
  const servers = cluster.ids.map((id) => cluster.master.server(id));
  const dataId = { session: SESSION, number: ++lastNumber };
  const request = { dataId, source: { ...from, replicas: servers }, offset: 0, length: 300_000 };
  const { body } = await cluster.primary.call(StageCopy, { ...request, chain: servers.slice(1) });
  t.equal(body.crc, checksum(bytes));
  t.match(cluster.master.damaged, [{ serverId: cluster.ids[1], handle: 1 }]);
});

async function damage(directory: string, handle: number): Promise<void> {
  const suffix = `${handle.toString(16).padStart(14, '0')}.chunk`;
  const name = readdirSync(directory, { recursive: true }).find((path) => String(path).endsWith(suffix));
  const file = await open(join(directory, String(name)), 'r+');
  await file.write(Buffer.from('damaged'), 0, 7, 100_000);
  await file.close();
}

t.test('stage: what nobody has, or not as it was, is refused, and the target is left alone', async (t) => {
  const cluster = await threeServers(t);
  const expected = pattern(200_000);
  const from = await source(cluster, 1, [0, 1, 2], expected);
  await copy(cluster, from, 0, 200_000);
  const unavailable = { code: 'CHUNK_UNAVAILABLE' };
  await t.rejects(copy(cluster, { ...from, version: 2 }, 0, 1_000), unavailable, 'a version to come');
  await t.rejects(copy(cluster, { ...from, handle: 77 }, 0, 1_000), unavailable, 'no such chunk');
  await t.rejects(copy(cluster, { ...from, replicas: [] }, 0, 1_000), unavailable, 'no replica');
  await t.rejects(copy(cluster, from, 0, 0), { code: 'INVALID' });
  // One of them missed a change, and does not know.
  const apart = pattern(200_000, 9);
  await cluster.master.grant(4, 1, [cluster.ids[0] as string]);
  await cluster.master.grant(4, 1, [cluster.ids[1] as string]);
  for (const [index, bytes] of [apart, expected].entries()) {
    const body = { handle: 4, version: 1, offset: 0, length: bytes.byteLength };
    const mutation = { session: SESSION, sequence: ++lastNumber };
    await (cluster.clients[index] as Peer).call(WriteChunk, body, withPayload(bytes, mutation));
  }
  const replicas = cluster.ids.slice(0, 2).map((id) => cluster.master.server(id));
  await t.rejects(copy(cluster, { ...from, handle: 4, replicas }, 0, 200_000), unavailable, 'not the same');
  await assertTarget(t, cluster, expected);
});
