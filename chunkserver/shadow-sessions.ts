/**
 * Sessions with the shadows (paper §5.1.3): each hears what this server has, as the master does, so that
 * it can tell readers where chunks are while the master is away. Nothing but reads rests on them.
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { type Member, RegisterChunkserver, RenewAtShadow, ReportChunks } from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import type { Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Address } from './options.js';

const CONNECT_TIMEOUT_MS = 2_000;
const CALL_TIMEOUT_MS = 10_000;
const RETRY_PAUSE_MS = 500;

export interface ShadowSessionComponents {
  readonly service: Service;
  readonly pool: BufferPool;
  readonly identity: { readonly serverId: string; readonly clusterId: string };
  readonly term: () => number;
  readonly registration: () => Promise<ValueOf<typeof RegisterChunkserver.request>>;
  /** What this server has, in pages. */
  readonly report: () => Iterable<ValueOf<typeof ReportChunks.request>>;
  /** A shadow has become the master. */
  readonly onMaster: (address: Address, term: number) => void;
}

interface Session {
  readonly member: Member;
  stopped: boolean;
  peer: Peer | undefined;
  /** When the newest renewal was sent that said that it stands in for the master. */
  standsInMs: number;
  timeoutMs: number;
}

export class ShadowSessions {
  readonly #environment: Environment;
  readonly #c: ShadowSessionComponents;
  readonly #sessions = new Map<string, Session>();

  constructor(environment: Environment, components: ShadowSessionComponents) {
    this.#environment = environment;
    this.#c = components;
  }

  /** Whether a shadow stands in for the master, which is away: then what is here is not older than what it knows. */
  get standIn(): boolean {
    const nowMs = this.#environment.clock.monotonicMs();
    for (const { standsInMs, timeoutMs } of this.#sessions.values())
      if (nowMs - standsInMs <= timeoutMs) return true;
    return false;
  }

  /** Where the shadows are that this server knows of. */
  get addresses(): Address[] {
    return [...this.#sessions.values()].map(({ member: { host, port } }) => ({ host, port }));
  }

  /** The master says which there are. */
  set(members: readonly Member[]): void {
    const wanted = new Map(members.map((member) => [keyOf(member), member]));
    for (const [key, session] of this.#sessions) if (!wanted.has(key)) this.#stop(key, session);
    for (const [key, member] of wanted) {
      if (this.#sessions.has(key)) continue;
      const standsInMs = Number.NEGATIVE_INFINITY;
      const session: Session = { member, stopped: false, peer: undefined, standsInMs, timeoutMs: 0 };
      this.#sessions.set(key, session);
      void this.#run(session);
    }
  }

  stop(): void {
    for (const [key, session] of this.#sessions) this.#stop(key, session);
  }

  #stop(key: string, session: Session): void {
    session.stopped = true;
    session.peer?.close();
    this.#sessions.delete(key);
  }

  async #run(session: Session): Promise<void> {
    const { timers, logger } = this.#environment;
    while (!session.stopped) {
      try {
        await this.#keep(session);
      } catch (err) {
        logger.debug({ err, shadow: session.member.id }, 'no session with a shadow');
      }
      session.peer?.close();
      await new Promise<void>((resolve) => void timers.after(RETRY_PAUSE_MS, resolve));
    }
  }

  /** One connection, from its beginning to its end. */
  async #keep(session: Session): Promise<void> {
    const { network, clock, timers, logger } = this.#environment;
    const { service, pool, identity, term } = this.#c;
    const { host, port } = session.member;
    const socket = await network.connect(host, port, CONNECT_TIMEOUT_MS);
    const peer = new Peer(socket, {
      helloTimeoutMs: CONNECT_TIMEOUT_MS,
      role: 'chunkserver',
      id: identity.serverId,
      clusterId: () => identity.clusterId,
      term,
      service,
      pool,
      clock,
      timers,
      logger,
    });
    session.peer = peer;
    const hello = await peer.ready();
    if (hello.role === 'master') this.#c.onMaster({ host, port }, hello.term);
    if (hello.role !== 'shadow' || hello.term < term())
      throw new GfsError('UNREACHABLE', `a ${hello.role} is there`);
    const registration = await this.#c.registration();
    const { body } = await peer.call(RegisterChunkserver, registration, { deadlineMs: CALL_TIMEOUT_MS });
    session.timeoutMs = body.timeoutMs;
    for (const page of this.#c.report()) await peer.call(ReportChunks, page, { deadlineMs: CALL_TIMEOUT_MS });
    logger.info({ shadow: session.member.id, host, port }, 'registered with a shadow');
    while (!session.stopped) {
      const sentMs = clock.monotonicMs();
      const { body: renewed } = await peer.call(RenewAtShadow, {}, { deadlineMs: body.timeoutMs });
      session.standsInMs = renewed.standsIn && renewed.term >= term() ? sentMs : Number.NEGATIVE_INFINITY;
      await new Promise<void>((resolve) => void timers.after(body.renewIntervalMs, resolve));
    }
  }
}

function keyOf({ id, host, port }: Member): string {
  return `${id} ${host}:${port}`;
}
