/**
 * How a shadow keeps up with the master: it asks for what comes after its last record, writes, flushes
 * and applies it, and acknowledges by asking for the next (docs/formats/log-replication.md).
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import { FollowLog, type Member, ReadCheckpoint } from '../protocol/messages/index.js';
import { Outage } from '../protocol/outage.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import type { Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkpointName } from './checkpoint-file.js';
import type { LogCopy } from './log-copy.js';
import type { ShadowOptions } from './options.js';
import type { SuperblockKeeper } from './superblock.js';

const CONNECT_TIMEOUT_MS = 1_000;
const WAIT_MS = 500;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** Of a checkpoint, at once; flushed each time, so that nobody's flush waits for all of it. */
const FETCH_BYTES = 4 * MIB;

type Reply = ValueOf<typeof FollowLog.reply>;
interface Address {
  readonly host: string;
  readonly port: number;
}

/** Why following ends, other than by {@link Following.stop}: the copy has to be changed while nobody uses it. */
export interface Parting extends Pick<Reply, 'action' | 'sequence'> {
  /** Of the checkpoint that has been fetched. */
  readonly path?: string;
}

export interface FollowingParts {
  readonly environment: Environment;
  readonly options: ShadowOptions;
  readonly superblock: SuperblockKeeper;
  readonly copy: LogCopy;
  /** Answers the master on the same connection. */
  readonly service: Service;
  /** Where this shadow is reached. */
  readonly self: () => Member;
}

export class Following {
  readonly #parts: FollowingParts;
  readonly #pool = new BufferPool();
  #peer: Peer | undefined;
  #stopped = false;
  #wake: (() => void) | undefined;
  /** Where the master was last found; tried first. */
  #found: Address | undefined;
  #heardMs: number;
  /** When this copy was last known to have all that the master had. */
  #upToDateMs = Number.NEGATIVE_INFINITY;
  #timeoutMs: number;

  constructor(parts: FollowingParts) {
    this.#parts = parts;
    this.#heardMs = parts.environment.clock.monotonicMs();
    this.#timeoutMs = parts.options.sessionTimeoutMs;
  }

