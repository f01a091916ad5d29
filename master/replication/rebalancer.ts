/**
 * Rebalancing (paper §4.3): slowly, a few chunks at a time, from the fullest server to the emptiest, until
 * they are about as full. A chunk is cloned first and dropped then, so its goal holds at every step; it goes
 * nowhere where its replicas would be on fewer racks.
 */
import type { ChunkserverTable } from '../chunkservers.js';
import type { Leases } from '../leases.js';
import { usedShare } from '../location-graph.js';
import type { Chunkserver, Replicas } from '../replicas.js';
import type { SentVersions } from '../sent-versions.js';
import type { ChunkState, LoggedState } from '../state.js';
import type { ReplicationOptions } from './options.js';
import type { Slots } from './slots.js';
import { type Standing, standingOf } from './standing.js';

/** Servers whose used shares differ by no more are left alone: with what is on the way, five points in the end. */
const SPREAD = 0.04;
/** Pairs of servers looked at. */
const MAX_PAIRS = 16;
/** Chunks looked at for one that may go, before another time is better. */
const MAX_LOOKED_AT = 512;

export interface Move {
  readonly handle: number;
  readonly source: Chunkserver;
  readonly from: Chunkserver;
  readonly target: Chunkserver;
}

export interface RebalancerParts {
  readonly state: LoggedState;
  readonly replicas: Replicas;
  readonly leases: Leases;
  readonly sent: SentVersions;
  readonly chunkservers: ChunkserverTable;
}

export class Rebalancer {
  readonly #parts: RebalancerParts;
  readonly #slots: Slots;
  readonly #limits: ReplicationOptions;
  readonly #isLeaving: (chunkserver: Chunkserver) => boolean;
  /** Moves under way, from and to each server, and the bytes that will be here or gone by them. */
  readonly #moving = new Map<Chunkserver, { count: number; bytes: number }>();
  readonly #cursors = new Map<Chunkserver, Iterator<number | undefined>>();

  constructor(
    parts: RebalancerParts,
    slots: Slots,
    limits: ReplicationOptions,
    isLeaving: (chunkserver: Chunkserver) => boolean,
  ) {
    this.#parts = parts;
    this.#slots = slots;
    this.#limits = limits;
    this.#isLeaving = isLeaving;
  }

