/**
 * The chunkservers as a shadow knows them (paper §5.1.3): they report to it as to the master, and are
 * asked about chunks that have got a newer version since. All of it is soft state.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { FindChunks, type RegisterChunkserver, type ReportChunks } from '../protocol/messages/index.js';
import type { Caller, IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { newChunkserver } from './chunkservers.js';
import { type Chunkserver, Replicas } from './replicas.js';
import type { ChunkState } from './state.js';

const MAX_CHUNKSERVERS = 4096;
const FIND_TIMEOUT_MS = 1_000;

export class ShadowServers {
  readonly replicas = new Replicas();
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #timeoutMs: number;
  readonly #byPeer = new Map<Caller, Chunkserver>();

  constructor(clock: Clock, logger: Logger, timeoutMs: number) {
    this.#clock = clock;
    this.#logger = logger;
    this.#timeoutMs = timeoutMs;
  }

  /** Alive, and with all their chunks known. */
  get active(): readonly Chunkserver[] {
    return [...this.#byPeer.values()].filter(({ reported }) => reported);
  }

  /** @throws OVERLOADED, NOT_PERMITTED */
  register(body: ValueOf<typeof RegisterChunkserver.request>, request: IncomingRequest): void {
    if (request.from.role !== 'chunkserver')
      throw new GfsError('NOT_PERMITTED', `a ${request.from.role} registers`);
    if (this.#byPeer.size >= MAX_CHUNKSERVERS) throw new GfsError('OVERLOADED', 'too many chunkservers');
    const { peer } = request;
    for (const before of this.#byPeer.values()) {
      if (before.server.serverId === body.server.serverId) this.#lose(before);
    }
    const chunkserver = newChunkserver(0, body, peer, this.#clock.monotonicMs());
    this.#byPeer.set(peer, chunkserver);
    peer.onceClosed(() => this.#lose(chunkserver));
  }

  /** @throws SESSION_UNKNOWN */
  heardOf(request: IncomingRequest): Chunkserver {
    const chunkserver = this.#byPeer.get(request.peer);
    if (chunkserver === undefined) throw new GfsError('SESSION_UNKNOWN', 'not a registered chunkserver');
    chunkserver.lastHeardMs = this.#clock.monotonicMs();
    return chunkserver;
  }

  report(chunkserver: Chunkserver, { chunks, last }: ValueOf<typeof ReportChunks.request>): void {
    for (const { handle, version, lengthBytes, suspect } of chunks)
      this.replicas.put(chunkserver, handle, version, lengthBytes, suspect);
    if (last) chunkserver.reported = true;
  }

  /** Asks every server about a chunk of which no replica is known at the version that the log has. */
  async find({ handle }: ChunkState): Promise<void> {
    await Promise.all(
      this.active.map(async (chunkserver) => {
        try {
          const { body } = await chunkserver.peer.call(
            FindChunks,
            { handles: [handle] },
            { deadlineMs: FIND_TIMEOUT_MS },
          );
          for (const { version, lengthBytes, suspect } of body.found)
            this.replicas.put(chunkserver, handle, version, lengthBytes, suspect);
        } catch (err) {
          this.#logger.debug(
            { err, handle, serverId: chunkserver.server.serverId },
            'a chunkserver does not say',
          );
        }
      }),
    );
  }

  /** Called every now and then: the silent are dead. */
  sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const chunkserver of [...this.#byPeer.values()]) {
      if (nowMs - chunkserver.lastHeardMs <= this.#timeoutMs) continue;
      this.#lose(chunkserver);
      chunkserver.peer.close();
    }
    this.replicas.forgetDead();
  }

  #lose(chunkserver: Chunkserver): void {
    if (!this.#byPeer.delete(chunkserver.peer)) return;
    chunkserver.alive = false;
  }
}
