/**
 * The serial order of a leased chunk's mutations (paper §3.1 steps 4 to 7): each gets its number, every replica
 * applies it in its turn, and a secondary that does not is dropped, so that the others go on.
 */
import type { Clock } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { ApplyMutation, DropSecondary, type Server, SyncChunk } from '../protocol/messages/index.js';
import type { CallOptions } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Lease, LeaseTable } from './leases.js';
import type { MasterSession } from './master-session.js';
import { mutationsOf, type Part } from './parts.js';
import type { Peers } from './peers.js';
import type { DataId } from './push-buffer.js';
import type { SharedPayload } from './shared-payload.js';

/** A secondary that has not answered by then has failed. */
const SECONDARY_TIMEOUT_MS = 2_000;
/** The master asks the other replicas for the new version meanwhile. */
const DROP_TIMEOUT_MS = 5_000;
/** A flush takes longer than that on a busy disk. */
const SECONDARY_SYNC_TIMEOUT_MS = 8_000;

/** Flushes a chunk here. */
export type Flush = () => Promise<void>;

/** A mutation that has its place to get. */
export interface Ordered {
  readonly kind: 'write' | 'pad' | 'truncate';
  readonly offset: number;
  readonly data: SharedPayload | undefined;
  /** How many of the data's bytes. */
  readonly length: number;
  /** Where they go, when it is not all to `offset`. */
  readonly parts?: readonly Part[] | undefined;
  readonly dataId?: DataId | undefined;
  /** Flushes the chunk here; then every replica flushes. */
  readonly flush?: Flush | undefined;
  readonly session: number;
  readonly sequence: number;
}

/** A secondary that did not do its part. */
class SecondaryFailure extends GfsError {
  readonly serverId: string;
  /** It did not even refuse. */
  readonly silent: boolean;

  constructor(serverId: string, cause: GfsError) {
    super('REPLICA_FAILED', `${serverId}: ${cause.message}`, { cause });
    this.serverId = serverId;
    // A port that nobody listens on is an answer: the server may be starting again.
    const isRefused = (cause.cause as { code?: unknown } | undefined)?.code === 'ECONNREFUSED';
    this.silent = cause.code === 'DEADLINE_EXCEEDED' || (cause.code === 'UNREACHABLE' && !isRefused);
  }
}

export interface SerialOrderComponents {
  readonly clock: Clock;
  readonly serverId: string;
  readonly leases: LeaseTable;
  readonly peers: Peers;
  readonly bootId: number;
  readonly master: Pick<MasterSession, 'ask'>;
}

export class SerialOrder {
  readonly #c: SerialOrderComponents;

  constructor(components: SerialOrderComponents) {
    this.#c = components;
  }

  /**
   * Gives the mutation its serial number, here and now, and has it applied everywhere. Its data is used up.
   * @throws REPLICA_FAILED when a secondary failed and the lease does not go on without it; what failed here
   */
  async carryOut(lease: Lease, ordered: Ordered): Promise<void> {
    const { offset, length, parts } = ordered;
    const serial = lease.begin(this.#c.clock.monotonicMs(), parts?.length);
    const end = parts === undefined ? offset + length : endOfAll(parts);
    lease.plannedLength = ordered.kind === 'truncate' ? offset : Math.max(lease.plannedLength, end);
    // The data's one user so far is the local application; each secondary is one more.
    const remote = lease.secondaries.map((secondary) => this.#forward(lease, secondary, serial, ordered));
    const applied = this.#applyHere(lease, serial, ordered);
    const local = ordered.flush === undefined ? applied : applied.then(ordered.flush);
    // A straggler may still fail, which changes nothing any more.
    void Promise.allSettled([local, ...remote]).then(() => lease.finish());
    try {
      await Promise.all([local, ...remote]);
    } catch (error) {
      // Replicas may differ now. A new version begins with making them equal.
      lease.fail();
      if (!(error instanceof SecondaryFailure)) throw error;
      await local;
      await this.#goOnWithout(lease, error, ordered.flush);
    }
  }

  /**
   * Has the master drop a secondary that failed. When this is the primary of the new version too, every
   * replica of that version has what was applied here under the one before: the mutation is done, and its
   * client need not send it again.
   * @param flush of a mutation that is to be flushed: what a repair wrote is not yet
   * @throws `failure` when it was not to be
   */
  async #goOnWithout(lease: Lease, failure: SecondaryFailure, flush: Flush | undefined): Promise<void> {
    lease.dropping ??= this.#drop(lease, failure);
    try {
      const { chunk, version, secondaries } = await lease.dropping;
      if (flush === undefined) return;
      await this.sync({ handle: chunk.handle, version, secondaries: [...secondaries] }, flush);
    } catch {
      throw failure;
    }
  }

  async #drop(lease: Lease, { serverId, silent }: SecondaryFailure): Promise<Lease> {
    const { handle } = lease.chunk;
    const body = { handle, version: lease.version, failed: [{ serverId, silent }] };
    const { primary, version } = await this.#c.master.ask(DropSecondary, body, DROP_TIMEOUT_MS);
    const next = this.#c.leases.find(handle);
    if (primary !== this.#c.serverId || next?.version !== version)
      throw new GfsError('NOT_PRIMARY', `chunk ${handle} has another primary`);
    for (const { serverId: id } of next.secondaries) {
      const verifier = lease.verifiers.get(id);
      if (verifier !== undefined && !next.verifiers.has(id)) next.verifiers.set(id, verifier);
    }
    return next;
  }

  async #applyHere(lease: Lease, serial: number, ordered: Ordered): Promise<void> {
    const { kind, offset, data, length, parts = [ordered], session, sequence } = ordered;
    if (kind === 'truncate') return lease.chunk.truncate(offset, serial);
    if (kind === 'pad' || data === undefined) {
      await lease.chunk.mutate({ kind: 'extend', serial, offset, session, sequence });
      return;
    }
    const isWhole = data.bytes.byteLength === length;
    const bytes = isWhole ? data.bytes : data.bytes.subarray(0, length);
    const pageSums = isWhole ? data.pageSums : undefined;
    try {
      const mutations = mutationsOf(parts, bytes, { serial, session, sequence, pageSums });
      await lease.chunk.mutateAll(mutations, () => data.keep());
    } finally {
      data.release();
    }
  }

