/**
 * Where chunks are: soft state, never logged (paper §2.6.2). Chunkservers say what they have and have
 * the last word; what the log says of a version decides what it is worth. Packed, because there are
 * three replicas of everything: about 32 bytes for a chunk (master/replica-table.ts).
 */
import type { Health, Location, Server, Space } from '../protocol/messages/index.js';
import type { Caller } from '../protocol/rpc.js';
import { ReplicaTable } from './replica-table.js';
import type { ChunkState } from './state.js';

/** A registered chunkserver. A new registration makes a new one: what the old one said is void at once. */
export interface Chunkserver {
  readonly session: number;
  readonly server: Server;
  readonly peer: Caller;
  readonly bootId: number;
  /** Connected, and heard of lately. Once false it stays so. */
  alive: boolean;
  /** Dead for so long, or replaced by a new registration, that what it had counts for nothing any more. */
  gone: boolean;
  /** It has told all its chunks. */
  reported: boolean;
  lastHeardMs: number;
  location: Location | undefined;
  rack: string | undefined;
  space: Space;
  load: number;
  /** As its last heartbeat told. */
  health?: Health | undefined;
  /** Chunks made here lately, and leases given lately; both fade. */
  recentCreations: number;
  recentLeases: number;
  /** How many replicas it has told of. */
  replicaCount: number;
  /** Its number in the replica table; 0 while it has none. */
  tableIndex: number;
  /** Handles that it is to delete. */
  readonly deletions: Set<number>;
}

/** What is known of a replica, as of when it was asked. */
export interface Replica {
  readonly chunkserver: Chunkserver;
  readonly handle: number;
  readonly version: number;
  readonly lengthBytes: number;
  /** It may be behind: not read until the next lease has compared it with the others. */
  readonly suspect: boolean;
  /** It failed a checksum: neither read nor raised. */
  readonly damaged: boolean;
}

/** Of how many chunks it is remembered that nobody wrote under their version. */
const MAX_LEASELESS = 65_536;

export class Replicas {
  readonly #table = new ReplicaTable();
  /**
   * Chunks whose logged version is one that a replica reported: handle → the version before. A replica
   * that still has that one may have missed nothing at all, and is suspect rather than stale.
   */
  readonly #adoptedFrom = new Map<number, number>();
  /**
   * Chunks that were raised for no lease, to compare their replicas for example: handle → that version. Nobody has
   * written under it, for a lease comes with a version of its own.
   */
  readonly #leaseless = new Map<number, number>();
  /** Chunks that were shared while none of their replicas could be asked whether it equals the others. */
  readonly #doubtful = new Set<number>();

  /** Whether all chunkservers that may come back are there: set by whoever knows them. */
  isEverybodyHere: () => boolean = () => false;

  /** Notes what a server has; what was known of its replica is replaced, but damage stays damage. */
  put(
    chunkserver: Chunkserver,
    handle: number,
    version: number,
    lengthBytes: number,
    suspect: boolean,
  ): Replica {
    const damaged = this.#table.find(chunkserver, handle)?.damaged ?? false;
    const replica: Replica = { chunkserver, handle, version, lengthBytes, suspect, damaged };
    this.#table.put(replica);
    return replica;
  }

  find(chunkserver: Chunkserver, handle: number): Replica | undefined {
    return this.#table.find(chunkserver, handle);
  }

  markSuspect(chunkserver: Chunkserver, handle: number): void {
    const replica = this.#table.find(chunkserver, handle);
    if (replica !== undefined) this.#table.put({ ...replica, suspect: true });
  }

  markDamaged(chunkserver: Chunkserver, handle: number): void {
    const replica = this.#table.find(chunkserver, handle);
    if (replica !== undefined) this.#table.put({ ...replica, damaged: true });
  }

  remove(chunkserver: Chunkserver, handle: number): void {
    this.#table.remove(chunkserver, handle);
  }

  /** Nothing refers to the chunk any more: every server that has it is to delete it. */
  removeChunk(handle: number): void {
    this.#adoptedFrom.delete(handle);
    this.#leaseless.delete(handle);
    this.#doubtful.delete(handle);
    for (const { chunkserver } of this.#table.all(handle)) {
      this.#table.remove(chunkserver, handle);
      if (chunkserver.alive) chunkserver.deletions.add(handle);
    }
  }

  /** Takes what servers had that are gone out of memory, a slice at a time. @returns whether more is left */
  forgetDead(): boolean {
    return this.#table.forgetDead();
  }

