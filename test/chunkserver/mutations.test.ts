import { cpSync } from 'node:fs';
import t, { type Test } from 'tap';
import { Cloner } from '../../chunkserver/clone.js';
import { Lease, LeaseTable } from '../../chunkserver/leases.js';
import { MasterService } from '../../chunkserver/master-service.js';
import { Peers } from '../../chunkserver/peers.js';
import { PushBuffer } from '../../chunkserver/push-buffer.js';
import { Secondary } from '../../chunkserver/secondary.js';
import { SharedPayload } from '../../chunkserver/shared-payload.js';
import { serialBase } from '../../chunkserver/store/serial.js';
import type { Store } from '../../chunkserver/store/store.js';
import type { Disk, Environment } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { MAX_WRITE_PARTS } from '../../protocol/limits.js';
import {
  AppendChunk,
  ApplyMutation,
  CopyChunk,
  FetchReplica,
  GetChecksums,
  GetChunkLength,
  MakeChunks,
  PrepareVersion,
  PushData,
  ReadChunk,
  RepairReplicas,
  RevokeLease,
  type Server,
  SyncChunk,
  WriteChunk,
} from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer } from '../../protocol/peer.js';
import { type CallOptions, type IncomingRequest, Service } from '../../protocol/rpc.js';
import { SimulatedWorld } from '../fakes/index.js';
import { openStore } from './store-model.js';
import {
  CHUNK_BYTES,
  CLUSTER,
  type Cluster,
  pattern,
  quietEnvironment,
  startCluster,
  temporaryDirectory,
  withPayload,
} from './support.js';

// Three servers with journals that are flushed, on a machine that may be busy.
t.setTimeout(600_000);

const SESSION = 9;
let lastSequence = 0;
const mutation = (): CallOptions => ({ session: SESSION, sequence: ++lastSequence });

async function threeServers(t: Test): Promise<Cluster & { primary: Peer }> {
  const cluster = await startCluster(
    3,
    temporaryDirectory((end) => t.teardown(end)),
  );
  t.teardown(() => cluster.stop());
  return Object.assign(cluster, { primary: cluster.clients[0] as Peer });
}

async function read(peer: Peer, handle: number, version = 1): Promise<Buffer> {
  const { payload } = await peer.call(ReadChunk, { handle, version, offset: 0, length: CHUNK_BYTES });
  return payload?.bytes ?? Buffer.alloc(0);
}

async function assertReplicas(t: Test, cluster: Cluster, handle: number, expected: Buffer, version = 1) {
  for (const [index, peer] of cluster.clients.entries()) {
    t.ok((await read(peer, handle, version)).equals(expected), `replica ${index}`);
  }
}

function write(
  peer: Peer,
  handle: number,
  version: number,
  offset: number,
  bytes: Uint8Array,
  options: CallOptions = mutation(),
) {
  const body = { handle, version, offset, length: bytes.byteLength };
  return peer.call(WriteChunk, body, withPayload(bytes, options));
}

/** The environment with every flush of a file counted. */
function countingFlushes(environment: Environment, onFlush: () => void): Environment {
  const open: Disk['open'] = async (path, mode) => {
    const file = await environment.disk.open(path, mode);
    const sync = file.sync.bind(file);
    file.sync = () => {
      onFlush();
      return sync();
    };
    return file;
  };
  return { ...environment, disk: Object.assign(Object.create(environment.disk) as Disk, { open }) };
}

function append(
  peer: Peer,
  handle: number,
  mode: 'record' | 'exact',
  bytes: Uint8Array,
  options = mutation(),
  from = 0,
) {
  return peer.call(AppendChunk, { handle, version: 1, mode, from }, withPayload(bytes, options));
}

t.test('write: several parts in one message are as many writes, in their order', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const expected = pattern(200_000, 1);
  const whole = { handle: 1, version: 1, offset: 0, length: expected.byteLength };
  const dataId = { session: SESSION, number: 1 };
  const chain = ids.slice(1).map((id) => master.server(id));
  await primary.call(PushData, { dataId, chain }, withPayload(expected));
  await primary.call(WriteChunk, { ...whole, dataId }, mutation());

  // Apart, over a block's edge, twice the same bytes, and behind the end with a gap.
  const places = [
    ...[4_096, 65_000, 100_000, 100_500, 130_000, 230_000, 229_000].map((offset) => ({
      offset,
      length: 1_500,
    })),
    { offset: 3, length: 1 },
  ];
  const bytes = pattern(7 * 1_500 + 1, 2);
  const after = Buffer.alloc(231_500);
  expected.copy(after);
  let at = 0;
  for (const { offset, length } of places) {
    bytes.copy(after, offset, at, at + length);
    at += length;
  }
  const body = { handle: 1, version: 1, offset: 4_096, length: bytes.byteLength, parts: places, sync: true };
  const options = mutation();
  const { body: reply } = await primary.call(WriteChunk, body, withPayload(bytes, options));
  t.equal(reply.verifiers.length, 3);
  await assertReplicas(t, cluster, 1, after);

  const later = pattern(10, 3);
  later.copy(after, 4_096);
  await write(primary, 1, 1, 4_096, later);
  await primary.call(WriteChunk, body, withPayload(bytes, options));
  await assertReplicas(t, cluster, 1, after);

  const wrong = [
    { parts: [], length: 0 },
    { parts: [{ offset: 0, length: 9 }] },
    {
      parts: [
        { offset: 0, length: 10 },
        { offset: 5, length: 0 },
      ],
    },
    { parts: [{ offset: CHUNK_BYTES - 9, length: 10 }] },
    { parts: [{ offset: 0, length: 10 }], spill: 1 },
  ];
  for (const change of wrong) {
    const asked = { handle: 1, version: 1, offset: 0, length: 10, ...change };
    await t.rejects(primary.call(WriteChunk, asked, withPayload(later, mutation())), { code: 'INVALID' });
  }
  await assertReplicas(t, cluster, 1, after);
});