  async #forward(lease: Lease, secondary: Server, serial: number, ordered: Ordered): Promise<void> {
    const { kind, offset, length, parts, data, dataId, session, sequence } = ordered;
    data?.retain();
    const body = {
      handle: lease.chunk.handle,
      version: lease.version,
      serial,
      kind,
      offset,
      length,
      session,
      sequence,
      sync: ordered.flush !== undefined,
      ...(parts === undefined ? {} : { parts: [...parts] }),
    };
    try {
      let verifier: number;
      if (dataId === undefined) {
        verifier = await this.#send(secondary, body, data);
      } else {
        verifier = await this.#send(secondary, { ...body, dataId }, undefined).catch((error: unknown) => {
          if (!(error instanceof GfsError) || error.code !== 'DATA_NOT_BUFFERED') throw error;
          return this.#send(secondary, body, data);
        });
      }
      lease.verifiers.set(secondary.serverId, verifier);
    } catch (error) {
      throw new SecondaryFailure(secondary.serverId, toGfsError(error));
    } finally {
      data?.release();
    }
  }

  async #send(
    secondary: Server,
    body: ValueOf<typeof ApplyMutation.request>,
    data: SharedPayload | undefined,
  ): Promise<number> {
    const { sync } = body;
    // Somebody waits for it: the others work on it while this server does.
    const options: CallOptions = sync
      ? { deadlineMs: SECONDARY_SYNC_TIMEOUT_MS, atOnce: true }
      : { deadlineMs: SECONDARY_TIMEOUT_MS };
    if (data === undefined)
      return (await this.#c.peers.call(secondary, ApplyMutation, body, options)).body.verifier;
    data.retain();
    const reply = await this.#c.peers.call(secondary, ApplyMutation, body, {
      ...options,
      payload:
        data.bytes.byteLength === body.length
          ? data.outgoing
          : { buffers: [data.bytes.subarray(0, body.length)] },
      onSent: () => data.release(),
    });
    return reply.body.verifier;
  }

  /** Boot ids of all replicas, this one first. */
  async verifiers(asked: Lease): Promise<number[]> {
    // A secondary may have been dropped meanwhile.
    const lease = (await asked.dropping?.catch(() => undefined)) ?? asked;
    const missing = lease.secondaries.filter(({ serverId }) => !lease.verifiers.has(serverId));
    // The result of an earlier attempt: these have not answered under this lease yet.
    await Promise.all(
      missing.map((secondary) => this.#syncSecondary(lease.chunk.handle, lease.version, secondary)),
    );
    return [this.#c.bootId, ...lease.secondaries.map(({ serverId }) => lease.verifiers.get(serverId) ?? 0)];
  }

  /** Flushes the chunk here and on `secondaries`. */
  async sync(body: ValueOf<typeof SyncChunk.request>, flush: () => Promise<void>): Promise<number[]> {
    const remote = body.secondaries.map((secondary) =>
      this.#syncSecondary(body.handle, body.version, secondary),
    );
    const [, ...verifiers] = await Promise.all([flush(), ...remote]);
    return [this.#c.bootId, ...verifiers];
  }

  async #syncSecondary(handle: number, version: number, secondary: Server): Promise<number> {
    try {
      const { body } = await this.#c.peers.call(
        secondary,
        SyncChunk,
        { handle, version, secondaries: [] },
        { deadlineMs: SECONDARY_SYNC_TIMEOUT_MS },
      );
      const verifier = body.verifiers[0] ?? 0;
      this.#c.leases.find(handle)?.verifiers.set(secondary.serverId, verifier);
      return verifier;
    } catch (error) {
      throw new SecondaryFailure(secondary.serverId, toGfsError(error));
    }
  }
}

function endOfAll(parts: readonly Part[]): number {
  return parts.reduce((end, { offset, length }) => Math.max(end, offset + length), 0);
}
