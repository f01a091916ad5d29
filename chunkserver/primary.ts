/** Mutations at the primary (paper §3.1 steps 4 to 7, §3.3): it orders them, and every replica applies them. */
import type { Clock } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import {
  type AppendChunk,
  ApplyMutation,
  DropSecondary,
  type Server,
  SyncChunk,
  type WriteChunk,
} from '../protocol/messages/index.js';
import type { CallOptions, IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Lease, LeaseTable } from './leases.js';
import type { MasterSession } from './master-session.js';
import { mutationsOf, type Part, partsOf } from './parts.js';
import type { Peers } from './peers.js';
import type { DataId, PushBuffer } from './push-buffer.js';
import { SharedPayload } from './shared-payload.js';
import { checkSpill, type NextChunk, Spiller } from './spill.js';
import { type MutationResult, SPILL_SESSION } from './store/results.js';
import type { Store } from './store/store.js';

/** A secondary that has not answered by then has failed. */
const SECONDARY_TIMEOUT_MS = 2_000;
/** The master asks the other replicas for the new version meanwhile. */
const DROP_TIMEOUT_MS = 5_000;
/** A flush takes longer than that on a busy disk. */
const SECONDARY_SYNC_TIMEOUT_MS = 8_000;
/** A record is at most this part of a chunk (paper §3.3). */
const RECORD_FRACTION = 4;

type Flush = () => Promise<void>;
type WriteBody = ValueOf<typeof WriteChunk.request>;
type AppendBody = ValueOf<typeof AppendChunk.request>;

interface Ordered {
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

export interface PrimaryComponents {
  readonly clock: Clock;
  readonly store: Store;
  readonly leases: LeaseTable;
  readonly peers: Peers;
  readonly pushed: PushBuffer;
  readonly bootId: number;
  readonly master: Pick<MasterSession, 'ask'>;
}

export class Primary {
  readonly #c: PrimaryComponents;
  readonly #spiller: Spiller;

  constructor(components: PrimaryComponents) {
    this.#c = components;
    this.#spiller = new Spiller(components.master, components.peers);
  }

  /**
   * @param flush flushes the chunk here, for a write that is to be flushed
   * @throws NOT_PRIMARY, STALE_CHUNK_VERSION, REPLICA_FAILED, DATA_NOT_BUFFERED, NO_SPACE, INVALID
   */
  async write(body: WriteBody, request: IncomingRequest, flush?: Flush): Promise<number[]> {
    const { handle, version, offset, length, dataId, parts } = body;
    partsOf(body, this.#c.store.chunkBytes);
    if (parts !== undefined && body.spill !== undefined) throw new GfsError('INVALID', 'a spill in parts');
    if (dataId === undefined && request.payload?.bytes.byteLength !== length)
      throw new GfsError('INVALID', 'payload');
    const lease = this.#c.leases.check(handle, version);
    await this.#prepare(lease, length);
    if (body.spill !== undefined) return this.#takeSpill(lease, body.spill, takePayload(request));
    let isFlushed = flush === undefined;
    await this.#once(lease, request, async ({ session, sequence }) => {
      const data = dataId === undefined ? takePayload(request) : this.#takePushed(dataId, length);
      const what = { kind: 'write', offset, data, length, parts, dataId, flush, session, sequence } as const;
      await this.#order(lease, what);
      isFlushed = true;
      return parts?.at(-1) ?? { offset, length };
    });
    if (flush !== undefined && !isFlushed)
      return this.sync({ ...body, secondaries: [...lease.secondaries] }, flush);
    return this.#verifiers(lease);
  }

