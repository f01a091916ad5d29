import t from 'tap';
import { apply, NO_EFFECTS } from '../../master/apply.js';
import { digestState } from '../../master/dump.js';
import { LogReader } from '../../master/log-reader.js';
import { Master } from '../../master/master.js';
import { OperationLog } from '../../master/operation-log.js';
import { DamagedLogError, recover } from '../../master/recovery.js';
import { GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES } from '../../master/segment.js';
import { LoggedState } from '../../master/state.js';
import { DataDirectoryError } from '../../master/superblock.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { CHUNK_BYTES, codeOf, MasterHost, masterOptions, TestClient } from './support.js';

const FIRST_SEGMENT = '/master/log/segment-0000000000000001';

let seed = 1000;

async function written(count: number, changes = {}) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const client = await TestClient.start(world);
  for (let at = 0; at < count; at++) await client.create(m.ROOT_ID, `file ${at}`);
  return { world, host, client };
}

/** Replaces a file on the fake disk. */
async function rewrite(world: SimulatedWorld, path: string, bytes: Uint8Array): Promise<void> {
  const { disk } = world.host('master').start('editor').environment;
  const file = await world.until(disk.open(path, 'create'));
  await world.until(file.truncate(0));
  await world.until(file.write([bytes], 0));
  await world.until(file.sync());
  await world.until(file.close());
}

function contentOf(world: SimulatedWorld, path: string): Buffer {
  return Buffer.from(world.host('master').disk.contentOf(path) ?? []);
}

/** A segment without the zeros that are written ahead. */
function segmentOf(world: SimulatedWorld, path: string): Buffer {
  const bytes = contentOf(world, path);
  return bytes.subarray(0, groupsOf(bytes).at(-1));
}

/** Offsets at which groups begin, and the end. */
function groupsOf(bytes: Buffer): number[] {
  const at = [SEGMENT_HEADER_BYTES];
  for (let end = SEGMENT_HEADER_BYTES; end < bytes.byteLength; at.push(end)) {
    if (bytes.readUInt32LE(end) === 0) break;
    end += GROUP_HEADER_BYTES + bytes.readUInt32LE(end);
  }
  return at;
}

async function recovered(world: SimulatedWorld) {
  const { environment } = world.host('master').start('reader');
  const superblock = JSON.parse(contentOf(world, '/master/superblock.json').toString()) as {
    clusterId: string;
  };
  const options = {
    directory: '/master/log',
    clusterId: superblock.clusterId,
    chunkBytes: CHUNK_BYTES,
    term: 1,
    segmentBytes: 1,
    sync: 'always',
    syncIntervalMs: 1000,
  } as const;
  const result = await world.until(recover(environment.disk, environment.logger, options));
  await world.until(result.position.file.close());
  return result;
}

t.test('operation log: a torn tail is cut at every offset, and what came before it is kept', async (t) => {
  const { world, host } = await written(2);
  host.process.crash();
  const whole = segmentOf(world, FIRST_SEGMENT);
  const groups = groupsOf(whole);
  const digests = new Map<number, string>();
  for (let cut = SEGMENT_HEADER_BYTES; cut <= whole.byteLength; cut++) {
    await rewrite(world, FIRST_SEGMENT, whole.subarray(0, cut));
    const { state, position } = await recovered(world);
    const end = Math.max(...groups.filter((at) => at <= cut));
    const digest = digestState(state);
    if (position.endBytes !== end) t.equal(position.endBytes, end, `cut at ${cut}`);
    if (contentOf(world, FIRST_SEGMENT).byteLength !== end) t.fail(`the tail after ${end} is still there`);
    if (digests.has(end) && digests.get(end) !== digest) t.fail(`another state when cut at ${cut}`);
    digests.set(end, digest);
  }
  t.equal(digests.size, groups.length, 'one state for each group');
  t.equal(new Set(digests.values()).size, groups.length);
});

t.test('operation log: a damaged tail is cut too, whichever of its bytes changed', async (t) => {
  const { world, host } = await written(1);
  host.process.crash();
  const whole = segmentOf(world, FIRST_SEGMENT);
  const groups = groupsOf(whole);
  const last = groups.at(-2) as number;
  for (let at = last; at < whole.byteLength; at++) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] as number) ^ 0x10;
    await rewrite(world, FIRST_SEGMENT, damaged);
    const { position } = await recovered(world);
    if (position.endBytes !== last) t.equal(position.endBytes, last, `byte ${at}`);
  }
  t.pass();
});

