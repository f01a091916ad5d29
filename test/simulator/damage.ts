/**
 * Which replicas a flipped bit may have damaged, and with that which chunks may be lost: those of which every
 * replica with the newest version that any server has acknowledged was damaged where it lies. A chunk is lost
 * as a whole (DESIGN: all replicas damaged); but where one server has it undamaged, running or not, nobody may
 * be told that it is lost, and a replica that was made anew is damaged by what happens to it from then on.
 */
import type { SimulatedCluster } from './cluster.js';

const CHUNK_DIRECTORY = '/data/chunks';
/** By then everyone has heard that a server is back. */
const SETTLED_MS = 3_000;
/** Of a copy that is not a replica yet. */
const DRAFT_VERSION = 0;

interface Held {
  version: number;
  isDamaged: boolean;
}

export class Damage {
  readonly #cluster: SimulatedCluster;
  /** Of each host, since when its server is there again. */
  readonly #backSinceMs = new Map<string, number>();
  /** By chunk and host. */
  readonly #held = new Map<number, Map<string, Held>>();

  constructor(cluster: SimulatedCluster) {
    this.#cluster = cluster;
  }

  /** A server has acknowledged that it has a version of a chunk. */
  raised(host: string, handle: number, version: number): void {
    const held = this.#of(host, handle);
    held.version = Math.max(held.version, version);
  }

  /** It has fetched a copy, verified on its way, whatever it had before: nothing to anybody until it is adopted. */
  fetched(host: string, handle: number): void {
    const held = this.#of(host, handle);
    // One that is only brought up to date keeps what is wrong with it.
    if (held.version === DRAFT_VERSION) return;
    held.version = DRAFT_VERSION;
    held.isDamaged = false;
  }

  /** What it has fetched is a replica now. */
  adopted(host: string, handle: number, version: number): void {
    const held = this.#of(host, handle);
    held.version = Math.max(held.version, version);
  }

  /** It has made a copy of what it has of another chunk, with the checksums: what is wrong with that is wrong with this. */
  copiedHere(host: string, source: number, handle: number, version: number): void {
    const held = this.#of(host, handle);
    held.version = version;
    held.isDamaged = this.#of(host, source).isDamaged;
  }

  flipped(host: string, handle: number): void {
    this.#of(host, handle).isDamaged = true;
  }

  mayBeLost(handle: number): boolean {
    const present = this.#present(handle);
    const newest = Math.max(...present.map(({ version }) => version));
    return present.length > 0 && present.every((held) => held.isDamaged || held.version < newest);
  }

  /**
   * Whether a reader may be told so now: also while those that have it undamaged are away, or have come back a
   * moment ago. They are waited for, but not for ever.
   */
  mayBeToldLost(handle: number): boolean {
    const connected = this.#connected();
    const present = this.#present(handle);
    const newest = Math.max(...present.map(({ version }) => version));
    return (
      present.length > 0 &&
      present.every(({ host, version, isDamaged }) => {
        return isDamaged || version < newest || !connected.has(host);
      })
    );
  }

  /** A server has registered with a master. */
  registered(host: string): void {
    const nowMs = this.#cluster.world.scheduler.nowMs;
    // The first time nobody has waited for it.
    this.#backSinceMs.set(host, this.#backSinceMs.has(host) ? nowMs : Number.NEGATIVE_INFINITY);
  }

  /** Hosts of the servers that a master has a session with, for a while. */
  #connected(): Set<string> {
    const nowMs = this.#cluster.world.scheduler.nowMs;
    const hosts = new Set<string>();
    for (const { master, copy } of this.#cluster.logs) {
      if (master === undefined) continue;
      for (const { kind, hostname } of copy?.state.sessions.values() ?? [])
        if (kind === 'chunkserver' && (this.#backSinceMs.get(hostname) ?? nowMs) + SETTLED_MS <= nowMs)
          hosts.add(hostname);
    }
    return hosts;
  }

  /** Whether a chunk is there yet where this server's replica is damaged. */
  isSpared(host: string, handle: number): boolean {
    const own = this.#of(host, handle);
    const before = own.isDamaged;
    own.isDamaged = true;
    const isLost = this.mayBeLost(handle);
    own.isDamaged = before;
    return !isLost;
  }

  /** How many chunks are so. */
  get lostCount(): number {
    return [...this.#held.keys()].filter((handle) => this.mayBeLost(handle)).length;
  }

  /** Those that are on a disk. */
  #present(handle: number): (Held & { readonly host: string })[] {
    const held = this.#held.get(handle) ?? new Map<string, Held>();
    const name = handle.toString(16).padStart(14, '0');
    return this.#cluster.chunkservers.flatMap(({ host: { name: host, disk } }) => {
      const isThere = disk.namesIn(CHUNK_DIRECTORY).some((shard) => {
        const names = disk.namesIn(`${CHUNK_DIRECTORY}/${shard}`);
        // Of one without data there is the sidecar alone.
        return names.includes(`${name}.chunk`) || names.includes(`${name}.sums`);
      });
      const replica = held.get(host);
      return isThere && replica !== undefined ? [{ ...replica, host }] : [];
    });
  }

  #of(host: string, handle: number): Held {
    let hosts = this.#held.get(handle);
    if (hosts === undefined) {
      hosts = new Map();
      this.#held.set(handle, hosts);
    }
    let held = hosts.get(host);
    if (held === undefined) {
      held = { version: 0, isDamaged: false };
      hosts.set(host, held);
    }
    return held;
  }
}