t.test('write: inline and pushed data, overwrites and gaps reach every replica', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const expected = Buffer.alloc(400_000);
  const small = pattern(5_000, 1);
  small.copy(expected, 0);
  const { body } = await write(primary, 1, 1, 0, small);
  t.equal(body.verifiers.length, 3);
  const large = pattern(395_000, 2);
  large.copy(expected, 5_000);
  const dataId = { session: SESSION, number: 1 };
  const chain = ids.slice(1).map((id) => master.server(id));
  await primary.call(PushData, { dataId, chain }, withPayload(large));
  const pushed = { handle: 1, version: 1, offset: 5_000, length: 395_000, dataId };
  await primary.call(WriteChunk, pushed, mutation());
  await assertReplicas(t, cluster, 1, expected);
  const synced = await primary.call(SyncChunk, { handle: 1, version: 1, secondaries: chain });
  t.strictSame(synced.body.verifiers, body.verifiers);
  await t.rejects(primary.call(WriteChunk, pushed, mutation()), { code: 'DATA_NOT_BUFFERED' });

  const over = pattern(70_000, 3);
  over.copy(expected, 63_000);
  await write(primary, 1, 1, 63_000, over);
  await assertReplicas(t, cluster, 1, expected);

  const tail = Buffer.from('after a gap');
  await write(primary, 1, 1, 500_000, tail);
  await assertReplicas(t, cluster, 1, Buffer.concat([expected, Buffer.alloc(100_000), tail]));
  t.equal((await primary.call(GetChunkLength, { handle: 1, version: 1 })).body.lengthBytes, 500_011);
});

t.test(
  'write: one that is to be flushed is on every disk when it is answered, also when it is repeated',
  async (t) => {
    const cluster = await threeServers(t);
    const { master, ids } = cluster;
    const flushes = [0, 0, 0];
    for (const index of flushes.keys()) {
      const environment = countingFlushes(quietEnvironment(), () => (flushes[index] as number)++);
      await cluster.restart(index, environment);
    }
    await master.grant(1, 1, ids);
    const primary = cluster.clients[0] as Peer;
    await write(primary, 1, 1, 0, pattern(4_096));
    const before = [...flushes];
    await write(primary, 1, 1, 0, pattern(4_096, 2));
    t.same(flushes, before, 'others are not flushed');
    const body = { handle: 1, version: 1, offset: 100, length: 4_096, sync: true };
    const options = mutation();
    const bytes = pattern(4_096, 3);
    const first = await primary.call(WriteChunk, body, withPayload(bytes, options));
    const after = [...flushes];
    for (const [index, count] of after.entries()) t.ok(count > (before[index] as number), `replica ${index}`);
    const again = await primary.call(WriteChunk, body, withPayload(bytes, options));
    t.strictSame(again.body, first.body);
  },
);

t.test('write: one that is to be flushed is, also where a replica got it by being made equal', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  let flushes = 0;
  await cluster.restart(
    2,
    countingFlushes(quietEnvironment(), () => flushes++),
  );
  await master.grant(1, 1, ids);
  await write(primary, 1, 1, 0, pattern(4_096));
  let beforeAnswer = 0;
  master.onDrop = async (handle, version) => {
    await master.grant(handle, version, ids);
    beforeAnswer = flushes;
  };
  // It knows a newer version than the primary, and refuses.
  await master.call(ids[2] as string, PrepareVersion, { handle: 1, version: 2, create: false });
  const bytes = pattern(4_096, 3);
  const body = { handle: 1, version: 1, offset: 100, length: bytes.byteLength, sync: true };
  await primary.call(WriteChunk, body, withPayload(bytes, mutation()));
  t.ok(flushes > beforeAnswer, 'after the repair');
  t.ok((await read(cluster.clients[2] as Peer, 1, 2)).subarray(100, 4_196).equals(bytes));
});

t.test('read: under an older version for as long as nothing was changed under the newer one', async (t) => {
  const { master, ids, primary } = await threeServers(t);
  await master.grant(1, 1, ids);
  await write(primary, 1, 1, 0, Buffer.from('before'));
  await master.grant(1, 2, ids);
  t.equal((await read(primary, 1, 1)).toString(), 'before');
  await write(primary, 1, 2, 0, Buffer.from('after!'));
  // Its file may share the chunk with nobody any more, or be another file's: who reads has to ask again.
  await t.rejects(read(primary, 1, 1), { code: 'STALE_CHUNK_VERSION' });
  t.equal((await read(primary, 1, 2)).toString(), 'after!');
});

