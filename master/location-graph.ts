/**
 * Where clients and chunkservers are, in the coordinates that their operator gave them, and the score
 * that follows: near and empty servers first.
 */
import type { Location } from '../protocol/messages/index.js';
import type { Chunkserver } from './replicas.js';

/** A chunkserver as one client sees it. */
export interface ServerDistance {
  readonly chunkserver: Chunkserver;
  /** Euclidean; 0 when either side has no coordinates. */
  readonly distance: number;
  readonly availableBytes: number;
  /** Lower is better: 0 to the sum of the weights. */
  readonly score: number;
}

export interface ScoreWeights {
  readonly distanceWeight: number;
  readonly spaceWeight: number;
}

/** Scores closer than this are equal: else the emptiest server by a byte would serve every reader. */
const SCORE_STEP = 0.05;

/** The active chunkservers in the plane, and how far they are from a client in it. */
export class LocationGraph {
  readonly #activeServers: () => Iterable<Chunkserver>;

  constructor(activeServers: () => Iterable<Chunkserver>) {
    this.#activeServers = activeServers;
  }

  get activeServers(): Chunkserver[] {
    return [...this.#activeServers()];
  }

  /** The distance of the farthest active server: what others are measured by. */
  farthest(from: Location | undefined): number {
    if (from === undefined) return 0;
    let farthest = 0;
    for (const { location } of this.#activeServers()) {
      farthest = Math.max(farthest, distanceBetween(from, location));
    }
    return farthest;
  }
}

/** Which chunkservers are best for a client. */
export class ClientServerPriority {
  readonly #graph: LocationGraph;
  readonly #weights: ScoreWeights;

  constructor(graph: LocationGraph, weights: ScoreWeights) {
    this.#graph = graph;
    this.#weights = weights;
  }

  /**
   * The servers by their priority for whoever is at `from`: distanceWeight × (distance ÷ the farthest
   * active server's) + spaceWeight × used share, lowest first.
   * @param turn rotates servers of equal score, so that they share the work
   */
  rank(servers: readonly Chunkserver[], from: Location | undefined, turn = 0): ServerDistance[] {
    const { distanceWeight, spaceWeight } = this.#weights;
    const farthest = this.#graph.farthest(from);
    const ranked = servers.map((chunkserver, index) => {
      const distance = distanceBetween(from, chunkserver.location);
      const share = farthest === 0 ? 0 : distance / farthest;
      const score = distanceWeight * share + spaceWeight * usedShare(chunkserver);
      const step = Math.floor(score / SCORE_STEP);
      const order = (index + turn) % servers.length;
      return { chunkserver, distance, availableBytes: chunkserver.space.availableBytes, score, step, order };
    });
    return ranked.sort((a, b) => a.step - b.step || a.order - b.order);
  }

  /** The `count` best active servers for whoever is at `from`. */
  nearestChunkservers(from: Location | undefined, count: number): ServerDistance[] {
    return this.rank(this.#graph.activeServers, from).slice(0, count);
  }
}

export function distanceBetween(a: Location | undefined, b: Location | undefined): number {
  return a === undefined || b === undefined ? 0 : Math.hypot(a.x - b.x, a.y - b.y);
}

/** 0 for an empty server, 1 for a full one. */
export function usedShare({ space }: Chunkserver): number {
  return space.totalBytes === 0 ? 1 : 1 - Math.min(1, space.availableBytes / space.totalBytes);
}
