/**
 * The connection to whoever is the master: looked for whenever it breaks, among the masters of the
 * configuration and the shadows that were heard of. While there is none, a shadow may stand in.
 */
import type { Environment, Timer } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { GetShadows } from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import type { Cancellation, Service } from '../protocol/rpc.js';
import type { HostPort } from './options.js';
import { type Deadline, pause, retrying } from './retry.js';
import { StandIn } from './stand-in.js';

export const CONNECT_TIMEOUT_MS = 1_000;
const FIRST_RECONNECT_PAUSE_MS = 20;
const LONGEST_RECONNECT_PAUSE_MS = 1_000;
const SHADOWS_INTERVAL_MS = 2_000;

export interface MasterConnectionComponents {
  readonly clientId: string;
  readonly masters: readonly HostPort[];
  /** Empty until a master has told it. */
  readonly clusterId: () => string;
  readonly service: Service;
  readonly pool: BufferPool;
  /** Opens the session, or takes it up again; tells {@link MasterConnection.noteTerm} the term. */
  readonly register: (peer: Peer) => Promise<void>;
  /** There is a master, and the session is open. */
  readonly onUp: (peer: Peer) => void;
  /** It is gone again. */
  readonly onLost: () => void;
}

export class MasterConnection {
  readonly #environment: Environment;
  readonly #c: MasterConnectionComponents;
  #peer: Peer | undefined;
  /** Those who wait for a connection. */
  readonly #waiters = new Set<() => void>();
  #nextMaster = 0;
  #learnTimer: Timer | undefined;
  #closed = false;
  /** The newest term of a master that was met. */
  #term = 0;
  /** Each of them may be the master one day. */
  #shadows: readonly HostPort[] = [];
  readonly #standIn: StandIn;