t.test('write: data that a secondary has lost is sent again by the primary', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const bytes = pattern(200_000);
  const dataId = { session: SESSION, number: 5 };
  await primary.call(PushData, { dataId, chain: [] }, withPayload(bytes));
  await primary.call(WriteChunk, { handle: 1, version: 1, offset: 0, length: 200_000, dataId }, mutation());
  await assertReplicas(t, cluster, 1, bytes);
});

t.test('write: refused without the lease, under another version, or outside the chunk', async (t) => {
  const { master, ids, primary, clients } = await threeServers(t);
  const bytes = pattern(10);
  await t.rejects(write(primary, 1, 1, 0, bytes), { code: 'NOT_PRIMARY' });
  await master.grant(1, 1, ids);
  await t.rejects(write(clients[1] as Peer, 1, 1, 0, bytes), { code: 'NOT_PRIMARY' });
  await t.rejects(write(primary, 1, 2, 0, bytes), { code: 'STALE_CHUNK_VERSION' });
  await t.rejects(write(primary, 1, 1, CHUNK_BYTES - 5, bytes), { code: 'INVALID' });
  await master.grant(1, 2, ids);
  await t.rejects(write(primary, 1, 1, 0, bytes), { code: 'STALE_CHUNK_VERSION' });
  await write(primary, 1, 2, 0, bytes);
  await t.rejects(read(primary, 1, 3), { code: 'STALE_CHUNK_VERSION' });
  await t.rejects(read(primary, 77), { code: 'NO_SUCH_CHUNK' });
});

t.test('serial order: a secondary applies mutations in the order of their serials', async (t) => {
  const { master, ids, clients } = await threeServers(t);
  await master.grant(1, 1, ids);
  const secondary = clients[1] as Peer;
  const apply = (number: number, bytes: Buffer) =>
    secondary.call(
      ApplyMutation,
      {
        handle: 1,
        version: 1,
        serial: 2 ** 24 + number,
        kind: 'write',
        offset: 0,
        length: bytes.byteLength,
        session: 0,
        sequence: 0,
      },
      withPayload(bytes),
    );
  const third = apply(3, Buffer.from('ccc'));
  const second = apply(2, Buffer.from('bb'));
  const first = apply(1, Buffer.from('aaaa'));
  await Promise.all([first, second, third]);
  t.equal((await read(secondary, 1)).toString(), 'ccca');
  await apply(2, Buffer.from('xx'));
  t.equal((await read(secondary, 1)).toString(), 'ccca', 'a duplicate is acknowledged and changes nothing');
  await t.rejects(apply(9, Buffer.from('late')), { code: 'REPLICA_FAILED' }, 'one before it never comes');
});

/** A secondary of which the test is the primary, in virtual time. */
async function secondaryAlone() {
  const world = new SimulatedWorld(1);
  const process = world.process('secondary');
  const store: Store = await world.until(openStore(process));
  await world.until(store.adopt(CLUSTER, CHUNK_BYTES));
  const chunk = await world.until(store.create(1, 1));
  const secondary = new Secondary(process.environment.timers, store, new PushBuffer());
  const pad = (number: number, version = 1) => {
    const place = { handle: 1, version, serial: serialBase(version) + number, offset: 1_000 * number };
    const body = { ...place, length: 0, kind: 'pad' as const, session: 0, sequence: 0 };
    return secondary.apply(body, { payload: undefined } as IncomingRequest);
  };
  return { world, chunk, pad };
}

t.test('serial order: reordered within a bound; a secondary that cannot follow refuses', async (t) => {
  const { world, chunk, pad } = await secondaryAlone();
  const held = Array.from({ length: 256 }, (_, i) => pad(2 + i));
  await t.rejects(world.until(pad(258)), { code: 'OVERLOADED' }, 'no more of them than that');
  await world.runFor(1_000);
  await world.until(Promise.all([pad(1), ...held]));
  t.equal(chunk.state.length, 257_000, 'each in its turn');
  const late = t.rejects(pad(259), { code: 'REPLICA_FAILED' }, 'one before it does not come');
  await world.runFor(3_000);
  await late;
});

t.test('serial order: what comes while the next version is being taken is refused', async (t) => {
  const { world, chunk, pad } = await secondaryAlone();
  const before = pad(1);
  const raised = chunk.raise(2, undefined);
  // Its primary may be dead by now: nobody else would be told of it.
  const during = t.rejects(pad(2), { code: 'STALE_CHUNK_VERSION' });
  await world.until(Promise.all([before, raised]));
  t.equal(chunk.state.length, 1_000, 'the new version begins with what came before it');
  await world.until(during);
  await world.runFor(100);
  t.equal(chunk.state.length, 1_000);
});

