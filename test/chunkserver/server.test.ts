import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Chunkserver } from '../../chunkserver/chunkserver.js';
import { chunkserverDefaults } from '../../chunkserver/options.js';
import type { Disk, Environment } from '../../environment/ports/index.js';
import { ReadChunk, ReadChunks, SyncChunk, WriteChunk } from '../../protocol/messages/index.js';
import type { Peer } from '../../protocol/peer.js';
import {
  CHUNK_BYTES,
  pattern,
  quietEnvironment,
  ScriptedMaster,
  startCluster,
  temporaryDirectory,
  until,
  withPayload,
} from './support.js';

let lastSequence = 0;

function write(peer: Peer, handle: number, offset: number, bytes: Uint8Array) {
  const body = { handle, version: 1, offset, length: bytes.byteLength };
  return peer.call(WriteChunk, body, withPayload(bytes, { session: 1, sequence: ++lastSequence }));
}

const read = (peer: Peer, handle: number, offset = 0, length = CHUNK_BYTES) =>
  peer.call(ReadChunk, { handle, version: 1, offset, length });

/** The environment with some calls of its disk replaced. */
function withDisk(environment: Environment, changes: (disk: Disk) => Partial<Disk>): Environment {
  const { disk } = environment;
  const bound: Disk = {
    allocate: disk.allocate.bind(disk),
    open: disk.open.bind(disk),
    list: disk.list.bind(disk),
    makeDirectory: disk.makeDirectory.bind(disk),
    rename: disk.rename.bind(disk),
    remove: disk.remove.bind(disk),
    copy: disk.copy.bind(disk),
    syncDirectory: disk.syncDirectory.bind(disk),
    space: disk.space.bind(disk),
    lock: disk.lock.bind(disk),
  };
  return { ...environment, disk: { ...bound, ...changes(bound) } };
}

t.test('damage: a flipped bit is never given away, and the master is told', async (t) => {
  const cluster = await startCluster(
    1,
    temporaryDirectory((end) => t.teardown(end)),
    // By whoever reads, not by scrubbing.
    { scrubIntervalMs: 0 },
  );
  t.teardown(() => cluster.stop());
  const { master, ids, directories } = cluster;
  await master.grant(1, 1, ids);
  const content = pattern(300_000);
  await write(cluster.clients[0] as Peer, 1, 0, content);
  await cluster.restart(0);
  const file = join(directories[0] as string, 'chunks/01/00000000000001.chunk');
  const raw = readFileSync(file);
  t.ok(raw.equals(content), 'a chunk is a plain file');
  raw[200_000] = (raw[200_000] as number) ^ 0x10;
  writeFileSync(file, raw);
  const peer = cluster.clients[0] as Peer;
  await t.rejects(read(peer, 1), { code: 'CHUNK_CORRUPT' });
  t.ok(
    (await read(peer, 1, 0, 1_000)).payload?.bytes.equals(content.subarray(0, 1_000)),
    'other blocks are fine',
  );
  await until(() => master.damaged.length > 0);
  t.same(master.damaged, [{ serverId: ids[0], handle: 1 }]);
});

t.test('small files: several are read by one message, but for those that cannot be', async (t) => {
  const cluster = await startCluster(
    1,
    temporaryDirectory((end) => t.teardown(end)),
  );
  t.teardown(() => cluster.stop());
  const { master, ids, directories } = cluster;
  const contents = [pattern(5_000), pattern(300_000), pattern(100_000), pattern(900)];
  for (const [at, content] of contents.entries()) {
    await master.grant(at + 1, 1, ids);
    await write(cluster.clients[0] as Peer, at + 1, 0, content);
  }
  await cluster.restart(0);
  const file = join(directories[0] as string, 'chunks/02/00000000000002.chunk');
  const raw = readFileSync(file);
  raw[1_000] = (raw[1_000] as number) ^ 0x10;
  writeFileSync(file, raw);
  const ask = (handles: readonly number[], version = 1, length = 4_096) =>
    (cluster.clients[0] as Peer).call(ReadChunks, {
      chunks: handles.map((handle) => ({ handle, version, length })),
    });
  const { body, payload } = await ask([1, 2, 77, 3, 4]);
  t.same(
    body.lengths,
    [4_096, undefined, undefined, 4_096, 900],
    'neither what is damaged nor what is not there',
  );
  const wanted = [0, 2, 3].map((at) => (contents[at] as Uint8Array).subarray(0, 4_096));
  t.ok(payload?.bytes.equals(Buffer.concat(wanted)));
  payload?.release();
  await until(() => master.damaged.length > 0);
  t.same(master.damaged, [{ serverId: ids[0], handle: 2 }], 'and the master is told');
  t.same((await ask([1], 9)).body.lengths, [undefined], 'a version that is not here');
  await t.rejects(ask([1], 1, 70_000), { code: 'MALFORMED' });
  await t.rejects(ask(Array.from({ length: 65 }, () => 1)), { code: 'MALFORMED' });
});

