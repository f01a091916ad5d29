/**
 * Where chunks are: soft state, never logged (paper §2.6.2). Chunkservers say what they have and have
 * the last word; what the log says of a version decides what it is worth.
 */
import type { Location, Server, Space } from '../protocol/messages/index.js';
import type { Caller } from '../protocol/rpc.js';
import type { ChunkState } from './state.js';

/** A registered chunkserver. A new registration makes a new one: what the old one said is void at once. */
export interface Chunkserver {
  readonly session: number;
  readonly server: Server;
  readonly peer: Caller;
  readonly bootId: number;
  /** Connected, and heard of lately. Once false it stays so. */
  alive: boolean;
  /** It has told all its chunks. */
  reported: boolean;
  lastHeardMs: number;
  location: Location | undefined;
  rack: string | undefined;
  space: Space;
  load: number;
  /** Chunks made here lately, and leases given lately; both fade. */
  recentCreations: number;
  recentLeases: number;
  readonly replicas: Map<number, Replica>;
  /** Handles that it is to delete. */
  readonly deletions: Set<number>;
}

export interface Replica {
  readonly chunkserver: Chunkserver;
  readonly handle: number;
  version: number;
  lengthBytes: number;
  /** It may be behind: not read until the next lease has compared it with the others. */
  suspect: boolean;
  /** It failed a checksum: neither read nor raised. */
  damaged: boolean;
}

export class Replicas {
  readonly #byHandle = new Map<number, Replica[]>();
  /**
   * Chunks whose logged version is one that a replica reported: handle → the version before. A replica
   * that still has that one may have missed nothing at all, and is suspect rather than stale.
   */
  readonly #adoptedFrom = new Map<number, number>();

  /** Notes what a server has; what was known of its replica is replaced. */
  put(
    chunkserver: Chunkserver,
    handle: number,
    version: number,
    lengthBytes: number,
    suspect: boolean,
  ): Replica {
    const known = chunkserver.replicas.get(handle);
    if (known !== undefined) {
      known.version = version;
      known.lengthBytes = lengthBytes;
      known.suspect = suspect;
      return known;
    }
    const replica: Replica = { chunkserver, handle, version, lengthBytes, suspect, damaged: false };
    chunkserver.replicas.set(handle, replica);
    const others = this.#byHandle.get(handle);
    if (others === undefined) this.#byHandle.set(handle, [replica]);
    else others.push(replica);
    return replica;
  }

  remove(replica: Replica): void {
    replica.chunkserver.replicas.delete(replica.handle);
    const all = this.#byHandle.get(replica.handle);
    if (all === undefined) return;
    const at = all.indexOf(replica);
    if (at >= 0) all.splice(at, 1);
    if (all.length === 0) this.#byHandle.delete(replica.handle);
  }

  /** Nothing refers to the chunk any more: every server that has it is to delete it. */
  removeChunk(handle: number): void {
    this.#adoptedFrom.delete(handle);
    for (const { chunkserver } of this.#byHandle.get(handle) ?? []) {
      chunkserver.replicas.delete(handle);
      if (chunkserver.alive) chunkserver.deletions.add(handle);
    }
    this.#byHandle.delete(handle);
  }

  /** A replica reported `version`, and it becomes the logged one: those at the version before are suspect. */
  noteAdoption(handle: number, fromVersion: number): void {
    this.#adoptedFrom.set(handle, fromVersion);
    for (const replica of this.#byHandle.get(handle) ?? [])
      if (replica.version === fromVersion) replica.suspect = true;
  }

  /** A lease has made its replicas equal, at `version`. */
  noteEqual(members: readonly Chunkserver[], handle: number, version: number, lengthBytes: number): void {
    this.#adoptedFrom.delete(handle);
    for (const chunkserver of members) this.put(chunkserver, handle, version, lengthBytes, false);
  }

  /** On live servers, whatever their version. */
  live(handle: number): Replica[] {
    return (this.#byHandle.get(handle) ?? []).filter(isLive);
  }

  /** What readers are sent to: as new as the log says, on live servers, above suspicion. */
  readable(chunk: ChunkState): Replica[] {
    return (this.#byHandle.get(chunk.handle) ?? []).filter(
      (replica) => isLive(replica) && !replica.suspect && !replica.damaged && isAtLeastLogged(replica, chunk),
    );
  }

  /** What a new lease may be built on: the readable ones, and the suspect ones, which it compares. */
  raisable(chunk: ChunkState): Replica[] {
    const adoptedFrom = this.#adoptedFrom.get(chunk.handle);
    return (this.#byHandle.get(chunk.handle) ?? []).filter(
      (replica) =>
        isLive(replica) &&
        !replica.damaged &&
        (isAtLeastLogged(replica, chunk) || (replica.suspect && replica.version === adoptedFrom)),
    );
  }

  /** Whether a replica missed a mutation for certain, or is damaged: never used, deleted while a good one lives. */
  isUseless(replica: Replica, chunk: ChunkState): boolean {
    if (replica.damaged) return true;
    const suspectAt = this.#adoptedFrom.get(chunk.handle);
    return replica.version < chunk.version && replica.version !== suspectAt;
  }

  isSuspectVersion(handle: number, version: number): boolean {
    return this.#adoptedFrom.get(handle) === version;
  }
}

function isLive({ chunkserver }: Replica): boolean {
  return chunkserver.alive && chunkserver.reported;
}

/** One above the logged version is a replica that was raised for a lease that is not logged yet, or never will be. */
function isAtLeastLogged(replica: Replica, chunk: ChunkState): boolean {
  return replica.version === chunk.version || replica.version === chunk.version + 1;
}