t.test('serial order: none is applied after one that failed', async (t) => {
  const { world, chunk, pad } = await secondaryAlone();
  const { mutate } = chunk;
  chunk.mutate = () => Promise.reject(new GfsError('NO_SPACE'));
  await t.rejects(world.until(pad(1)), { code: 'NO_SPACE' });
  chunk.mutate = mutate;
  await t.rejects(world.until(pad(2)), { code: 'REPLICA_FAILED' }, 'one before it is missing');
  t.equal(chunk.state.length, 0);
  await world.until(chunk.raise(2, undefined));
  await world.until(pad(1, 2));
  t.equal(chunk.state.length, 1_000, 'the next version begins anew');
});

t.test('serial order: a lease ends before its version has no serials left', async (t) => {
  const { chunk } = await secondaryAlone();
  const lease = new Lease(chunk, 1, { secondaries: [], durationMs: 60_000 }, 0);
  chunk.state.serial = serialBase(2) - MAX_WRITE_PARTS - 2;
  t.equal(lease.ended, undefined);
  const last = new Lease(chunk, 1, { secondaries: [], durationMs: 60_000 }, 0);
  last.begin(0);
  t.equal(last.ended, undefined);
  const serial = last.begin(0, MAX_WRITE_PARTS);
  t.ok(serial + MAX_WRITE_PARTS <= serialBase(2), 'the last one fits, whatever its parts');
  t.equal(last.ended?.code, 'NOT_PRIMARY');
});

t.test('push: what waits for its mutation is bounded, the longest there goes first', async (t) => {
  const pool = new BufferPool();
  const pushed = new PushBuffer(250_000);
  const put = (number: number) =>
    pushed.put({ session: 1, number }, new SharedPayload(pool.take(100_000), 0));
  for (const number of [1, 2, 3]) put(number);
  t.equal(pushed.sizeBytes, 200_000);
  const isThere = (number: number) => pushed.take({ session: 1, number }) !== undefined;
  t.strictSame([1, 2, 3].map(isThere), [false, true, true]);
  t.equal(pushed.sizeBytes, 0);
  pushed.put({ session: 1, number: 4 }, new SharedPayload(pool.take(300_000), 0));
  t.ok(isThere(4), 'one alone always has room');
});

t.test('once: a retry gets the first result, a delayed duplicate changes nothing', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const first = mutation();
  await write(primary, 1, 1, 0, Buffer.from('first'), first);
  await write(primary, 1, 1, 0, Buffer.from('later'));
  await write(primary, 1, 1, 0, Buffer.from('first'), first);
  await assertReplicas(t, cluster, 1, Buffer.from('later'));
  const record = mutation();
  const at = await append(primary, 1, 'exact', Buffer.from('record'), record);
  await append(primary, 1, 'exact', Buffer.from('another'));
  const again = await append(primary, 1, 'exact', Buffer.from('record'), record);
  t.same([again.body.offset, again.body.written], [at.body.offset, 6]);
  await assertReplicas(t, cluster, 1, Buffer.from('laterrecordanother'));
  t.strictSame(again.body.verifiers, at.body.verifiers);

  await cluster.restart(0);
  await master.grant(1, 2, ids);
  const [restarted] = cluster.clients;
  const options = withPayload(Buffer.from('record'), record);
  const exact = { handle: 1, version: 2, mode: 'exact' as const, from: 0 };
  const afterwards = await (restarted as Peer).call(AppendChunk, exact, options);
  t.equal(afterwards.body.offset, at.body.offset, 'also after a restart and under a new lease');
  await assertReplicas(t, cluster, 1, Buffer.from('laterrecordanother'), 2);
});

t.test('once: also at a replica that was away, and then made equal', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary, chunkservers, clients } = cluster;
  await master.grant(1, 1, ids);
  await append(primary, 1, 'exact', Buffer.from('before'));
  await chunkservers[2]?.stop();
  const missed = mutation();
  await t.rejects(append(primary, 1, 'exact', Buffer.from('missed'), missed), { code: 'REPLICA_FAILED' });
  await cluster.restart(2);
  await master.grant(1, 2, ids);
  const [first, second, third] = ids as [string, string, string];
  await master.grant(1, 3, [third, first, second]);
  const exact = { handle: 1, version: 3, mode: 'exact' as const, from: 0 };
  const next = clients[2] as Peer;
  const { body } = await next.call(AppendChunk, exact, withPayload(Buffer.from('missed'), missed));
  t.same([body.offset, body.written], [6, 6]);
  await assertReplicas(t, cluster, 1, Buffer.from('beforemissed'), 3);
});

t.test('append: a record never crosses the end of the chunk, which is padded instead', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  await t.rejects(append(primary, 1, 'record', Buffer.alloc(CHUNK_BYTES / 4 + 1)), { code: 'TOO_BIG' });
  const record = pattern(CHUNK_BYTES / 4 - 100);
  const offsets: number[] = [];
  for (let i = 0; i < 4; i++) offsets.push((await append(primary, 1, 'record', record)).body.offset);
  t.same(
    offsets,
    [0, 1, 2, 3].map((i) => i * record.byteLength),
  );
  await t.rejects(append(primary, 1, 'record', record), { code: 'CHUNK_FULL' });
  await t.rejects(append(primary, 1, 'record', Buffer.from('small')), { code: 'CHUNK_FULL' });
  const full = Buffer.concat([record, record, record, record, Buffer.alloc(400)]);
  await assertReplicas(t, cluster, 1, full);
});

