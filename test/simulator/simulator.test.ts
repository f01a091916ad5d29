/** Short runs of whole clusters; longer ones by `npm run sim`. A seed that fails here fails there. */
import t from 'tap';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from './cluster.js';
import { Damage } from './damage.js';
import { FAULTS, type Fault } from './faults.js';
import { clusterDefaults } from './shape.js';
import { check, short } from './short-seeds.js';

/** On a busy machine. */
t.setTimeout(600_000);

t.test('simulator: one seed is one run', async (t) => {
  const options = { ...short, faults: FAULTS, meanIntervalMs: 100 };
  const runs = [await check(t, { ...options, seed: 1 }), await check(t, { ...options, seed: 1 })];
  t.equal(runs[0]?.digest, runs[1]?.digest);
  const other = await check(t, { ...options, seed: 2 });
  t.not(other.digest, runs[0]?.digest);
});

t.test('simulator: where nothing breaks nothing fails', async (t) => {
  const { succeeded, failed, undecided } = await check(t, { ...short, seed: 101, faults: [] });
  t.ok(succeeded > 100, `${succeeded} operations`);
  t.same([failed, undecided], [0, 0]);
});

t.test('simulator: each kind of fault alone breaks no contract', async (t) => {
  for (const [index, fault] of FAULTS.entries()) {
    await check(t, { ...short, seed: 201 + index, faults: [fault] });
  }
});

/** What no clock may decide: who is primary. Parted, stopped for any time, on clocks that drift by a hundredth. */
const FENCE: readonly Fault[] = ['pause', 'cut', 'cutOneWay', 'late'];

t.test('fence: no two primaries, whatever is cut off or stops and however clocks drift', async (t) => {
  for (let seed = 401; seed <= 406; seed++) {
    const options = { faults: FENCE, meanIntervalMs: 120, clients: 3, chunkservers: 3 };
    await check(t, { ...short, ...options, seed, leaseDurationMs: seed % 2 === 0 ? 1_000 : 60_000 });
  }
});

t.test(
  'damage: bits that flip between a sync and a power cut lose nothing of which a replica is good',
  async (t) => {
    const options = { caches: true, clients: 3, locationTtlMs: 60_000, leaseDurationMs: 60_000 };
    const faults: readonly Fault[] = ['flip', 'kill', 'crash'];
    for (const seed of [4, 43, 80])
      await check(t, {
        ...options,
        seed,
        faults,
        warmUpMs: 500,
        durationMs: 2_000,
        settleMs: 500,
        meanIntervalMs: 60,
      });
  },
);

t.test('damage: neither a copy that nobody adopted nor one without data passes for a good one', async (t) => {
  const world = new SimulatedWorld();
  const cluster = new SimulatedCluster(world, clusterDefaults, async () => undefined);
  const damage = new Damage(cluster);
  const [a, b] = cluster.chunkservers.map(({ host }) => host);
  if (a === undefined || b === undefined) throw new Error('two chunkservers are needed');
  const put = async (host: typeof a, name: string) => {
    const { disk } = host.start('server').environment;
    const directory = '/data/chunks/01';
    for (const path of ['/data', '/data/chunks', directory]) await disk.makeDirectory(path);
    await disk.open(`${directory}/${name}`, 'create');
  };
  await world.until(put(a, '00000000000001.sums'));
  await world.until(put(b, '00000000000001.chunk'));
  damage.raised(a.name, 1, 1);
  damage.fetched(b.name, 1);
  t.notOk(damage.mayBeLost(1), 'one is good');
  damage.flipped(a.name, 1);
  t.ok(damage.mayBeLost(1), 'the copy is no replica yet');
  damage.adopted(b.name, 1, 1);
  t.notOk(damage.mayBeLost(1), 'it is now');
  damage.raised(a.name, 1, 2);
  t.ok(damage.mayBeLost(1), 'it missed what the one without data may have');
});
