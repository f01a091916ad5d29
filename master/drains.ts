/** Servers that are being emptied (`gfs drain`): they get nothing new, and what they have is cloned elsewhere. */
import { GfsError } from '../protocol/errors.js';
import type { ReplicationStatus, SetDrain } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Journal } from './journal.js';
import type { Credentials } from './namespace.js';
import type { Chunkserver } from './replicas.js';
import type { LoggedState } from './state.js';

const MAX_DRAINS = 4096;

export class Drains {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #chunkservers: ChunkserverTable;

  constructor(state: LoggedState, journal: Journal, chunkservers: ChunkserverTable) {
    this.#state = state;
    this.#journal = journal;
    this.#chunkservers = chunkservers;
  }

  isLeaving({ server }: Chunkserver): boolean {
    return this.#state.drains.size > 0 && this.#state.drains.has(server.serverId);
  }

  /** @throws NOT_PERMITTED, NOT_FOUND, OVERLOADED */
  async set({ serverId, on }: ValueOf<typeof SetDrain.request>, { uid }: Credentials): Promise<void> {
    const { drains } = this.#state;
    if (uid !== 0) throw new GfsError('NOT_PERMITTED', 'only root drains servers');
    if (drains.has(serverId) === on) return;
    if (on && this.#chunkservers.byId(serverId) === undefined)
      throw new GfsError('NOT_FOUND', `no chunkserver ${serverId} is connected`);
    if (on && drains.size >= MAX_DRAINS) throw new GfsError('OVERLOADED', 'too many servers are drained');
    await this.#journal.commit({ type: 'drainSet', serverId, on });
  }

  /** A server of which this says that nothing is left may be taken away: nothing is lost with it. */
  status(): ReplicationStatus['drains'] {
    const { drains } = this.#state;
    if (drains.size === 0) return [];
    const coming = new Map<Chunkserver, number>();
    for (const members of this.#chunkservers.reports.pendingHandles.values())
      for (const member of members) coming.set(member, (coming.get(member) ?? 0) + 1);
    return [...drains].map((serverId) => {
      const chunkserver = this.#chunkservers.byId(serverId);
      if (chunkserver === undefined) return { serverId, chunksLeft: 0, away: true };
      const chunksLeft = chunkserver.replicaCount + (coming.get(chunkserver) ?? 0);
      return chunkserver.reported ? { serverId, chunksLeft } : { serverId, chunksLeft, away: true };
    });
  }
}
