/** What clients and other chunkservers ask (protocol/messages/data.ts). */
import type { Metrics } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_PAYLOAD_BYTES } from '../protocol/limits.js';
import {
  AppendChunk,
  ApplyMutation,
  FindChunks,
  GetChecksums,
  GetChunkLength,
  PushData,
  ReadChunk,
  ReadChunks,
  RepairChunk,
  StageCopy,
  SyncChunk,
  WriteChunk,
} from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import type { IncomingRequest, Outcome, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Activity } from './activity.js';
import { DataCopier } from './data-copier.js';
import { failureOfHop, hopDeadlineMs } from './hops.js';
import type { Peers } from './peers.js';
import type { Primary } from './primary.js';
import type { PushBuffer } from './push-buffer.js';
import { applyRepair, encodeChecksums } from './repair.js';
import type { Secondary } from './secondary.js';
import type { SerialOrder } from './serial-order.js';
import { SharedPayload } from './shared-payload.js';
import type { Chunk } from './store/chunk.js';
import { serialBase } from './store/serial.js';
import type { Store } from './store/store.js';
import { readVerified, readVerifiedNow, type VerifiedRead } from './store/verified-read.js';
import { isDeviceError } from './store/watched-disk.js';

type ReadOutcome = Outcome<ValueOf<typeof ReadChunk.reply>>;

export interface DataComponents {
  readonly store: Store;
  readonly primary: Primary;
  readonly order: SerialOrder;
  readonly secondary: Secondary;
  readonly peers: Peers;
  readonly pushed: PushBuffer;
  readonly pool: BufferPool;
  readonly metrics: Metrics;
  readonly bootId: number;
  readonly sync: 'disk' | 'memory';
  /** Whether the session with the master lives, or a shadow stands in for it. */
  readonly mayRead: () => boolean;
  /** A block failed its checksum: the master has to know. */
  readonly onDamage: (handle: number) => void;
  readonly activity: Activity;
}

export class DataService {
  readonly #c: DataComponents;
  readonly #readBytes;
  readonly #writtenBytes;
  readonly #copier: DataCopier;