t.test('operation log: a corrupt middle stops the start, and names segment and offset', async (t) => {
  const { world, host } = await written(3);
  host.process.crash();
  const whole = segmentOf(world, FIRST_SEGMENT);
  const groups = groupsOf(whole);
  for (let at = SEGMENT_HEADER_BYTES; at < (groups.at(-2) as number); at++) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] as number) ^ 0x01;
    await rewrite(world, FIRST_SEGMENT, damaged);
    const offset = Math.max(...groups.filter((begin) => begin <= at));
    try {
      await recovered(world);
      t.fail(`byte ${at} was not noticed`);
    } catch (error) {
      if (!(error instanceof DamagedLogError)) throw error;
      const said = error.message.includes(FIRST_SEGMENT) && error.message.includes(`offset ${offset}:`);
      if (!said) t.fail(`byte ${at}: ${error.message}`);
    }
  }
  t.pass();
  await t.rejects(host.start(), { name: 'DamagedLogError' }, 'the master does not start');
  t.strictSame(contentOf(world, FIRST_SEGMENT).byteLength, whole.byteLength, 'and changes nothing');
});

t.test('operation log: a damaged header, an unknown feature, a missing segment stop the start', async (t) => {
  const { world, host } = await written(12, { logSegmentBytes: 300 });
  host.process.crash();
  const names = world.host('master').disk.namesIn('/master/log');
  t.ok(names.length >= 3, 'several segments');
  const whole = segmentOf(world, FIRST_SEGMENT);
  for (const at of [0, 8, 16, 24, 40, 50, 126]) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] as number) ^ 0x01;
    await rewrite(world, FIRST_SEGMENT, damaged);
    await t.rejects(recovered(world), { name: 'DamagedLogError' }, `byte ${at}`);
  }
  await rewrite(world, FIRST_SEGMENT, whole.subarray(0, whole.byteLength - 1));
  await t.rejects(recovered(world), { name: 'DamagedLogError' }, 'a closed segment has no torn tail');
  await rewrite(world, FIRST_SEGMENT, whole);
  await recovered(world);
  const { disk } = world.host('master').start('editor').environment;
  await world.until(disk.remove(`/master/log/${names[1]}`));
  await t.rejects(recovered(world), { message: /missing/ });
});

t.test('operation log: a group that was lost out of order by a power failure is a torn tail', async (t) => {
  const { world, host, client } = await written(0, { logSync: 'interval', logSyncIntervalMs: 60_000 });
  const before = segmentOf(world, FIRST_SEGMENT).byteLength;
  for (const name of ['a', 'b', 'c']) await client.create(m.ROOT_ID, name);
  host.process.crash();
  const whole = segmentOf(world, FIRST_SEGMENT);
  whole.fill(0, before, before + 40);
  await rewrite(world, FIRST_SEGMENT, whole);
  const { position } = await recovered(world);
  t.equal(position.endBytes, before, 'nobody knew that it was on disk');
});

t.test('operation log: what is acknowledged survives kill -9 and power failure', async (t) => {
  for (const how of ['restart', 'powerCycle'] as const) {
    const { host, client } = await written(20);
    const digest = digestState(host.master.state);
    await host[how]();
    const names = [...(host.master.state.nodes.get(m.ROOT_ID)?.entries ?? [])].map(({ name }) => name);
    t.equal(names.length, 20, how);
    t.equal(digestState(host.master.state), digest);
    await client.register(client.session);
    await client.create(m.ROOT_ID, 'one more');
    t.equal((await client.lookup('/one more')).id, 22, 'ids are not used again');
  }
});

t.test('operation log: what arrives during a flush shares the next one', async (t) => {
  const { world, client } = await written(0);
  const before = groupsOf(contentOf(world, FIRST_SEGMENT)).length;
  const created = Array.from({ length: 60 }, (_, at) =>
    client.send(
      m.Create,
      { parent: m.ROOT_ID, name: `${at}`, mode: 0o100644, rdev: 0, exclusive: true },
      { sequence: at + 1 },
    ),
  );
  await world.until(Promise.all(created));
  const groups = groupsOf(contentOf(world, FIRST_SEGMENT)).length - before;
  t.ok(groups >= 1 && groups <= 8, `${groups} groups for 60 mutations`);
});

t.test(
  'operation log: on a full disk mutations fail with NO_SPACE, reads go on, and the log stays whole',
  async (t) => {
    const { world, host, client } = await written(3);
    const { disk } = world.host('master');
    disk.inject = (operation) => (operation === 'write' ? 'ENOSPC' : undefined);
    t.equal(await codeOf(client.create(m.ROOT_ID, 'full')), 'NO_SPACE');
    t.equal(await codeOf(client.lookup('/full')), 'NOT_FOUND');
    t.equal((await client.names(m.ROOT_ID)).length, 3);
    disk.inject = undefined;
    await world.runFor(1_500);
    await client.create(m.ROOT_ID, 'room again');
    const digest = digestState(host.master.state);
    await host.restart();
    t.equal(digestState(host.master.state), digest);
  },
);