t.test('append: concurrent exact appends follow each other, up to the last byte of the chunk', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const records = Array.from({ length: 100 }, (_, i) => pattern(1_000 + i * 13, i + 1));
  const replies = await Promise.all(records.map((record) => append(primary, 1, 'exact', record)));
  const content = await read(primary, 1);
  let total = 0;
  for (const [i, record] of records.entries()) {
    const { offset } = (replies[i] as (typeof replies)[number]).body;
    t.ok(content.subarray(offset, offset + record.byteLength).equals(record), `record ${i}`);
    total += record.byteLength;
  }
  t.equal(content.byteLength, total);
  await assertReplicas(t, cluster, 1, content);
  const from = CHUNK_BYTES - 10;
  const last = await append(primary, 1, 'exact', Buffer.from('twenty bytes of data'), mutation(), from);
  t.same([last.body.offset, last.body.written], [from, 10]);
  await t.rejects(append(primary, 1, 'exact', Buffer.from('x')), { code: 'CHUNK_FULL' });
  t.ok((await read(primary, 1)).subarray(total, from).every((byte) => byte === 0));
});

/** A file of two chunks, handles 1 and 2, with different primaries. */
async function twoChunks(t: Test) {
  const cluster = await threeServers(t);
  const { master, ids } = cluster;
  const turned = [...ids.slice(1), ids[0] as string];
  await master.grant(1, 1, ids);
  const [primary, ...secondaries] = turned.map((id) => master.server(id)) as [Server, Server, Server];
  let isGranted = false;
  master.onLease = async (_id, index) => {
    if (!isGranted) await master.grant(2, 1, turned);
    isGranted = true;
    return { index, handle: 2, version: 1, primary, secondaries, remainingMs: 60_000 };
  };
  const exact = (bytes: Uint8Array, options = mutation()) =>
    cluster.primary
      .call(
        AppendChunk,
        { handle: 1, version: 1, mode: 'exact', from: 0, file: { id: 7, index: 0 } },
        withPayload(bytes, options),
      )
      .then(({ body }) => body);
  return { ...cluster, exact };
}

t.test("append: an exact one over the chunk's end is whole, its spill before its head", async (t) => {
  const { exact, ...cluster } = await twoChunks(t);
  const filled = pattern(CHUNK_BYTES - 1_000);
  await exact(filled);
  const options = mutation();
  const line = pattern(5_000, 3);
  const appended = await exact(line, options);
  t.match(appended, { offset: CHUNK_BYTES - 1_000, written: 5_000 });
  t.equal(appended.spillVerifiers?.length, 3);
  const first = Buffer.concat([filled, line.subarray(0, 1_000)]);
  await assertReplicas(t, cluster, 1, first);
  await assertReplicas(t, cluster, 2, line.subarray(1_000));
  const again = await exact(line, options);
  t.match(again, { offset: CHUNK_BYTES - 1_000, written: 5_000 }, 'a retry gets the first result');
  t.equal(again.spillVerifiers?.length, 3);
  await assertReplicas(t, cluster, 2, line.subarray(1_000));
  await t.rejects(exact(pattern(10)), { code: 'CHUNK_FULL' });
});

t.test(
  "append: appends that meet at the chunk's end are each whole, in one chunk or over the end",
  async (t) => {
    const { exact, ...cluster } = await twoChunks(t);
    await exact(pattern(CHUNK_BYTES - 2_500));
    const outcomes = await Promise.allSettled([1, 2, 3, 4, 5].map((seed) => exact(pattern(1_000, seed))));
    const done = outcomes.map(({ status }) => status === 'fulfilled');
    t.strictSame(
      done,
      [true, true, true, false, false],
      'the third goes over the end, the others to the next',
    );
    const next = await read(cluster.clients[1] as Peer, 2);
    t.ok(next.equals(pattern(1_000, 3).subarray(500)));
  },
);

t.test(
  'append: over the end: what is written in its place while it spills is not written over',
  async (t) => {
    const { exact, ...cluster } = await twoChunks(t);
    const { master, primary } = cluster;
    const filled = pattern(CHUNK_BYTES - 1_000);
    await exact(filled);
    const between = pattern(200, 2);
    const { onLease } = master;
    let written: Promise<unknown> | undefined;
    master.onLease = async (id, index) => {
      written ??= write(primary, 1, 1, filled.byteLength, between);
      await written;
      return (onLease as NonNullable<typeof onLease>)(id, index);
    };
    const line = pattern(5_000, 3);
    t.match(await exact(line), { offset: CHUNK_BYTES - 800, written: 5_000 });
    await assertReplicas(t, cluster, 1, Buffer.concat([filled, between, line.subarray(0, 800)]));
    await assertReplicas(t, cluster, 2, line.subarray(800));
  },
);