  get #nowMs(): number {
    return this.#parts.environment.clock.monotonicMs();
  }

  /** Since the master was heard of. */
  get silentMs(): number {
    return this.#nowMs - this.#heardMs;
  }

  /** How old what this copy says may be, while the master is there. */
  get behindMs(): number {
    return Math.min(this.#nowMs - this.#upToDateMs, Number.MAX_SAFE_INTEGER);
  }

  /** Whether the master is away, as far as can be told from here. */
  get masterIsAway(): boolean {
    return this.#peer === undefined || this.silentMs > this.#timeoutMs;
  }

  /** @returns why it ended; undefined when it was stopped @throws what ends the process */
  async run(): Promise<Parting | undefined> {
    const { environment } = this.#parts;
    const outage = new Outage(environment.clock);
    let pauseMs = FIRST_PAUSE_MS;
    for (let attempt = 0; !this.#stopped; attempt++) {
      const address = this.#candidate(attempt);
      try {
        const parting = await this.#follow(address, () => {
          pauseMs = FIRST_PAUSE_MS;
          outage.over();
        });
        if (parting !== undefined) return parting;
      } catch (thrown) {
        const error = toGfsError(thrown);
        if (error.code === 'WRONG_CLUSTER') throw error;
        const forMs = this.#stopped ? undefined : outage.failed(error.code);
        if (forMs !== undefined) {
          const about = { ...address, reason: error.message, forMs };
          environment.logger.warn(about, 'the master cannot be followed now');
        }
      }
      this.#peer?.close();
      this.#peer = undefined;
      if (!this.#stopped) await this.#pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
    return undefined;
  }

  /** The master where it was, those that are configured, and the other copies of the log: one may be the master now. */
  #candidate(attempt: number): Address {
    const { options, copy } = this.#parts;
    const superblock = this.#parts.superblock.current;
    const others = [...copy.state.logReplicas.values()].filter(({ id }) => id !== superblock.id);
    const known = superblock.promisedTo === undefined ? [] : [superblock.promisedTo];
    const all = [
      ...(this.#found === undefined ? [] : [this.#found]),
      ...known,
      ...options.masters,
      ...others,
    ];
    const self = this.#parts.self();
    const addresses = all.filter(
      ({ host, port }) => port !== 0 && (host !== self.host || port !== self.port),
    );
    const unique = new Map(addresses.map((each) => [`${each.host}:${each.port}`, each]));
    const list = [...unique.values()];
    const chosen = list[attempt % list.length];
    if (chosen === undefined) throw new Error('no master is configured');
    return { host: chosen.host, port: chosen.port };
  }

  async #follow(address: Address, onFollowing: () => void): Promise<Parting | undefined> {
    const { environment, service } = this.#parts;
    const superblock = this.#parts.superblock.current;
    const { network, clock, timers, logger } = environment;
    const socket = await network.connect(address.host, address.port, CONNECT_TIMEOUT_MS);
    const peer = new Peer(socket, {
      helloTimeoutMs: CONNECT_TIMEOUT_MS,
      role: 'shadow',
      id: superblock.id,
      clusterId: () => superblock.clusterId,
      term: () => superblock.term,
      service,
      pool: this.#pool,
      clock,
      timers,
      logger,
    });
    try {
      const { role } = await peer.ready();
      if (role !== 'master') throw new GfsError('UNREACHABLE', `a ${role} is there, not a master`);
      while (!this.#stopped) {
        const parting = await this.#poll(peer, address);
        if (parting !== undefined) return parting;
        if (this.#peer !== peer) {
          this.#peer = peer;
          this.#found = address;
          peer.onceClosed(() => {
            if (this.#peer === peer) this.#peer = undefined;
          });
          logger.info({ ...address, sequence: this.#parts.copy.endSequence }, 'following the master');
          onFollowing();
        }
      }
      return undefined;
    } finally {
      peer.close();
    }
  }

  async #poll(peer: Peer, address: Address): Promise<Parting | undefined> {
    const { copy, self } = this.#parts;
    const superblock = this.#parts.superblock.current;
    const askedMs = this.#nowMs;
    const request = {
      shadow: self(),
      term: superblock.term,
      lastTerm: copy.lastTerm,
      nextSequence: copy.endSequence + 1,
      waitMs: WAIT_MS,
    };
    const { body, payload } = await peer.call(FollowLog, request, { deadlineMs: WAIT_MS + this.#timeoutMs });
    try {
      await this.#checkTerm(body, address);
      this.#timeoutMs = body.timeoutMs;
      this.#heardMs = Math.max(this.#heardMs, askedMs);
      if (body.action === 'cut') return { action: 'cut', sequence: body.sequence };
      if (body.action === 'checkpoint') return this.#fetchCheckpoint(peer, body.sequence);
      if (body.count > 0 && payload !== undefined)
        await copy.append(body.sequence, body.count, bufferOf(payload.bytes));
      if (copy.endSequence >= body.endSequence) this.#upToDateMs = askedMs;
      return undefined;
    } finally {
      payload?.release();
    }
  }

  /** Beside the log in use, under a name that a start would remove. */
  async #fetchCheckpoint(peer: Peer, sequence: number): Promise<Parting> {
    const { environment, options } = this.#parts;
    environment.logger.info({ sequence }, 'too far behind for the log: fetching a checkpoint');
    const path = `${options.dataDirectory}/log/${checkpointName(sequence + 1)}.new`;
    const file = await environment.disk.open(path, 'create');
    try {
      await file.truncate(0);
      for (let offset = 0; ; ) {
        const request = { sequence, offset, length: FETCH_BYTES };
        const { body, payload } = await peer.call(ReadCheckpoint, request);
        try {
          if (payload !== undefined) await file.write([payload.bytes], offset);
          offset += payload?.bytes.byteLength ?? 0;
        } finally {
          payload?.release();
        }
        if (offset >= body.sizeBytes) break;
        if (payload === undefined) throw new GfsError('MALFORMED', 'a checkpoint that ends before its end');
        await file.sync();
      }
      await file.sync();
    } finally {
      await file.close();
    }
    return { action: 'checkpoint', sequence, path };
  }

  /** Nobody is followed who is not of the newest term that was promised. @throws STALE_TERM */
  async #checkTerm({ term, masterId }: Reply, address: Address): Promise<void> {
    const { superblock } = this.#parts;
    await superblock.update((now) => {
      const { id, host, port } = now.promisedTo ?? {};
      const isKnown = id === masterId && host === address.host && port === address.port;
      const isOurs = id === undefined || id === masterId;
      const isNewer = term > now.term || (term === now.term && isOurs && !isKnown);
      return isNewer ? { term, promisedTo: { id: masterId, ...address } } : undefined;
    });
    const { term: promised, promisedTo } = superblock.current;
    if (term !== promised || promisedTo?.id !== masterId) {
      throw new GfsError('STALE_TERM', `that master is of term ${term}; ${promised} has been promised`);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#parts.environment.timers.after(ms, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** The master, if there is one, is followed no more. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
    this.#peer?.close();
    this.#peer = undefined;
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