  constructor(components: DataComponents) {
    this.#c = components;
    const { metrics } = components;
    this.#readBytes = metrics.counter('gfs_chunkserver_read_bytes_total', 'Bytes read by clients');
    this.#writtenBytes = metrics.counter('gfs_chunkserver_written_bytes_total', 'Bytes of mutations applied');
    this.#copier = new DataCopier({
      ...components,
      serverId: components.store.serverId,
      read: async (handle, version, offset, length) =>
        this.#watched(handle, readVerified(this.#readable(handle, version), offset, length)),
    });
  }

  register(service: Service): void {
    service
      .on(FindChunks, ({ handles }, { from }) => {
        if (from.role !== 'shadow')
          throw new GfsError('NOT_PERMITTED', `a ${from.role} asked what only a shadow may`);
        return { body: { found: this.#find(handles) } };
      })
      .on(ReadChunk, (body) => this.#read(body))
      .on(ReadChunks, (body) => this.#readSeveral(body))
      .on(PushData, (body, request) => this.#c.activity.during(this.#push(body, request)))
      .on(StageCopy, async (body) => ({
        body: { crc: await this.#c.activity.during(this.#copier.stage(body)) },
      }))
      .on(WriteChunk, async (body, request) => {
        const verifiers = await this.#watched(
          body.handle,
          this.#c.primary.write(body, request, this.#flushOf(body)),
        );
        this.#writtenBytes.add(body.length);
        return { body: { verifiers } };
      })
      .on(AppendChunk, async (body, request) => {
        const reply = await this.#watched(
          body.handle,
          this.#c.primary.append(body, request, this.#flushOf(body)),
        );
        this.#writtenBytes.add(reply.written);
        return { body: reply };
      })
      .on(ApplyMutation, async (body, request) => {
        await this.#watched(body.handle, this.#apply(body, request));
        this.#writtenBytes.add(body.length);
        return { body: { verifier: this.#c.bootId } };
      })
      .on(SyncChunk, async (body) => ({
        body: { verifiers: await this.#c.activity.during(this.#sync(body)) },
      }))
      .on(GetChunkLength, ({ handle, version }) => {
        const chunk = this.#atLeast(handle, version);
        return { body: { lengthBytes: chunk.state.length } };
      })
      .on(GetChecksums, ({ handle, version }) => this.#checksums(handle, version))
      .on(RepairChunk, async (body, request) => {
        const chunk = this.#exactly(body.handle, body.version);
        await this.#watched(body.handle, applyRepair(chunk, body, request));
        return { body: {} };
      });
  }

  #find(handles: readonly number[]): ValueOf<typeof FindChunks.reply>['found'] {
    return handles.flatMap((handle) => {
      const chunk = this.#c.store.find(handle);
      if (chunk === undefined) return [];
      const { version, length, suspect } = chunk.state;
      return [{ handle, version, lengthBytes: length, suspect }];
    });
  }

  #read(body: ValueOf<typeof ReadChunk.request>): ReadOutcome | Promise<ReadOutcome> {
    const { handle, version, offset, length } = body;
    if (length > MAX_PAYLOAD_BYTES) throw new GfsError('INVALID', `a read of ${length} bytes`);
    const chunk = this.#readable(handle, version);
    const read = readVerifiedNow(chunk, offset, length);
    if (read === undefined)
      return this.#watched(handle, readVerified(chunk, offset, length)).then((later) =>
        this.#give(chunk, later),
      );
    this.#c.activity.note();
    return this.#give(chunk, read);
  }

  #give(chunk: Chunk, { bytes, release }: VerifiedRead): ReadOutcome {
    this.#readBytes.add(bytes.byteLength);
    const body = { chunkLength: chunk.state.length };
    if (bytes.byteLength === 0) return { body };
    return { body, payload: { buffers: [bytes] }, onSent: release };
  }

  async #readSeveral({
    chunks,
  }: ValueOf<typeof ReadChunks.request>): Promise<Outcome<ValueOf<typeof ReadChunks.reply>>> {
    const reads = await Promise.all(
      chunks.map(async ({ handle, version, length }) => {
        try {
          return await this.#watched(handle, readVerified(this.#readable(handle, version), 0, length));
        } catch (error) {
          if (error instanceof GfsError) return undefined;
          throw error;
        }
      }),
    );
    const found = reads.filter((read) => read !== undefined);
    const buffers = found.flatMap(({ bytes }) => (bytes.byteLength === 0 ? [] : [bytes]));
    for (const { byteLength } of buffers) this.#readBytes.add(byteLength);
    const release = () => {
      for (const read of found) read.release();
    };
    const body = { lengths: reads.map((read) => read?.bytes.byteLength) };
    return buffers.length === 0 ? { body } : { body, payload: { buffers }, onSent: release };
  }

  #readable(handle: number, version: number): Chunk {
    if (!this.#c.mayRead()) throw new GfsError('UNREACHABLE', 'this chunkserver is cut off from its master');
    return this.#atLeast(handle, version);
  }

  /** Keeps the data and passes it on at the same time (paper §3.2). */
  async #push(
    { dataId, chain }: ValueOf<typeof PushData.request>,
    request: IncomingRequest,
  ): Promise<Outcome<object>> {
    if (request.payload === undefined) throw new GfsError('INVALID', 'a push of nothing');
    const data = new SharedPayload(request.payload, request.payloadCrc);
    const [next, ...rest] = chain;
    let passedOn: Promise<unknown> | undefined;
    if (next !== undefined) {
      data.retain();
      const body = { dataId, chain: rest };
      passedOn = this.#c.peers.call(next, PushData, body, {
        payload: data.outgoing,
        onSent: () => data.release(),
        deadlineMs: hopDeadlineMs(rest.length),
      });
    }
    this.#c.pushed.put(dataId, data);
    try {
      await passedOn;
    } catch (error) {
      throw failureOfHop(next, error);
    }
    return { body: {} };
  }

  async #apply(body: ValueOf<typeof ApplyMutation.request>, request: IncomingRequest): Promise<void> {
    await this.#c.secondary.apply(body, request);
    if (body.sync) await this.#flush(body.handle);
  }

  async #sync(body: ValueOf<typeof SyncChunk.request>): Promise<number[]> {
    this.#exactly(body.handle, body.version);
    return this.#c.order.sync(body, () => this.#flush(body.handle));
  }

  /** For a mutation that is to be flushed as well. */
  #flushOf({ handle, sync }: { readonly handle: number; readonly sync?: boolean | undefined }) {
    return sync === true ? () => this.#flush(handle) : undefined;
  }

  #flush(handle: number): Promise<void> {
    const { activity, store, sync } = this.#c;
    return sync === 'disk' ? store.get(handle).sync(activity.underWay <= 1) : Promise.resolve();
  }

  async #checksums(handle: number, version: number): Promise<Outcome<ValueOf<typeof GetChecksums.reply>>> {
    const chunk = this.#exactly(handle, version);
    await this.#watched(handle, chunk.directory.load(chunk));
    const { length, serial } = chunk.state;
    return { body: { lengthBytes: length, appliedSerial: serial, checksums: encodeChecksums(chunk) } };
  }

  /**
   * For readers: a replica that is not behind what they know, nor was changed under a version that they
   * do not know. After a snapshot the chunk may belong to another file by then (paper §3.4): the next
   * change is made under a new version, so that a reader with an old location asks the master again.
   */
  #atLeast(handle: number, version: number): Chunk {
    const chunk = this.#c.store.get(handle);
    const { suspect, serial, version: own } = chunk.state;
    const isChanged = serial > serialBase(version + 1);
    if (own >= version && !suspect && !isChanged) return chunk;
    throw new GfsError(
      'STALE_CHUNK_VERSION',
      `chunk ${handle} has version ${own}${suspect ? ', suspect' : ''}`,
    );
  }

  #exactly(handle: number, version: number): Chunk {
    const chunk = this.#c.store.get(handle);
    chunk.checkVersion(version);
    return chunk;
  }

  async #watched<T>(handle: number, work: Promise<T>): Promise<T> {
    try {
      return await this.#c.activity.during(work);
    } catch (error) {
      if (error instanceof GfsError) {
        if (error.code === 'CHUNK_CORRUPT') this.#c.onDamage(handle);
        throw error;
      }
      if (!isDeviceError(error) && !isDeviceError((error as Error).cause)) throw error;
      // The disk is given up, and the chunk with it: others have it.
      throw new GfsError('NO_SUCH_CHUNK', `chunk ${handle}: its disk failed`, { cause: error });
    }
  }
}
