/** What goes wrong, and when: drawn from the seed. */
import type { FakeHost, FakeRandom, SimulatedWorld } from '../fakes/index.js';
import type { Member, SimulatedCluster } from './cluster.js';

export const FAULTS = ['stop', 'kill', 'crash', 'blackout', 'cut', 'cutOneWay', 'pause', 'full'] as const;
/**
 * A bit of a replica changes on a disk. Not mixed with faults that leave a chunk with fewer replicas: the
 * damaged one may then be the last.
 */
export const LONE_FAULTS = ['flip'] as const;
export type Fault = (typeof FAULTS | typeof LONE_FAULTS)[number];

export interface FaultOptions {
  readonly faults: readonly Fault[];
  /** About how long it is from one to the next. */
  readonly meanIntervalMs: number;
  /** Called when a chunkserver's host lost its memory. */
  readonly onMemoryLost: () => void;
}

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
    if (fault === 'stop') this.#stop(member);
    if (fault === 'kill') this.#kill(member);
    if (fault === 'crash') this.#crash([member]);
    if (fault === 'blackout') this.#blackout();
    if (fault === 'cut' || fault === 'cutOneWay') this.#cut(fault, member.host, other.host);
    if (fault === 'pause') this.#pause(member);
    if (fault === 'full') this.#fill(member);
    if (fault === 'flip') this.#flip();
  }

  /** Long enough, now and then, for sessions and leases to end. */
  #durationMs(): number {
    return this.#random.chance(0.7) ? this.#random.between(10, 1_500) : this.#random.between(1_500, 8_000);
  }

  #later(delayMs: number, run: () => void): void {
    this.#world.scheduler.after(delayMs, () => {
      if (!this.#stopped) run();
    });
  }

  /** In a chunk file or sidecar, always of the same chunkserver. */
  #flip(): void {
    const { disk } = (this.#cluster.chunkservers[0] as Member).host;
    const shards = disk.namesIn('/data/chunks').map((shard) => `/data/chunks/${shard}`);
    const files = shards.flatMap((shard) => disk.namesIn(shard).map((name) => `${shard}/${name}`));
    if (files.length === 0) return;
    const path = this.#random.pick(files);
    const sizeBytes = disk.contentOf(path)?.byteLength ?? 0;
    if (sizeBytes > 0) disk.flipBit(path, this.#random.below(sizeBytes));
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

  /** Everything at once (DESIGN: whole cluster killed at once). */
  #blackout(): void {
    this.#crash([this.#cluster.master, ...this.#cluster.chunkservers]);
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

  /** A few bytes more, and its disk is full; somebody makes room later. */
  #fill(member: Member): void {
    const { disk } = member.host;
    disk.limitBytes = disk.usedBytes() + this.#random.below(200_000);
    this.#later(this.#durationMs(), () => {
      disk.limitBytes = undefined;
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
