/** Connections to chunkservers: one for each, made when it is first needed (paper §2.5: persistent TCP). */
import type { Environment, Timer } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MIB, SILENCE_MS } from '../protocol/limits.js';
import type { Server } from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { Service } from '../protocol/rpc.js';

const CONNECT_TIMEOUT_MS = 1_000;
/** A server that could not be reached is not tried again for this long: others are asked instead. */
const AVOID_MS = 500;
const IDLE_CLOSE_MS = 60_000;
const IDLE_CHECK_MS = 10_000;
/** Memory of answers that is kept for the next ones. */
const IDLE_READ_BYTES = 16 * MIB;

interface Connection {
  readonly peer: Promise<Peer>;
  usedAtMs: number;
  /** It is not among the connections any more. */
  isGone: boolean;
}

export class ChunkserverConnections {
  readonly #environment: Environment;
  readonly #clientId: string;
  readonly #clusterId: () => string;
  readonly #pool = new BufferPool(IDLE_READ_BYTES);
  readonly #service = new Service();
  readonly #connections = new Map<string, Connection>();
  /** The same, by what the master said of the server: nearly every request has it from the one before. */
  readonly #found = new WeakMap<Server, Connection>();
  readonly #avoidUntilMs = new Map<string, number>();
  readonly #idleCheck: Timer;

  constructor(environment: Environment, clientId: string, clusterId: () => string) {
    this.#environment = environment;
    this.#clientId = clientId;
    this.#clusterId = clusterId;
    this.#idleCheck = environment.timers.every(IDLE_CHECK_MS, () => this.#closeIdle());
  }

  /** @throws UNREACHABLE */
  to(server: Server): Promise<Peer> {
    const nowMs = this.#environment.clock.monotonicMs();
    const found = this.#found.get(server);
    if (found !== undefined && !found.isGone) {
      found.usedAtMs = nowMs;
      return found.peer;
    }
    const key = `${server.host}:${server.port}`;
    const existing = this.#connections.get(key);
    if (existing !== undefined) {
      existing.usedAtMs = nowMs;
      this.#found.set(server, existing);
      return existing.peer;
    }
    const avoidUntilMs = this.#avoidUntilMs.get(key);
    if (avoidUntilMs !== undefined && nowMs < avoidUntilMs) {
      return Promise.reject(new GfsError('UNREACHABLE', `${key} did not answer a moment ago`));
    }
    const connection: Connection = { peer: this.#connect(server), usedAtMs: nowMs, isGone: false };
    this.#connections.set(key, connection);
    connection.peer.then(
      (peer) => peer.onceClosed(() => this.#forget(key, connection)),
      () => {
        this.#avoidUntilMs.set(key, this.#environment.clock.monotonicMs() + AVOID_MS);
        this.#forget(key, connection);
      },
    );
    return connection.peer;
  }

  /** Puts the servers that answered last time before those that did not, the order otherwise kept. */
  preferReachable(servers: readonly Server[]): readonly Server[] {
    if (this.#avoidUntilMs.size === 0) return servers;
    const nowMs = this.#environment.clock.monotonicMs();
    const avoided = (server: Server) =>
      (this.#avoidUntilMs.get(`${server.host}:${server.port}`) ?? 0) > nowMs;
    return [...servers.filter((server) => !avoided(server)), ...servers.filter(avoided)];
  }

  /**
   * A server that let a request time out: the next requests go elsewhere for a while. That they were refused
   * meanwhile does not make it longer: readers that take turns would keep each other from ever trying it.
   */
  avoid(server: Server): void {
    const key = `${server.host}:${server.port}`;
    const nowMs = this.#environment.clock.monotonicMs();
    if ((this.#avoidUntilMs.get(key) ?? 0) <= nowMs) this.#avoidUntilMs.set(key, nowMs + AVOID_MS);
  }

  close(): void {
    this.#idleCheck.cancel();
    for (const [key, connection] of this.#connections) {
      this.#forget(key, connection);
      connection.peer.then((peer) => peer.close()).catch(() => undefined);
    }
  }

  async #connect(server: Server): Promise<Peer> {
    const { network, clock, timers, logger } = this.#environment;
    let peer: Peer | undefined;
    let timeout: Timer | undefined;
    try {
      const socket = await network.connect(server.host, server.port, CONNECT_TIMEOUT_MS);
      peer = new Peer(socket, {
        role: 'client',
        id: this.#clientId,
        clusterId: this.#clusterId,
        term: () => 0,
        service: this.#service,
        pool: this.#pool,
        clock,
        timers,
        logger,
        silenceMs: SILENCE_MS,
      });
      const opened = peer;
      // A process that hangs lets its kernel accept connections.
      timeout = timers.after(CONNECT_TIMEOUT_MS, () => opened.close());
      await opened.ready();
      return opened;
    } catch (cause) {
      peer?.close();
      throw new GfsError('UNREACHABLE', `chunkserver ${server.serverId} at ${server.host}:${server.port}`, {
        cause,
      });
    } finally {
      timeout?.cancel();
    }
  }

  #forget(key: string, connection: Connection): void {
    connection.isGone = true;
    if (this.#connections.get(key) === connection) this.#connections.delete(key);
  }

  #closeIdle(): void {
    const nowMs = this.#environment.clock.monotonicMs();
    for (const [key, untilMs] of this.#avoidUntilMs) if (untilMs <= nowMs) this.#avoidUntilMs.delete(key);
    for (const [key, connection] of this.#connections) {
      if (nowMs - connection.usedAtMs < IDLE_CLOSE_MS) continue;
      this.#forget(key, connection);
      connection.peer.then((peer) => peer.close()).catch(() => undefined);
    }
  }
}
