/**
 * The data of small files that are likely to be read next, fetched with that of others by one message. It is as good
 * as the place that was known when it was asked for: that is forgotten when the file changes, whoever changes it, and
 * replaced by the lease that a change from here needs.
 */
import type { Environment } from '../environment/ports/index.js';
import { MAX_CHUNKS_PER_REPLY, MAX_SMALL_READ_BYTES } from '../protocol/limits.js';
import { type Chunk, ReadChunks, type Server } from '../protocol/messages/index.js';
import type { ChunkserverConnections } from './connections.js';
import type { MasterSession } from './session.js';

/** Of files that were not read yet; the first that came are the first to go. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;
/** In one message: the first of them is wanted soon. */
const MESSAGE_BYTES = 512 * 1024;
/** After that each is read by itself: from another server, if this one hangs. */
const TIMEOUT_MS = 1_000;

export interface SmallFile {
  /** In its first chunk, from the beginning. */
  readonly sizeBytes: number;
  readonly chunk: Chunk;
}

interface Ahead {
  readonly sizeBytes: number;
  /** Resolves when it has come, or will not. */
  readonly coming: Promise<Uint8Array | undefined>;
}

export class SmallFiles {
  readonly #session: MasterSession;
  readonly #connections: ChunkserverConnections;
  readonly #read;
  readonly #ahead = new Map<Chunk, Ahead>();
  #keptBytes = 0;

  constructor(
    { metrics }: Pick<Environment, 'metrics'>,
    session: MasterSession,
    connections: ChunkserverConnections,
  ) {
    this.#session = session;
    this.#connections = connections;
    const help = 'Small files whose data was fetched together with that of others';
    this.#read = metrics.counter('gfs_client_small_files_ahead_total', help);
  }

  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** Nobody waits for it. */
  fetch(files: readonly SmallFile[]): void {
    const byServer = new Map<string, { server: Server; files: SmallFile[]; bytes: number }>();
    for (const file of files) {
      const { sizeBytes, chunk } = file;
      if (sizeBytes === 0 || sizeBytes > Math.min(MAX_SMALL_READ_BYTES, chunk.validBytes)) continue;
      const server = this.#connections.preferReachable(chunk.replicas)[0];
      if (server === undefined || this.#ahead.has(chunk)) continue;
      let group = byServer.get(server.serverId);
      if (group === undefined) {
        group = { server, files: [], bytes: 0 };
        byServer.set(server.serverId, group);
      }
      group.files.push(file);
      group.bytes += sizeBytes;
      if (group.bytes < MESSAGE_BYTES && group.files.length < MAX_CHUNKS_PER_REPLY) continue;
      byServer.delete(server.serverId);
      this.#fetchFrom(server, group.files);
    }
    for (const { server, files: group } of byServer.values()) this.#fetchFrom(server, group);
  }

  /**
   * What was fetched of a chunk. It is not kept when all of it has been read: the kernel has it then.
   * @param chunk as it is known now: the very same that was given to {@link fetch}
   * @param end of what is being read
   */
  take(chunk: Chunk, end: number): Promise<Uint8Array | undefined> | undefined {
    const ahead = this.#ahead.get(chunk);
    if (ahead !== undefined && end >= ahead.sizeBytes) this.#forget(chunk, ahead);
    return ahead?.coming;
  }

  #fetchFrom(server: Server, files: readonly SmallFile[]): void {
    const fetched = this.#ask(server, files).catch(() => []);
    for (const [at, { chunk, sizeBytes }] of files.entries()) {
      this.#ahead.set(chunk, { sizeBytes, coming: fetched.then((found) => found[at]) });
      this.#keptBytes += sizeBytes;
    }
    for (const [chunk, ahead] of this.#ahead) {
      if (this.#keptBytes <= MAX_KEPT_BYTES) break;
      this.#forget(chunk, ahead);
    }
  }

  #forget(chunk: Chunk, { sizeBytes }: Ahead): void {
    this.#ahead.delete(chunk);
    this.#keptBytes -= sizeBytes;
  }

  async #ask(server: Server, files: readonly SmallFile[]): Promise<(Uint8Array | undefined)[]> {
    const peer = await this.#connections.to(server);
    const chunks = files.map(({ chunk: { handle, version }, sizeBytes }) => ({
      handle,
      version,
      length: sizeBytes,
    }));
    const { body, payload } = await peer.call(
      ReadChunks,
      { chunks },
      { session: this.#session.id, deadlineMs: TIMEOUT_MS },
    );
    if (payload === undefined) return [];
    let at = 0;
    const found = files.map(({ sizeBytes }, index) => {
      const length = body.lengths[index] ?? 0;
      // Copies: the memory that they came in is wanted again, and each goes at its own time.
      const bytes = Uint8Array.from(payload.bytes.subarray(at, at + length));
      at += length;
      if (bytes.byteLength !== sizeBytes) return undefined;
      this.#read.add();
      return bytes;
    });
    payload.release();
    return found;
  }
}
