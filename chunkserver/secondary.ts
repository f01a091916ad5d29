/** Mutations at a secondary (paper §3.1 step 5): applied in the order of their serial numbers, whatever order they come in. */
import type { Timers } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { ApplyMutation } from '../protocol/messages/index.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { mutationsOf, partsOf } from './parts.js';
import type { PushBuffer } from './push-buffer.js';
import { SharedPayload } from './shared-payload.js';
import type { Chunk } from './store/chunk.js';
import { nextSerial } from './store/serial.js';
import type { Store } from './store/store.js';

/** Mutations held because one before them has not come. */
const MAX_HELD = 256;
/** How long one waits for those before it. */
const MAX_HELD_MS = 2_000;

type Body = ValueOf<typeof ApplyMutation.request>;

/** The place in the order of one chunk under one version. */
interface Order {
  readonly version: number;
  nextSerial: number;
  /** The newest mutation that was queued; a duplicate waits for it. */
  lastQueued: Promise<void>;
  readonly held: Map<number, () => void>;
  /** A mutation could not be applied: none after it may be. */
  failure: GfsError | undefined;
}

export class Secondary {
  readonly #timers: Timers;
  readonly #store: Store;
  readonly #pushed: PushBuffer;
  /** One for each chunk that was mutated here under its present version. */
  readonly #orders = new Map<number, Order>();

  constructor(timers: Timers, store: Store, pushed: PushBuffer) {
    this.#timers = timers;
    this.#store = store;
    this.#pushed = pushed;
  }

  forget(handle: number): void {
    this.#orders.delete(handle);
  }

  /** @throws STALE_CHUNK_VERSION, REPLICA_FAILED, NO_SUCH_CHUNK, DATA_NOT_BUFFERED, NO_SPACE, OVERLOADED */
  async apply(body: Body, request: IncomingRequest): Promise<void> {
    const chunk = this.#store.get(body.handle);
    this.#checkVersion(chunk, body.version);
    const order = this.#orderOf(chunk);
    if (body.serial < order.nextSerial) {
      await order.lastQueued;
      return;
    }
    const data = this.#dataOf(body, request);
    try {
      const admission = chunk.directory.admission(body.length);
      if (admission !== undefined) await admission;
      if (body.serial > order.nextSerial) await this.#waitForTurn(order, body.serial);
      if (order.failure !== undefined) throw order.failure;
      this.#checkVersion(chunk, body.version);
      if (body.serial < order.nextSerial) {
        data?.release();
        return await order.lastQueued;
      }
    } catch (error) {
      data?.release();
      throw error;
    }
    const applied = this.#queue(chunk, body, data);
    order.nextSerial += body.parts?.length ?? 1;
    order.lastQueued = applied.catch((error: unknown) => {
      order.failure ??= new GfsError(
        'REPLICA_FAILED',
        `serial ${body.serial} failed: ${(error as Error).message}`,
      );
      throw order.failure;
    });
    order.lastQueued.catch(() => undefined);
    order.held.get(order.nextSerial)?.();
    await applied;
  }

  /**
   * A replica that a host crash made suspect has the right version, and perhaps not the bytes: it takes
   * part again once the next lease has compared it.
   */
  #checkVersion(chunk: Chunk, version: number): void {
    if (chunk.state.suspect) throw new GfsError('REPLICA_FAILED', `chunk ${chunk.handle} is suspect here`);
    chunk.checkVersion(version);
  }

  #orderOf(chunk: Chunk): Order {
    const { version, serial } = chunk.state;
    let order = this.#orders.get(chunk.handle);
    if (order === undefined || order.version !== version) {
      order = {
        version,
        nextSerial: nextSerial(version, serial),
        lastQueued: Promise.resolve(),
        held: new Map(),
        failure: undefined,
      };
      this.#orders.set(chunk.handle, order);
    }
    return order;
  }

  /** The mutation's bytes: with the request, or pushed before. */
  #dataOf(body: Body, request: IncomingRequest): SharedPayload | undefined {
    if (body.kind !== 'write' && body.parts !== undefined)
      throw new GfsError('INVALID', `a ${body.kind} in parts`);
    if (body.kind !== 'write') return undefined;
    partsOf(body, this.#store.chunkBytes);
    const { payload, payloadCrc } = request;
    const data =
      payload === undefined
        ? body.dataId && this.#pushed.take(body.dataId)
        : new SharedPayload(payload, payloadCrc);
    if (data === undefined)
      throw new GfsError('DATA_NOT_BUFFERED', `chunk ${body.handle}, serial ${body.serial}`);
    if (data.bytes.byteLength === body.length) return data;
    data.release();
    throw new GfsError('INVALID', `${data.bytes.byteLength} bytes for a mutation of ${body.length}`);
  }

  async #waitForTurn(order: Order, serial: number): Promise<void> {
    if (order.held.size >= MAX_HELD)
      throw new GfsError('OVERLOADED', `${MAX_HELD} mutations are out of order`);
    await new Promise<void>((resolve, reject) => {
      const timer = this.#timers.after(MAX_HELD_MS, () => {
        order.held.delete(serial);
        reject(new GfsError('REPLICA_FAILED', `serial ${order.nextSerial} did not come`));
      });
      order.held.set(serial, () => {
        timer.cancel();
        order.held.delete(serial);
        resolve();
      });
    });
  }

  async #queue(chunk: Chunk, body: Body, data: SharedPayload | undefined): Promise<void> {
    const { kind, serial, offset, parts = [body], session, sequence } = body;
    if (kind === 'truncate') return chunk.truncate(offset, serial);
    if (data === undefined) {
      await chunk.mutate({ kind: 'extend', serial, offset, session, sequence });
      return;
    }
    try {
      const { bytes, pageSums } = data;
      const mutations = mutationsOf(parts, bytes, { serial, session, sequence, pageSums });
      await chunk.mutateAll(mutations, () => data.keep());
    } finally {
      data.release();
    }
  }
}