  /** The chunks that a server has a replica of; `undefined` now and then, for the caller to take a break. */
  handlesOn(chunkserver: Chunkserver): IterableIterator<number | undefined> {
    return this.#table.handlesOn(chunkserver);
  }

  /** A replica reported `version`, and it becomes the logged one: those at the version before are suspect. */
  noteAdoption(handle: number, fromVersion: number): void {
    this.#adoptedFrom.set(handle, fromVersion);
    for (const replica of this.#table.all(handle))
      if (replica.version === fromVersion) this.#table.put({ ...replica, suspect: true });
  }

  /** A lease has made its replicas equal, at `version`. */
  noteEqual(members: readonly Chunkserver[], handle: number, version: number, lengthBytes: number): void {
    this.#adoptedFrom.delete(handle);
    this.#doubtful.delete(handle);
    for (const chunkserver of members) this.put(chunkserver, handle, version, lengthBytes, false);
  }

  /** A version is logged that has no lease, nor will have one. */
  noteLeaseless(handle: number, version: number): void {
    this.#leaseless.delete(handle);
    this.#leaseless.set(handle, version);
    if (this.#leaseless.size > MAX_LEASELESS)
      this.#leaseless.delete(this.#leaseless.keys().next().value as number);
  }

  /** Those of servers that are gone lately too. */
  all(handle: number): Replica[] {
    return this.#table.all(handle);
  }

  /** On live servers, whatever their version. */
  live(handle: number): Replica[] {
    return this.#table.all(handle).filter(isLive);
  }

  /** What readers are sent to: as new as the log says, on live servers, above suspicion. */
  readable(chunk: ChunkState): Replica[] {
    return this.#table.all(chunk.handle).filter((replica) => this.isReadable(replica, chunk));
  }

  isReadable(replica: Replica, chunk: ChunkState): boolean {
    return isLive(replica) && !replica.suspect && !replica.damaged && isAtLeastLogged(replica, chunk);
  }

  /**
   * What a new lease may be built on: the readable ones, and the suspect ones, which it compares. Where there is
   * neither, the last resort.
   */
  raisable(chunk: ChunkState): Replica[] {
    const adoptedFrom = this.#adoptedFrom.get(chunk.handle);
    const all = this.#table.all(chunk.handle);
    const found = all.filter(
      (replica) =>
        isLive(replica) &&
        !replica.damaged &&
        (isAtLeastLogged(replica, chunk) || (replica.suspect && replica.version === adoptedFrom)),
    );
    return found.length > 0 ? found : this.#lastResort(chunk);
  }

  /** Whether a replica missed a mutation for certain, or is damaged: never used, deleted while a good one lives. */
  isUseless(replica: Replica, chunk: ChunkState): boolean {
    if (replica.damaged) return true;
    const suspectAt = this.#adoptedFrom.get(chunk.handle);
    if (replica.version >= chunk.version || replica.version === suspectAt) return false;
    return this.#lastResort(chunk).every(({ chunkserver }) => chunkserver !== replica.chunkserver);
  }

  /**
   * Replicas of the version before, where no server has an undamaged one of the present version, none may come back
   * with one, and it was raised for no lease: whatever was acknowledged, these have too.
   */
  #lastResort({ handle, version }: ChunkState): Replica[] {
    if (this.#leaseless.get(handle) !== version || !this.isEverybodyHere()) return [];
    const known = this.#table.all(handle).filter(({ chunkserver }) => !chunkserver.gone);
    if (!known.every((replica) => isLive(replica) && (replica.damaged || replica.version < version)))
      return [];
    // Version 0 is that of clones that were never finished.
    return known.filter(
      (replica) => !replica.damaged && replica.version > 0 && replica.version === version - 1,
    );
  }

  isSuspectVersion(handle: number, version: number): boolean {
    return this.#adoptedFrom.get(handle) === version || this.#doubtful.has(handle);
  }

  /** Whatever replica of the chunk comes back is compared with the others before it is read. */
  doubt(handle: number): void {
    this.#doubtful.add(handle);
  }
}

function isLive({ chunkserver }: Replica): boolean {
  return chunkserver.alive && chunkserver.reported;
}

/** One above the logged version is a replica that was raised for a lease that is not logged yet, or never will be. */
function isAtLeastLogged(replica: Replica, chunk: ChunkState): boolean {
  return replica.version === chunk.version || replica.version === chunk.version + 1;
}
