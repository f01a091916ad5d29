/**
 * The client's session with the master: opened and taken up again by whatever connection there is, renewed
 * while it stands. Queries are asked again until they are answered; every mutation carries (session,
 * sequence), so asking again never does it twice.
 */
import type { Counter, Environment, Timer } from '../environment/ports/index.js';
import { errorNumber, GfsError, toGfsError } from '../protocol/errors.js';
import { SESSION_RESULTS } from '../protocol/limits.js';
import {
  BreakPromises,
  EndSession,
  type HeldLock,
  RegisterClient,
  Renew,
  ReportLengths,
} from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import type { Peer } from '../protocol/peer.js';
import { type CallOptions, type CallResult, type Method, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { CONNECT_TIMEOUT_MS, MasterConnection } from './master-connection.js';
import { MasterTime } from './master-time.js';
import type { ClientOptions } from './options.js';
import { type CallContext, Deadline, retryCounter, retrying } from './retry.js';
import { isAnsweredByShadows } from './stand-in.js';

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
  /** When things happen, for whoever compares it with what the master tells. */
  readonly time: MasterTime;
  readonly #environment: Environment;
  readonly #options: ClientOptions;
  readonly #service = new Service();
  readonly #connection: MasterConnection;
  #standing: Standing | undefined;
  #renewTimer: Timer | undefined;
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
  #heldLocks: () => HeldLock[] = () => [];
  #onLocksLost: () => void = () => undefined;
  readonly #onRetry: () => void;

  constructor(environment: Environment, options: ClientOptions) {
    this.#environment = environment;
    this.#options = options;
    this.time = new MasterTime(environment.clock);
    this.clientId = environment.random.hex(16);
    const retries = retryCounter(environment.metrics, 'master');
    this.#onRetry = () => retries.add();
    this.#connection = new MasterConnection(environment, {
      clientId: this.clientId,
      masters: options.masters,
      clusterId: () => this.clusterId,
      service: this.#service,
      pool: new BufferPool(),
      register: (peer) => this.#register(peer),
      onUp: (peer) => this.#onUp(peer),
      onLost: () => this.#onLost(),
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
  onReportLengths(report: (ids: readonly number[], aheadOnly: boolean) => Promise<void>): void {
    this.#service.on(ReportLengths, async ({ ids, ahead }) => {
      await report(ids, ahead === true);
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
  start(): Promise<void> {
    return this.#connection.start(this.deadline());
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
    return retrying(
      this.#environment.timers,
      deadline,
      context.signal,
      () => {
        const ask = (peer: Peer) =>
          peer.call(method, body, this.#callOptions(context, deadline, 0)).then(bodyOf);
        const { peer } = this.#connection;
        if (peer !== undefined) return ask(peer);
        const mayStandIn = isAnsweredByShadows(method as Method<unknown, unknown>);
        return this.#connection.connected(deadline, context.signal, mayStandIn).then(ask);
      },
      this.#onRetry,
    );
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
    while (this.#isWindowFull()) await new Promise<void>((resolve) => this.#sequenceWaiters.push(resolve));
    const sequence = this.#nextSequence++;
    this.#outstanding.add(sequence);
    let sentUnder = 0;
    let mayHaveHappened = false;
    this.#callsOf(method).add();
    const ended = this.#observer?.changing(method as Method<unknown, unknown>, body);
    const ask = (peer: Peer): Promise<Reply> => {
      const session = this.id;
      if (sentUnder !== 0 && sentUnder !== session) {
        const message = `the session ended while ${method.name} was under way`;
        return Promise.reject(new GfsError('UNKNOWN_OUTCOME', message));
      }
      sentUnder = session;
      return peer
        .call(method, body, this.#callOptions(context, deadline, sequence))
        .then(bodyOf, (thrown) => {
          const { code, message } = toGfsError(thrown);
          // Refused now, by a master that may not know what became of it before.
          if (code === 'READ_ONLY' && mayHaveHappened) throw new GfsError('OUTCOME_PENDING', message);
          mayHaveHappened ||= errorNumber(code) >= FIRST_UNCERTAIN_ERROR;
          throw thrown;
        });
    };
    const attempt = () => {
      const { peer } = this.#connection;
      return peer !== undefined ? ask(peer) : this.#connection.connected(deadline, context.signal).then(ask);
    };
    try {
      const { timers } = this.#environment;
      const reply = await retrying(timers, deadline, context.signal, attempt, this.#onRetry);
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
  close(): Promise<void> {
    this.#renewTimer?.cancel();
    return this.#connection.close((peer) =>
      peer.call(EndSession, {}, { session: this.id, deadlineMs: CONNECT_TIMEOUT_MS }),
    );
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

  /** @param sequence 0 for what is no mutation */
  #callOptions(context: CallContext, deadline: Deadline, sequence: number): CallOptions {
    return {
      session: this.id,
      sequence,
      deadlineMs: deadline.within(this.#options.deadlineMs),
      signal: context.signal,
      uid: context.uid ?? 0,
      gids: context.gids ?? [],
    };
  }

  // Sequences: fewer than the master remembers results for, counted from the oldest under way.

  #isWindowFull(): boolean {
    const oldest = this.#outstanding.values().next().value;
    return oldest !== undefined && this.#nextSequence - oldest >= SESSION_RESULTS;
  }

  #returnSequence(sequence: number): void {
    this.#outstanding.delete(sequence);
    if (this.#sequenceWaiters.length > 0) for (const wake of this.#sequenceWaiters.splice(0)) wake();
  }

  // The standing.

  #onUp(peer: Peer): void {
    const { timers } = this.#environment;
    this.#renewTimer = timers.every(this.#current().renewIntervalMs, () => void this.#renew(peer));
  }

  #onLost(): void {
    this.#renewTimer?.cancel();
    this.#trustedUntilMs = 0;
    this.#observer?.onLost();
    for (const callback of this.#lostCallbacks) callback();
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
    this.#connection.noteTerm(body.term);
    this.#standing = { ...body, id: body.session };
    this.#trust(sentAtMs);
    this.#heardTime(body, sentAtMs);
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

  #heardTime({ timeSec, timeNsec = 0 }: ValueOf<typeof Renew.reply>, sentAtMs: number): void {
    if (timeSec !== undefined) this.time.heard({ sec: timeSec, nsec: timeNsec }, sentAtMs);
  }

  async #renew(peer: Peer): Promise<void> {
    const opened = takeSome(this.#opened);
    const closed = takeSome(this.#closedFiles);
    const { id, timeoutMs } = this.#current();
    const sentAtMs = this.#environment.clock.monotonicMs();
    try {
      const options = { session: id, deadlineMs: timeoutMs, urgent: true };
      const { body } = await peer.call(Renew, { opened, closed }, options);
      if (peer !== this.#connection.peer) return;
      this.#trust(sentAtMs);
      this.#heardTime(body, sentAtMs);
    } catch (thrown) {
      for (const node of opened) if (this.#openNow.has(node)) this.#opened.add(node);
      for (const node of closed) if (!this.#openNow.has(node)) this.#closedFiles.add(node);
      this.#environment.logger.warn({ err: thrown }, 'the session could not be renewed');
      peer.close();
    }
  }
}

function bodyOf<Reply>({ body }: CallResult<Reply>): Reply {
  return body;
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