t.test('operation log: a failed flush ends the process, and nothing of it was acknowledged', async (t) => {
  const { world, host, client } = await written(1);
  world.host('master').disk.inject = (operation) => (operation === 'sync' ? 'EIO' : undefined);
  const code = await codeOf(
    client.mutate(m.Create, { parent: 1, name: 'x', mode: 0o100644, rdev: 0, exclusive: true }),
  );
  t.equal(code, 'DISCONNECTED');
  t.notOk(host.process.alive);
  t.equal(world.failures.length, 1);
  world.host('master').disk.inject = undefined;
  await host.start();
});

t.test('operation log: segments follow each other past a size, and replay as one', async (t) => {
  const { world, host, client } = await written(30, { logSegmentBytes: 500 });
  t.ok(world.host('master').disk.namesIn('/master/log').length > 4);
  await client.mkdir(m.ROOT_ID, 'd');
  const digest = digestState(host.master.state);
  await host.powerCycle();
  t.equal(digestState(host.master.state), digest);
});

t.test('operation log: followers read on where a segment ends in space that was reserved', async (t) => {
  const { world, host, client } = await written(60, { logSegmentBytes: 2_048 });
  const { logRecords } = await client.call(m.GetStatus, {});
  host.process.crash();
  // A power failure may bring back what the end of the segment was cut off without a flush.
  await rewrite(world, FIRST_SEGMENT, Buffer.concat([contentOf(world, FIRST_SEGMENT), Buffer.alloc(4_096)]));
  const { disk } = world.host('master').start('reader').environment;
  const reader = new LogReader(disk, '/master/log');
  let next = 1;
  while (next <= logRecords) {
    const range = await world.until(reader.read(next, logRecords));
    if (range === undefined) break;
    t.equal(range.firstSequence, next);
    next += range.count;
  }
  t.equal(next, logRecords + 1, 'all segments');
  await world.until(reader.close());
});

t.test('data directory: one master at a time, of the same cluster and chunk size', async (t) => {
  const { world, host } = await written(0);
  const second = new Master(world.host('master').start('second').environment, masterOptions({ port: 5001 }));
  await t.rejects(world.until(second.start()), { name: 'DataDirectoryError', message: /in use/ });
  await world.until(host.master.stop());
  const other = new Master(
    world.host('master').start('third').environment,
    masterOptions({ chunkBytes: 65_536 }),
  );
  await t.rejects(world.until(other.start()), { name: 'DataDirectoryError', message: /chunks of/ });
  await rewrite(world, '/master/superblock.json', Buffer.from('{'));
  const damaged = new Master(world.host('master').start('fourth').environment, masterOptions());
  const error = await world.until(damaged.start().catch((thrown: unknown) => thrown));
  t.ok(error instanceof DataDirectoryError);
});

t.test('apply: a record that does not fit is a broken invariant', async (t) => {
  const state = new LoggedState(CHUNK_BYTES);
  const record = {
    timeSec: 0,
    timeNsec: 0,
    session: 0,
    sequence: 0,
    method: 0,
    event: { type: 'unlinked', parent: m.ROOT_ID, name: 'nothing' },
  } as const;
  t.throws(() => apply(state, record, NO_EFFECTS), { name: 'InvariantError' });
});

t.test(
  'operation log: only who asks for one thing after another, alone, has this process wait',
  async (t) => {
    const { environment } = new SimulatedWorld(seed++).process('master');
    const flushes: boolean[] = [];
    const file = {
      read: async () => 0,
      write: async () => undefined,
      sync: async (isAlone = false) => void flushes.push(isAlone),
      sizeBytes: async () => 0,
      truncate: async () => undefined,
      close: async () => undefined,
    };
    const options = {
      directory: '/log',
      clusterId: 'c',
      chunkBytes: CHUNK_BYTES,
      term: 1,
      segmentBytes: 1_000_000,
      reserveBytes: 4096,
      sync: 'always',
      syncIntervalMs: 1000,
    } as const;
    const at = { endBytes: 128, reservedTo: 128, firstSequence: 1, nextSequence: 1, checkpointSequence: 1 };
    const log = new OperationLog(environment, options, { ...at, file, closed: [] }, () =>
      t.fail('it failed'),
    );
    const append = (session: number) =>
      new Promise<void>((resolve, reject) => log.append(Buffer.from('record'), resolve, reject, session));
    for (const session of [1, 1, 1, 2, 1, 2, 2]) await append(session);
    t.strictSame(flushes.splice(0), [false, true, true, false, false, false, true], 'of two, neither');
    await Promise.all([append(2), append(2)]);
    t.strictSame(flushes.splice(0), [false], 'two things at once are flushed together');
    await append(2);
    t.strictSame(flushes.splice(0), [false], 'and there may be more of them');
    await append(2);
    t.strictSame(flushes.splice(0), [true]);
    log.replicate({ ready: () => undefined, written: () => true, committed: () => undefined });
    await append(2);
    t.strictSame(flushes, [false], 'log replicas get it meanwhile');
    await log.close();
  },
);
