/**
 * A shadow that answers queries while the master is away (paper §5.1.3). It is used only while it says
 * that it lacks nothing that was acknowledged, so what it tells is never older than what this client has
 * seen.
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import * as m from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type Method, Service } from '../protocol/rpc.js';
import type { HostPort } from './options.js';
import { pause } from './retry.js';

const CONNECT_TIMEOUT_MS = 1_000;
const ASK_INTERVAL_MS = 500;
const SEEK_PAUSE_MS = 200;

/** What a shadow answers as the master would. */
const ANSWERED: ReadonlySet<number> = new Set(
  [
    m.Lookup,
    m.LookupPath,
    m.GetAttributes,
    m.ReadDirectory,
    m.ReadTree,
    m.GetPath,
    m.ReadLink,
    m.GetXattr,
    m.ListXattrs,
    m.StatCluster,
    m.GetChunks,
    m.ReportCorrupt,
  ].map((method: { readonly number: number }) => method.number),
);

export function isAnsweredByShadows(method: Method<unknown, unknown>): boolean {
  return ANSWERED.has(method.number);
}

export interface StandInComponents {
  readonly clientId: string;
  readonly clusterId: () => string;
  readonly term: () => number;
  readonly pool: BufferPool;
  /** Where one may be. */
  readonly addresses: () => readonly HostPort[];
  /** Called whenever there is one to ask. */
  readonly onReady: () => void;
}

export class StandIn {
  readonly #environment: Environment;
  readonly #c: StandInComponents;
  #wanted = false;
  #seeking = false;
  #peer: Peer | undefined;

  constructor(environment: Environment, components: StandInComponents) {
    this.#environment = environment;
    this.#c = components;
  }

  /** Undefined while there is none, or none that is certain to know enough. */
  get peer(): Peer | undefined {
    return this.#wanted && this.#peer?.closed === false ? this.#peer : undefined;
  }

  /** The master is away: one is looked for until it is back. */
  seek(): void {
    this.#wanted = true;
    if (this.#seeking) return;
    this.#seeking = true;
    void this.#seek();
  }

  /** The master is back. */
  rest(): void {
    this.#wanted = false;
    this.#peer?.close();
    this.#peer = undefined;
  }

  async #seek(): Promise<void> {
    const { timers, logger } = this.#environment;
    while (this.#wanted) {
      for (const address of this.#c.addresses()) {
        if (!this.#wanted) break;
        await this.#use(address).catch((err) => logger.debug({ err, ...address }, 'no shadow to ask there'));
        this.#peer?.close();
        this.#peer = undefined;
      }
      await pause(timers, SEEK_PAUSE_MS);
    }
    this.#seeking = false;
  }

  /** For as long as it may be asked. */
  async #use({ host, port }: HostPort): Promise<void> {
    const { network, clock, timers, logger } = this.#environment;
    const { clientId, clusterId, term, pool } = this.#c;
    const socket = await network.connect(host, port, CONNECT_TIMEOUT_MS);
    const peer = new Peer(socket, {
      helloTimeoutMs: CONNECT_TIMEOUT_MS,
      role: 'client',
      id: clientId,
      clusterId,
      term,
      service: new Service(),
      pool,
      clock,
      timers,
      logger,
    });
    try {
      const { role } = await peer.ready();
      if (role !== 'shadow') throw new GfsError('UNREACHABLE', `a ${role} is there`);
      while (this.#wanted) {
        const { body } = await peer.call(m.GetLogStatus, {}, { deadlineMs: 2 * ASK_INTERVAL_MS });
        // With the rule `all` every log replica has what was acknowledged, also while the master is in its sight.
        const knowsAll =
          body.standsIn || (body.commit === 'all' && body.replicas.some(isItself(body.member.id)));
        if (!knowsAll || body.term < term())
          throw new GfsError('NOT_READY', 'it may lack what was acknowledged');
        if (this.#peer !== peer) {
          this.#peer = peer;
          const about = { host, port, behindMs: body.behindMs, standsIn: body.standsIn };
          logger.warn(about, 'the master is away: a shadow is asked');
          this.#c.onReady();
        }
        await pause(timers, ASK_INTERVAL_MS);
      }
    } finally {
      peer.close();
    }
  }
}

function isItself(id: string): (replica: m.LogReplicaStatus) => boolean {
  return ({ member, counted }) => counted && member.id === id;
}
