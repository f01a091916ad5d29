/**
 * Data of a mutation that chunkservers have already (copy_file_range(2)): each replica of the target gets it
 * from a replica of the source, so that it passes no client and, where both are on one server, no network.
 * It waits for its mutation like pushed data: who may write, and in which order, is decided there.
 */
import type { Metrics } from '../environment/ports/index.js';
import { checksum } from '../protocol/checksum.js';
import { GfsError } from '../protocol/errors.js';
import { ReadChunk, type Server, StageCopy } from '../protocol/messages/index.js';
import type { BufferPool } from '../protocol/payload.js';
import type { ValueOf } from '../protocol/schema.js';
import { failureOfHop, hopDeadlineMs } from './hops.js';
import type { Peers } from './peers.js';
import type { PushBuffer } from './push-buffer.js';
import { SharedPayload } from './shared-payload.js';
import type { VerifiedRead } from './store/verified-read.js';

/** Another server's replica is tried when one has not given its bytes by then. */
const READ_TIMEOUT_MS = 700;

type StageBody = ValueOf<typeof StageCopy.request>;

export interface DataCopierComponents {
  readonly serverId: string;
  readonly peers: Peers;
  readonly pushed: PushBuffer;
  readonly pool: BufferPool;
  readonly metrics: Metrics;
  /** Of the replica that is here. */
  readonly read: (handle: number, version: number, offset: number, length: number) => Promise<VerifiedRead>;
}

export class DataCopier {
  readonly #c: DataCopierComponents;
  readonly #copiedBytes;

  constructor(components: DataCopierComponents) {
    this.#c = components;
    const help = 'Bytes of mutations taken from replicas';
    this.#copiedBytes = components.metrics.counter('gfs_chunkserver_copied_bytes_total', help);
  }

  /**
   * Keeps the bytes for their mutation, here and along the chain.
   * @returns their checksum, which is the same everywhere
   * @throws CHUNK_UNAVAILABLE, REPLICA_FAILED
   */
  async stage(body: StageBody): Promise<number> {
    if (body.length === 0) throw new GfsError('INVALID', 'a copy of nothing');
    const [here, behind] = await Promise.all([this.#keep(body), this.#passOn(body)]);
    if (behind === undefined || behind === here) return here;
    // The source is being written. Whoever asks has not begun to write the target.
    throw new GfsError(
      'CHUNK_UNAVAILABLE',
      `the replicas of chunk ${body.source.handle} are not the same now`,
    );
  }

  async #passOn({ chain, ...body }: StageBody): Promise<number | undefined> {
    const [next, ...rest] = chain;
    if (next === undefined) return undefined;
    try {
      const options = { deadlineMs: hopDeadlineMs(rest.length) };
      return (await this.#c.peers.call(next, StageCopy, { ...body, chain: rest }, options)).body.crc;
    } catch (error) {
      // The replica is well: it is the source that cannot be had there.
      if (error instanceof GfsError && error.code === 'CHUNK_UNAVAILABLE') throw error;
      throw failureOfHop(next, error);
    }
  }

  async #keep({ dataId, source, offset, length }: StageBody): Promise<number> {
    const payload = this.#c.pool.take(length);
    const present = Math.max(0, Math.min(length, source.validBytes - offset));
    try {
      payload.bytes.fill(0, await this.#fill(payload.bytes.subarray(0, present), source, offset));
    } catch (error) {
      payload.release();
      throw error;
    }
    const crc = checksum(payload.bytes);
    this.#c.pushed.put(dataId, new SharedPayload(payload, crc));
    this.#copiedBytes.add(length);
    return crc;
  }

  /** @returns how many bytes there are: fewer at the chunk's end */
  async #fill(target: Buffer, source: StageBody['source'], offset: number): Promise<number> {
    if (target.byteLength === 0) return 0;
    const isHere = ({ serverId }: Server): boolean => serverId === this.#c.serverId;
    const nearestFirst = [...source.replicas].sort((a, b) => Number(isHere(b)) - Number(isHere(a)));
    let failure: unknown;
    for (const server of nearestFirst) {
      try {
        const read = isHere(server)
          ? await this.#c.read(source.handle, source.version, offset, target.byteLength)
          : await this.#readFrom(server, source, offset, target.byteLength);
        target.set(read.bytes);
        read.release();
        return read.bytes.byteLength;
      } catch (error) {
        failure = error;
      }
    }
    const why = `chunk ${source.handle}: ${failure instanceof Error ? failure.message : 'no replica is known'}`;
    throw new GfsError('CHUNK_UNAVAILABLE', why, { cause: failure });
  }

  async #readFrom(
    server: Server,
    { handle, version }: StageBody['source'],
    offset: number,
    length: number,
  ): Promise<VerifiedRead> {
    const request = { handle, version, offset, length };
    const { payload } = await this.#c.peers.call(server, ReadChunk, request, { deadlineMs: READ_TIMEOUT_MS });
    if (payload === undefined) return { bytes: new Uint8Array(0), release: () => undefined };
    if (payload.bytes.byteLength > length) throw new GfsError('MALFORMED', 'more bytes than were asked for');
    return { bytes: payload.bytes, release: () => payload.release() };
  }
}
