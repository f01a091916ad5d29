import t from 'tap';
import { apply, NO_EFFECTS } from '../../master/apply.js';
import type { CheckpointMade } from '../../master/checkpointing.js';
import { digestState, dumpState } from '../../master/dump.js';
import { Master } from '../../master/master.js';
import type { MasterOptions } from '../../master/options.js';
import { LoggedState } from '../../master/state.js';
import { SCALARS, SECTIONS } from '../../master/state-image.js';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import type { LogEvent } from '../../protocol/records.js';
import { SimulatedWorld } from '../fakes/index.js';
import { CHUNK_BYTES, codeOf, MasterHost, TestClient, throughImage } from './support.js';

const LOG = '/master/log';
const SMALL: Partial<MasterOptions> = {
  logSegmentBytes: 2_000,
  logReserveBytes: 1_000,
  checkpointBytes: 4_000,
};

let seed = 4000;

async function started(changes: Partial<MasterOptions> = SMALL) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const client = await TestClient.start(world);
  return { world, host, client };
}

async function fill(client: TestClient, count: number, prefix = 'file'): Promise<void> {
  for (let at = 0; at < count; at++) await client.create(m.ROOT_ID, `${prefix} ${at}`);
}

function namesOf(world: SimulatedWorld, kind: string): string[] {
  return world
    .host('master')
    .disk.namesIn(LOG)
    .filter((name) => name.startsWith(kind));
}

/** A state that has something of everything. */
function everything(): LoggedState {
  const state = new LoggedState(CHUNK_BYTES, 7);
  let time = 0;
  const record = (event: LogEvent, sequence = 0): unknown =>
    apply(
      state,
      { timeSec: ++time, timeNsec: 1, session: sequence === 0 ? 0 : 1, sequence, method: 3, event },
      NO_EFFECTS,
    );
  record({ type: 'sessionOpened', id: 1, kind: 'client', owner: 'c', hostname: 'h' });
  record({ type: 'handlesReserved', through: 100 });
  const owner = { uid: 7, gid: 8, rdev: 0 };
  const make = (id: number, parent: number, name: string, mode: number, more = {}): unknown =>
    record({ type: 'created', parent, name, id, mode, ...owner, ...more }, id);
  make(2, 1, 'd', 0o040755);
  make(3, 2, 'file', 0o100644);
  make(4, 2, '\xff\xfe', 0o120777, { target: '/some/where' });
  make(5, 1, 'device', 0o020600, { rdev: 0x0801 });
  make(6, 1, 'deleted', 0o100644);
  make(7, 1, 'empty', 0o040700);
  make(8, 1, 'reclaimed', 0o100644);
  record({ type: 'tmpfileCreated', parent: 2, id: 12, mode: 0o100600, uid: 7, gid: 8 });
  record({ type: 'linked', id: 3, parent: 1, name: 'other' });
  record({ type: 'xattrSet', id: 3, name: 'user.x', value: Uint8Array.of(0, 255, 1) });
  const chunk = { version: 4, goal: 3, holder: 'server', durationMs: 60_000, replicas: 3 };
  record({ type: 'chunkAdded', id: 3, index: 0, handle: 1, ...chunk });
  record({ type: 'chunkAdded', id: 3, index: 9, handle: 2, ...chunk });
  record({ type: 'chunkAdded', id: 6, index: 0, handle: 3, ...chunk, holder: 'another' });
  record({ type: 'chunkAdded', id: 8, index: 0, handle: 4, ...chunk });
  record({ type: 'extended', id: 3, size: 10 * CHUNK_BYTES });
  record({
    type: 'attributesSet',
    id: 3,
    changes: { size: 9 * CHUNK_BYTES + 5, atimeSec: -1e12, atimeNsec: 4 },
  });
  record({ type: 'snapshotTaken', source: 2, parent: 1, name: 'snapshot', firstId: 9 });
  record({ type: 'retentionSet', ids: [2, 3], retentionMs: 1234 });
  record({ type: 'goalSet', ids: [2, 3], goal: 2, own: true });
  record({ type: 'drainSet', serverId: 'another', on: true });
  for (const name of ['deleted', 'reclaimed']) record({ type: 'unlinked', parent: 1, name });
  record({ type: 'reclaimed', ids: [8] });
  return state;
}

t.test('image: a state comes back whole, and goes on as the one it was made of', async (t) => {
  const state = everything();
  const copy = throughImage(state);
  t.strictSame(dumpState(copy), dumpState(state));
  for (const each of [state, copy]) {
    const record = (event: LogEvent): unknown =>
      apply(each, { timeSec: 99, timeNsec: 0, session: 0, sequence: 0, method: 0, event }, NO_EFFECTS);
    record({ type: 'unlinked', parent: 2, name: 'file' });
    record({ type: 'renamed', parent: 1, name: 'other', newParent: 2, newName: 'file', exchange: false });
    record({ type: 'linked', id: 12, parent: 2, name: 'now it has one' });
    for (let id = 20; id < 40; id++)
      record({ type: 'created', parent: 2, name: `${id}`, id, mode: 0o100644, uid: 0, gid: 0, rdev: 0 });
    const lease = { holder: 'third', durationMs: 1, replicas: 1 };
    record({ type: 'chunkAdded', id: 20, index: 0, handle: 50, version: 1, goal: 1, ...lease });
    record({ type: 'reclaimed', ids: [6] });
  }
  t.strictSame(dumpState(copy), dumpState(state));
  t.strictSame(dumpState(throughImage(copy)), dumpState(state), 'and a second time');
});

