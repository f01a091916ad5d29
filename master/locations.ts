/** What readers ask (paper §2.3, §2.4): where the chunks of a file are, best replica first. */
import type { Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_CHUNKS_PER_REPLY } from '../protocol/limits.js';
import type { Chunk, GetChunks, Location } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkRegular } from './attributes.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { ClientServerPriority } from './location-graph.js';
import type { Raiser } from './raising.js';
import type { Replicas } from './replicas.js';
import { findNode } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

/** Chunks that are told unasked: those that follow (paper §2.4). */
const PREFETCH = 4;

export class Locations {
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #priority: ClientServerPriority;
  readonly #makeReadable: (chunk: ChunkState) => Promise<void>;
  readonly #onWaiting: (handle: number) => void;

  /**
   * @param makeReadable tried for a chunk that no replica is known of that could be read; throws NOT_READY, CHUNK_LOST
   * @param onWaiting told of chunks that somebody reads while they have too few replicas
   */
  constructor(
    state: LoggedState,
    replicas: Replicas,
    priority: ClientServerPriority,
    makeReadable: (chunk: ChunkState) => Promise<void>,
    onWaiting: (handle: number) => void = () => undefined,
  ) {
    this.#state = state;
    this.#replicas = replicas;
    this.#priority = priority;
    this.#makeReadable = makeReadable;
    this.#onWaiting = onWaiting;
  }

  /** @throws NOT_READY when a replica's server may still come back; CHUNK_LOST; STALE_NODE, IS_DIRECTORY, INVALID */
  async chunks(
    body: ValueOf<typeof GetChunks.request>,
    near: Location | undefined,
  ): Promise<ValueOf<typeof GetChunks.reply>> {
    const file = findNode(this.#state, body.id);
    checkRegular(file);
    const count = Math.min(Math.max(body.count, 1), MAX_CHUNKS_PER_REPLY);
    const chunks: Chunk[] = [];
    for (let at = 0; at < count; at++) {
      const chunk = this.#chunkAt(file, body.index + at);
      if (chunk !== undefined && this.#replicas.readable(chunk).length === 0) await this.#makeReadable(chunk);
      chunks.push(this.#describe(file, body.index + at, near));
    }
    for (let at = count; at < count + PREFETCH && chunks.length < MAX_CHUNKS_PER_REPLY; at++) {
      if (this.#chunkAt(file, body.index + at) === undefined) break;
      chunks.push(this.#describe(file, body.index + at, near));
    }
    const sizeChunks = Math.ceil(file.size / this.#state.chunkBytes);
    const chunkCount = Math.max(sizeChunks, file.chunks?.end ?? 0);
    return { chunks, chunkCount, size: file.size, dataVersion: file.dataVersion };
  }

  /** The file's first chunk, where it has one that can be read now. @throws STALE_NODE, IS_DIRECTORY, INVALID */
  firstChunk(id: number, near: Location | undefined): Chunk | undefined {
    const file = findNode(this.#state, id);
    checkRegular(file);
    const chunk = this.#chunkAt(file, 0);
    if (chunk === undefined || this.#replicas.readable(chunk).length === 0) return undefined;
    return this.#describe(file, 0, near);
  }

  #chunkAt(file: Node, index: number): ChunkState | undefined {
    return this.#state.chunks.get(file.chunks?.get(index) ?? 0);
  }

  #describe(file: Node, index: number, near: Location | undefined): Chunk {
    const chunk = this.#chunkAt(file, index);
    if (chunk === undefined) return { index, handle: 0, version: 0, validBytes: 0, replicas: [] };
    const servers = this.#replicas.readable(chunk).map(({ chunkserver }) => chunkserver);
    if (servers.length < chunk.goal) this.#onWaiting(chunk.handle);
    const ranked = this.#priority.rank(servers, near, chunk.handle);
    return {
      index,
      handle: chunk.handle,
      version: chunk.version,
      validBytes: file.chunks?.pendingTruncation(index) ?? this.#state.chunkBytes,
      replicas: ranked.map(({ chunkserver }) => chunkserver.server),
    };
  }
}

/** Where every replica is suspect (all hosts lost power at once), they are compared before one is read. */
export async function makeReadable(
  chunk: ChunkState,
  parts: {
    readonly replicas: Replicas;
    readonly chunkservers: ChunkserverTable;
    readonly raiser: Raiser;
    readonly logger: Logger;
  },
): Promise<void> {
  const { replicas, chunkservers, raiser, logger } = parts;
  if (!chunkservers.ready) throw new GfsError('NOT_READY', 'not all chunkservers are back');
  if (replicas.raisable(chunk).length > 0) return raiser.verify(chunk);
  const live = replicas.live(chunk.handle);
  if (live.length === 0 || live.some((replica) => !replicas.isUseless(replica, chunk))) return;
  // One that is away may be good. Of damaged ones, some may have been deleted while others passed for good.
  if (replicas.all(chunk.handle).some(({ chunkserver }) => !chunkserver.alive)) return;
  const newest = live.filter(({ version }) => version >= chunk.version);
  if (newest.length < chunk.replicas && chunkservers.isAnyAbsent) return;
  for (const { alive, reported } of chunkservers.all) if (alive && !reported) return;
  logger.error({ handle: chunk.handle, version: chunk.version }, 'every replica of a chunk is damaged');
  throw new GfsError('CHUNK_LOST', `chunk ${chunk.handle}: every replica is damaged`);
}
