/**
 * Where clients and chunkservers are, in the coordinates that their operator gave them, and the score
 * that follows: near and empty servers first. Names are those of the seed (docs/formats/seed-names.md).
 */
import type { Lease, Location } from '../protocol/messages/index.js';
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

/** As the seed calls them. */
export type NodeType = 'client' | 'chunk_server';

export interface GraphNode {
  /** Client id or server id. */
  readonly id: string;
  readonly type: NodeType;
  /** Without it every distance is 0, and used shares alone decide. */
  readonly location: Location | undefined;
  readonly hostname: string;
  readonly rack: string | undefined;
}

/** Distances that are kept; beyond it they are computed when they are asked for. */
const MAX_KEPT_DISTANCES = 1_000_000;
/** The seed's k. */
export const NEAREST_COUNT = 3;

/**
 * Clients and chunkservers in the plane, with the distances between the two kinds, kept both ways. Nodes
 * come with registrations, move with heartbeats, and go with their connections.
 */
export class LocationGraph {
  readonly #activeServers: () => Iterable<Chunkserver>;
  readonly #nodes = {
    client: new Map<string, GraphNode>(),
    chunk_server: new Map<string, GraphNode>(),
  } as const;
  /** From each node to those of the other kind. */
  readonly #distances = {
    client: new Map<string, Map<string, number>>(),
    chunk_server: new Map<string, Map<string, number>>(),
  } as const;
  #kept = 0;

  constructor(activeServers: () => Iterable<Chunkserver>) {
    this.#activeServers = activeServers;
  }

  get activeServers(): Chunkserver[] {
    return [...this.#activeServers()];
  }

  get clients(): Iterable<GraphNode> {
    return this.#nodes.client.values();
  }

  node(type: NodeType, id: string): GraphNode | undefined {
    return this.#nodes[type].get(id);
  }

  /** Adds a node, or moves the one of this id. @returns what removes it, unless it was replaced meanwhile */
  addNode(node: GraphNode): () => void {
    this.removeNode(node.type, node.id);
    this.#nodes[node.type].set(node.id, node);
    for (const other of this.#nodes[opposite(node.type)].values()) this.#keep(node, other);
    return () => {
      if (this.#nodes[node.type].get(node.id) === node) this.removeNode(node.type, node.id);
    };
  }

  removeNode(type: NodeType, id: string): void {
    if (!this.#nodes[type].delete(id)) return;
    const distances = this.#distances[type].get(id);
    if (distances === undefined) return;
    this.#distances[type].delete(id);
    for (const other of distances.keys()) this.#distances[opposite(type)].get(other)?.delete(id);
    this.#kept -= distances.size;
  }

  #keep(node: GraphNode, other: GraphNode): void {
    if (this.#kept >= MAX_KEPT_DISTANCES || node.location === undefined || other.location === undefined)
      return;
    const distance = distanceBetween(node.location, other.location);
    this.#put(node, other, distance);
    this.#put(other, node, distance);
    this.#kept++;
  }

  #put({ type, id }: GraphNode, to: GraphNode, distance: number): void {
    const distances = this.#distances[type].get(id) ?? new Map<string, number>();
    this.#distances[type].set(id, distances.set(to.id, distance));
  }

  /** The same from either side; 0 when one of the two is not there or has no coordinates. */
  distance(from: { type: NodeType; id: string }, to: { type: NodeType; id: string }): number {
    const kept = this.#distances[from.type].get(from.id)?.get(to.id);
    if (kept !== undefined && from.type !== to.type) return kept;
    return distanceBetween(this.node(from.type, from.id)?.location, this.node(to.type, to.id)?.location);
  }

  /** The active chunkservers nearest to a client, by distance alone. */
  nearestChunkservers(clientId: string, count = NEAREST_COUNT): Chunkserver[] {
    const client = { type: 'client', id: clientId } as const;
    return this.activeServers
      .map((chunkserver) => {
        const distance = this.distance(client, { type: 'chunk_server', id: chunkserver.server.serverId });
        return { chunkserver, distance };
      })
      .sort((a, b) => a.distance - b.distance)
      .slice(0, count)
      .map(({ chunkserver }) => chunkserver);
  }

  /** A lease with the order in which its data is best pushed, for whoever is at `from`. */
  chained(lease: Lease, from: Location | undefined): Lease {
    const servers = [lease.primary, ...lease.secondaries];
    const chain = chainOrder(
      servers.map(({ serverId }) => this.node('chunk_server', serverId)?.location),
      from,
    );
    return chain === undefined ? lease : { ...lease, chain };
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

function opposite(type: NodeType): NodeType {
  return type === 'client' ? 'chunk_server' : 'client';
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
  rank(
    servers: readonly Chunkserver[],
    from: Location | undefined,
    turn = 0,
    { distanceWeight, spaceWeight } = this.#weights,
  ): ServerDistance[] {
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

  /** All active servers for whoever is at `from`, strictly by their score. @param weights other than the configured */
  priorities(from: Location | undefined, weights = this.#weights): ServerDistance[] {
    return this.rank(this.#graph.activeServers, from, 0, weights).sort((a, b) => a.score - b.score);
  }

  get weights(): ScoreWeights {
    return this.#weights;
  }
}

/**
 * In which order data is passed on (paper §3.2): from where the writer is to the nearest replica, and from
 * each to the nearest that has not got it. Undefined where nobody's coordinates are known.
 */
function chainOrder(
  places: readonly (Location | undefined)[],
  from: Location | undefined,
): number[] | undefined {
  if (places.every((place) => place === undefined)) return undefined;
  const left = new Set(places.keys());
  const order: number[] = [];
  let here = from ?? places[0];
  while (left.size > 0) {
    let nearest = -1;
    let shortest = Number.POSITIVE_INFINITY;
    for (const at of left) {
      const distance = distanceBetween(here, places[at]);
      if (nearest < 0 || distance < shortest) [nearest, shortest] = [at, distance];
    }
    left.delete(nearest);
    order.push(nearest);
    here = places[nearest] ?? here;
  }
  return order;
}

export function distanceBetween(a: Location | undefined, b: Location | undefined): number {
  return a === undefined || b === undefined ? 0 : Math.hypot(a.x - b.x, a.y - b.y);
}

/** 0 for an empty server, 1 for a full one. */
export function usedShare({ space }: Chunkserver): number {
  return space.totalBytes === 0 ? 1 : 1 - Math.min(1, space.availableBytes / space.totalBytes);
}
