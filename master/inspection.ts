/** What people ask who look into the cluster: the chunks of a file with their replicas, and the state of trees. */
import { MAX_CHUNKS_PER_REPLY, MAX_REPLICAS } from '../protocol/limits.js';
import * as m from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkRegular } from './attributes.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Leases } from './leases.js';
import type { MasterParts } from './parts.js';
import type { Replica, Replicas } from './replicas.js';
import { findNode } from './resolve.js';
import type { MasterService } from './service.js';
import type { ChunkState, LoggedState } from './state.js';

export class Inspection {
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #chunkservers: ChunkserverTable;
  readonly #leases: Leases;

  constructor(state: LoggedState, replicas: Replicas, chunkservers: ChunkserverTable, leases: Leases) {
    this.#state = state;
    this.#replicas = replicas;
    this.#chunkservers = chunkservers;
    this.#leases = leases;
  }

  /** @param near where whoever asks is */
  describe(
    body: ValueOf<typeof m.DescribeChunks.request>,
    near: m.Location | undefined,
  ): ValueOf<typeof m.DescribeChunks.reply> {
    const file = findNode(this.#state, body.id);
    checkRegular(file);
    const count = Math.min(Math.max(body.count, 1), MAX_CHUNKS_PER_REPLY);
    const following = (file.chunks?.entries() ?? []).filter(([index]) => index >= body.index);
    const chunks = following.slice(0, count).flatMap(([index, handle]) => {
      const chunk = this.#state.chunks.get(handle);
      const validBytes = file.chunks?.pendingTruncation(index) ?? this.#state.chunkBytes;
      return chunk === undefined ? [] : [this.#describe(chunk, index, validBytes, near)];
    });
    return { size: file.size, chunks, next: following[count]?.[0] ?? 0 };
  }

  #describe(
    chunk: ChunkState,
    index: number,
    validBytes: number,
    near: m.Location | undefined,
  ): m.ChunkDescription {
    const { handle, version, references, goal } = chunk;
    const lease = this.#leases.usable(chunk);
    const live = this.#replicas.live(handle);
    const servers = live.map(({ chunkserver }) => chunkserver);
    const ranked = this.#chunkservers.priority.rank(servers, near, handle).slice(0, 2 * MAX_REPLICAS);
    const replicas = ranked.map(({ chunkserver, distance, score }): m.ReplicaDescription => {
      const { server, rack, location } = chunkserver;
      const replica = live.find((each) => each.chunkserver === chunkserver) as Replica;
      return {
        ...{ server, version: replica.version, state: this.#stateOf(replica, chunk), distance, score },
        ...(rack === undefined ? {} : { rack }),
        ...(location === undefined ? {} : { location }),
      };
    });
    const held = lease === undefined ? {} : { primary: lease.primary.server.serverId };
    const leaseMs = lease === undefined ? 0 : this.#leases.remainingMs(lease);
    return { index, handle, version, references, goal, validBytes, replicas, ...held, leaseMs };
  }

  #stateOf(replica: Replica, chunk: ChunkState): m.ReplicaDescription['state'] {
    if (replica.damaged) return 'damaged';
    if (this.#replicas.isUseless(replica, chunk)) return 'stale';
    if (replica.suspect) return 'suspect';
    // One above is a replica that is being raised for a lease.
    return replica.version > chunk.version + 1 ? 'ahead' : 'current';
  }
}

export function registerInspection(service: MasterService, parts: MasterParts): void {
  const { inspection, trees, sessions } = parts;
  service
    .answer(m.DescribeChunks, (body, request) =>
      inspection.describe(body, sessions.placeOf(request.header.session).location),
    )
    .answer(m.CheckTree, (body) => trees.check(body));
}
