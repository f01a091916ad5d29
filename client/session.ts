/**
 * The client's session with the master: found again whenever the connection breaks, renewed while it
 * stands. Queries are asked again until they are answered; every mutation carries (session, sequence),
 * so asking again never does it twice.
 */
import type { Counter, Environment, Timer } from '../environment/ports/index.js';
import { errorNumber, GfsError, toGfsError } from '../protocol/errors.js';
import { SESSION_RESULTS } from '../protocol/limits.js';
import {
  BreakPromises,
  EndSession,
  GetShadows,
  type HeldLock,
  RegisterClient,
  Renew,
  ReportLengths,
} from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type Cancellation, type Method, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { ClientOptions, HostPort } from './options.js';
import { type CallContext, Deadline, pause, retrying } from './retry.js';
import { isAnsweredByShadows, StandIn } from './stand-in.js';

const CONNECT_TIMEOUT_MS = 1_000;
const FIRST_RECONNECT_PAUSE_MS = 20;
const LONGEST_RECONNECT_PAUSE_MS = 1_000;
const SHADOWS_EVERY_RENEWALS = 4;
/** Node ids in one renewal; what is above waits for the next. */
const MAX_OPENS_PER_RENEWAL = 65_536;

/** How a mutation ended. */
export interface Outcome {
  /** Undefined when it failed. */
  readonly reply: unknown;
  /** False when it may have happened, or may still happen. */
  readonly isKnown: boolean;
}

/** Who keeps copies of what the master told. */
export interface SessionObserver {
  /** What the master says is no longer true. Resolves when it is forgotten. */
  onBreak(broken: ValueOf<typeof BreakPromises.request>): Promise<void> | undefined;
  /** The connection is gone, and with it every promise. */
  onLost(): void;
  /** A mutation is about to be asked for. @returns to be called when it has ended */
  changing(method: Method<unknown, unknown>, body: unknown): ((outcome: Outcome) => void) | undefined;
}

/** Clocks drift by a percent at most: this much of the time after a renewal the master surely counts too. */
const TRUSTED_SHARE = 0.98;
/** Errors below this number say that nothing happened. */
const FIRST_UNCERTAIN_ERROR = 40;

interface Standing {
  readonly id: number;
  readonly clusterId: string;
  readonly chunkBytes: number;
  readonly renewIntervalMs: number;
  readonly timeoutMs: number;
}

export class MasterSession {
  readonly clientId: string;
  readonly #environment: Environment;
  readonly #options: ClientOptions;
  readonly #pool = new BufferPool();
  readonly #service = new Service();
  #standing: Standing | undefined;
  #peer: Peer | undefined;
  /** Those who wait for a connection. */
  readonly #waiters = new Set<() => void>();
  #nextMaster = 0;
  #renewTimer: Timer | undefined;
  #closed = false;
  #nextSequence = 1;
  /** Sequences under way, oldest first. */
  readonly #outstanding = new Set<number>();
  readonly #sequenceWaiters: (() => void)[] = [];
  readonly #opened = new Set<number>();
  readonly #closedFiles = new Set<number>();
  readonly #openNow = new Set<number>();
  readonly #calls = new Map<number, Counter>();
  #trustedUntilMs = 0;
  #observer: SessionObserver | undefined;
  readonly #lostCallbacks: (() => void)[] = [];
  /** The newest term of a master that was met: none of an older one is served by. */
  #term = 0;
  /** Each of them may be the master one day. */
  #shadows: readonly HostPort[] = [];
  readonly #standIn: StandIn;
  #heldLocks: () => HeldLock[] = () => [];
  #onLocksLost: () => void = () => undefined;

