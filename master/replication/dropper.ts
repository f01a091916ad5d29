/** Replicas beyond a chunk's goal are dropped, the least useful first. Never one that is needed. */
import type { Leases } from '../leases.js';
import { usedShare } from '../location-graph.js';
import type { Chunkserver, Replica, Replicas } from '../replicas.js';
import type { SentVersions } from '../sent-versions.js';
import type { LoggedState } from '../state.js';
import { type Standing, standingOf } from './standing.js';

export interface DropperParts {
  readonly state: LoggedState;
  readonly replicas: Replicas;
  readonly leases: Leases;
  readonly sent: SentVersions;
}

export class Dropper {
  readonly #parts: DropperParts;
  readonly #isLeaving: (chunkserver: Chunkserver) => boolean;

  constructor(parts: DropperParts, isLeaving: (chunkserver: Chunkserver) => boolean) {
    this.#parts = parts;
    this.#isLeaving = isLeaving;
  }

  /**
   * Drops what a chunk has too many of. A lease that runs ends first, so that no writer is refused by a
   * replica that is not there any more. INVARIANT: as many as the goal says are left, on servers that stay.
   * @param first the server that is to lose its replica, if any has to
   * @returns how many were dropped
   */
  async drop(handle: number, first?: Chunkserver): Promise<number> {
    const { state, leases, sent } = this.#parts;
    const chunk = state.chunks.get(handle);
    if (chunk === undefined || sent.raising.has(handle) || this.#excess(handle, first).length === 0) return 0;
    sent.raising.add(handle);
    try {
      if (leases.mayBeHeld(chunk)) await leases.endByHolder(chunk);
      const excess = this.#excess(handle, first);
      for (const { chunkserver } of excess) {
        this.#parts.replicas.remove(chunkserver, handle);
        chunkserver.deletions.add(handle);
      }
      return excess.length;
    } finally {
      sent.raising.delete(handle);
    }
  }

  #excess(handle: number, first: Chunkserver | undefined): Replica[] {
    const { state, replicas } = this.#parts;
    const chunk = state.chunks.get(handle);
    return chunk === undefined ? [] : excessOf(standingOf(chunk, replicas, this.#isLeaving), first);
  }
}

/** With enough that stay: all that are leaving, then those whose rack has another, or whose server is fullest. */
export function excessOf({ good, staying, missing }: Standing, first?: Chunkserver): Replica[] {
  if (missing > 0 || staying.length === 0) return [];
  const excess = good.filter((replica) => !staying.includes(replica));
  const left = [...staying];
  for (let count = -missing; count > 0; count--) {
    const racks = new Map<string, number>();
    for (const { chunkserver } of left)
      if (chunkserver.rack !== undefined) racks.set(chunkserver.rack, (racks.get(chunkserver.rack) ?? 0) + 1);
    const burden = ({ chunkserver }: Replica): number => {
      if (chunkserver === first) return 2;
      return chunkserver.rack !== undefined && (racks.get(chunkserver.rack) ?? 0) > 1 ? 1 : 0;
    };
    left.sort((a, b) => burden(a) - burden(b) || usedShare(a.chunkserver) - usedShare(b.chunkserver));
    excess.push(left.pop() as Replica);
  }
  return excess;
}
