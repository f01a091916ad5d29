/** What clients ask of a primary: writes and appends (paper §3.1, §3.3), each of them once. */
import { GfsError } from '../protocol/errors.js';
import type { AppendChunk, WriteChunk } from '../protocol/messages/index.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Lease, LeaseTable } from './leases.js';
import { partsOf } from './parts.js';
import type { DataId, PushBuffer } from './push-buffer.js';
import type { Flush, SerialOrder } from './serial-order.js';
import { SharedPayload } from './shared-payload.js';
import { checkSpill, type NextChunk, type Spiller } from './spill.js';
import { type MutationResult, SPILL_SESSION } from './store/results.js';
import type { Store } from './store/store.js';

/** A record is at most this part of a chunk (paper §3.3). */
const RECORD_FRACTION = 4;

type WriteBody = ValueOf<typeof WriteChunk.request>;
type AppendBody = ValueOf<typeof AppendChunk.request>;

export interface PrimaryComponents {
  readonly store: Store;
  readonly leases: LeaseTable;
  readonly pushed: PushBuffer;
  readonly order: SerialOrder;
  readonly spiller: Spiller;
}

export class Primary {
  readonly #c: PrimaryComponents;
  readonly #order: SerialOrder;

  constructor(components: PrimaryComponents) {
    this.#c = components;
    this.#order = components.order;
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
      await this.#order.carryOut(lease, what);
      isFlushed = true;
      return parts?.at(-1) ?? { offset, length };
    });
    if (flush !== undefined && !isFlushed)
      return this.#order.sync({ ...body, secondaries: [...lease.secondaries] }, flush);
    return this.#order.verifiers(lease);
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
      await this.#order.carryOut(lease, {
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
        ? await this.#order.verifiers(lease)
        : await this.#order.sync({ handle, version, secondaries: [...lease.secondaries] }, flush);
    const rest = sizeBytes - length;
    // A head is only ever written once its spill is safe: this holds for a retry that finds the head too.
    const isOver = next !== undefined && rest > 0 && rest <= chunkBytes && offset + length === chunkBytes;
    if (!isOver) return { offset, written: length, verifiers };
    spillVerifiers ??= await this.#c.spiller.sync(next);
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
        const spillVerifiers = await this.#c.spiller.write(next, data, length, spill);
        this.#c.leases.check(chunk.handle, version);
        if (Math.max(lease.plannedLength, from) !== offset) continue;
        data.retain();
        await this.#order.carryOut(lease, { kind: 'write', offset, data, length, session, sequence });
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
    const orders = Promise.all([...cut, whole].map((ordered) => this.#order.carryOut(lease, ordered)));
    const settled = orders.then(
      () => undefined,
      () => undefined,
    );
    lease.spilling = settled.then(() => {
      lease.spilling = undefined;
    });
    await orders;
    return this.#order.verifiers(lease);
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
   * Runs a mutation unless it was done or is under way: then its first result counts. `run` takes its place in
   * the order at once, or checks the lease again after whatever it has waited for: a retry may have come under
   * the next one.
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
    await this.#order.carryOut(lease, {
      kind: 'pad',
      offset: length,
      data: undefined,
      length: 0,
      session: 0,
      sequence: 0,
    });
  }
}

function takePayload({ payload, payloadCrc }: IncomingRequest): SharedPayload {
  if (payload === undefined) throw new GfsError('INVALID', 'a mutation without data');
  return new SharedPayload(payload, payloadCrc);
}
