import t from 'tap';
import { digestState } from '../../master/dump.js';
import { checkLog, readRecords, salvage } from '../../master/log-check.js';
import { replay } from '../../master/recovery.js';
import { SEGMENT_HEADER_BYTES } from '../../master/segment.js';
import * as m from '../../protocol/messages/index.js';
import { FakeLogger, LogBook, SimulatedWorld } from '../fakes/index.js';
import { CHUNK_BYTES, MasterHost, TestClient } from './support.js';

const LOG = '/master/log';
const SMALL = { logSegmentBytes: 2_000, logReserveBytes: 1_000, checkpointBytes: 4_000 };

let seed = 7000;

/** A master's directory after `rounds` of 40 files, the state at its end, and what reads it. */
async function written(rounds: number, changes = SMALL) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const client = await TestClient.start(world);
  for (let at = 0; at < rounds * 40; at++) {
    await client.create(m.ROOT_ID, `file ${at}`);
    if (at % 40 === 39) await world.runFor(1_500);
  }
  const digest = digestState(host.master.state);
  host.process.crash();
  const { disk } = world.host('master').start('tool').environment;
  const fake = world.host('master').disk;
  const names = (kind: string): string[] => fake.namesIn(LOG).filter((name) => name.startsWith(kind));
  const clusterId = (await world.until(checkLog(disk, '/master'))).clusterId;
  const stateOf = async (directory: string) => {
    const logger = new FakeLogger(new LogBook(), 'tool', () => 0);
    const identity = { directory: `${directory}/log`, clusterId, chunkBytes: CHUNK_BYTES };
    return world.until(replay(disk, logger, identity));
  };
  return { world, host, disk, fake, names, digest, stateOf };
}

t.test('log check: a whole directory is whole, and its records can be read', async (t) => {
  const { world, disk, stateOf } = await written(8);
  const check = await world.until(checkLog(disk, '/master'));
  t.equal(check.refusal, undefined);
  t.equal(check.lostRecords, 0);
  t.equal(check.checkpoints.length, 2);
  t.ok(check.segments.every(({ state }) => state === 'whole'));
  t.equal(check.throughRecord, (await stateOf('/master')).nextSequence - 1);
  const read = async (): Promise<number[]> => {
    const sequences: number[] = [];
    for await (const { sequence } of readRecords(disk, '/master')) sequences.push(sequence);
    return sequences;
  };
  const sequences = await world.until(read());
  t.equal(sequences.at(-1), check.throughRecord);
  t.equal(sequences.length, check.throughRecord - (sequences[0] as number) + 1, 'without a gap');
});

t.test(
  'log check: damage in the middle is told with its place, and what came before it is saved',
  async (t) => {
    const { world, host, disk, fake, names, stateOf } = await written(1, { ...SMALL, logSegmentBytes: 1e6 });
    const [segment] = names('segment');
    fake.flipBit(`${LOG}/${segment}`, SEGMENT_HEADER_BYTES + 1_500);
    await t.rejects(host.start(), { name: 'DamagedLogError' });
    const check = await world.until(checkLog(disk, '/master'));
    t.match(check.refusal, new RegExp(`${segment}: damaged at offset`));
    const damaged = check.segments[0];
    t.equal(damaged?.state, 'damaged');
    t.ok(
      (damaged?.offset ?? 0) > SEGMENT_HEADER_BYTES && (damaged?.offset ?? 0) <= SEGMENT_HEADER_BYTES + 1_500,
    );
    t.ok(check.throughRecord > 5 && check.lostRecords > 5, 'some of each');
    t.equal(damaged?.seenThrough, check.throughRecord + check.lostRecords);
    await world.until(salvage(disk, '/master', '/saved'));
    const { state, nextSequence } = await stateOf('/saved');
    t.equal(nextSequence - 1, check.throughRecord);
    t.equal(state.fileCount, check.throughRecord - 1, 'the session, then files');
    await t.rejects(world.until(salvage(disk, '/master', '/saved')), { message: /not empty/ });
    const saved = new MasterHost(world, { ...SMALL, dataDirectory: '/saved' });
    await saved.start();
    t.equal(saved.master.state.fileCount, state.fileCount, 'a master serves it');
  },
);

t.test('log check: a segment that a checkpoint covers is not needed', async (t) => {
  const { world, disk, fake, names, digest, stateOf } = await written(8);
  const newest = Number(names('checkpoint').at(-1)?.slice(-16));
  for (const name of names('segment')) {
    // The one behind the newest checkpoint begins where that ends.
    if (Number(name.slice(-16)) < newest) fake.flipBit(`${LOG}/${name}`, SEGMENT_HEADER_BYTES + 40);
  }
  const check = await world.until(checkLog(disk, '/master'));
  t.ok(check.segments.some(({ state }) => state === 'damaged'));
  t.equal(check.refusal, undefined, 'a master starts all the same');
  t.equal(check.lostRecords, 0);
  t.equal(digestState((await stateOf('/master')).state), digest);
});

t.test('log check: whatever is damaged, it says truly what can be had, and salvage has it', async (t) => {
  const { world, disk, fake, names, digest, stateOf } = await written(4);
  const files = [...names('checkpoint'), ...names('segment')];
  for (let round = 0; round < 60; round++) {
    const flips: [string, number][] = [];
    for (let at = 0; at <= round % 3; at++) {
      const path = `${LOG}/${files[(round * 5 + at * 3) % files.length]}`;
      const size = fake.contentOf(path)?.byteLength ?? 0;
      flips.push([path, (round * 7919 + at * 104_729) % size]);
    }
    for (const [path, position] of flips) fake.flipBit(path, position);
    const check = await world.until(checkLog(disk, '/master'));
    const target = `/saved-${round}`;
    const starts = await stateOf('/master').then(
      () => true,
      () => false,
    );
    t.equal(check.refusal === undefined, starts, `round ${round}: whether a master starts`);
    await world.until(salvage(disk, '/master', target));
    const { state, nextSequence } = await stateOf(target);
    t.equal(nextSequence - 1, check.throughRecord, `round ${round}: what was said is there`);
    if (check.lostRecords === 0 && check.segments.every(({ state }) => state !== 'torn'))
      t.equal(digestState(state), digest, `round ${round}: all of it`);
    for (const [path, position] of flips) fake.flipBit(path, position);
  }
});
