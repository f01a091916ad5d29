/**
 * Requests that need a chunk's lease: the write of one segment (paper §3.1, §3.2), one append (§3.3),
 * one flush. Each is repeated as the error table says, with one sequence throughout, so that the
 * primary carries it out once.
 */
import type { Counter, Environment } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { INLINE_WRITE_BYTES } from '../protocol/limits.js';
import {
  AppendChunk,
  type Chunk,
  type Lease,
  PushData,
  type Server,
  StageCopy,
  SyncChunk,
  WriteChunk,
} from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { ChunkserverConnections } from './connections.js';
import type { Locations } from './locations.js';
import { type CallContext, type Deadline, retryCounter, retrying } from './retry.js';
import type { MasterSession } from './session.js';

/** A server that has not answered by then is reported to the master, and the mutation repeated elsewhere. */
const ATTEMPT_TIMEOUT_MS = 3_000;
/** A flush takes longer on a busy disk. */
const SYNC_TIMEOUT_MS = 3 * ATTEMPT_TIMEOUT_MS;

/** Where a file's chunk is written to. */
export interface ChunkOfFile {
  readonly id: number;
  readonly index: number;
}

/** Bytes to be written, and where in the chunk. */
export interface Piece {
  readonly offset: number;
  readonly data: Uint8Array;
}

export interface Written {
  /** The boot id of every replica that took it. */
  readonly verifiers: readonly number[];
  /** Nothing reads the data's memory any more: no earlier attempt waits in a socket. */
  readonly memoryIsFree: boolean;
}

/** Bytes that chunkservers have. */
export interface CopySource {
  readonly chunk: Chunk;
  /** Within the chunk. */
  readonly offset: number;
  readonly length: number;
}

/** The chunkservers cannot copy these bytes now: read and write them. */
export class CannotCopy extends GfsError {
  constructor(cause: GfsError) {
    super('INTERNAL', cause.message, { cause });
  }
}

export interface Appended {
  /** Within the chunk. */
  readonly offset: number;
  readonly written: number;
  readonly verifiers: readonly number[];
  /** Of the next chunk, where a part of it went there. */
  readonly spillVerifiers?: readonly number[] | undefined;
}

export class Replicas {
  readonly #environment: Environment;
  readonly #session: MasterSession;
  readonly #locations: Locations;
  readonly #connections: ChunkserverConnections;
  readonly #retries: Counter;
  #nextSequence = 1;

  constructor(
    environment: Environment,
    session: MasterSession,
    locations: Locations,
    connections: ChunkserverConnections,
  ) {
    this.#environment = environment;
    this.#session = session;
    this.#locations = locations;
    this.#connections = connections;
    this.#retries = retryCounter(environment.metrics, 'write');
  }

  /** Asks for the lease of a chunk that is about to be written, so that the write finds it. */
  prepare({ id, index }: ChunkOfFile, deadline: Deadline): void {
    // A failure is the write's to meet and to tell.
    this.#locations.lease(id, index, {}, deadline).catch(() => undefined);
  }

