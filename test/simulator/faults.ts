/** What goes wrong, and when: drawn from the seed. */
import type { FakeHost, FakeRandom, SimulatedWorld } from '../fakes/index.js';
import type { SimulatedCluster } from './cluster.js';
import type { Damage } from './damage.js';
import type { Operator } from './operator.js';
import type { Member } from './programs.js';

export const FAULTS = [
  'stop',
  'kill',
  'crash',
  'blackout',
  'cut',
  'cutOneWay',
  'slowLink',
  'reset',
  'hang',
  'late',
  'pause',
  'full',
  'slowDisk',
  'flip',
  'promote',
  'drain',
] as const;
export type Fault = (typeof FAULTS)[number];
/** Those that make a host forget what was not flushed. */
export const POWER_FAULTS: readonly Fault[] = ['crash', 'blackout'];

export interface FaultOptions {
  readonly faults: readonly Fault[];
  /** About how long it is from one to the next. */
  readonly meanIntervalMs: number;
  readonly operator: Operator;
  /** Called when a chunkserver's host lost its memory. */
  readonly onMemoryLost: () => void;
  readonly damage: Damage;
}

type Cause = (member: Member, other: Member) => void;

export class Faults {
  readonly #cluster: SimulatedCluster;
  readonly #world: SimulatedWorld;
  readonly #options: FaultOptions;
  readonly #random: FakeRandom;
  #stopped = false;
  /** How often each happened. */
  readonly counts = new Map<Fault, number>();

  constructor(cluster: SimulatedCluster, options: FaultOptions) {
    this.#cluster = cluster;
    this.#world = cluster.world;
    this.#options = options;
    this.#random = cluster.world.random.fork('faults');
    if (options.faults.length > 0) this.#next();
  }

  /** No more of them; what is broken has to be repaired by the caller. */
  stop(): void {
    this.#stopped = true;
  }

  #next(): void {
    const delayMs = -Math.log(1 - this.#random.unit()) * this.#options.meanIntervalMs;
    this.#world.scheduler.after(delayMs, () => {
      if (this.#stopped) return;
      const fault = this.#random.pick(this.#options.faults);
      this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
      this.#cause(fault);
      this.#next();
    });
  }

  #cause(fault: Fault): void {
    const { members } = this.#cluster;
    const member = this.#random.pick(members);
    const other = this.#random.pick(members.filter((candidate) => candidate !== member));
    this.#causes[fault](member, other);
  }

  readonly #causes: Readonly<Record<Fault, Cause>> = {
    stop: (member) => this.#stop(member),
    kill: (member) => this.#kill(member),
    crash: (member) => this.#crash([member]),
    // DESIGN: whole cluster killed at once.
    blackout: () =>
      this.#crash([this.#cluster.master, ...this.#cluster.shadows, ...this.#cluster.chunkservers]),
    cut: ({ host }, other) => this.#cut('cut', host, other.host),
    cutOneWay: ({ host }, other) => this.#cut('cutOneWay', host, other.host),
    slowLink: ({ host }, other) => this.#slowLink(host, other.host),
    reset: ({ host }, other) => this.#world.network.reset(host.name, other.host.name),
    hang: ({ host }, other) => this.#world.network.hang(host.name, other.host.name),
    late: ({ host }, other) => {
      this.#world.network.abandon(host.name, other.host.name, this.#durationMs());
    },
    pause: (member) => this.#pause(member),
    full: (member) => this.#fill(member),
    slowDisk: (member) => this.#slowDisk(member),
    flip: () => this.#flip(),
    promote: () => {
      // As a rule because the master is away, but nobody holds an operator to that.
      if (this.#random.chance(0.5))
        this.#kill(this.#cluster.logs.find(({ master }) => master) ?? this.#cluster.master);
      this.#options.operator.promote();
    },
    drain: () => this.#options.operator.drain(),
  };

  /** Long enough, now and then, for sessions and leases to end; and sometimes until all is repaired. */
  #durationMs(): number {
    if (this.#random.chance(0.05)) return Number.POSITIVE_INFINITY;
    return this.#random.chance(0.7) ? this.#random.between(10, 1_500) : this.#random.between(1_500, 8_000);
  }

  #later(delayMs: number, run: () => void): void {
    if (delayMs === Number.POSITIVE_INFINITY) return;
    this.#world.scheduler.after(delayMs, () => {
      if (!this.#stopped) run();
    });
  }

  /** In a chunk file or sidecar; seldom in the last good one of a chunk, which loses it. */
  #flip(): void {
    const { damage } = this.#options;
    const { disk, name: host } = this.#random.pick(this.#cluster.chunkservers).host;
    const shards = disk.namesIn('/data/chunks').map((shard) => `/data/chunks/${shard}`);
    const files = shards.flatMap((shard) => {
      return disk.namesIn(shard).flatMap((name) => {
        const handle = /^([0-9a-f]+)\.(chunk|sums)$/.exec(name)?.[1];
        return handle === undefined
          ? []
          : [{ path: `${shard}/${name}`, handle: Number.parseInt(handle, 16) }];
      });
    });
    if (files.length === 0) return;
    const { path, handle } = this.#random.pick(files);
    const sizeBytes = disk.contentOf(path)?.byteLength ?? 0;
    if (sizeBytes === 0 || !(damage.isSpared(host, handle) || this.#random.chance(0.1))) return;
    disk.flipBit(path, this.#random.below(sizeBytes));
    damage.flipped(host, handle);
  }

  #stop(member: Member): void {
    if (member.stop === undefined) return;
    member.stop();
    this.#later(this.#durationMs(), () => this.#restart(member));
  }

  #kill(member: Member): void {
    member.process?.crash();
    this.#later(this.#durationMs(), () => this.#restart(member));
  }

  #restart(member: Member): void {
    if (member.process?.alive !== true && member.host.up) member.start();
  }

  #crash(members: readonly Member[]): void {
    for (const member of members) {
      if (!member.host.up) continue;
      member.host.crash();
      if (this.#isChunkserver(member)) this.#options.onMemoryLost();
      this.#later(this.#durationMs(), () => {
        if (!member.host.up) member.host.boot();
        this.#restart(member);
      });
    }
  }

  #isChunkserver(member: Member): boolean {
    return (this.#cluster.chunkservers as readonly Member[]).includes(member);
  }

  #cut(fault: 'cut' | 'cutOneWay', a: FakeHost, b: FakeHost): void {
    const { network } = this.#world;
    if (fault === 'cut') network.cut(a.name, b.name);
    else network.cutOneWay(a.name, b.name);
    this.#later(this.#durationMs(), () => network.heal(a.name, b.name));
  }

  #slowLink(a: FakeHost, b: FakeHost): void {
    const { network } = this.#world;
    network.slow(a.name, b.name, this.#random.pick([20, 200, 1_000]));
    this.#later(this.#durationMs(), () => network.slow(a.name, b.name, 0));
  }

  #slowDisk({ host }: Member): void {
    host.disk.slowness = this.#random.pick([10, 100, 500]);
    this.#later(this.#durationMs(), () => {
      host.disk.slowness = 1;
    });
  }

  /** A few bytes more, and its disk is full; somebody makes room later. */
  #fill(member: Member): void {
    const { disk } = member.host;
    disk.limitBytes = disk.usedBytes() + this.#random.below(200_000);
    this.#later(this.#durationMs(), () => {
      disk.limitBytes = member.diskBytes;
      // It may have been started meanwhile, and found no room to.
      this.#restart(member);
    });
  }

  #pause(member: Member): void {
    const { process } = member;
    process?.pause();
    this.#later(this.#durationMs(), () => process?.resume());
  }
}