t.test('image: every table and count of the logged state is in it', async (t) => {
  const state = new LoggedState(CHUNK_BYTES);
  /** Given with the cluster, or derived. */
  const apart = new Set(['chunkBytes', 'pathMoves', 'nodes', 'chunks']);
  const known = new Set<string>([...SCALARS, ...SECTIONS.map(({ tag }) => tag)]);
  for (const name of Object.keys(state)) if (!apart.has(name)) t.ok(known.has(name), `LoggedState.${name}`);
  for (const [name, value] of Object.entries(state.nodes))
    if (value instanceof Map) t.ok(known.has(name), `NodeTable.${name}`);
});

t.test('checkpoint: made when the log has grown, and a start takes it and what came after', async (t) => {
  const { world, host, client } = await started();
  for (let round = 0; round < 6; round++) {
    await fill(client, 60, `round ${round}`);
    await client.unlink(m.ROOT_ID, `round ${round} 5`);
    await world.runFor(1_500);
  }
  t.equal(namesOf(world, 'checkpoint').length, 2, 'two are kept');
  t.notOk(namesOf(world, 'segment').includes('segment-0000000000000001'), 'old segments are gone');
  const digest = digestState(host.master.state);
  await host.restart();
  t.equal(digestState(host.master.state), digest);
  await host.powerCycle();
  t.equal(digestState(host.master.state), digest);
  await client.register(client.session);
  await client.create(m.ROOT_ID, 'goes on');
});

t.test(
  'checkpoint: one that is damaged or cut anywhere is left aside, and an older one and more log taken',
  async (t) => {
    const { world, host, client } = await started();
    for (let round = 0; round < 5; round++) {
      await fill(client, 60, `round ${round}`);
      await world.runFor(1_500);
    }
    const digest = digestState(host.master.state);
    host.process.crash();
    const { disk } = world.host('master');
    const [, newest] = namesOf(world, 'checkpoint');
    const path = `${LOG}/${newest}`;
    const whole = Buffer.from(disk.contentOf(path) ?? []);
    const step = Math.ceil(whole.byteLength / 40);
    for (let at = 0; at < whole.byteLength; at += step) {
      disk.flipBit(path, at);
      await host.start();
      t.equal(digestState(host.master.state), digest, `byte ${at} changed`);
      host.process.crash();
      disk.flipBit(path, at);
    }
    const editor = world.host('master').start('editor').environment.disk;
    for (let at = 0; at < whole.byteLength; at += step) {
      const file = await world.until(editor.open(path, 'write'));
      await world.until(file.truncate(at));
      await world.until(file.close());
      await host.start();
      t.equal(digestState(host.master.state), digest, `cut at ${at}`);
      host.process.crash();
      const again = await world.until(editor.open(path, 'write'));
      await world.until(again.write([whole], 0));
      await world.until(again.close());
    }
    for (const name of namesOf(world, 'checkpoint')) disk.flipBit(`${LOG}/${name}`, 300);
    await t.rejects(host.start(), {
      name: 'DamagedLogError',
      message: /segment-0000000000000001 is missing/,
    });
  },
);

t.test('checkpoint: a crash at any moment of making one loses nothing', async (t) => {
  for (let round = 0; round < 12; round++) {
    const { world, host, client } = await started();
    await fill(client, 100);
    const digest = digestState(host.master.state);
    await world.runFor(950 + round * 7);
    if (round % 2 === 0) await host.restart();
    else await host.powerCycle();
    if (digestState(host.master.state) !== digest) t.fail(`round ${round}`);
    const leftovers = world
      .host('master')
      .disk.namesIn(LOG)
      .filter((name) => name.endsWith('.new'));
    t.strictSame(leftovers, [], 'nothing half-made stays');
  }
});

t.test('checkpoint: mutations go on while one is made, and one that fails is made later', async (t) => {
  const world = new SimulatedWorld(seed++);
  const host = new MasterHost(world, SMALL);
  const attempts: ((error: Error) => void)[] = [];
  host.process = world.host('master').start('master');
  host.master = new Master(host.process.environment, host.options, {
    makeCheckpoint: () => new Promise<CheckpointMade>((_, reject) => attempts.push(reject)),
  });
  await world.until(host.master.start());
  const client = await TestClient.start(world);
  await fill(client, 100);
  await world.runFor(3_000);
  t.equal(attempts.length, 1, 'one at a time');
  await fill(client, 100, 'meanwhile');
  attempts[0]?.(new GfsError('NO_SPACE', 'full'));
  await world.runFor(5_000);
  t.equal(attempts.length, 1, 'not at once again');
  await world.runFor(60_000);
  t.equal(attempts.length, 2);
});

t.test(
  'log space: a full disk makes the master read-only, loses nothing, and it heals by itself',
  async (t) => {
    const { world, host, client } = await started({ logReserveBytes: 8_192 });
    await fill(client, 5);
    const { disk } = world.host('master');
    disk.limitBytes = disk.usedBytes();
    let made = 0;
    let code = await codeOf(client.create(m.ROOT_ID, `more ${made}`));
    for (; code === 'none'; made++) code = await codeOf(client.create(m.ROOT_ID, `more ${made + 1}`));
    t.equal(code, 'NO_SPACE');
    t.equal((await client.names(m.ROOT_ID)).length, 5 + made, 'reads go on');
    t.equal(await codeOf(client.unlink(m.ROOT_ID, 'file 1')), 'NO_SPACE', 'for every mutation');
    t.equal((await client.call(m.GetStatus, {})).logFull, true, 'the status says so');
    const digest = digestState(host.master.state);
    await host.powerCycle();
    t.equal(digestState(host.master.state), digest, 'what was acknowledged is there');
    await client.register(client.session);
    disk.limitBytes = undefined;
    await world.runFor(1_500);
    await client.create(m.ROOT_ID, 'room again');
    t.equal((await client.names(m.ROOT_ID)).length, 6 + made);
    t.equal((await client.call(m.GetStatus, {})).logFull, false);
  },
);