  constructor(environment: Environment, components: MasterConnectionComponents) {
    this.#environment = environment;
    this.#c = components;
    const { clientId, clusterId, pool, masters } = components;
    this.#standIn = new StandIn(environment, {
      clientId,
      clusterId,
      term: () => this.#term,
      pool,
      // The masters' too: a client that was started while one was away knows no other.
      addresses: () => [...this.#shadows, ...masters],
      onReady: () => this.#wakeWaiters(),
    });
  }

  /** The master's, as long as it is open. */
  get peer(): Peer | undefined {
    return this.#peer?.closed === false ? this.#peer : undefined;
  }

  /** Finds a master, and keeps to it or the next. @throws UNREACHABLE when none answers by the deadline, WRONG_CLUSTER, … */
  async start(deadline: Deadline): Promise<void> {
    await retrying(this.#environment.timers, deadline, undefined, () => this.#connect());
    this.#keepConnected();
  }

  /** A master has said of which term it is. Nobody of an older one is served by. @throws STALE_TERM */
  noteTerm(term: number): void {
    if (term < this.#term)
      throw new GfsError('STALE_TERM', `it is of term ${term}, another master of ${this.#term}`);
    this.#term = term;
  }

  /** @param farewell what the master is told last, if it is there */
  async close(farewell: (peer: Peer) => Promise<unknown>): Promise<void> {
    this.#closed = true;
    this.#learnTimer?.cancel();
    const peer = this.#peer;
    this.#peer = undefined;
    if (peer !== undefined && !peer.closed) {
      await farewell(peer).catch(() => undefined);
      peer.close();
    }
    this.#standIn.rest();
    this.#wakeWaiters();
  }

  #wakeWaiters(): void {
    for (const wake of this.#waiters) wake();
  }

  /** Where the master may be. */
  get #addresses(): readonly HostPort[] {
    const all = [...this.#c.masters, ...this.#shadows];
    return [...new Map(all.map((address) => [`${address.host}:${address.port}`, address])).values()];
  }

  /**
   * The master's connection, waited for if need be.
   * @param mayStandIn a shadow's will do while the master is away
   * @throws UNREACHABLE at the deadline, CANCELLED
   */
  async connected(deadline: Deadline, signal: Cancellation | undefined, mayStandIn = false): Promise<Peer> {
    for (;;) {
      if (this.#closed) throw new GfsError('CANCELLED', 'the client was closed');
      if (this.peer !== undefined) return this.peer;
      const standIn = mayStandIn ? this.#standIn.peer : undefined;
      if (standIn !== undefined) return standIn;
      if (deadline.remainingMs <= 0) throw new GfsError('UNREACHABLE', 'no master answers');
      await this.#connectionOr(deadline, signal);
    }
  }

  /** Until the connection is back, the deadline has passed or the caller gave up. @throws CANCELLED */
  async #connectionOr(deadline: Deadline, signal: Cancellation | undefined): Promise<void> {
    let wake = () => {};
    const back = new Promise<void>((resolve) => {
      wake = resolve;
    });
    this.#waiters.add(wake);
    const given = new AbortController();
    const onAbort = () => given.abort();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([back, pause(this.#environment.timers, deadline.within(60_000), given.signal)]);
    } finally {
      this.#waiters.delete(wake);
      signal?.removeEventListener('abort', onAbort);
      given.abort();
    }
  }

  /** Reconnects for as long as the client lives, with a pause that grows. */
  #keepConnected(): void {
    const onLost = () => {
      this.#learnTimer?.cancel();
      if (this.#closed) return;
      this.#standIn.seek();
      void this.#reconnect().then(() => this.#peer?.onceClosed(onLost));
    };
    this.#peer?.onceClosed(onLost);
  }

  async #reconnect(): Promise<void> {
    const { timers, logger } = this.#environment;
    let pauseMs = FIRST_RECONNECT_PAUSE_MS;
    while (!this.#closed) {
      // Each of them once, then a rest.
      for (let left = this.#addresses.length; left > 0 && !this.#closed; left--) {
        try {
          await this.#connect();
          return;
        } catch (error) {
          logger.debug({ err: error }, 'no connection to the master yet');
        }
      }
      await pause(timers, pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_RECONNECT_PAUSE_MS);
    }
  }

  /** One attempt, at the next master of the list. */
  async #connect(): Promise<void> {
    const { network, clock, timers, logger } = this.#environment;
    const addresses = this.#addresses;
    const master = addresses[this.#nextMaster++ % addresses.length];
    if (master === undefined) throw new GfsError('INVALID', 'no master is configured');
    let peer: Peer | undefined;
    try {
      const socket = await network.connect(master.host, master.port, CONNECT_TIMEOUT_MS);
      peer = new Peer(socket, {
        helloTimeoutMs: CONNECT_TIMEOUT_MS,
        role: 'client',
        id: this.#c.clientId,
        clusterId: this.#c.clusterId,
        term: () => this.#term,
        service: this.#c.service,
        pool: this.#c.pool,
        clock,
        timers,
        logger,
      });
      const { role, term } = await peer.ready();
      if (role !== 'master') throw new GfsError('UNREACHABLE', `a ${role} is there`);
      if (term < this.#term) this.noteTerm(term);
      await this.#c.register(peer);
    } catch (thrown) {
      peer?.close();
      throw unreachable(thrown, `${master.host}:${master.port}`);
    }
    this.#peer = peer;
    this.#c.onUp(peer);
    peer.onceClosed(() => this.#c.onLost());
    this.#standIn.rest();
    this.#wakeWaiters();
    this.#learnTimer = timers.every(SHADOWS_INTERVAL_MS, () => void this.#learnShadows(peer));
    void this.#learnShadows(peer);
  }

  /** While the master is there to say. */
  async #learnShadows(peer: Peer): Promise<void> {
    try {
      this.#shadows = (await peer.call(GetShadows, {}, { deadlineMs: CONNECT_TIMEOUT_MS })).body.shadows;
    } catch (error) {
      this.#environment.logger.debug({ err: error }, 'the master does not say where its shadows are');
    }
  }
}

/** What the network or the handshake said, as an error that tells who could not be reached. */
function unreachable(thrown: unknown, master: string): GfsError {
  const error = toGfsError(thrown);
  const final =
    error.code === 'WRONG_CLUSTER' || error.code === 'WRONG_PROTOCOL_VERSION' || error.code === 'INVALID';
  if (final) return error;
  return new GfsError('UNREACHABLE', `master ${master}: ${error.message}`, { cause: thrown });
}