t.test('append: a spill whose head never came is not seen, and the next one takes its place', async (t) => {
  const { exact, master, ...cluster } = await twoChunks(t);
  await exact(pattern(CHUNK_BYTES - 1_000));
  const lease = await master.onLease?.(7, 1);
  const owner = cluster.clients[cluster.ids.indexOf(lease?.primary.serverId ?? '')] as Peer;
  const spill = (bytes: Buffer, sequence: number) => {
    const body = { handle: 2, version: 1, offset: 0, length: bytes.byteLength, spill: sequence };
    return owner.call(WriteChunk, body, withPayload(bytes));
  };
  await spill(pattern(9_000, 5), 1);
  const line = pattern(3_000, 6);
  await exact(line);
  await assertReplicas(t, { ...cluster, master }, 2, line.subarray(1_000));
  await t.rejects(
    spill(pattern(9_000, 5), 2),
    { code: 'STALE_CHUNK_VERSION' },
    'a delayed one lands on nothing',
  );
  await write(owner, 2, 1, 2_000, Buffer.from('more'));
  await t.rejects(spill(pattern(100), 2 ** 40), { code: 'CHUNK_FULL' }, 'the file goes on there');
  await assertReplicas(
    t,
    { ...cluster, master },
    2,
    Buffer.concat([line.subarray(1_000), Buffer.from('more')]),
  );
});

t.test('lease: a secondary that does not answer ends it, and a new version goes on without', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary, chunkservers } = cluster;
  await master.grant(1, 1, ids);
  await write(primary, 1, 1, 0, Buffer.from('before'));
  await chunkservers[2]?.stop();
  const failed = write(primary, 1, 1, 0, Buffer.from('during'));
  await t.rejects(failed, { code: 'REPLICA_FAILED', message: new RegExp(`^${ids[2]}: `) });
  await t.rejects(write(primary, 1, 1, 0, Buffer.from('after!')), { code: 'NOT_PRIMARY' });
  await master.grant(1, 2, ids.slice(0, 2));
  await write(primary, 1, 2, 6, Buffer.from(' and on'));
  for (const peer of cluster.clients.slice(0, 2)) {
    t.equal((await read(peer, 1, 2)).toString(), 'during and on');
  }
  chunkservers.pop();
});

t.test(
  'drop secondary: the write goes on at a new version, and its client need not send it again',
  async (t) => {
    const cluster = await threeServers(t);
    const { master, ids, primary, chunkservers } = cluster;
    await master.grant(1, 1, ids);
    await write(primary, 1, 1, 0, Buffer.from('before'));
    const named: string[][] = [];
    master.onDrop = async (handle, version, failed) => {
      named.push(failed);
      await master.grant(
        handle,
        version,
        ids.filter((id) => !failed.includes(id)),
      );
    };
    await chunkservers[2]?.stop();
    const during = ['one', 'two', 'six'].map((word, i) => write(primary, 1, 1, 6 + 3 * i, Buffer.from(word)));
    for (const { body } of await Promise.all(during)) t.equal(body.verifiers.length, 2);
    t.strictSame(named, [[ids[2]]], 'the master is asked once for all that were under way');
    await t.rejects(write(primary, 1, 1, 0, Buffer.from('late')), { code: 'STALE_CHUNK_VERSION' });
    await write(primary, 1, 2, 15, Buffer.from('!'));
    for (const peer of cluster.clients.slice(0, 2)) {
      t.equal((await read(peer, 1, 2)).toString(), 'beforeonetwosix!');
    }
    chunkservers.pop();
  },
);

t.test('drop secondary: one that is told an old version refuses, and none of its bytes change', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary, clients } = cluster;
  await master.grant(1, 1, ids);
  await write(primary, 1, 1, 0, Buffer.from('before'));
  // Raised behind the primary's back: it is the secondary that knows the newer version.
  await master.call(ids[2] as string, PrepareVersion, { handle: 1, version: 2, create: false });
  const failed = write(primary, 1, 1, 0, Buffer.from('during'));
  await t.rejects(failed, { code: 'REPLICA_FAILED', message: new RegExp(`^${ids[2]}: `) });
  t.equal((await read(clients[2] as Peer, 1, 2)).toString(), 'before');
  await master.grant(1, 3, ids);
  await assertReplicas(t, cluster, 1, Buffer.from('during'), 3);
});

t.test('repair: replicas that differ are made equal to the primary before a lease', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary, clients } = cluster;
  await master.grant(1, 1, ids);
  const content = pattern(500_000);
  await write(primary, 1, 1, 0, content);
  const stray = pattern(300_000, 7);
  await (clients[1] as Peer).call(
    ApplyMutation,
    {
      handle: 1,
      version: 1,
      serial: 2 ** 24 + 2,
      kind: 'write',
      offset: 400_000,
      length: stray.byteLength,
      session: 0,
      sequence: 0,
    },
    withPayload(stray),
  );
  await (clients[2] as Peer).call(ApplyMutation, {
    handle: 1,
    version: 1,
    serial: 2 ** 24 + 2,
    kind: 'truncate',
    offset: 100_001,
    length: 0,
    session: 0,
    sequence: 0,
  });
  t.equal((await read(clients[2] as Peer, 1)).byteLength, 100_001);
  await master.grant(1, 2, ids);
  await assertReplicas(t, cluster, 1, content, 2);
  const sums = await Promise.all(clients.map((peer) => peer.call(GetChecksums, { handle: 1, version: 2 })));
  for (const { body } of sums.slice(1)) t.same(body, sums[0]?.body);
  await write(primary, 1, 2, 500_000, Buffer.from('goes on'));
  await assertReplicas(t, cluster, 1, Buffer.concat([content, Buffer.from('goes on')]), 2);
});

