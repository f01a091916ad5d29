/** Scenarios: what simulations have found, each as a script: a cluster, what happened, what must hold. */
import t, { type Test } from 'tap';
import { ChunkserverConnections } from '../../client/connections.js';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import { Create, ROOT_ID } from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from './cluster.js';
import { connectClient } from './members.js';
import type { Member } from './programs.js';
import { readWhole } from './reading.js';
import { clusterDefaults } from './shape.js';

/** A cluster, and one client at a time that the script speaks for. */
export class Scene {
  readonly world: SimulatedWorld;
  readonly cluster: SimulatedCluster;
  /** For one who looks at a replica by itself. */
  readonly connections: ChunkserverConnections;

  constructor(seed: number) {
    this.world = new SimulatedWorld(seed);
    this.cluster = new SimulatedCluster(
      this.world,
      { ...clusterDefaults, clients: 0 },
      async () => undefined,
    );
    this.cluster.start();
    this.connections = new ChunkserverConnections(
      this.world.process('reader').environment,
      'reader',
      () => '',
    );
  }

  client(name: string, options: { readonly caches?: boolean } = {}): Promise<GfsClient> {
    return connectClient(this.world.process(name), options);
  }

  serverAt(host: string): Member {
    return this.cluster.chunkservers.find((member) => member.host.name === host) as Member;
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.world.scheduler.after(delayMs, resolve));
  }

  /** The power of all chunkservers fails, and comes back. */
  async blackout(): Promise<void> {
    for (const { host } of this.cluster.chunkservers) {
      // By the seed: all that was not flushed is lost, or this and that.
      host.disk.losesAll = this.world.seed % 2 === 1;
      host.crash();
    }
    await this.sleep(100);
    for (const chunkserver of this.cluster.chunkservers) {
      chunkserver.host.boot();
      chunkserver.start();
    }
  }

  /** All chunkservers are killed with -9 and started again: the page cache stays. */
  async kill(): Promise<void> {
    for (const { process } of this.cluster.chunkservers) process?.crash();
    await this.sleep(100);
    for (const chunkserver of this.cluster.chunkservers) chunkserver.start();
  }
}

/** Runs the script on several seeds: what is lost differs, and when things happen. */
export function scenario(fact: string, script: (t: Test, scene: Scene) => Promise<void>): void {
  t.test(fact, async (t) => {
    for (let seed = 1; seed <= 5; seed++) {
      const scene = new Scene(seed);
      await scene.world.until(script(t, scene));
      t.same(scene.world.failures, [], `seed ${seed}`);
    }
  });
}

export const bytes = (text: string, count = 1) => Buffer.from(text.repeat(count), 'latin1');

export async function create(client: GfsClient, name: string): Promise<OpenFile> {
  const body = { parent: ROOT_ID, name, mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await client.master.mutate(Create, body);
  return client.open(attributes.id, {}, true);
}

export async function textOf(client: GfsClient, id: number): Promise<string> {
  const file = await client.open(id, {});
  const content = await readWhole(file);
  await client.close(file);
  return content.toString('latin1');
}