  /**
   * Writes the pieces to the chunk on every replica, one after another. Several are together at most
   * {@link INLINE_WRITE_BYTES}, and {@link MAX_WRITE_PARTS}.
   * @param sync flushes the chunk on each of them as well
   */
  async write(
    chunk: ChunkOfFile,
    pieces: readonly Piece[],
    sync: boolean,
    context: CallContext,
    deadline: Deadline,
  ): Promise<Written> {
    const sequence = this.#nextSequence++;
    const parts = pieces.map(({ offset, data }) => ({ offset, length: data.byteLength }));
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const where = { offset: parts[0]?.offset ?? 0, length, ...(parts.length > 1 ? { parts } : {}) };
    const inline = length <= INLINE_WRITE_BYTES;
    let sending = 0;
    const payload = {
      payload: { buffers: pieces.map(({ data }) => data) },
      onSent: () => {
        sending--;
      },
    };
    const verifiers = await this.#underLease(chunk, context, deadline, async (lease, failing) => {
      const { handle, version } = lease;
      const session = this.#session.id;
      const dataId = { session, number: sequence };
      if (!inline) {
        const [first, ...chain] = chainOf(lease);
        const peer = await this.#peerOf(first as Server, failing);
        sending++;
        const deadlineMs = deadline.within(ATTEMPT_TIMEOUT_MS);
        await peer.call(PushData, { dataId, chain }, { session, deadlineMs, ...payload });
      }
      const primary = await this.#peerOf(lease.primary, failing);
      if (inline) sending++;
      const { body } = await primary.call(
        WriteChunk,
        inline ? { handle, version, ...where, sync } : { handle, version, ...where, sync, dataId },
        {
          session,
          sequence,
          deadlineMs: deadline.within(sync ? SYNC_TIMEOUT_MS : ATTEMPT_TIMEOUT_MS),
          ...(inline ? payload : {}),
        },
      );
      return body.verifiers;
    });
    return { verifiers, memoryIsFree: sending === 0 };
  }

  /**
   * Writes at `offset` of the chunk what the chunkservers take from another one.
   * @returns the boot id of every replica that took it
   * @throws {@link CannotCopy}
   */
  copy(
    chunk: ChunkOfFile,
    offset: number,
    source: CopySource,
    context: CallContext,
    deadline: Deadline,
  ): Promise<readonly number[]> {
    const sequence = this.#nextSequence++;
    return this.#underLease(chunk, context, deadline, async (lease, failing) => {
      const { handle, version } = lease;
      const { length } = source;
      const session = this.#session.id;
      // A new one for each attempt: the source may have changed, and what an earlier one left must not be taken.
      const dataId = { session, number: this.#nextSequence++ };
      await this.#stage(lease, source, dataId, deadline, failing);
      const primary = await this.#peerOf(lease.primary, failing);
      const deadlineMs = deadline.within(ATTEMPT_TIMEOUT_MS);
      const body = { handle, version, offset, length, dataId };
      return (await primary.call(WriteChunk, body, { session, sequence, deadlineMs })).body.verifiers;
    });
  }

  async #stage(
    lease: Lease,
    { chunk, offset, length }: CopySource,
    dataId: ValueOf<typeof StageCopy.request>['dataId'],
    deadline: Deadline,
    failing: Set<Server>,
  ): Promise<void> {
    const [first, ...chain] = chainOf(lease);
    const peer = await this.#peerOf(first as Server, failing);
    const options = { session: dataId.session, deadlineMs: deadline.within(ATTEMPT_TIMEOUT_MS) };
    try {
      await peer.call(StageCopy, { dataId, source: chunk, offset, length, chain }, options);
    } catch (thrown) {
      const error = toGfsError(thrown);
      if (error.code === 'CHUNK_UNAVAILABLE' || error.code === 'UNKNOWN_MESSAGE') throw new CannotCopy(error);
      throw error;
    }
  }

  /** @throws CHUNK_FULL: go on in the next chunk */
  append(
    chunk: ChunkOfFile,
    {
      mode,
      from,
      sync,
    }: { readonly mode: 'record' | 'exact'; readonly from: number; readonly sync: boolean },
    buffers: readonly Uint8Array[],
    context: CallContext,
    deadline: Deadline,
  ): Promise<Appended> {
    const sequence = this.#nextSequence++;
    return this.#underLease(chunk, context, deadline, async (lease, failing) => {
      const { handle, version } = lease;
      const primary = await this.#peerOf(lease.primary, failing);
      const { body } = await primary.call(
        AppendChunk,
        { handle, version, mode, from, file: chunk, sync },
        {
          session: this.#session.id,
          sequence,
          deadlineMs: deadline.within(sync ? SYNC_TIMEOUT_MS : ATTEMPT_TIMEOUT_MS),
          payload: { buffers },
        },
      );
      return body;
    });
  }

  /** Flushes the chunk to disk on every replica. @returns their verifiers */
  sync(chunk: ChunkOfFile, context: CallContext, deadline: Deadline): Promise<readonly number[]> {
    return this.#underLease(chunk, context, deadline, async (lease, failing) => {
      const { handle, version, secondaries } = lease;
      const primary = await this.#peerOf(lease.primary, failing);
      const { body } = await primary.call(
        SyncChunk,
        { handle, version, secondaries },
        { session: this.#session.id, deadlineMs: deadline.within(SYNC_TIMEOUT_MS) },
      );
      return body.verifiers;
    });
  }

  /**
   * Runs one attempt after another, each under the lease as it then is. `failing` collects the servers
   * that did not answer: the master hears of them when it is asked for the next lease.
   */
  #underLease<T>(
    { id, index }: ChunkOfFile,
    context: CallContext,
    deadline: Deadline,
    attempt: (lease: Lease, failing: Set<Server>) => Promise<T>,
  ): Promise<T> {
    let failed: { version: number; servers: string[] } = { version: 0, servers: [] };
    return retrying(this.#environment.timers, deadline, context.signal, async () => {
      const lease = await this.#locations.lease(id, index, context, deadline, failed);
      const failing = new Set<Server>();
      try {
        return await attempt(lease, failing);
      } catch (thrown) {
        const error = toGfsError(thrown);
        if (error.code === 'DEADLINE_EXCEEDED' || error.code === 'UNREACHABLE') failing.add(lease.primary);
        if (error.code === 'REPLICA_FAILED') addNamed(lease, error, failing);
        if (error.reaction !== 'never' || failing.size > 0) {
          this.#retries.add();
          this.#environment.logger.debug(
            { err: error, id, index, version: lease.version },
            'a mutation is tried again',
          );
          this.#locations.dropLease(id, lease);
          for (const { serverId } of failing) this.#locations.distrust(serverId);
          failed = { version: lease.version, servers: [...failing].map((server) => server.serverId) };
        }
        throw error;
      }
    });
  }

  async #peerOf(server: Server, failing: Set<Server>) {
    try {
      return await this.#connections.to(server);
    } catch (error) {
      failing.add(server);
      throw error;
    }
  }
}

/** The message of REPLICA_FAILED begins with the server that failed, as whoever noticed has named it. */
function addNamed({ primary, secondaries }: Lease, { message }: GfsError, failing: Set<Server>): void {
  const named = [primary, ...secondaries].find(({ serverId }) => message.startsWith(`${serverId}:`));
  if (named !== undefined) failing.add(named);
}

/** Who gets pushed data from whom (paper §3.2). @throws MALFORMED when the master's order is none */
function chainOf({ primary, secondaries, chain }: Lease): Server[] {
  const members = [primary, ...secondaries];
  if (chain === undefined) return members;
  const ordered = [...new Set(chain)].flatMap((at) => members[at] ?? []);
  if (ordered.length === members.length) return ordered;
  throw new GfsError('MALFORMED', 'a push chain that is not over the replicas');
}
