/** Who waits for the master says so when it begins to, and seldom afterwards. */
import t from 'tap';
import { Outage } from '../../protocol/outage.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from '../simulator/cluster.js';
import { clusterDefaults } from '../simulator/shape.js';

t.test('outage: told at first, when it fails in another way, and once a minute', async (t) => {
  let nowMs = 5;
  const outage = new Outage({ monotonicMs: () => nowMs });
  t.equal(outage.failed('UNREACHABLE'), 0);
  nowMs += 2_000;
  t.equal(outage.failed('UNREACHABLE'), undefined);
  t.equal(outage.failed('WRONG_ROLE'), 2_000);
  nowMs += 58_000;
  t.equal(outage.failed('UNREACHABLE'), 60_000);
  t.equal(outage.failed('UNREACHABLE'), undefined);
  outage.over();
  t.equal(outage.failed('UNREACHABLE'), 0, 'the next one is another');
});

t.test('outage: a chunkserver and a shadow that wait for a master do not fill their logs', async (t) => {
  const world = new SimulatedWorld(9700);
  const options = { ...clusterDefaults, clients: 0, chunkservers: 1, shadows: 1 };
  const cluster = new SimulatedCluster(world, options, async () => undefined);
  let warnings: string[] = [];
  world.log.onLine = ({ level, process, message }) => {
    if (level === 'warn') warnings.push(`${process}: ${message}`);
  };
  const sleep = (ms: number) =>
    world.until(new Promise<void>((resolve) => world.scheduler.after(ms, resolve)));
  for (const member of [...cluster.shadows, ...cluster.chunkservers]) member.start();
  for (const when of ['before there was one', 'after it was gone']) {
    await sleep(10 * 60_000);
    for (const process of ['chunkserver1', 'shadow1']) {
      const count = warnings.filter((line) => line.startsWith(process)).length;
      t.ok(count >= 2 && count <= 50, `${process}: ${count} ${when}`);
    }
    cluster.master.start();
    await sleep(30_000);
    cluster.master.process?.crash();
    warnings = [];
  }
});
