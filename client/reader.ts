/** Reading: from the best replica, from another when that one fails, zeros where a file has holes. */
import type { Counter, Environment } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { type Chunk, ReadChunk, ReportCorrupt, type Server } from '../protocol/messages/index.js';
import type { Cancellation } from '../protocol/rpc.js';
import type { ChunkserverConnections } from './connections.js';
import { Hedge } from './hedge.js';
import type { Locations } from './locations.js';
import { type CallContext, type Deadline, retryCounter, retrying } from './retry.js';
import type { MasterSession } from './session.js';
import type { SmallFiles } from './small-files.js';

/** A replica that has not answered by then is given up for another. */
const REPLICA_TIMEOUT_MS = 3_000;
const ZEROS = Buffer.alloc(1024 * 1024);

/** Bytes read, in order; `release` once they have been used. */
export interface ReadResult {
  readonly buffers: Uint8Array[];
  readonly release: () => void;
}

interface Piece {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

export class Reader {
  readonly #environment: Environment;
  readonly #session: MasterSession;
  readonly #locations: Locations;
  readonly #connections: ChunkserverConnections;
  readonly #smallFiles: SmallFiles;
  readonly #hedge: Hedge<ReadResult>;
  readonly #retries: Counter;

  constructor(
    environment: Environment,
    session: MasterSession,
    locations: Locations,
    connections: ChunkserverConnections,
    smallFiles: SmallFiles,
  ) {
    this.#environment = environment;
    this.#session = session;
    this.#locations = locations;
    this.#connections = connections;
    this.#smallFiles = smallFiles;
    this.#retries = retryCounter(environment.metrics, 'read');
    this.#hedge = new Hedge(environment, (late) => late.release());
  }

  /**
   * Exactly `length` bytes at `offset` of file `id`: the caller has cut them to the file's size.
   * @throws CHUNK_UNAVAILABLE, CHUNK_LOST, UNREACHABLE, DEADLINE_EXCEEDED, CANCELLED
   */
  read(id: number, offset: number, length: number, context: CallContext): Promise<ReadResult> {
    const pieces = splitByChunk(offset, length, this.#session.chunkBytes);
    const first = pieces[0];
    const deadline = this.#session.deadline();
    // Nearly all are in one chunk. Each function that awaits would cost them promises of its own.
    if (first !== undefined && pieces.length === 1) return this.#readPiece(id, first, context, deadline);
    return this.#readPieces(id, pieces, context, deadline);
  }

  async #readPieces(
    id: number,
    pieces: readonly Piece[],
    context: CallContext,
    deadline: Deadline,
  ): Promise<ReadResult> {
    const settled = await Promise.allSettled(
      pieces.map((piece) => this.#readPiece(id, piece, context, deadline)),
    );
    const results = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const release = () => {
      for (const result of results) result.release();
    };
    const failed = settled.find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      release();
      throw failed.reason;
    }
    return { buffers: results.flatMap((result) => result.buffers), release };
  }

  #readPiece(id: number, piece: Piece, context: CallContext, deadline: Deadline): Promise<ReadResult> {
    const attempt = async (): Promise<ReadResult> => {
      const chunk = await this.#locations.chunk(id, piece.index, context, deadline);
      if (chunk.handle === 0) return { buffers: zeros(piece.length), release: () => undefined };
      const end = piece.offset + piece.length;
      const ahead = this.#smallFiles.take(chunk, end);
      if (ahead !== undefined) {
        const bytes = await ahead;
        if (bytes !== undefined && end <= bytes.byteLength)
          return { buffers: [bytes.subarray(piece.offset, end)], release: () => undefined };
      }
      return await this.#readReplicas(chunk, piece, context, deadline);
    };
    const onFailure = (error: GfsError) => {
      this.#retries.add();
      this.#environment.logger.debug({ err: error, id, index: piece.index }, 'a read is tried again');
      this.#locations.dropChunk(id, piece.index);
    };
    return retrying(this.#environment.timers, deadline, context.signal, attempt, onFailure).catch(
      (thrown) => {
        const error = toGfsError(thrown);
        if (error.code !== 'DEADLINE_EXCEEDED') throw error;
        throw new GfsError('CHUNK_UNAVAILABLE', `no replica of chunk ${piece.index} of file ${id} answers`);
      },
    );
  }

  /** Each replica once, best first; the next one beside it when it takes long. @throws the last one's error */
  #readReplicas(chunk: Chunk, piece: Piece, context: CallContext, deadline: Deadline): Promise<ReadResult> {
    const wanted = Math.max(0, Math.min(piece.length, chunk.validBytes - piece.offset));
    if (wanted === 0) return Promise.resolve({ buffers: zeros(piece.length), release: () => undefined });
    const servers = this.#connections.preferReachable(chunk.replicas);
    if (servers.length === 0) {
      const error = new GfsError('CHUNK_UNAVAILABLE', `no replica of chunk ${chunk.handle} is known now`);
      return Promise.reject(error);
    }
    const ask = (server: Server, signal: Cancellation) =>
      this.#readFrom(server, chunk, piece, wanted, signal, deadline);
    return this.#hedge.run(servers, context.signal, ask, (slow) => this.#connections.avoid(slow));
  }

  async #readFrom(
    server: Server,
    chunk: Chunk,
    piece: Piece,
    wanted: number,
    signal: Cancellation,
    deadline: Deadline,
  ): Promise<ReadResult> {
    try {
      const peer = await this.#connections.to(server);
      const { handle, version } = chunk;
      const { payload } = await peer.call(
        ReadChunk,
        { handle, version, offset: piece.offset, length: wanted },
        { session: this.#session.id, deadlineMs: deadline.within(REPLICA_TIMEOUT_MS), signal },
      );
      const bytes = payload?.bytes.subarray(0, wanted);
      const missing = piece.length - (bytes?.byteLength ?? 0);
      const buffers = bytes === undefined ? [] : [bytes];
      if (missing > 0) buffers.push(...zeros(missing));
      return { buffers, release: () => payload?.release() };
    } catch (thrown) {
      const error = toGfsError(thrown);
      if (error.code === 'DEADLINE_EXCEEDED' || error.code === 'UNREACHABLE') this.#connections.avoid(server);
      if (error.code === 'CHUNK_CORRUPT') this.#report(chunk, server);
      throw error;
    }
  }

  #report(chunk: Chunk, server: Server): void {
    const { handle, version } = chunk;
    this.#environment.logger.warn({ handle, version, server: server.serverId }, 'a replica is damaged');
    this.#session
      .query(ReportCorrupt, { handle, version, serverId: server.serverId })
      .catch((error) =>
        this.#environment.logger.warn({ err: error, handle }, 'the damage could not be reported'),
      );
  }
}

/** The parts of a byte range that lie in one chunk each (paper §2.4: offset to chunk index). */
export function splitByChunk(offset: number, length: number, chunkBytes: number): Piece[] {
  const pieces: Piece[] = [];
  let at = offset;
  while (at < offset + length) {
    const index = Math.floor(at / chunkBytes);
    const within = at - index * chunkBytes;
    const count = Math.min(chunkBytes - within, offset + length - at);
    pieces.push({ index, offset: within, length: count });
    at += count;
  }
  return pieces;
}

function zeros(length: number): Buffer[] {
  const buffers: Buffer[] = [];
  for (let left = length; left > 0; left -= ZEROS.byteLength) {
    buffers.push(left >= ZEROS.byteLength ? ZEROS : ZEROS.subarray(0, left));
  }
  return buffers;
}
