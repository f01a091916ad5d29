/**
 * The session with the master: registered, chunks reported, renewed, heartbeats sent, taken up again for
 * ever when it breaks. Its liveness is judged by when the renewals that were answered had been sent.
 */
import type { Environment, Timer } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import {
  GetShadows,
  type Health,
  Heartbeat,
  type Member,
  RegisterChunkserver,
  RenewChunkserver,
  ReportChunks,
  type Server,
} from '../protocol/messages/index.js';
import { Outage } from '../protocol/outage.js';
import type { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import type { Method, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { TraceSink } from '../protocol/trace.js';
import { DamageReports } from './damage-reports.js';
import { Inventory } from './inventory.js';
import type { LeaseTable } from './leases.js';
import type { Address, ChunkserverOptions } from './options.js';
import type { Store } from './store/store.js';

const CONNECT_TIMEOUT_MS = 2_000;
const CALL_TIMEOUT_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2_000;
const SHADOWS_INTERVAL_MS = 2_000;

export interface MasterSessionComponents {
  readonly options: ChunkserverOptions;
  readonly store: Store;
  readonly service: Service;
  readonly pool: BufferPool;
  /** What the master asks of this server. */
  readonly trace?: TraceSink | undefined;
  /** Where this server listens. */
  readonly server: () => Server;
  /** Requests under way. */
  readonly load: () => number;
  readonly health: () => Health;
  readonly deleteChunks: (handles: readonly number[]) => Promise<void>;
  /** Where the shadows are, each of which may have become the master; told anew now and then. */
  readonly shadows: { readonly addresses: readonly Address[]; set(members: readonly Member[]): void };
  /** It can never join: the process should end. */
  readonly onFatal: (error: Error) => void;
}

interface Intervals {
  readonly renewIntervalMs: number;
  readonly timeoutMs: number;
  readonly heartbeatIntervalMs: number;
}

export class MasterSession {
  readonly #environment: Environment;
  readonly #c: MasterSessionComponents;
  #leases: LeaseTable | undefined;
  #peer: Peer | undefined;
  #stopped = false;
  #wake: (() => void) | undefined;
  #timeoutMs = 0;
  /** When the newest request that the master answered was sent. */
  #heardMs = Number.NEGATIVE_INFINITY;
  #timers: Timer[] = [];
  #renewing = false;
  /** Where to look for the master next, before all others. */
  #next: Address | undefined;
  readonly #damage: DamageReports;
  readonly inventory: Inventory;

  constructor(environment: Environment, components: MasterSessionComponents) {
    this.#environment = environment;
    this.#c = components;
    this.inventory = new Inventory(components.store, () => this.#leases);
    this.#damage = new DamageReports(components.store, environment.logger, CALL_TIMEOUT_MS);
  }

  /** Whether the master was heard of within the session's timeout. Without it this server serves nobody. */
  get inTouch(): boolean {
    return this.#environment.clock.monotonicMs() - this.#heardMs <= this.#timeoutMs;
  }

  get term(): number {
    return this.#c.store.term;
  }

  /** A master of a later term has been met. */
  moveTo(address: Address, term: number): void {
    if (term <= this.term || this.#stopped) return;
    this.#next = address;
    this.#peer?.close();
    this.#wake?.();
  }

  /** What is registered, with the master and with shadows alike. */
  async registration(): Promise<ValueOf<typeof RegisterChunkserver.request>> {
    const { store, options } = this.#c;
    const { location, rack } = options;
    return {
      server: this.#c.server(),
      bootId: this.#environment.bootId,
      ...(location === undefined ? {} : { location }),
      ...(rack === undefined ? {} : { rack }),
      space: await store.space(),
    };
  }

  start(leases: LeaseTable): void {
    this.#leases = leases;
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#stopTimers();
    this.#peer?.close();
    this.#wake?.();
  }

  /** Tells the master, now or when it can be reached, that a replica here failed its checksum. */
  reportDamage(handle: number): void {
    this.#damage.found(handle, this.inTouch ? this.#peer : undefined);
  }

  /** Registers anew and reports all chunks: there are fewer than the master was told. */
  reopen(reason: string): void {
    this.#environment.logger.warn({ reason }, 'reporting all chunks again');
    this.inventory.restart();
    this.#peer?.close();
  }

  /** Asks the master, which must be in touch. @throws UNREACHABLE, and what the method throws */
  async ask<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    deadlineMs: number,
  ): Promise<Reply> {
    if (this.#peer === undefined || !this.inTouch)
      throw new GfsError('UNREACHABLE', 'no session with the master');
    return (await this.#peer.call(method, body, { deadlineMs })).body;
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#environment;
    const outage = new Outage(clock);
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempt = 0; !this.#stopped; attempt++) {
      const address = this.#candidate(attempt);
      try {
        const closed = await this.#connect(address);
        pauseMs = FIRST_PAUSE_MS;
        outage.over();
        await closed;
      } catch (thrown) {
        const error = toGfsError(thrown);
        const about = { master: `${address.host}:${address.port}`, code: error.code, reason: error.message };
        if (error.code === 'WRONG_CLUSTER' || error.code === 'WRONG_PROTOCOL_VERSION') {
          this.#c.onFatal(error);
          return;
        }
        const forMs = this.#stopped ? undefined : outage.failed(error.code);
        if (forMs !== undefined) logger.warn({ ...about, forMs }, 'no session with the master');
      }
      this.#stopTimers();
      this.#peer?.close();
      this.#peer = undefined;
      if (!this.#stopped) await this.#pause(pauseMs);
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    }
  }

  /** The configured masters in turn, then the shadows: one of them may be the master now. */
  #candidate(attempt: number): Address {
    const { options, shadows } = this.#c;
    const next = this.#next;
    this.#next = undefined;
    if (next !== undefined) return next;
    const all = [...options.masters, ...shadows.addresses];
    const address = all[attempt % all.length];
    if (address === undefined) throw new Error('no master is configured');
    return address;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#environment.timers.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** Opens the session. The promise inside the result resolves when the connection is over. */
  async #connect(address: Address): Promise<Promise<void>> {
    const { network, clock, timers, logger } = this.#environment;
    const { store, service, pool } = this.#c;
    const socket = await network.connect(address.host, address.port, CONNECT_TIMEOUT_MS);
    const peer = new Peer(socket, {
      helloTimeoutMs: CONNECT_TIMEOUT_MS,
      role: 'chunkserver',
      id: store.serverId,
      clusterId: () => store.clusterId,
      term: () => this.term,
      service,
      pool,
      clock,
      timers,
      logger,
      trace: this.#c.trace,
    });
    this.#peer = peer;
    const { role, term } = await peer.ready();
    if (role !== 'master') throw new GfsError('UNREACHABLE', `a ${role} is there, not a master`);
    if (term < this.term)
      throw new GfsError('STALE_TERM', `the master is of term ${term}, another of ${this.term}`);
    const intervals = await this.#register(peer);
    await this.#report(peer);
    this.#startTimers(peer, intervals);
    const chunks = store.chunkCount;
    logger.info({ master: peer.remote, chunks }, 'registered with the master');
    return new Promise((resolve) => peer.onceClosed(() => resolve()));
  }

  async #register(peer: Peer): Promise<Intervals> {
    const { store } = this.#c;
    const request = await this.registration();
    const registered = peer.call(RegisterChunkserver, request, { deadlineMs: CALL_TIMEOUT_MS });
    const { body } = await this.#answered(registered);
    await store.adopt(body.clusterId, body.chunkBytes);
    if (body.term < this.term) throw new GfsError('STALE_TERM', `the master is of term ${body.term}`);
    await store.noteTerm(body.term);
    this.#timeoutMs = body.timeoutMs;
    return body;
  }

  async #report(peer: Peer): Promise<void> {
    for (const page of this.inventory.pages())
      await this.#answered(peer.call(ReportChunks, page, { deadlineMs: CALL_TIMEOUT_MS }));
    await this.#damage.sendAll(peer);
  }

  /** Notes that the master lives, as of when the request was sent. */
  async #answered<T>(call: Promise<T>): Promise<T> {
    const sentMs = this.#environment.clock.monotonicMs();
    const result = await call;
    // Leases do not survive a silence that was long enough for the master to give them to others.
    if (!this.inTouch) this.#leases?.endAll('the session with the master was lost');
    this.#heardMs = Math.max(this.#heardMs, sentMs);
    return result;
  }

  #startTimers(peer: Peer, { renewIntervalMs, timeoutMs, heartbeatIntervalMs }: Intervals): void {
    const { timers } = this.#environment;
    this.#timers = [
      timers.every(renewIntervalMs, () => void this.#renew(peer, timeoutMs)),
      timers.every(heartbeatIntervalMs, () => void this.#heartbeat(peer)),
      timers.every(SHADOWS_INTERVAL_MS, () => void this.#learnShadows(peer)),
    ];
    void this.#heartbeat(peer);
    void this.#learnShadows(peer);
  }

  #stopTimers(): void {
    for (const timer of this.#timers.splice(0)) timer.cancel();
  }

  async #learnShadows(peer: Peer): Promise<void> {
    try {
      const { body } = await peer.call(GetShadows, {}, { deadlineMs: CALL_TIMEOUT_MS });
      this.#c.shadows.set(body.shadows);
    } catch (err) {
      this.#environment.logger.debug({ err }, 'the master does not say where its shadows are');
    }
  }

  async #renew(peer: Peer, timeoutMs: number): Promise<void> {
    if (this.#renewing) return;
    this.#renewing = true;
    try {
      await this.#answered(peer.call(RenewChunkserver, {}, { deadlineMs: timeoutMs }));
    } catch (error) {
      this.#lost(peer, error);
    } finally {
      this.#renewing = false;
    }
  }

  async #heartbeat(peer: Peer): Promise<void> {
    const leases = this.#leases;
    if (leases === undefined) return;
    const { store, options, load, health } = this.#c;
    try {
      const sentMs = this.#environment.clock.monotonicMs();
      const { location } = options;
      const beat = {
        space: await store.space(),
        ...(location === undefined ? {} : { location }),
        load: load(),
        extend: leases.inUse().map(({ chunk, version }) => ({ handle: chunk.handle, version })),
        chunks: this.inventory.some(),
        health: health(),
      };
      const { body } = await this.#answered(peer.call(Heartbeat, beat, { deadlineMs: CALL_TIMEOUT_MS }));
      for (const { handle, remainingMs } of body.extended) leases.extend(handle, sentMs + remainingMs);
      if (body.drop.length > 0) await this.#c.deleteChunks(body.drop);
    } catch (error) {
      this.#lost(peer, error);
    }
    for (const directory of store.directories) directory.tend();
    this.#damage.sendNew(peer);
  }

  /** A session that does not answer, or is unknown, is opened again. */
  #lost(peer: Peer, error: unknown): void {
    if (peer.closed) return;
    this.#environment.logger.warn({ reason: (error as Error).message }, 'the session with the master broke');
    peer.close();
  }
}
