/** One master, chunkservers and clients in a simulated world, each on a host of its own. */
import type { GfsClient } from '../../client/index.js';
import type { FakeHost, SimulatedWorld } from '../fakes/index.js';
import { LogMember } from './log-member.js';
import { ChunkserverMember, ClientMember } from './members.js';
import { isEnding, type Member } from './programs.js';
import type { ClusterOptions } from './shape.js';

/** The paper's drift bound is ours: one percent, either way. */
const CLOCK_RATES = [1, 1.01, 0.99, 1.005, 0.995] as const;

export class SimulatedCluster {
  readonly world: SimulatedWorld;
  readonly options: ClusterOptions;
  /** Where the master is at first. */
  readonly master: LogMember;
  readonly shadows: readonly LogMember[];
  readonly chunkservers: readonly ChunkserverMember[];
  readonly clients: readonly ClientMember[];

  constructor(
    world: SimulatedWorld,
    options: ClusterOptions,
    run: (client: GfsClient, member: ClientMember) => Promise<void>,
  ) {
    this.world = world;
    this.options = options;
    const random = world.random.fork('cluster');
    const host = (name: string) => world.host(name, { clockRate: random.pick(CLOCK_RATES) });
    const numbered = <M>(count: number, name: string, make: (host: FakeHost, index: number) => M) =>
      Array.from({ length: count }, (_, i) => make(host(`${name}${i + 1}`), i));
    this.master = new LogMember(host('master'), options, 'master');
    this.shadows = numbered(options.shadows, 'shadow', (host) => new LogMember(host, options, 'shadow'));
    this.chunkservers = numbered(options.chunkservers, 'chunkserver', (host, i) => {
      return new ChunkserverMember(host, options, random, options.locations?.[i]);
    });
    this.clients = numbered(options.clients, 'client', (host) => new ClientMember(host, options, run));
  }

  /** Those that have the operation log. */
  get logs(): readonly LogMember[] {
    return [this.master, ...this.shadows];
  }

  get members(): readonly Member[] {
    return [...this.logs, ...this.chunkservers, ...this.clients];
  }

  start(): void {
    for (const member of this.members) member.start();
  }

  /** Everything runs, on whole links. */
  repair(): void {
    this.world.network.healAll();
    for (const { host } of this.members) if (!host.up) host.boot();
    for (const member of this.members) {
      member.host.disk.limitBytes = member.diskBytes;
      member.host.disk.slowness = 1;
      member.process?.resume();
      // Nobody starts one that ends only after this.
      if (member.process !== undefined && isEnding(member.process)) member.process.crash();
      if (member.process?.alive !== true) member.start();
    }
  }
}
