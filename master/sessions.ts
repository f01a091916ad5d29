/**
 * The sessions of clients: opened, renewed, lapsed after silence, taken up again, ended. A session's
 * results are logged state; whether its client is there, and what it has open, is soft.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { SESSION_RESULTS } from '../protocol/limits.js';
import type { Location, RegisterClient, Renew } from '../protocol/messages/index.js';
import { MAX_IDS_PER_RECORD } from '../protocol/records.js';
import type { Caller, IncomingRequest, Method } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Allocator } from './allocator.js';
import type { Coherence } from './coherence.js';
import type { FileLocks } from './file-locks.js';
import type { Journal, Origin } from './journal.js';
import type { LogGate } from './log-gate.js';
import type { LoggedState, Session } from './state.js';

export const MAX_SESSIONS = 65_536;
const MAX_OPEN_FILES = 1_048_576;
const MAX_WAITING_MUTATIONS = 65_536;
/** Clocks drift by a percent at most; a client counts from before it was heard. */
const BELIEF_MARGIN = 1.02;
/** How long a client that fell silent may come back to its session. */
const RESUME_WITHIN_MS = 3600 * 1000;

interface Client {
  /** Logged. */
  readonly session: Session;
  /** Undefined while the session is lapsed. */
  peer: Caller | undefined;
  lastHeardMs: number;
  location: Location | undefined;
  rack: string | undefined;
  readonly opened: Set<number>;
  /** It was away for longer than a session lives: others may have had its locks. */
  locksLost: boolean;
  /** Mutations under way, by sequence. */
  readonly running: Map<number, Promise<unknown>>;
}

export class ClientSessions {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #allocator: Allocator;
  readonly #gate: LogGate;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #coherence: Coherence;
  readonly #locks: FileLocks;
  readonly #timeoutMs: number;
  readonly #clients = new Map<number, Client>();
  /** Node id → sessions that have it open. */
  readonly #openCounts = new Map<number, number>();
  #onClosed: ((nodeId: number) => void) | undefined;
  /** Sessions of the master's former life whose clients have not told what they have open. */
  readonly #unheard = new Set<number>();
  /** Those of them that may still believe what that life promised them. */
  readonly #believing = new Set<number>();
  readonly #startedAtMs: number;
  /** Mutations that wait until nobody does. */
  readonly #waitingForBelief: (() => void)[] = [];

  constructor(
    state: LoggedState,
    journal: Journal,
    allocator: Allocator,
    gate: LogGate,
    environment: { readonly clock: Clock; readonly logger: Logger },
    coherence: Coherence,
    locks: FileLocks,
    timeoutMs: number,
  ) {
    this.#state = state;
    this.#journal = journal;
    this.#allocator = allocator;
    this.#gate = gate;
    this.#clock = environment.clock;
    this.#logger = environment.logger;
    this.#coherence = coherence;
    this.#locks = locks;
    this.#timeoutMs = timeoutMs;
    this.#startedAtMs = environment.clock.monotonicMs();
    for (const session of state.sessions.values()) {
      if (session.kind !== 'client') continue;
      this.#clients.set(session.id, this.#newClient(session));
      this.#unheard.add(session.id);
      this.#believing.add(session.id);
    }
  }

  get count(): number {
    return this.#clients.size;
  }

  /** Those whose client is there. */
  get connectedCount(): number {
    let count = 0;
    for (const { peer } of this.#clients.values()) if (peer !== undefined) count++;
    return count;
  }

  /** Whether every client has told what it has open: before that, no deleted file may be given up. */
  get openFilesKnown(): boolean {
    return this.#unheard.size === 0;
  }

  /** Calls back with each file that nobody has open any more. */
  onClosed(callback: (nodeId: number) => void): void {
    this.#onClosed = callback;
  }

  isOpen(nodeId: number): boolean {
    return this.#openCounts.has(nodeId);
  }

  /** Where the client of a session is, for choosing near chunkservers. */
  placeOf(sessionId: number): {
    readonly location?: Location | undefined;
    readonly rack?: string | undefined;
  } {
    return this.#clients.get(sessionId) ?? {};
  }

  /** Opens a session, or takes one up. @throws SESSION_UNKNOWN, OVERLOADED; READ_ONLY, OUTCOME_PENDING: a new one */
  async register(
    body: ValueOf<typeof RegisterClient.request>,
    peer: Caller,
  ): Promise<{ readonly session: number; readonly locksLost: boolean }> {
    const client =
      body.resume === undefined ? await this.#open(body) : this.#resume(body.resume, body.clientId);
    client.location = body.location;
    client.rack = body.rack;
    client.peer = peer;
    client.lastHeardMs = this.#clock.monotonicMs();
    if (body.caches === true) this.#coherence.open(client.session.id, peer);
    const locksLost = this.#takeLocks(client, body);
    this.#believesNoMore(client.session.id);
    peer.onceClosed(() => {
      if (client.peer === peer) this.#lapse(client, 'its connection is gone');
    });
    return { session: client.session.id, locksLost };
  }

  /** @returns whether those that it held are lost */
  #takeLocks(client: Client, { locks = [], resume }: ValueOf<typeof RegisterClient.request>): boolean {
    const isLost = locks.length > 0 && (client.locksLost || resume === undefined);
    client.locksLost = false;
    this.#locks.restore(client.session.id, isLost ? [] : locks);
    return isLost;
  }

