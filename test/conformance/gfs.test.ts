/** The suite on GFS itself: a real cluster, mounted through the kernel binding. */
import t from 'tap';
import { nodeEnvironment } from '../../environment/node/index.js';
import { kernelBinding } from '../../fuse-client/kernel/index.js';
import { cannotMount, RealCluster } from '../real/cluster.js';
import { conformance } from './suite.js';

t.setTimeout(120_000);
await t.test('gfs mount', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { mount: ['-o', 'allow_other'] });
  const { capabilities } = kernelBinding(nodeEnvironment({ role: 'test', logLevel: 'silent' }), {
    acls: true,
    locks: true,
  });
  await conformance(t, cluster.mountPoint, capabilities);
});
