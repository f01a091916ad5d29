/** A simulated cluster with two clients that cache, for tests of what one sees of the other. */
import { clientDefaults, GfsClient } from '../../client/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from '../simulator/cluster.js';
import { type ClusterOptions, clusterDefaults } from '../simulator/shape.js';

export async function startTwoClients(seed: number, options: Partial<ClusterOptions> = {}) {
  const world = new SimulatedWorld(seed);
  const cluster = new SimulatedCluster(
    world,
    { ...clusterDefaults, ...options, clients: 0 },
    async () => undefined,
  );
  cluster.start();
  const masters = [{ host: 'master', port: 5000 }];
  const client = (name: string): Promise<GfsClient> =>
    world.until(
      GfsClient.connect(world.process(name).environment, { ...clientDefaults, masters, caches: true }),
    );
  const sleep = (ms: number) =>
    world.until(new Promise<void>((resolve) => world.scheduler.after(ms, resolve)));
  const a = await client('a');
  const b = await client('b');
  return { world, cluster, client, sleep, a, b };
}
