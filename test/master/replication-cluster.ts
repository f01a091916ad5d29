/** A master with chunkservers that hold no bytes, and a client that asks it: for the tests of re-replication. */
import type { MasterOptions } from '../../master/options.js';
import { replicationDefaults } from '../../master/replication/options.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { TestChunkserver } from './chunkserver.js';
import { MasterHost, TestClient } from './support.js';

export const WAIT_MS = 8_000;

let seed = 4_000;

export async function cluster(
  servers: number,
  set: (at: number) => Partial<TestChunkserver> = () => ({}),
  changes: Partial<MasterOptions> = {},
) {
  const world = new SimulatedWorld(seed++);
  const replication = { ...replicationDefaults, ...changes.replication, waitMs: WAIT_MS };
  const host = await new MasterHost(world, { ...changes, replication }).start();
  const client = await TestClient.start(world);
  const chunkservers: TestChunkserver[] = [];
  for (let at = 0; at < servers; at++)
    chunkservers.push(await TestChunkserver.start(world, `cs${at}`, set(at)));
  const byId = (serverId: string): TestChunkserver =>
    chunkservers.find((chunkserver) => chunkserver.serverId === serverId) as TestChunkserver;
  const lease = async (id: number, index = 0): Promise<m.Lease> =>
    (await client.call(m.GetLease, { id, index, version: 0, failed: [] })).lease;
  const having = (handle: number): TestChunkserver[] =>
    chunkservers.filter(({ chunks }) => chunks.has(handle));
  /** Servers that readers are sent to. */
  const readable = async (id: number): Promise<string[]> => {
    const { chunks } = await client.call(m.GetChunks, { id, index: 0, count: 1 });
    return (chunks[0]?.replicas ?? []).map(({ serverId }) => serverId).sort();
  };
  const file = async (name: string): Promise<{ id: number; lease: m.Lease }> => {
    const id = await client.create(m.ROOT_ID, name);
    return { id, lease: await lease(id) };
  };
  return { world, host, client, chunkservers, byId, lease, having, readable, file };
}

export const asked = (chunkservers: readonly TestChunkserver[], what: string): string[] =>
  chunkservers.flatMap((chunkserver) => chunkserver.asked.filter((line) => line.startsWith(what)));