  /**
   * @param flush as of {@link write}; what goes to the next chunk is not flushed
   * @throws as write; CHUNK_FULL, TOO_BIG
   */
  async append(
    body: AppendBody,
    request: IncomingRequest,
    flush?: Flush,
  ): Promise<{ offset: number; written: number; verifiers: number[]; spillVerifiers?: number[] }> {
    const { handle, version, mode, from, file } = body;
    const sizeBytes = request.payload?.bytes.byteLength ?? 0;
    const { chunkBytes } = this.#c.store;
    if (sizeBytes === 0) throw new GfsError('INVALID', 'an append of nothing');
    if (mode === 'record' && sizeBytes > chunkBytes / RECORD_FRACTION) {
      throw new GfsError('TOO_BIG', `a record of ${sizeBytes} bytes, over a quarter of a chunk`);
    }
    const lease = this.#c.leases.check(handle, version);
    await this.#prepare(lease, sizeBytes);
    const next = file && mode === 'exact' ? { id: file.id, index: file.index + 1 } : undefined;
    let spillVerifiers: number[] | undefined;
    let isFlushed = flush === undefined;
    const result = await this.#once(lease, request, async ({ session, sequence }) => {
      while (lease.spilling !== undefined) await lease.spilling;
      this.#c.leases.check(handle, version);
      const offset = Math.max(lease.plannedLength, from);
      const room = chunkBytes - offset;
      if (next !== undefined && room > 0 && sizeBytes > room && sizeBytes - room <= chunkBytes) {
        const over = { next, from, session, sequence };
        const appended = await this.#appendOver(lease, takePayload(request), over);
        spillVerifiers = appended.spillVerifiers;
        return appended.result;
      }
      if (room <= 0 || (mode === 'record' && sizeBytes > room)) {
        if (mode === 'record') await this.#pad(lease, chunkBytes);
        throw new GfsError('CHUNK_FULL', `${Math.max(0, room)} bytes are left in chunk ${handle}`);
      }
      const length = Math.min(sizeBytes, room);
      await this.#order(lease, {
        kind: 'write',
        offset,
        data: takePayload(request),
        length,
        flush,
        session,
        sequence,
      });
      isFlushed = true;
      return { offset, length };
    });
    const { offset, length } = result;
    const verifiers =
      flush === undefined || isFlushed
        ? await this.#verifiers(lease)
        : await this.sync({ handle, version, secondaries: [...lease.secondaries] }, flush);
    const rest = sizeBytes - length;
    // A head is only ever written once its spill is safe: this holds for a retry that finds the head too.
    const isOver = next !== undefined && rest > 0 && rest <= chunkBytes && offset + length === chunkBytes;
    if (!isOver) return { offset, written: length, verifiers };
    spillVerifiers ??= await this.#spiller.sync(next);
    return { offset, written: sizeBytes, verifiers, spillVerifiers };
  }

  /**
   * An exact append over the chunk's end: what does not fit goes to the next chunk first, and the head is
   * written when that is on every replica there. Other appends wait; a write may lengthen this chunk meanwhile.
   */
  async #appendOver(
    lease: Lease,
    data: SharedPayload,
    { next, from, session, sequence }: { next: NextChunk; from: number; session: number; sequence: number },
  ): Promise<{ result: MutationResult; spillVerifiers: number[] }> {
    const { chunk, version } = lease;
    const { chunkBytes } = this.#c.store;
    let done!: () => void;
    lease.spilling = new Promise<void>((resolve) => {
      done = resolve;
    });
    try {
      for (;;) {
        const offset = Math.max(lease.plannedLength, from);
        const length = chunkBytes - offset;
        if (length <= 0) throw new GfsError('CHUNK_FULL', `chunk ${chunk.handle} was filled meanwhile`);
        const spill = lease.reserve();
        const spillVerifiers = await this.#spiller.write(next, data, length, spill);
        this.#c.leases.check(chunk.handle, version);
        if (Math.max(lease.plannedLength, from) !== offset) continue;
        data.retain();
        await this.#order(lease, { kind: 'write', offset, data, length, session, sequence });
        return { result: { offset, length }, spillVerifiers };
      }
    } finally {
      data.release();
      lease.spilling = undefined;
      done();
    }
  }

  /** At the primary of the next chunk. */
  async #takeSpill(lease: Lease, sequence: number, data: SharedPayload): Promise<number[]> {
    const { chunk } = lease;
    const length = data.bytes.byteLength;
    try {
      // Not before the one before it shows in the results.
      while (lease.spilling !== undefined) await lease.spilling;
      this.#c.leases.check(chunk.handle, lease.version);
      checkSpill(chunk.state.results, lease.plannedLength, sequence);
    } catch (error) {
      data.release();
      throw error;
    }
    const nobody = { session: 0, sequence: 0, data: undefined, length: 0 };
    const cut = lease.plannedLength > length ? [{ kind: 'truncate', offset: 0, ...nobody } as const] : [];
    const whole = { kind: 'write', offset: 0, data, length, session: SPILL_SESSION, sequence } as const;
    const orders = Promise.all([...cut, whole].map((ordered) => this.#order(lease, ordered)));
    const settled = orders.then(
      () => undefined,
      () => undefined,
    );
    lease.spilling = settled.then(() => {
      lease.spilling = undefined;
    });
    await orders;
    return this.#verifiers(lease);
  }

  /** What may have to wait, before the mutation has its place in the order. */
  async #prepare(lease: Lease, sizeBytes: number): Promise<void> {
    const { chunk } = lease;
    const admission = chunk.directory.admission(sizeBytes);
    if (admission !== undefined) await admission;
    if (chunk.state.checksums === undefined) await chunk.directory.load(chunk);
    this.#c.leases.check(chunk.handle, lease.version);
  }

  /**
   * Runs a mutation unless it was done or is under way: then its first result counts. `run` must take
   * its place in the order before it waits for anything.
   */
  #once(
    lease: Lease,
    request: IncomingRequest,
    run: (id: { session: number; sequence: number }) => Promise<MutationResult>,
  ): Promise<MutationResult> {
    const { session, sequence } = request.header;
    if (session === 0 || sequence === 0) return run({ session: 0, sequence: 0 });
    const key = `${session}:${sequence}`;
    const underWay = lease.underWay.get(key);
    if (underWay !== undefined) return underWay;
    const done = lease.chunk.state.results.find(session, sequence);
    if (done !== undefined) return Promise.resolve(done);
    const result = run({ session, sequence }).finally(() => lease.underWay.delete(key));
    lease.underWay.set(key, result);
    return result;
  }

  #takePushed(dataId: DataId, length: number): SharedPayload {
    const data = this.#c.pushed.take(dataId);
    if (data === undefined)
      throw new GfsError('DATA_NOT_BUFFERED', `data ${dataId.session}:${dataId.number}`);
    if (data.bytes.byteLength === length) return data;
    data.release();
    throw new GfsError('INVALID', `${data.bytes.byteLength} bytes were pushed, ${length} are to be written`);
  }

  /** All replicas end the chunk at `length`, so that the next append goes to the next chunk. */
  async #pad(lease: Lease, length: number): Promise<void> {
    if (lease.plannedLength >= length) return;
    await this.#order(lease, {
      kind: 'pad',
      offset: length,
      data: undefined,
      length: 0,
      session: 0,
      sequence: 0,
    });
  }

  /** Gives the mutation its serial number, here and now, and has it applied everywhere. */
  async #order(lease: Lease, ordered: Ordered): Promise<void> {
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
   * @param flush as {@link write} has it: what a repair wrote is not flushed yet
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
    if (primary !== this.#c.store.serverId || next?.version !== version)
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
    const bytes = data.bytes.byteLength === length ? data.bytes : data.bytes.subarray(0, length);
    try {
      const mutations = mutationsOf(parts, bytes, { serial, session, sequence });
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
        verifier = await this.#apply(secondary, body, data);
      } else {
        verifier = await this.#apply(secondary, { ...body, dataId }, undefined).catch((error: unknown) => {
          if (!(error instanceof GfsError) || error.code !== 'DATA_NOT_BUFFERED') throw error;
          return this.#apply(secondary, body, data);
        });
      }
      lease.verifiers.set(secondary.serverId, verifier);
    } catch (error) {
      throw new SecondaryFailure(secondary.serverId, toGfsError(error));
    } finally {
      data?.release();
    }
  }

  async #apply(
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
  async #verifiers(asked: Lease): Promise<number[]> {
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

function takePayload({ payload, payloadCrc }: IncomingRequest): SharedPayload {
  if (payload === undefined) throw new GfsError('INVALID', 'a mutation without data');
  return new SharedPayload(payload, payloadCrc);
}