  /** The next move that makes sense and keeps within the limits. @param isBusy chunks that something is done with */
  next(isBusy: (handle: number) => boolean): Move | undefined {
    if (this.#limits.maxMovesPerServer === 0) return undefined;
    const servers = this.#parts.chunkservers.active.filter((each) => !this.#isLeaving(each));
    const byUse = servers.sort((a, b) => this.#use(a) - this.#use(b));
    let pairs = 0;
    // Racks may forbid what would even out most.
    for (const target of byUse) {
      if (this.#isTaken(target)) continue;
      for (const from of byUse.toReversed()) {
        if (this.#use(from) - this.#use(target) <= SPREAD) break;
        if (this.#isTaken(from)) continue;
        const move = this.#find(from, target, isBusy);
        if (move !== undefined || ++pairs === MAX_PAIRS) return move;
      }
    }
    return undefined;
  }

  /** @returns what ends it, to be told whether the chunk has moved */
  begin({ handle, from, target }: Move): (hasMoved: boolean) => void {
    const bytes = this.#sizeOf(handle, from);
    this.#count(from, 1, -bytes);
    this.#count(target, 1, bytes);
    return (hasMoved) => {
      this.#count(from, -1, bytes);
      this.#count(target, -1, -bytes);
      if (!hasMoved) return;
      // Until their next heartbeats say what is so.
      spend(target, bytes);
      spend(from, -bytes);
    };
  }

  /** As its server told; of a chunk that has grown since it was made, what is usual there. */
  #sizeOf(handle: number, chunkserver: Chunkserver): number {
    const { space, replicaCount } = chunkserver;
    const told = this.#parts.replicas.find(chunkserver, handle)?.lengthBytes ?? 0;
    if (told > 0) return told;
    return Math.min(this.#parts.state.chunkBytes, Math.round(space.usedBytes / Math.max(1, replicaCount)));
  }

  #isTaken(chunkserver: Chunkserver): boolean {
    return (this.#moving.get(chunkserver)?.count ?? 0) >= this.#limits.maxMovesPerServer;
  }

  /** Its used share, once what is on the way has arrived. */
  #use(chunkserver: Chunkserver): number {
    const { totalBytes } = chunkserver.space;
    const bytes = this.#moving.get(chunkserver)?.bytes ?? 0;
    return usedShare(chunkserver) + (totalBytes === 0 ? 0 : bytes / totalBytes);
  }

  #count(chunkserver: Chunkserver, count: number, bytes: number): void {
    const moving = this.#moving.get(chunkserver) ?? { count: 0, bytes: 0 };
    moving.count += count;
    moving.bytes += bytes;
    if (moving.count === 0) this.#moving.delete(chunkserver);
    else this.#moving.set(chunkserver, moving);
  }

  #find(from: Chunkserver, target: Chunkserver, isBusy: (handle: number) => boolean): Move | undefined {
    const { state, replicas } = this.#parts;
    const gap = this.#use(from) - this.#use(target);
    for (let looked = 0; looked < MAX_LOOKED_AT; looked++) {
      const handle = this.#nextOn(from);
      if (handle === undefined) return undefined;
      const chunk = state.chunks.get(handle);
      if (chunk === undefined || isBusy(handle) || !this.#isQuiet(chunk)) continue;
      const standing = standingOf(chunk, replicas, this.#isLeaving);
      if (!mayMove(standing, from, target) || target.deletions.has(handle)) continue;
      const bytes = this.#sizeOf(handle, from);
      // One that would tip the balance the other way.
      if (bytes / from.space.totalBytes + bytes / target.space.totalBytes > gap) continue;
      const source = this.#sourceOf(standing);
      if (source !== undefined) return { handle, source, from, target };
    }
    return undefined;
  }

  /** Nobody writes it: a lease that runs would have to end for nothing that its writer needs. */
  #isQuiet(chunk: ChunkState): boolean {
    return !this.#parts.sent.raising.has(chunk.handle) && !this.#parts.leases.mayBeHeld(chunk);
  }

  #sourceOf({ good }: Standing): Chunkserver | undefined {
    return good
      .map(({ chunkserver }) => chunkserver)
      .filter((each) => this.#slots.outgoing(each) < this.#limits.maxClonesPerServer)
      .sort((a, b) => this.#slots.outgoing(a) - this.#slots.outgoing(b))[0];
  }

  /** Goes round and round the chunks of a server. */
  #nextOn(chunkserver: Chunkserver): number | undefined {
    for (const known of this.#cursors.keys()) if (!known.alive) this.#cursors.delete(known);
    for (let rounds = 0; rounds < 2; rounds++) {
      const cursor = this.#cursors.get(chunkserver) ?? this.#parts.replicas.handlesOn(chunkserver);
      this.#cursors.set(chunkserver, cursor);
      for (let next = cursor.next(); next.done !== true; next = cursor.next())
        if (next.value !== undefined) return next.value;
      this.#cursors.delete(chunkserver);
    }
    return undefined;
  }
}

/** Healthy, not there yet, and on as many racks afterwards. */
function mayMove(
  { staying, good, suspect, useless, missing }: Standing,
  from: Chunkserver,
  target: Chunkserver,
): boolean {
  if (missing > 0 || suspect.length > 0 || useless.length > 0) return false;
  if (!staying.some(({ chunkserver }) => chunkserver === from)) return false;
  if (good.some(({ chunkserver }) => chunkserver === target)) return false;
  const now = staying.map(({ chunkserver }) => chunkserver);
  const then = now.map((chunkserver) => (chunkserver === from ? target : chunkserver));
  return racksOf(then) >= racksOf(now);
}

function spend(chunkserver: Chunkserver, bytes: number): void {
  const { totalBytes, availableBytes, usedBytes } = chunkserver.space;
  const left = Math.min(totalBytes, Math.max(0, availableBytes - bytes));
  chunkserver.space = { totalBytes, availableBytes: left, usedBytes: Math.max(0, usedBytes + bytes) };
}

function racksOf(servers: readonly Chunkserver[]): number {
  return new Set(servers.flatMap(({ rack }) => rack ?? [])).size;
}
