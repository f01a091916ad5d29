/**
 * What an fsync has to cover of a file that got chunks from another one: they may have been written and
 * not flushed there. They are flushed where they are, without a lease, for under a lease the master would
 * copy them first.
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { type Chunk, SyncChunk } from '../protocol/messages/index.js';
import type { ChunkserverConnections } from './connections.js';
import type { Locations } from './locations.js';
import { type CallContext, type Deadline, retrying } from './retry.js';
import type { MasterSession } from './session.js';
import { UnsyncedChunks, type Verifiers } from './unsynced.js';

const SYNC_TIMEOUT_MS = 9_000;

export class SharedChunks {
  readonly #environment: Environment;
  readonly #session: MasterSession;
  readonly #locations: Locations;
  readonly #connections: ChunkserverConnections;
  /** The boot ids of the replicas that took the writes that are in each, as far as they were ours. */
  readonly #unsynced: UnsyncedChunks;

  constructor(
    environment: Environment,
    session: MasterSession,
    locations: Locations,
    connections: ChunkserverConnections,
    maxChunks: number,
  ) {
    this.#environment = environment;
    this.#session = session;
    this.#locations = locations;
    this.#connections = connections;
    const flush = (id: number, index: number) => this.#flush(id, index, {}, session.deadline());
    this.#unsynced = new UnsyncedChunks(maxChunks, flush, environment.logger);
  }

  get size(): number {
    return this.#unsynced.size;
  }

  note(id: number, index: number, verifiers: Verifiers): void {
    this.#unsynced.replace(id, index, verifiers);
  }

  /** What is known of a chunk that was itself shared. */
  of(id: number, index: number): Verifiers {
    return this.#unsynced.at(id, index) ?? [];
  }

  /** The file has none of these chunks any more, from `from` to before `to`. */
  cut(id: number, from: number, to?: number): void {
    this.#unsynced.cut(id, from, to);
  }

  /** Flushes what the file shares to disk, on every replica. @throws REPLICA_FAILED when something is lost */
  sync(id: number, context: CallContext): Promise<void> {
    const deadline = this.#session.deadline();
    return this.#unsynced.sync(id, (index) => this.#flush(id, index, context, deadline));
  }

  /** @returns the boot ids of the replicas that did; undefined when the chunk is not there any more */
  #flush(id: number, index: number, context: CallContext, deadline: Deadline): Promise<number[] | undefined> {
    return retrying(this.#environment.timers, deadline, context.signal, async () => {
      const chunk = await this.#locations.chunk(id, index, context, deadline);
      // Punched or cut since, perhaps elsewhere.
      if (chunk.handle === 0) return undefined;
      try {
        return await this.#flushReplicas(chunk, context, deadline);
      } catch (error) {
        this.#locations.dropChunk(id, index);
        throw error;
      }
    });
  }

  async #flushReplicas(
    { handle, version, replicas }: Chunk,
    { signal }: CallContext,
    deadline: Deadline,
  ): Promise<number[]> {
    if (replicas.length === 0) throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${handle}`);
    const options = { session: this.#session.id, deadlineMs: deadline.within(SYNC_TIMEOUT_MS), signal };
    const flushed = await Promise.all(
      replicas.map(async (server) => {
        const peer = await this.#connections.to(server);
        return (await peer.call(SyncChunk, { handle, version, secondaries: [] }, options)).body.verifiers;
      }),
    );
    return flushed.flat();
  }
}