  /** Resolves when whoever had a lock in the master's former life has told of it. @throws OVERLOADED */
  async locksKnown(): Promise<void> {
    if (this.#believing.size > 0) await this.#untilNobodyBelieves();
  }

  async #open(body: ValueOf<typeof RegisterClient.request>): Promise<Client> {
    if (this.#state.sessions.size >= MAX_SESSIONS) throw new GfsError('OVERLOADED', 'too many sessions');
    this.#gate.check();
    const { clientId, hostname } = body;
    const id = this.#allocator.sessionId();
    const opened = this.#journal.commit({
      type: 'sessionOpened',
      id,
      kind: 'client',
      owner: clientId,
      hostname,
    });
    await this.#gate.answer(opened);
    const client = this.#newClient(this.#state.sessions.get(id) as Session);
    this.#clients.set(id, client);
    this.#logger.info({ session: id, clientId, hostname }, 'a client registered');
    return client;
  }

  #resume(id: number, clientId: string): Client {
    const client = this.#clients.get(id);
    if (client === undefined || client.session.owner !== clientId) {
      throw new GfsError('SESSION_UNKNOWN', `session ${id} is over`);
    }
    return client;
  }

  #newClient(session: Session): Client {
    return {
      session,
      peer: undefined,
      lastHeardMs: this.#clock.monotonicMs(),
      location: undefined,
      rack: undefined,
      opened: new Set(),
      locksLost: false,
      running: new Map(),
    };
  }

  /**
   * A client lives, and tells what it opened and closed. The first renewal after a registration names
   * everything that is open: the master may have forgotten.
   * @throws SESSION_UNKNOWN, OVERLOADED
   */
  renew(body: ValueOf<typeof Renew.request>, request: IncomingRequest): void {
    const client = this.#require(request);
    if (client.opened.size + body.opened.length > MAX_OPEN_FILES)
      throw new GfsError('OVERLOADED', 'too many open files');
    for (const id of body.opened) {
      if (client.opened.has(id)) continue;
      client.opened.add(id);
      this.#openCounts.set(id, (this.#openCounts.get(id) ?? 0) + 1);
    }
    for (const id of body.closed) {
      if (client.opened.delete(id)) this.#forgetOpen(id);
      if (!this.isOpen(id)) this.#onClosed?.(id);
    }
    this.#unheard.delete(client.session.id);
  }

  #forgetOpen(nodeId: number): void {
    const count = (this.#openCounts.get(nodeId) ?? 0) - 1;
    if (count <= 0) this.#openCounts.delete(nodeId);
    else this.#openCounts.set(nodeId, count);
  }

  /** An orderly end. */
  async end(request: IncomingRequest): Promise<void> {
    const client = this.#require(request);
    await this.#end([client]);
  }

  /**
   * Does a mutation once, however often it is asked for: a retry gets the first result, from memory or
   * from the log, also after a restart.
   * @throws SESSION_UNKNOWN; UNKNOWN_OUTCOME when the result is too old to be remembered; MALFORMED;
   *   READ_ONLY, and OUTCOME_PENDING for one that is under way, while too few log replicas answer
   */
  async once<Request, Reply>(
    method: Method<Request, Reply>,
    request: IncomingRequest,
    run: (origin: Origin) => Promise<Reply>,
  ): Promise<Reply> {
    const client = this.#require(request);
    const { session } = client;
    const { sequence } = request.header;
    if (sequence === 0) throw new GfsError('MALFORMED', `${method.name} without a sequence`);
    if (this.#believing.size > 0) await this.#untilNobodyBelieves();
    for (;;) {
      const first = client.running.get(sequence);
      if (first !== undefined) {
        // Its result may be known before everybody has forgotten what it changed: this copy waits for that too.
        // If it fails nothing was logged, and this copy may try: the first one's caller may be gone.
        await this.#gate.answer(first.catch(() => undefined));
        continue;
      }
      const stored = session.results.get(sequence);
      if (stored !== undefined) {
        if (stored.method !== method.number)
          throw new GfsError('MALFORMED', `sequence ${sequence} was something else`);
        return await this.#gate.answer(this.#gate.proven(Promise.resolve(stored.reply as Reply)));
      }
      if (sequence <= session.highestSequence - SESSION_RESULTS) {
        throw new GfsError('UNKNOWN_OUTCOME', `the result of sequence ${sequence} is no longer remembered`);
      }
      break;
    }
    this.#gate.check();
    const running = run({ session: session.id, sequence, method: method.number, request });
    client.running.set(sequence, running);
    const done = (): void => {
      client.running.delete(sequence);
    };
    // It goes on, with its locks, also where its answer is not waited for.
    running.then(done, done);
    return await this.#gate.answer(this.#gate.proven(running));
  }

  // A former life's promises: nobody knows them any more, so nothing changes while somebody may believe them.

  #believesNoMore(session: number): void {
    if (!this.#believing.delete(session) || this.#believing.size > 0) return;
    for (const wake of this.#waitingForBelief.splice(0)) wake();
  }

  /** @throws OVERLOADED */
  async #untilNobodyBelieves(): Promise<void> {
    if (this.#waitingForBelief.length >= MAX_WAITING_MUTATIONS)
      throw new GfsError('OVERLOADED', 'the master has just started');
    await new Promise<void>((resolve) => this.#waitingForBelief.push(resolve));
  }

  /** @throws SESSION_UNKNOWN unless the request comes from a session's own connection */
  requireCaller(request: IncomingRequest): void {
    this.#require(request);
  }

  #require(request: IncomingRequest): Client {
    const client = this.#clients.get(request.header.session);
    if (client === undefined || client.peer !== request.peer) {
      throw new GfsError('SESSION_UNKNOWN', `session ${request.header.session} is not of this connection`);
    }
    client.lastHeardMs = this.#clock.monotonicMs();
    return client;
  }

  /**
   * Called every now and then: lapses the silent, ends those that nobody came back for.
   * @param lateMs time in which nobody could be heard
   */
  sweep(lateMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#believing.size > 0 && nowMs - this.#startedAtMs > BELIEF_MARGIN * this.#timeoutMs) {
      for (const session of [...this.#believing]) this.#believesNoMore(session);
    }
    const over: Client[] = [];
    for (const client of this.#clients.values()) {
      client.lastHeardMs = Math.min(nowMs, client.lastHeardMs + lateMs);
      const silentMs = nowMs - client.lastHeardMs;
      if (client.peer !== undefined && silentMs > this.#timeoutMs) {
        const { peer } = client;
        this.#lapse(client, 'it is silent');
        // Its session is over by its own clock too: nobody waits for the locks a second time.
        this.#loseLocks(client);
        peer.close();
      } else if (client.peer === undefined && silentMs > this.#timeoutMs && !client.locksLost) {
        this.#loseLocks(client);
      } else if (
        client.peer === undefined &&
        silentMs > RESUME_WITHIN_MS &&
        over.length < MAX_IDS_PER_RECORD
      ) {
        over.push(client);
      }
    }
    if (over.length === 0) return;
    this.#end(over).catch((err) => this.#logger.warn({ err }, 'cannot end sessions now'));
  }

  /** Nobody else had its locks before its session was over for sure; now anybody may. */
  #loseLocks(client: Client): void {
    client.locksLost = true;
    const count = this.#locks.release(client.session.id);
    if (count > 0)
      this.#logger.warn(
        { session: client.session.id, count },
        'file locks of a client that is gone are released',
      );
  }

  /** The session stays, with its results and open files: its client may come back. */
  #lapse(client: Client, reason: string): void {
    client.peer = undefined;
    this.#coherence.close(client.session.id);
    client.lastHeardMs = this.#clock.monotonicMs();
    this.#logger.info(
      { session: client.session.id, clientId: client.session.owner, reason },
      'a client session lapsed',
    );
  }

  async #end(clients: readonly Client[]): Promise<void> {
    await this.#journal.commit({ type: 'sessionsEnded', ids: clients.map(({ session }) => session.id) });
    for (const client of clients) {
      if (!this.#clients.delete(client.session.id)) continue;
      client.peer = undefined;
      this.#coherence.close(client.session.id);
      this.#locks.release(client.session.id);
      this.#unheard.delete(client.session.id);
      for (const id of client.opened) {
        this.#forgetOpen(id);
        if (!this.isOpen(id)) this.#onClosed?.(id);
      }
      this.#logger.info(
        { session: client.session.id, clientId: client.session.owner },
        'a client session ended',
      );
    }
  }
}
