/** Two mounts of one cluster of real processes. More mounts, hosts and rounds: `npm run test:mounts`. */
import t from 'tap';
import { cannotMount, RealCluster } from '../real/cluster.js';
import { runCases } from './cases.js';

t.setTimeout(600_000);

t.test('two mounts of one cluster', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t);
  await cluster.addMount('other');
  await runCases(t, [cluster.mountPoint, cluster.workspace.path('other')], 1);
});
