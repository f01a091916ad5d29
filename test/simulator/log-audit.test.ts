/** What the simulator demands of the copies of the log, where a master comes back that was replaced. */
import t from 'tap';
import { LogReplicas } from '../../master/log-replicas.js';
import { Create, Promote, ROOT_ID } from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { askAt, SHADOW_PORT, soon } from '../master/shadow.js';
import { SimulatedCluster } from './cluster.js';
import { Violation } from './ledger.js';
import { checkLogs } from './log-audit.js';
import type { LogMember } from './log-member.js';
import { connectClient } from './members.js';
import { clusterDefaults } from './shape.js';

/**
 * A change reaches the log of the master alone. Its shadow is promoted, and serves; the master is cut off from it.
 * @param restarts whether the master is begun anew meanwhile
 */
async function replaced(restarts: boolean): Promise<SimulatedCluster> {
  const world = new SimulatedWorld(7_300);
  const options = { ...clusterDefaults, chunkservers: 0, clients: 0, shadows: 1 };
  const cluster = new SimulatedCluster(world, options, async () => undefined);
  const { master, shadows } = cluster;
  const [shadow] = shadows as [LogMember];
  for (const member of cluster.logs) member.start();
  await soon(world, () => (master.copy?.state.logReplicas.size ?? 0) === 1);
  await soon(world, () => shadow.copy?.endSequence === master.copy?.endSequence);
  const client = await world.until(connectClient(world.process('client'), { shadows: 1 }));
  world.network.cut('master', 'shadow1');
  const body = { parent: ROOT_ID, name: 'alone', mode: 0o100644, rdev: 0, exclusive: true };
  client.master.mutate(Create, body).catch(() => undefined);
  await world.runFor(100);
  if (restarts) {
    master.process?.crash();
    master.start();
  }
  await askAt(world, 'shadow1', SHADOW_PORT, Promote, {});
  await soon(world, () => shadow.master?.logCounts === true && master.copy !== undefined);
  return cluster;
}

t.test('log audit: what a restarted master alone has in its log does not count', async (t) => {
  const { logs, master, shadows } = await replaced(true);
  t.equal(master.master?.logCounts, false);
  t.not(master.copy?.endSequence, shadows[0]?.copy?.endSequence);
  await checkLogs(logs);
});

t.test('log audit: what a master counts that the next one lacks is found', async (t) => {
  const { committed } = LogReplicas.prototype;
  LogReplicas.prototype.committed = () => undefined;
  t.teardown(() => {
    LogReplicas.prototype.committed = committed;
  });
  const { logs, master } = await replaced(false);
  t.equal(master.master?.logCounts, true);
  await t.rejects(checkLogs(logs), Violation);
});
