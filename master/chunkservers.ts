/**
 * The chunkservers: registration, reports, renewals, heartbeats, silence. All of it is soft state but
 * the session itself, which is logged so that a restarted master knows for whom to wait.
 */
import type { Clock, Logger, Timers } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { Heartbeat, Location, RegisterChunkserver, ReportChunks } from '../protocol/messages/index.js';
import { MAX_IDS_PER_RECORD } from '../protocol/records.js';
import type { Caller, IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Allocator } from './allocator.js';
import type { Journal } from './journal.js';
import type { Leases } from './leases.js';
import { ClientServerPriority, LocationGraph } from './location-graph.js';
import type { LogGate } from './log-gate.js';
import type { MasterOptions } from './options.js';
import { ReplicaReports } from './replica-reports.js';
import type { Chunkserver, Replicas } from './replicas.js';
import type { SentVersions } from './sent-versions.js';
import type { LoggedState } from './state.js';

const MAX_CHUNKSERVERS = 4096;
const MAX_DROPS_PER_HEARTBEAT = 1024;
const POLL_MS = 50;

export interface ChunkserverParts {
  readonly state: LoggedState;
  readonly journal: Journal;
  readonly gate: LogGate;
  readonly allocator: Allocator;
  readonly replicas: Replicas;
  readonly sent: SentVersions;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly options: MasterOptions;
}

export class ChunkserverTable {
  readonly graph = new LocationGraph(() => this.active);
  readonly priority: ClientServerPriority;
  /** What they say of single replicas. */
  readonly reports: ReplicaReports;
  readonly #parts: ChunkserverParts;
  #leases!: Leases;
  readonly #byId = new Map<string, Chunkserver>();
  readonly #byPeer = new Map<Caller, Chunkserver>();
  readonly #registering = new Set<string>();
  /** Sessions of the master's former life that have not come back: session → server id. */
  readonly #expected = new Map<number, string>();
  readonly #startedAtMs: number;
  /** Dead, and what they had still counts for a while. */
  readonly #away = new Set<Chunkserver>();
  /** Servers that were there before the master started and have not told their chunks since. */
  readonly #former: Set<string>;
  /** Told when a server came, went, or is given up. */
  onChange: () => void = () => undefined;
  #active: readonly Chunkserver[] | undefined;
  #wasReady = false;
  #forgetting = false;
  #stopped = false;

  constructor(parts: ChunkserverParts) {
    this.#parts = parts;
    this.priority = new ClientServerPriority(this.graph, parts.options);
    this.reports = new ReplicaReports(parts);
    this.#startedAtMs = parts.clock.monotonicMs();
    for (const session of parts.state.sessions.values()) {
      if (session.kind === 'chunkserver') this.#expected.set(session.id, session.owner);
    }
    this.#former = new Set(this.#expected.values());
  }

  /** Leases need to know servers, and servers report leases: the second is told here. */
  attach(leases: Leases): void {
    this.#leases = leases;
    this.reports.attach(leases);
  }

  /** The master ends: its servers' sessions stay in the log, so that the next one waits for them. */
  stop(): void {
    this.#stopped = true;
  }

  /** Whether so few servers have come, so soon after a start, that more are likely to follow. */
  get gathering(): boolean {
    const { clock, options } = this.#parts;
    const upMs = clock.monotonicMs() - this.#startedAtMs;
    return upMs < options.sessionTimeoutMs && this.active.length < options.goal;
  }