t.test(
  'suspect: after a crash of its host nothing is had from a replica until it was compared',
  async (t) => {
    for (const isPrimary of [false, true]) {
      const cluster = await threeServers(t);
      const { master, ids, primary, clients, directories } = cluster;
      await master.grant(1, 1, ids);
      await write(primary, 1, 1, 0, Buffer.from('before'));
      // As the disk would be if the power failed now, and the host booted again.
      const left = `${directories[2]}-left`;
      cpSync(directories[2] as string, left, { recursive: true });
      await cluster.restart(2, { ...quietEnvironment(), bootId: 4_711 }, [left]);
      const suspect = clients[2] as Peer;
      await t.rejects(read(suspect, 1), { code: 'STALE_CHUNK_VERSION' });
      const all = { handle: 1, version: 1, offset: 0, length: 100, whole: true, serverRateBps: 0 };
      await t.rejects(suspect.call(FetchReplica, all), { code: 'STALE_CHUNK_VERSION' });
      const next = { handle: 1, version: 1, serial: serialBase(1) + 2, kind: 'pad' as const, offset: 100 };
      const mutated = suspect.call(ApplyMutation, { ...next, length: 0, session: 0, sequence: 0 });
      await t.rejects(mutated, { code: 'REPLICA_FAILED' });
      const [first, second, third] = ids as [string, string, string];
      const turned = isPrimary ? [third, first, second] : [first, second, third];
      await master.grant(1, 2, turned);
      const secondaries = turned.slice(1).map((id) => master.server(id));
      await master.call(turned[0] as string, RepairReplicas, { handle: 1, version: 2, secondaries });
      const content = await read(primary, 1, 2);
      await assertReplicas(t, cluster, 1, content, 2);
      await write(clients[ids.indexOf(turned[0] as string)] as Peer, 1, 2, 6, Buffer.from(' and on'));
      await assertReplicas(t, cluster, 1, Buffer.concat([content, Buffer.from(' and on')]), 2);
    }
  },
);

t.test('copy: a chunk is copied with what is pending, and the two go their own ways', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const content = pattern(300_000);
  const before = mutation();
  await write(primary, 1, 1, 0, content, before);
  const [, ...secondaries] = ids.map((id) => master.server(id));
  const lease = { secondaries, durationMs: 60_000 };
  for (const [i, id] of ids.entries()) {
    const copy = { source: 1, sourceVersion: 1, handle: 2, version: 1, truncateTo: 250_000 };
    const { body } = await master.call(id, CopyChunk, { ...copy, ...(i === 0 ? { lease } : {}) });
    t.equal(body.lengthBytes, 250_000);
  }
  await t.rejects(
    write(primary, 1, 1, 0, pattern(10)),
    { code: 'NOT_PRIMARY' },
    'the source has no lease any more',
  );
  await write(primary, 2, 1, 0, Buffer.from('copy'));
  const copied = Buffer.concat([Buffer.from('copy'), content.subarray(4, 250_000)]);
  await assertReplicas(t, cluster, 2, copied);
  await assertReplicas(t, cluster, 1, content);
  await write(primary, 2, 1, 0, content, before);
  await assertReplicas(t, cluster, 2, copied);
});

t.test('revoke: what is under way is finished first, then nothing more is accepted', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const writes = Array.from({ length: 20 }, (_, i) => write(primary, 1, 1, i * 1_000, pattern(1_000, i)));
  await writes[0];
  const revoked = await master.call(ids[0] as string, RevokeLease, { handle: 1, version: 1 });
  const results = await Promise.allSettled(writes);
  const done = results.filter(({ status }) => status === 'fulfilled').length;
  t.ok(revoked.body.lengthBytes >= done * 1_000);
  await t.rejects(write(primary, 1, 1, 0, pattern(10)), { code: 'NOT_PRIMARY' });
  const again = await master.call(ids[0] as string, RevokeLease, { handle: 1, version: 1 });
  t.equal(again.body.lengthBytes, revoked.body.lengthBytes, 'asked twice it says the same');
  t.ok(again.body.agreed, 'every replica has every mutation');
  await cluster.restart(0);
  const restarted = await master.call(ids[0] as string, RevokeLease, { handle: 1, version: 1 });
  t.notOk(restarted.body.agreed, 'after a restart it does not know');
});

