/** The crash between a new version's first replica and its record (DESIGN: replica states). */
import t, { type Test } from 'tap';
import { Create, GetChunks, GetLease, GetStatus, ROOT_ID } from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from './cluster.js';
import { connectClient } from './members.js';
import { readWhole } from './reading.js';
import { clusterDefaults } from './shape.js';

const ACKNOWLEDGED = 'acknowledged '.repeat(10_000);

async function crashAfterFirst(t: Test, world: SimulatedWorld, isFirstLost: boolean): Promise<void> {
  const cluster = new SimulatedCluster(world, { ...clusterDefaults, clients: 0 }, async () => undefined);
  cluster.start();
  const sleep = (delayMs: number) =>
    new Promise<void>((resolve) => void world.scheduler.after(delayMs, resolve));
  const client = await connectClient(world.process('a'));
  const named = { parent: ROOT_ID, name: 'f', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await client.master.mutate(Create, named);
  const file = await client.open(attributes.id, {}, true);
  await file.write(0, Buffer.from(ACKNOWLEDGED));
  await file.sync({});
  const lease = await client.locations.lease(file.id, 0, {}, client.master.deadline());
  const others = lease.secondaries.map(({ host }) => host);
  for (const host of others) world.network.cut('master', host);
  const asked = { id: file.id, index: 0, version: lease.version, failed: [] };
  const raised = client.master.query(GetLease, asked).catch(() => undefined);
  await sleep(200);
  cluster.master.process?.crash();
  await sleep(100);
  for (const host of others) world.network.heal('master', host);
  cluster.master.start();
  await sleep(1_600);
  const first = cluster.chunkservers.find(({ host }) => host.name === lease.primary.host);
  // Before anyone has compared it with the others.
  if (isFirstLost) first?.process?.crash();
  await sleep(5_000);
  const version = cluster.master.master?.state.chunks.get(lease.handle)?.version ?? 0;
  t.ok(version > lease.version, 'the version of the one is adopted');

  const reader = await connectClient(world.process('b'));
  const read = async (): Promise<string> => (await readWhole(await reader.open(file.id, {}))).toString();
  t.equal(await read(), ACKNOWLEDGED);
  await raised;
  if (isFirstLost) first?.start();
  await sleep(30_000);
  const { chunks } = await reader.master.query(GetChunks, { id: file.id, index: 0, count: 1 });
  t.equal(chunks[0]?.replicas.length, 3, 'no good replica is lost');
  t.equal((await reader.master.query(GetStatus, {})).chunksBelowGoal, 0);
  await file.write(0, Buffer.from('later'));
  await file.sync({});
  t.equal(await read(), `later${ACKNOWLEDGED.slice(5)}`);
}

for (const isFirstLost of [false, true]) {
  const what = isFirstLost ? ', which is lost then' : '';
  t.test(
    `replicas: one alone persisted v + 1 when the master died${what}: no acknowledged byte is lost, no good replica deleted`,
    async (t) => {
      for (let seed = 1; seed <= 4; seed++) {
        const world = new SimulatedWorld(seed);
        await world.until(crashAfterFirst(t, world, isFirstLost));
        t.same(world.failures, [], `seed ${seed}`);
      }
    },
  );
}