  /** Whether the locations are known as well as they will be: all that were there before are back, or had their time. */
  get ready(): boolean {
    if (this.#wasReady) return true;
    const silentMs = this.#parts.clock.monotonicMs() - this.#startedAtMs;
    this.#wasReady = this.#expected.size === 0 || silentMs >= this.#parts.options.sessionTimeoutMs;
    return this.#wasReady;
  }

  /** Whether no server that was there before the master started may still come back with what it had. */
  get settled(): boolean {
    const upMs = this.#parts.clock.monotonicMs() - this.#startedAtMs;
    return this.ready && (this.#former.size === 0 || upMs >= this.#parts.options.replication.waitMs);
  }

  /** Whether a server is known that is not there, however long ago it was heard of, also by the master before. */
  get isAnyAbsent(): boolean {
    if (this.#former.size > 0) return true;
    for (const { alive } of this.#byId.values()) if (!alive) return true;
    return false;
  }

  /** Whether no server is away that may come back with what it had. */
  get isComplete(): boolean {
    if (!this.ready || this.#former.size > 0 || this.#away.size > 0) return false;
    for (const { alive, reported } of this.#byId.values()) if (alive && !reported) return false;
    return true;
  }

  /** Alive, and with all their chunks known. */
  get active(): readonly Chunkserver[] {
    this.#active ??= [...this.#byId.values()].filter(({ alive, reported }) => alive && reported);
    return this.#active;
  }

  /** Whether space runs out: little is left in all, or too few servers could take another chunk. */
  get short(): boolean {
    const { goal, chunkBytes, spaceLow } = this.#parts.options;
    let total = 0;
    let available = 0;
    let roomy = 0;
    for (const { space } of this.active) {
      total += space.totalBytes;
      available += space.availableBytes;
      if (space.availableBytes >= 2 * chunkBytes) roomy++;
    }
    return available < spaceLow * total || roomy < Math.min(goal, this.active.length);
  }

  /** Everyone heard of in this life, the dead too. */
  get all(): Iterable<Chunkserver> {
    return this.#byId.values();
  }

  /** Servers of the master's former life that nobody has heard of since. */
  get missing(): string[] {
    return [...this.#expected.values()].filter((serverId) => !this.#byId.has(serverId));
  }

  byId(serverId: string): Chunkserver | undefined {
    const chunkserver = this.#byId.get(serverId);
    return chunkserver?.alive ? chunkserver : undefined;
  }

  /** @throws WRONG_CLUSTER, DUPLICATE_SERVER, OVERLOADED */
  async register(body: ValueOf<typeof RegisterChunkserver.request>, peer: Caller): Promise<Chunkserver> {
    const { serverId } = body.server;
    if (this.#byId.size >= MAX_CHUNKSERVERS && !this.#byId.has(serverId))
      throw new GfsError('OVERLOADED', 'too many chunkservers');
    if (this.#registering.has(serverId))
      throw new GfsError('DUPLICATE_SERVER', `${serverId} is registering already`);
    this.#registering.add(serverId);
    try {
      const before = this.#byId.get(serverId);
      if (before?.alive) await this.#untilGone(before, peer);
      const { journal, gate, allocator, clock, logger } = this.#parts;
      const id = allocator.sessionId();
      const opened = journal.commit({
        type: 'sessionOpened',
        id,
        kind: 'chunkserver',
        owner: serverId,
        hostname: body.server.host,
      });
      // Reads need the server now, also while log replicas are away: that it is known for later can wait.
      await gate.settled(opened);
      const chunkserver = newChunkserver(id, body, peer, clock.monotonicMs());
      this.#byId.set(serverId, chunkserver);
      this.#place(chunkserver);
      this.#byPeer.set(peer, chunkserver);
      this.#active = undefined;
      logger.info(
        { serverId, session: id, host: body.server.host, port: body.server.port },
        'a chunkserver registered',
      );
      peer.onceClosed(() => {
        this.#byPeer.delete(peer);
        this.#lose(chunkserver, 'its connection is gone');
      });
      return chunkserver;
    } finally {
      this.#registering.delete(serverId);
    }
  }

  /** Waits until the server that has this id is dead. @throws DUPLICATE_SERVER as soon as it shows life */
  async #untilGone(before: Chunkserver, peer: Caller): Promise<void> {
    const { timers } = this.#parts;
    const heardMs = before.lastHeardMs;
    while (before.alive && before.peer !== peer) {
      if (before.lastHeardMs > heardMs) {
        throw new GfsError(
          'DUPLICATE_SERVER',
          `${before.server.serverId} is connected from ${before.peer.remote}`,
        );
      }
      await new Promise<void>((resolve) => void timers.after(POLL_MS, resolve));
    }
    if (before.peer === peer) this.#lose(before, 'it registered again');
  }

  /** The server that a request comes from. @throws SESSION_UNKNOWN: it has to register first */
  require(request: IncomingRequest): Chunkserver {
    const chunkserver = this.#byPeer.get(request.peer);
    if (chunkserver === undefined || !chunkserver.alive) {
      throw new GfsError('SESSION_UNKNOWN', 'not a registered chunkserver');
    }
    chunkserver.lastHeardMs = this.#parts.clock.monotonicMs();
    return chunkserver;
  }

  /** One page of what a server has. None of it counts before the last. */
  async report(
    chunkserver: Chunkserver,
    { chunks, last }: ValueOf<typeof ReportChunks.request>,
  ): Promise<void> {
    for (const chunk of chunks) this.reports.note(chunkserver, chunk);
    if (!last || chunkserver.reported) return;
    chunkserver.reported = true;
    this.#active = undefined;
    this.#former.delete(chunkserver.server.serverId);
    this.#giveUpFormer(chunkserver);
    this.onChange();
    await this.#noteBack(chunkserver);
    this.#parts.logger.info(
      { serverId: chunkserver.server.serverId, chunks: chunkserver.replicaCount },
      'a chunkserver reported its chunks',
    );
  }

  /** Ends the sessions that this server had in the master's former life. */
  async #noteBack({ server, session }: Chunkserver): Promise<void> {
    const { state, journal, gate } = this.#parts;
    const old: number[] = [];
    for (const { id, kind, owner } of state.sessions.values()) {
      if (kind === 'chunkserver' && owner === server.serverId && id !== session) old.push(id);
    }
    for (const id of old) this.#expected.delete(id);
    if (old.length > 0)
      await gate.settled(journal.commit({ type: 'sessionsEnded', ids: old.slice(0, MAX_IDS_PER_RECORD) }));
  }

  #place({ server, location, rack }: Chunkserver): void {
    const { serverId: id, host: hostname } = server;
    this.graph.addNode({ id, type: 'chunk_server', location, hostname, rack });
  }

  heartbeat(
    chunkserver: Chunkserver,
    body: ValueOf<typeof Heartbeat.request>,
  ): ValueOf<typeof Heartbeat.reply> {
    const { chunkBytes } = this.#parts.options;
    const hadNoRoom = chunkserver.space.availableBytes < chunkBytes;
    chunkserver.space = body.space;
    // It can take what had nowhere to go.
    if (hadNoRoom && body.space.availableBytes >= chunkBytes) this.onChange();
    if (body.location !== undefined && !isSamePlace(body.location, chunkserver.location)) {
      chunkserver.location = body.location;
      this.#place(chunkserver);
    }
    chunkserver.load = body.load;
    chunkserver.health = body.health;
    const extended: { handle: number; remainingMs: number }[] = [];
    for (const { handle, version } of body.extend) {
      const remainingMs = this.#leases.extend(handle, version, chunkserver);
      if (remainingMs > 0) extended.push({ handle, remainingMs });
    }
    const drop =
      chunkserver.reported && this.ready ? this.reports.garbageAmong(chunkserver, body.chunks) : [];
    return { extended, drop: drop.slice(0, MAX_DROPS_PER_HEARTBEAT) };
  }

  /** What servers did lately fades. */
  fade(): void {
    for (const chunkserver of this.active) {
      chunkserver.recentCreations *= 0.9;
      chunkserver.recentLeases *= 0.9;
    }
  }

  /**
   * Called every now and then: the silent are dead.
   * @param lateMs time in which nobody could be heard
   */
  sweep(lateMs: number): void {
    const { clock, options, logger } = this.#parts;
    const nowMs = clock.monotonicMs();
    for (const chunkserver of this.#away)
      if (nowMs - chunkserver.lastHeardMs >= options.replication.waitMs && !this.#isReporting(chunkserver))
        this.#giveUp(chunkserver);
    for (const chunkserver of this.#byId.values()) {
      if (!chunkserver.alive) continue;
      chunkserver.lastHeardMs = Math.min(nowMs, chunkserver.lastHeardMs + lateMs);
      if (nowMs - chunkserver.lastHeardMs > options.sessionTimeoutMs) {
        this.#lose(chunkserver, 'it is silent');
        chunkserver.peer.close();
      }
    }
    if (!this.ready || this.#expected.size === 0) return;
    const ids = [...this.#expected.keys()].slice(0, MAX_IDS_PER_RECORD);
    logger.warn({ servers: ids.map((id) => this.#expected.get(id)) }, 'chunkservers have not come back');
    for (const id of ids) this.#expected.delete(id);
    this.#endSessions(ids.filter((id) => this.#parts.state.sessions.has(id)));
  }

  /** A server is gone: at once for everyone who asks where chunks are. */
  #lose(chunkserver: Chunkserver, reason: string): void {
    if (!chunkserver.alive || this.#stopped) return;
    chunkserver.alive = false;
    this.#active = undefined;
    this.#parts.logger.warn({ serverId: chunkserver.server.serverId, reason }, 'a chunkserver is gone');
    this.#away.add(chunkserver);
    this.graph.removeNode('chunk_server', chunkserver.server.serverId);
    this.onChange();
    this.#endSessions([chunkserver.session]);
  }

  /** Whether it is back, and still tells what it has. */
  #isReporting({ server }: Chunkserver): boolean {
    const now = this.#byId.get(server.serverId);
    return now?.alive === true && !now.reported;
  }

  /** It has told all that it has: what was known of its former registrations is void. */
  #giveUpFormer(chunkserver: Chunkserver): void {
    const { serverId } = chunkserver.server;
    for (const away of this.#away) if (away.server.serverId === serverId) this.#giveUp(away);
  }

  /** What it had counts no more: it has been away for long, or came back and tells anew. */
  #giveUp(chunkserver: Chunkserver): void {
    if (chunkserver.gone || chunkserver.alive) return;
    chunkserver.gone = true;
    this.#away.delete(chunkserver);
    this.#forgetDead();
    this.onChange();
  }

  #endSessions(ids: number[]): void {
    if (ids.length === 0) return;
    const { journal, logger } = this.#parts;
    journal
      .commit({ type: 'sessionsEnded', ids })
      .catch((err) => logger.warn({ err, sessions: ids }, 'cannot log the end of sessions now'));
  }

  #forgetDead(): void {
    if (this.#forgetting) return;
    this.#forgetting = true;
    this.#parts.timers.after(1, () => {
      this.#forgetting = false;
      if (this.#parts.replicas.forgetDead()) this.#forgetDead();
    });
  }
}

function isSamePlace(a: Location, b: Location | undefined): boolean {
  return a.x === b?.x && a.y === b.y;
}

/** As it is when it registers. */
export function newChunkserver(
  session: number,
  body: ValueOf<typeof RegisterChunkserver.request>,
  peer: Caller,
  nowMs: number,
): Chunkserver {
  return {
    session,
    server: body.server,
    peer,
    bootId: body.bootId,
    alive: true,
    gone: false,
    reported: false,
    lastHeardMs: nowMs,
    location: body.location,
    rack: body.rack,
    space: body.space,
    load: 0,
    health: undefined,
    recentCreations: 0,
    recentLeases: 0,
    replicaCount: 0,
    tableIndex: 0,
    deletions: new Set(),
  };
}