t.test('revoke: a primary of which a mutation failed does not vouch for the replicas', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary, chunkservers } = cluster;
  await master.grant(1, 1, ids);
  await write(primary, 1, 1, 0, Buffer.from('before'));
  await chunkservers[2]?.stop();
  await t.rejects(write(primary, 1, 1, 0, Buffer.from('during')), { code: 'REPLICA_FAILED' });
  const { body } = await master.call(ids[0] as string, RevokeLease, { handle: 1, version: 1 });
  t.notOk(body.agreed);
  chunkservers.pop();
});

t.test('chunks made ahead: many in one message, each with its primary, there after a restart', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  const handles = [7, 8, 9];
  const make = (id: string) => {
    const secondaries = ids.filter((other) => other !== id).map((other) => master.server(other));
    const leased = [handles[ids.indexOf(id)] as number];
    return { handles, leased, terms: { secondaries, durationMs: 60_000 } };
  };
  await t.rejects(primary.call(MakeChunks, make(ids[0] as string)), { code: 'NOT_PERMITTED' });
  for (const id of ids) await master.call(id, MakeChunks, make(id));
  await write(primary, 7, 1, 0, Buffer.from('written'));
  await t.rejects(write(primary, 8, 1, 0, Buffer.from('x')), { code: 'NOT_PRIMARY' });
  await assertReplicas(t, cluster, 7, Buffer.from('written'), 1);
  for (const index of ids.keys()) await cluster.restart(index);
  await assertReplicas(t, cluster, 7, Buffer.from('written'), 1);
  await assertReplicas(t, cluster, 9, Buffer.alloc(0), 1);
});

t.test('versions: raised durably, never lowered, truncation carried out on the way', async (t) => {
  const cluster = await threeServers(t);
  const { master, ids, primary } = cluster;
  await master.grant(1, 1, ids);
  const content = pattern(200_000);
  await write(primary, 1, 1, 0, content);
  await master.grant(1, 5, ids, 150_001);
  await assertReplicas(t, cluster, 1, content.subarray(0, 150_001), 5);
  const lower = { handle: 1, version: 4, create: false };
  await t.rejects(master.call(ids[0] as string, PrepareVersion, lower), { code: 'STALE_CHUNK_VERSION' });
  await t.rejects(primary.call(PrepareVersion, { ...lower, version: 6 }), { code: 'NOT_PERMITTED' });
  const unknown = { handle: 99, version: 2, create: false };
  await t.rejects(master.call(ids[0] as string, PrepareVersion, unknown), { code: 'NO_SUCH_CHUNK' });
  await write(primary, 1, 5, 180_000, Buffer.from('end'));
  const expected = Buffer.concat([content.subarray(0, 150_001), Buffer.alloc(29_999), Buffer.from('end')]);
  await assertReplicas(t, cluster, 1, expected, 5);
  for (const index of ids.keys()) await cluster.restart(index);
  await assertReplicas(t, cluster, 1, expected, 5);
});

t.test('versions: one that was acknowledged survives the host', async (t) => {
  const world = new SimulatedWorld(1);
  const host = world.host('server');
  host.disk.losesAll = true;
  const process = host.start('chunkserver');
  const store: Store = await world.until(openStore(process));
  await world.until(store.adopt(CLUSTER, CHUNK_BYTES));
  const made = await world.until(store.create(1, 1));
  await world.until(made.sync());
  const { clock, timers, network } = process.environment;
  const leases = new LeaseTable(clock, () => true);
  const term = () => 1;
  const pool = new BufferPool();
  const service = new Service();
  const peers = new Peers(process.environment, { identity: store, service, pool, term });
  const secondary = new Secondary(timers, store, new PushBuffer());
  const inTouch = () => true;
  const cloner = new Cloner({ clock, timers, store, peers, term, inTouch, onDamage: () => undefined });
  new MasterService({ store, leases, secondary, peers, cloner, term }).register(service);
  const as = { pool, term, clusterId: () => CLUSTER };
  await network.listen('server', 1, (socket) => {
    new Peer(socket, { ...process.environment, ...as, role: 'chunkserver', id: 'server', service });
  });
  const { environment } = world.process('master');
  const socket = await world.until(environment.network.connect('server', 1, 1_000));
  const master = new Peer(socket, {
    ...{ ...environment, ...as, role: 'master', id: 'master', service: new Service() },
  });
  const lease = { secondaries: [], durationMs: 60_000 };
  await world.until(master.call(PrepareVersion, { handle: 1, version: 2, create: false, lease }));
  host.crash();
  host.boot();
  const recovered: Store = await world.until(openStore(host.start('again')));
  t.equal(recovered.get(1).state.version, 2);
});

t.test('push: a server of the chain that hangs is named by the one before it', async (t) => {
  const { master, ids, primary } = await threeServers(t);
  const deaf = await quietEnvironment().network.listen('127.0.0.1', 0, () => undefined);
  t.teardown(() => deaf.close());
  const hanging = { serverId: 'hanging', host: '127.0.0.1', port: deaf.port };
  const chain = [master.server(ids[1] as string), hanging];
  const push = primary.call(
    PushData,
    { dataId: { session: SESSION, number: 8 }, chain },
    withPayload(pattern(100_000)),
  );
  await t.rejects(push, { code: 'REPLICA_FAILED', message: /^hanging: / });
});