  constructor(environment: Environment, options: ClientOptions) {
    this.#environment = environment;
    this.#options = options;
    this.clientId = environment.random.hex(16);
    this.#standIn = new StandIn(environment, {
      clientId: this.clientId,
      clusterId: () => this.clusterId,
      term: () => this.#term,
      pool: this.#pool,
      // The masters' too: a client that was started while one was away knows no other.
      addresses: () => [...this.#shadows, ...this.#options.masters],
      onReady: () => this.#wakeWaiters(),
    });
    this.#service.on(BreakPromises, async (broken) => {
      await this.#observer?.onBreak(broken);
      return { body: {} };
    });
  }

  /** To whom the master's breaking of promises is handed. */
  observe(observer: SessionObserver): void {
    this.#observer = observer;
  }

  /** Answers what the master asks of this client. */
  serve<Request, Reply>(
    method: Method<Request, Reply>,
    handle: (body: Request) => Promise<{ readonly body: Reply }>,
  ): void {
    this.#service.on(method, handle);
  }

  /** Calls back whenever the connection is lost. */
  onLost(callback: () => void): void {
    this.#lostCallbacks.push(callback);
  }

  /** Who tells the lengths that were not told yet, when the master asks. */
  onReportLengths(report: (ids: readonly number[]) => Promise<void>): void {
    this.#service.on(ReportLengths, async ({ ids }) => {
      await report(ids);
      return { body: {} };
    });
  }

  /** What the master is told of file locks when it takes the session up, and what is done when they are lost. */
  tellLocks(held: () => HeldLock[], onLost: () => void): void {
    this.#heldLocks = held;
    this.#onLocksLost = onLost;
  }

  /** Until then, by the monotonic clock, the master keeps what it has promised. */
  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  /** Opens the session. @throws UNREACHABLE when no master answers within the deadline, WRONG_CLUSTER, … */
  async start(): Promise<void> {
    const deadline = this.deadline();
    await retrying(this.#environment.timers, deadline, undefined, () => this.#connect());
    this.#keepConnected();
  }

  /** The session's id: part of every data id and mutation. */
  get id(): number {
    return this.#current().id;
  }

  get chunkBytes(): number {
    return this.#current().chunkBytes;
  }

  get clusterId(): string {
    return this.#standing?.clusterId ?? '';
  }

  /** Whether replies come with promises. */
  get caches(): boolean {
    return this.#options.caches;
  }

  deadline(): Deadline {
    const durationMs = this.#options.hard ? Number.POSITIVE_INFINITY : this.#options.deadlineMs;
    return new Deadline(this.#environment.clock, durationMs);
  }

  /** Asks the master, or a shadow while the master is away, again where that is of use, until the deadline. */
  query<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    context: CallContext = {},
    deadline: Deadline = this.deadline(),
  ): Promise<Reply> {
    this.#callsOf(method).add();
    return retrying(this.#environment.timers, deadline, context.signal, async () => {
      const mayStandIn = isAnsweredByShadows(method as Method<unknown, unknown>);
      const peer = await this.#connected(deadline, context.signal, mayStandIn);
      return (await peer.call(method, body, this.#callOptions(context, deadline))).body;
    });
  }

  /**
   * Has the master do something once. @throws UNKNOWN_OUTCOME when the session ended in between: it
   * may or may not have happened
   */
  async mutate<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    context: CallContext = {},
    deadline: Deadline = this.deadline(),
  ): Promise<Reply> {
    const sequence = await this.#takeSequence();
    let sentUnder = 0;
    let mayHaveHappened = false;
    this.#callsOf(method).add();
    const ended = this.#observer?.changing(method as Method<unknown, unknown>, body);
    try {
      const reply = await retrying(this.#environment.timers, deadline, context.signal, async () => {
        const peer = await this.#connected(deadline, context.signal);
        const session = this.id;
        if (sentUnder !== 0 && sentUnder !== session) {
          throw new GfsError('UNKNOWN_OUTCOME', `the session ended while ${method.name} was under way`);
        }
        sentUnder = session;
        const options = { ...this.#callOptions(context, deadline), sequence };
        try {
          return (await peer.call(method, body, options)).body;
        } catch (thrown) {
          const { code, message } = toGfsError(thrown);
          // Refused now, by a master that may not know what became of it before.
          if (code === 'READ_ONLY' && mayHaveHappened) throw new GfsError('OUTCOME_PENDING', message);
          mayHaveHappened ||= errorNumber(code) >= FIRST_UNCERTAIN_ERROR;
          throw thrown;
        }
      });
      ended?.({ reply, isKnown: true });
      return reply;
    } catch (thrown) {
      const isKnown = errorNumber(toGfsError(thrown).code) < FIRST_UNCERTAIN_ERROR;
      ended?.({ reply: undefined, isKnown });
      throw thrown;
    } finally {
      this.#returnSequence(sequence);
    }
  }

  /** The master keeps the chunks of files that are open, also after their last name is gone. */
  noteOpened(id: number): void {
    this.#openNow.add(id);
    this.#closedFiles.delete(id);
    this.#opened.add(id);
  }

  noteClosed(id: number): void {
    this.#openNow.delete(id);
    this.#opened.delete(id);
    this.#closedFiles.add(id);
  }

  /** Ends the session in order; the files that it had open are closed with it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#renewTimer?.cancel();
    const peer = this.#peer;
    this.#peer = undefined;
    if (peer !== undefined && !peer.closed) {
      await peer
        .call(EndSession, {}, { session: this.id, deadlineMs: CONNECT_TIMEOUT_MS })
        .catch(() => undefined);
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
    const all = [...this.#options.masters, ...this.#shadows];
    return [...new Map(all.map((address) => [`${address.host}:${address.port}`, address])).values()];
  }

  #callsOf({ number, name }: { readonly number: number; readonly name: string }): Counter {
    let counter = this.#calls.get(number);
    if (counter === undefined) {
      counter = this.#environment.metrics.counter(
        'gfs_client_master_calls_total',
        'Questions and mutations put to the master.',
        { method: name },
      );
      this.#calls.set(number, counter);
    }
    return counter;
  }

  #current(): Standing {
    if (this.#standing === undefined) throw new GfsError('UNREACHABLE', 'no session with the master yet');
    return this.#standing;
  }

  #callOptions(context: CallContext, deadline: Deadline) {
    return {
      session: this.id,
      deadlineMs: deadline.within(this.#options.deadlineMs),
      signal: context.signal,
      uid: context.uid ?? 0,
      gids: context.gids ?? [],
    };
  }

  // Sequences: fewer than the master remembers results for, counted from the oldest under way.

  async #takeSequence(): Promise<number> {
    while (this.#isWindowFull()) await new Promise<void>((resolve) => this.#sequenceWaiters.push(resolve));
    const sequence = this.#nextSequence++;
    this.#outstanding.add(sequence);
    return sequence;
  }

  #isWindowFull(): boolean {
    const oldest = this.#outstanding.values().next().value;
    return oldest !== undefined && this.#nextSequence - oldest >= SESSION_RESULTS;
  }

  #returnSequence(sequence: number): void {
    this.#outstanding.delete(sequence);
    for (const wake of this.#sequenceWaiters.splice(0)) wake();
  }

  // The connection.

  /** @throws UNREACHABLE at the deadline, CANCELLED */
  async #connected(deadline: Deadline, signal: Cancellation | undefined, mayStandIn = false): Promise<Peer> {
    for (;;) {
      if (this.#closed) throw new GfsError('CANCELLED', 'the client was closed');
      if (this.#peer !== undefined && !this.#peer.closed) return this.#peer;
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
      this.#renewTimer?.cancel();
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
        id: this.clientId,
        clusterId: () => this.clusterId,
        term: () => this.#term,
        service: this.#service,
        pool: this.#pool,
        clock,
        timers,
        logger,
      });
      const { role, term } = await peer.ready();
      if (role !== 'master') throw new GfsError('UNREACHABLE', `a ${role} is there`);
      if (term < this.#term)
        throw new GfsError('STALE_TERM', `it is of term ${term}, another master of ${this.#term}`);
      await this.#register(peer);
    } catch (thrown) {
      peer?.close();
      throw unreachable(thrown, `${master.host}:${master.port}`);
    }
    this.#peer = peer;
    peer.onceClosed(() => {
      this.#trustedUntilMs = 0;
      this.#observer?.onLost();
      for (const callback of this.#lostCallbacks) callback();
    });
    this.#standIn.rest();
    this.#wakeWaiters();
    let renewals = 0;
    this.#renewTimer = timers.every(this.#current().renewIntervalMs, () => {
      void this.#renew(peer);
      if (++renewals % SHADOWS_EVERY_RENEWALS === 0) void this.#learnShadows(peer);
    });
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

  async #register(peer: Peer): Promise<void> {
    const { hostname, location, rack } = this.#options;
    const about = {
      clientId: this.clientId,
      hostname,
      ...(location === undefined ? {} : { location }),
      ...(rack === undefined ? {} : { rack }),
      caches: this.#options.caches,
      locks: this.#heldLocks(),
    };
    const resume = this.#standing?.id;
    const sentAtMs = this.#environment.clock.monotonicMs();
    const options = { deadlineMs: 2 * CONNECT_TIMEOUT_MS };
    const { body } = await peer
      .call(RegisterClient, resume === undefined ? about : { ...about, resume }, options)
      .catch((error: GfsError) => {
        if (error.code !== 'SESSION_UNKNOWN') throw error;
        this.#environment.logger.warn({ session: resume }, 'the session had ended: a new one is opened');
        return peer.call(RegisterClient, about, options);
      });
    if (body.term < this.#term) throw new GfsError('STALE_TERM', `the master is of term ${body.term}`);
    this.#term = body.term;
    this.#standing = { ...body, id: body.session };
    this.#trust(sentAtMs);
    if (body.locksLost === true) {
      this.#environment.logger.error(
        { session: body.session },
        'the session was away for too long: the file locks of this mount are lost',
      );
      this.#onLocksLost();
    }
    // The master may have restarted: it hears of every open file again.
    for (const id of this.#openNow) this.#opened.add(id);
  }

  /** The master counts the session's silence from no earlier than when this was sent. */
  #trust(sentAtMs: number): void {
    this.#trustedUntilMs = sentAtMs + TRUSTED_SHARE * this.#current().timeoutMs;
  }

  async #renew(peer: Peer): Promise<void> {
    const opened = takeSome(this.#opened);
    const closed = takeSome(this.#closedFiles);
    const { id, timeoutMs } = this.#current();
    const sentAtMs = this.#environment.clock.monotonicMs();
    try {
      await peer.call(Renew, { opened, closed }, { session: id, deadlineMs: timeoutMs, urgent: true });
      if (peer === this.#peer && !peer.closed) this.#trust(sentAtMs);
    } catch (thrown) {
      for (const node of opened) if (this.#openNow.has(node)) this.#opened.add(node);
      for (const node of closed) if (!this.#openNow.has(node)) this.#closedFiles.add(node);
      this.#environment.logger.warn({ err: thrown }, 'the session could not be renewed');
      peer.close();
    }
  }
}

function takeSome(ids: Set<number>): number[] {
  const taken: number[] = [];
  for (const id of ids) {
    if (taken.length === MAX_OPENS_PER_RENEWAL) break;
    taken.push(id);
    ids.delete(id);
  }
  return taken;
}

/** What the network or the handshake said, as an error that tells who could not be reached. */
function unreachable(thrown: unknown, master: string): GfsError {
  const error = toGfsError(thrown);
  const final =
    error.code === 'WRONG_CLUSTER' || error.code === 'WRONG_PROTOCOL_VERSION' || error.code === 'INVALID';
  if (final) return error;
  return new GfsError('UNREACHABLE', `master ${master}: ${error.message}`, { cause: thrown });
}