t.test(
  'damage: a replica without a readable sidecar is reported, and deleted when the master says so',
  async (t) => {
    const cluster = await startCluster(
      1,
      temporaryDirectory((end) => t.teardown(end)),
      { checkpointBytes: 1 },
    );
    t.teardown(() => cluster.stop());
    const { master, ids, directories } = cluster;
    await master.grant(1, 1, ids);
    await write(cluster.clients[0] as Peer, 1, 0, pattern(1_000));
    const shard = join(directories[0] as string, 'chunks/01');
    await until(() => readdirSync(shard).includes('00000000000001.sums'));
    await cluster.chunkservers[0]?.stop();
    const sidecar = join(shard, '00000000000001.sums');
    const raw = readFileSync(sidecar);
    raw[20] = (raw[20] as number) ^ 1;
    writeFileSync(sidecar, raw);
    master.damaged.splice(0);
    await cluster.restart(0);
    await until(() => master.damaged.length > 0);
    t.same(master.damaged, [{ serverId: ids[0], handle: 1 }]);
    t.same(master.reports.get(ids[0] as string), [], 'it is not among the chunks reported');
    master.drop = [1];
    await until(() => readdirSync(shard).length === 0);
    await t.rejects(read(cluster.clients[0] as Peer, 1), { code: 'NO_SUCH_CHUNK' });
  },
);

t.test('master: chunks are reported, leases extended, what is dropped is deleted', async (t) => {
  const cluster = await startCluster(
    1,
    temporaryDirectory((end) => t.teardown(end)),
  );
  t.teardown(() => cluster.stop());
  const { master, ids, directories } = cluster;
  const [id] = ids as [string];
  await master.grant(1, 1, ids);
  await master.grant(2, 1, ids);
  await write(cluster.clients[0] as Peer, 1, 0, pattern(70_000));
  await until(() => master.heartbeats.some(({ extend }) => extend.some(({ handle }) => handle === 1)));
  await cluster.restart(0);
  const report = [...(master.reports.get(id) ?? [])].sort((a, b) => a.handle - b.handle);
  const empty = { version: 1, suspect: false, leaseMs: 0 };
  t.same(report, [
    { handle: 1, ...empty, lengthBytes: 70_000 },
    { handle: 2, ...empty, lengthBytes: 0 },
  ]);
  master.drop = [1];
  await until(() => readdirSync(join(directories[0] as string, 'chunks/01')).length === 0);
  await t.rejects(read(cluster.clients[0] as Peer, 1), { code: 'NO_SUCH_CHUNK' });
  t.equal((await read(cluster.clients[0] as Peer, 2)).body.chunkLength, 0);
  await cluster.restart(0);
  t.same(
    master.reports.get(id)?.map(({ handle }) => handle),
    [2],
    'deleted for good',
  );
});

t.test('master: silent for the session timeout: reads and writes are refused until it is back', async (t) => {
  const cluster = await startCluster(
    1,
    temporaryDirectory((end) => t.teardown(end)),
  );
  t.teardown(() => cluster.stop());
  const { master, ids } = cluster;
  const peer = cluster.clients[0] as Peer;
  master.timeoutMs = 300;
  await cluster.restart(0);
  await master.grant(1, 1, ids);
  const client = cluster.clients[0] as Peer;
  await write(client, 1, 0, pattern(10));
  master.answers = false;
  const silentFromMs = performance.now();
  await until(() => performance.now() - silentFromMs > 500);
  await t.rejects(read(client, 1), { code: 'UNREACHABLE' });
  await t.rejects(write(client, 1, 0, pattern(10)), { code: 'NOT_PRIMARY' });
  master.reported.clear();
  master.answers = true;
  master.dropConnections();
  await until(() => master.reported.size === 1);
  await t.resolves(read(client, 1));
  await t.rejects(write(client, 1, 0, pattern(10)), { code: 'NOT_PRIMARY' }, 'the lease is over for good');
  t.ok(peer.closed);
});

