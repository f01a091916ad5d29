/** What readers ask (paper §2.3, §2.4): where the chunks of a file are, best replica first. */
import { GfsError } from '../protocol/errors.js';
import { MAX_CHUNKS_PER_REPLY } from '../protocol/limits.js';
import type { Chunk, GetChunks, Location } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkRegular } from './attributes.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Raiser } from './raising.js';
import type { Replicas } from './replicas.js';
import { findNode } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

/** Chunks that are told unasked: those that follow (paper §2.4). */
const PREFETCH = 4;

export class Locations {
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #chunkservers: ChunkserverTable;
  readonly #raiser: Raiser;

  constructor(state: LoggedState, replicas: Replicas, chunkservers: ChunkserverTable, raiser: Raiser) {
    this.#state = state;
    this.#replicas = replicas;
    this.#chunkservers = chunkservers;
    this.#raiser = raiser;
  }

  /** @throws NOT_READY when a replica's server may still come back; STALE_NODE, IS_DIRECTORY, INVALID */
  async chunks(
    body: ValueOf<typeof GetChunks.request>,
    near: Location | undefined,
  ): Promise<ValueOf<typeof GetChunks.reply>> {
    const file = findNode(this.#state, body.id);
    checkRegular(file);
    const count = Math.min(Math.max(body.count, 1), MAX_CHUNKS_PER_REPLY);
    const chunks: Chunk[] = [];
    for (let at = 0; at < count; at++) chunks.push(await this.#chunk(file, body.index + at, near, true));
    for (let at = count; at < count + PREFETCH && chunks.length < MAX_CHUNKS_PER_REPLY; at++) {
      if ((file.chunks?.get(body.index + at) ?? 0) === 0) break;
      chunks.push(await this.#chunk(file, body.index + at, near, false));
    }
    const sizeChunks = Math.ceil(file.size / this.#state.chunkBytes);
    return { chunks, chunkCount: Math.max(sizeChunks, file.chunks?.end ?? 0), size: file.size };
  }

  async #chunk(file: Node, index: number, near: Location | undefined, asked: boolean): Promise<Chunk> {
    const chunk = this.#state.chunks.get(file.chunks?.get(index) ?? 0);
    if (chunk === undefined) return { index, handle: 0, version: 0, validBytes: 0, replicas: [] };
    if (asked) await this.#makeReadable(chunk);
    const servers = this.#replicas.readable(chunk).map(({ chunkserver }) => chunkserver);
    return {
      index,
      handle: chunk.handle,
      version: chunk.version,
      validBytes: file.chunks?.pendingTruncation(index) ?? this.#state.chunkBytes,
      replicas: this.#chunkservers.graph
        .rank(servers, near, chunk.handle)
        .map(({ chunkserver }) => chunkserver.server),
    };
  }

  /** Where every replica is suspect (all hosts lost power at once), they are compared before one is read. */
  async #makeReadable(chunk: ChunkState): Promise<void> {
    if (this.#replicas.readable(chunk).length > 0) return;
    if (!this.#chunkservers.ready) throw new GfsError('NOT_READY', 'not all chunkservers are back');
    if (this.#replicas.raisable(chunk).length > 0) await this.#raiser.verify(chunk);
  }
}
