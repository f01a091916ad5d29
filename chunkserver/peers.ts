/** Connections to other chunkservers: one each, made when needed, closed when idle. */
import type { Environment, Timer } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { SILENCE_MS } from '../protocol/limits.js';
import type { Server } from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import type { CallOptions, CallResult, Method, Service } from '../protocol/rpc.js';

/** To connect and to hear the other side's hello: less than any call waits for its answer. */
const CONNECT_TIMEOUT_MS = 1_400;
const IDLE_MS = 60_000;
const SWEEP_INTERVAL_MS = 10_000;

export interface Identity {
  readonly serverId: string;
  readonly clusterId: string;
}

interface Connection {
  readonly opening: Promise<Peer>;
  peer: Peer | undefined;
  callsUnderWay: number;
  lastUsedMs: number;
}

export class Peers {
  readonly #environment: Environment;
  readonly #identity: Identity;
  readonly #service: Service;
  readonly #pool: BufferPool;
  readonly #term: () => number;
  readonly #connections = new Map<string, Connection>();
  readonly #sweeper: Timer;

  constructor(
    environment: Environment,
    components: { identity: Identity; service: Service; pool: BufferPool; term: () => number },
  ) {
    this.#environment = environment;
    this.#identity = components.identity;
    this.#service = components.service;
    this.#pool = components.pool;
    this.#term = components.term;
    this.#sweeper = environment.timers.every(SWEEP_INTERVAL_MS, () => this.#closeIdle());
  }

  /**
   * Calls another chunkserver, connecting first where there is no connection. Calls to one server
   * arrive in the order in which they were made.
   * @throws UNREACHABLE, or what {@link Peer.call} throws
   */
  async call<Request, Reply>(
    server: Server,
    method: Method<Request, Reply>,
    body: Request,
    options: CallOptions,
  ): Promise<CallResult<Reply>> {
    const connection = this.#connection(server);
    connection.callsUnderWay++;
    try {
      let peer = connection.peer;
      if (peer === undefined) {
        try {
          peer = await connection.opening;
        } catch (error) {
          options.onSent?.();
          throw error;
        }
      }
      return await peer.call(method, body, options);
    } finally {
      connection.callsUnderWay--;
      connection.lastUsedMs = this.#environment.clock.monotonicMs();
    }
  }

  close(): void {
    this.#sweeper.cancel();
    for (const { peer } of this.#connections.values()) peer?.close();
    this.#connections.clear();
  }

  #connection(server: Server): Connection {
    const key = `${server.serverId}@${server.host}:${server.port}`;
    const existing = this.#connections.get(key);
    if (existing !== undefined && existing.peer?.closed !== true) return existing;
    const connection: Connection = {
      opening: this.#open(server),
      peer: undefined,
      callsUnderWay: 0,
      lastUsedMs: this.#environment.clock.monotonicMs(),
    };
    this.#connections.set(key, connection);
    connection.opening.then(
      (peer) => {
        connection.peer = peer;
        // Stopped while it was being made.
        if (this.#connections.get(key) !== connection) peer.close();
      },
      () => {
        if (this.#connections.get(key) === connection) this.#connections.delete(key);
      },
    );
    return connection;
  }

  async #open(server: Server): Promise<Peer> {
    const { network, clock, timers, logger } = this.#environment;
    let timeout: Timer | undefined;
    try {
      const startedMs = clock.monotonicMs();
      const socket = await network.connect(server.host, server.port, CONNECT_TIMEOUT_MS);
      const peer = new Peer(socket, {
        role: 'chunkserver',
        id: this.#identity.serverId,
        clusterId: () => this.#identity.clusterId,
        term: this.#term,
        service: this.#service,
        pool: this.#pool,
        clock,
        timers,
        logger,
        silenceMs: SILENCE_MS,
      });
      const leftMs = Math.max(1, CONNECT_TIMEOUT_MS - (clock.monotonicMs() - startedMs));
      timeout = timers.after(leftMs, () => peer.close());
      const hello = await peer.ready();
      if (hello.id !== server.serverId) {
        peer.close();
        throw new GfsError('UNREACHABLE', `${server.host}:${server.port} is server ${hello.id}`);
      }
      return peer;
    } catch (cause) {
      if (cause instanceof GfsError) throw cause;
      throw new GfsError('UNREACHABLE', `${server.host}:${server.port}: ${(cause as Error).message}`, {
        cause,
      });
    } finally {
      timeout?.cancel();
    }
  }

  #closeIdle(): void {
    const nowMs = this.#environment.clock.monotonicMs();
    for (const [key, { peer, callsUnderWay, lastUsedMs }] of this.#connections) {
      if (peer === undefined || (callsUnderWay > 0 && !peer.closed) || nowMs - lastUsedMs < IDLE_MS) continue;
      this.#connections.delete(key);
      peer.close();
    }
  }
}