t.test('start: a directory in use, another cluster, a taken port: a clear error', async (t) => {
  const root = temporaryDirectory((end) => t.teardown(end));
  const cluster = await startCluster(1, root);
  t.teardown(() => cluster.stop());
  const options = {
    ...chunkserverDefaults,
    dataDirectories: cluster.directories,
    masters: [cluster.master.address],
    reservedBytes: 0,
  };
  await t.rejects(new Chunkserver(quietEnvironment(), options).start(), {
    code: 'DUPLICATE_SERVER',
    message: /disk0 is in use/,
  });
  const { port } = cluster.chunkservers[0]?.address ?? { port: 0 };
  const other = { ...options, dataDirectories: [join(root, 'other')], port };
  await t.rejects(new Chunkserver(quietEnvironment(), other).start(), { code: 'EADDRINUSE' });

  const stranger = new ScriptedMaster('another-cluster');
  await stranger.start();
  t.teardown(() => stranger.stop());
  await cluster.chunkservers.pop()?.stop();
  const lost = new Chunkserver(quietEnvironment(), { ...options, masters: [stranger.address] });
  await lost.start();
  t.equal(((await lost.failed) as { code?: string }).code, 'WRONG_CLUSTER');
  await lost.stop();
});

t.test('space: a full disk refuses before anything is written, and loses nothing', async (t) => {
  const root = temporaryDirectory((end) => t.teardown(end));
  let availableBytes = 10_000_000;
  const cluster = await startCluster(1, root, { reservedBytes: 1_000_000 });
  t.teardown(() => cluster.stop());
  const environment = withDisk(quietEnvironment(), () => ({
    space: async () => ({ totalBytes: 20_000_000, availableBytes }),
  }));
  await cluster.restart(0, environment);
  const { master, ids } = cluster;
  await master.grant(1, 1, ids);
  const peer = cluster.clients[0] as Peer;
  await write(peer, 1, 0, pattern(100_000));
  availableBytes = 1_050_000;
  await until(() => master.heartbeats.some(({ availableBytes: left }) => left === 50_000));
  await t.rejects(write(peer, 1, 0, pattern(100_000, 2)), { code: 'NO_SPACE' });
  t.ok((await read(peer, 1)).payload?.bytes.equals(pattern(100_000)));
  availableBytes = 10_000_000;
  await write(peer, 1, 0, pattern(100_000, 3));
  t.ok((await read(peer, 1)).payload?.bytes.equals(pattern(100_000, 3)), 'the lease still holds');
});

for (const sync of ['disk', 'memory'] as const) {
  t.test(
    `sync: with "${sync}" a sync ${sync === 'disk' ? 'reaches the disk' : 'flushes nothing'}`,
    async (t) => {
      const root = temporaryDirectory((end) => t.teardown(end));
      const flushed: string[] = [];
      const cluster = await startCluster(1, root, { sync });
      t.teardown(() => cluster.stop());
      const environment = withDisk(quietEnvironment(), (disk) => ({
        open: async (path, mode) => {
          const file = await disk.open(path, mode);
          const sync = async () => {
            flushed.push(path.endsWith('.log') ? 'journal' : path.endsWith('.chunk') ? 'chunk' : 'other');
            await file.sync();
          };
          return {
            read: (buffer, position) => file.read(buffer, position),
            write: (buffers, position) => file.write(buffers, position),
            sync,
            sizeBytes: () => file.sizeBytes(),
            truncate: (size) => file.truncate(size),
            close: () => file.close(),
          };
        },
      }));
      await cluster.restart(0, environment);
      const { master, ids } = cluster;
      await master.grant(1, 1, ids);
      const peer = cluster.clients[0] as Peer;
      await write(peer, 1, 0, pattern(300_000));
      flushed.splice(0);
      const body = { handle: 1, version: 1, secondaries: [] };
      await peer.call(SyncChunk, body);
      t.same(flushed.sort(), sync === 'disk' ? ['chunk', 'journal'] : []);
      flushed.splice(0);
      await write(peer, 1, 100, pattern(300));
      await peer.call(SyncChunk, body);
      t.same(flushed, sync === 'disk' ? ['journal'] : [], 'small writes need the journal alone');
      flushed.splice(0);
      await peer.call(SyncChunk, body);
      t.same(flushed, [], 'and nothing new needs nothing');
    },
  );
}
