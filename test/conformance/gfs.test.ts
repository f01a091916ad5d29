/** The suite on GFS itself: a real cluster, mounted through the kernel binding. */
import { statfs } from 'node:fs/promises';
import t from 'tap';
import { nodeEnvironment } from '../../environment/node/index.js';
import { kernelBinding } from '../../fuse-client/kernel/index.js';
import { cannotMount, RealCluster } from '../real/cluster.js';
import { conformance } from './suite.js';

t.setTimeout(600_000);
await t.test('gfs mount', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { mount: ['-o', 'allow_other'] });
  const { capabilities } = kernelBinding(nodeEnvironment({ role: 'test', logLevel: 'silent' }), {
    acls: true,
    locks: true,
  });
  await conformance(t, cluster.mountPoint, capabilities);

  await t.test('statfs: the room is that of the servers, divided by the replicas of a file', async (t) => {
    const GOAL = 3;
    const { servers } = await cluster.status();
    const totalBytes = servers.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
    const { bsize, blocks, bavail } = await statfs(cluster.mountPoint);
    t.equal(blocks, Math.floor(totalBytes / GOAL / bsize));
    t.ok(bavail > 0 && bavail <= blocks, 'what is left is counted so too');
  });
});
