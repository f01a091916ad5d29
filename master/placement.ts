/**
 * Which chunkservers get a new chunk (paper §4.2): spread over racks, below-average disk use, few
 * recent creations, and among what is left the best score for the client that writes.
 */
import { GfsError } from '../protocol/errors.js';
import type { Location } from '../protocol/messages/index.js';
import { type ClientServerPriority, usedShare } from './location-graph.js';
import type { Chunkserver } from './replicas.js';

/** A server counts as fuller than average only when it is by this much. */
const USE_TOLERANCE = 0.05;
/** Creations that make a difference: a few more or less say nothing. */
const CREATION_STEP = 16;

export interface PlacementRequest {
  readonly count: number;
  readonly near: Location | undefined;
  readonly exclude: ReadonlySet<Chunkserver>;
  /** Servers that have the chunk already: excluded, and their racks count as used. */
  readonly having?: readonly Chunkserver[];
  /** What a chunk may grow to: a server with less room gets none. */
  readonly chunkBytes: number;
}

/**
 * Chooses up to `count` of the active servers, the one for the primary first.
 * @throws NO_CHUNKSERVERS when none is active, NO_SPACE when all are full
 */
export function chooseServers(
  active: readonly Chunkserver[],
  priority: ClientServerPriority,
  { count, near, exclude, having = [], chunkBytes }: PlacementRequest,
): Chunkserver[] {
  if (active.length === 0) throw new GfsError('NO_CHUNKSERVERS', 'no chunkserver is connected');
  const roomy = active.filter(({ space }) => space.availableBytes >= chunkBytes);
  if (roomy.length === 0) throw new GfsError('NO_SPACE', 'every chunkserver is full');
  const averageUse = roomy.reduce((sum, chunkserver) => sum + usedShare(chunkserver), 0) / roomy.length;
  const scoreRank = new Map(priority.rank(roomy, near).map(({ chunkserver }, rank) => [chunkserver, rank]));
  const left = new Set(
    roomy.filter((chunkserver) => !exclude.has(chunkserver) && !having.includes(chunkserver)),
  );
  const racks = new Set(having.flatMap(({ rack }) => rack ?? []));
  const chosen: Chunkserver[] = [];
  const cost = (chunkserver: Chunkserver): number[] => [
    chunkserver.rack !== undefined && racks.has(chunkserver.rack) ? 1 : 0,
    usedShare(chunkserver) > averageUse + USE_TOLERANCE ? 1 : 0,
    Math.floor(chunkserver.recentCreations / CREATION_STEP),
    scoreRank.get(chunkserver) as number,
  ];
  while (chosen.length < count && left.size > 0) {
    const best = cheapest(left, cost);
    left.delete(best);
    chosen.push(best);
    if (best.rack !== undefined) racks.add(best.rack);
  }
  return primaryFirst(chosen, priority, near);
}

function cheapest(servers: Iterable<Chunkserver>, cost: (chunkserver: Chunkserver) => number[]): Chunkserver {
  let best: Chunkserver | undefined;
  let bestCost: number[] = [];
  for (const chunkserver of servers) {
    const its = cost(chunkserver);
    if (best === undefined || isLess(its, bestCost)) [best, bestCost] = [chunkserver, its];
  }
  return best as Chunkserver;
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  for (let at = 0; at < a.length; at++) {
    const difference = (a[at] as number) - (b[at] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** The primary does the most work: near the writer where that is known, else whoever had fewest leases lately. */
function primaryFirst(
  chosen: readonly Chunkserver[],
  priority: ClientServerPriority,
  near: Location | undefined,
): Chunkserver[] {
  const byLeases = [...chosen].sort((a, b) => a.recentLeases - b.recentLeases);
  if (near === undefined) return byLeases;
  return priority.rank(byLeases, near).map(({ chunkserver }) => chunkserver);
}
