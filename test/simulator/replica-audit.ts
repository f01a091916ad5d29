/**
 * What no client can tell: that all replicas of a chunk are the same. Each is read by itself, from its own
 * server, once nothing fails any more.
 */
import { ChunkserverConnections } from '../../client/connections.js';
import type { GfsClient } from '../../client/index.js';
import { toGfsError } from '../../protocol/errors.js';
import { type Chunk, GetChunks, ReadChunk, type Server } from '../../protocol/messages/index.js';
import type { FakeProcess } from '../fakes/index.js';
import { type Ledger, Violation } from './ledger.js';

const PAGE_CHUNKS = 64;
/** How often a chunk's replicas may differ before the primary of a new lease has made them equal. */
const MAX_TRIES = 4;

export class ReplicaAudit {
  readonly #client: GfsClient;
  readonly #ledger: Ledger;
  readonly #connections: ChunkserverConnections;

  constructor(process: FakeProcess, client: GfsClient, ledger: Ledger) {
    this.#client = client;
    this.#ledger = ledger;
    const { master } = client;
    this.#connections = new ChunkserverConnections(
      process.environment,
      master.clientId,
      () => master.clusterId,
    );
  }

  close(): void {
    this.#connections.close();
  }

  /**
   * Compares the replicas of a file's chunks that readers are sent to. A write that failed may have left
   * them different until the chunk's next lease, so that is asked for then.
   * @throws Violation
   */
  async compare(id: number, path: string): Promise<void> {
    for (const { index } of (await this.#chunksOf(id)).chunks)
      await this.#compareChunk(id, index, `${path}, chunk ${index}`);
  }

  /** Whether a chunk of the file has no replica left but damaged ones. */
  async isDamaged(id: number): Promise<boolean> {
    const { chunks, lostCount } = await this.#chunksOf(id);
    if (lostCount > 0) return true;
    for (const chunk of chunks) {
      if (!this.#ledger.mayBeLost(chunk.handle)) continue;
      const read = await Promise.all(chunk.replicas.map((server) => this.#read(server, chunk)));
      if (read.every((bytes) => bytes === undefined)) return true;
    }
    return false;
  }

  /** Those that the master has replicas of; it may say of others only that they are lost. */
  async #chunksOf(id: number): Promise<{ readonly chunks: Chunk[]; readonly lostCount: number }> {
    const found: Chunk[] = [];
    let lostCount = 0;
    for (let index = 0, count = PAGE_CHUNKS; ; ) {
      try {
        const { chunks, chunkCount } = await this.#client.master.query(GetChunks, { id, index, count });
        const end = index + count;
        found.push(...chunks.filter((chunk) => chunk.handle !== 0 && chunk.index < end));
        index = end;
        if (index >= chunkCount) return { chunks: found, lostCount };
      } catch (thrown) {
        const { code, message } = toGfsError(thrown);
        if (code !== 'CHUNK_LOST' || !this.#ledger.excusesLoss(message)) throw thrown;
        // It fails all that are asked for with it.
        if (count === 1) {
          lostCount++;
          index++;
        }
        count = 1;
      }
    }
  }

  async #compareChunk(id: number, index: number, what: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      const chunk = (await this.#chunksOf(id)).chunks.find((other) => other.index === index);
      if (chunk === undefined) return;
      const different = await this.#differs(chunk);
      if (different === undefined) return;
      if (tries === MAX_TRIES)
        throw new Violation(`${what}, ${chunk.handle} v${chunk.version}: ${different}`);
      const deadline = this.#client.master.deadline();
      this.#client.locations.drop(id);
      await this.#client.locations.lease(id, index, {}, deadline, { version: chunk.version, servers: [] });
    }
  }

  /** @returns which replicas differ, if any do */
  async #differs(chunk: Chunk): Promise<string | undefined> {
    const read = await Promise.all(
      chunk.replicas.map(async (server) => ({ server, bytes: await this.#read(server, chunk) })),
    );
    const readable = read.flatMap(({ server, bytes }) => (bytes === undefined ? [] : [{ server, bytes }]));
    const [first, ...others] = readable;
    for (const other of others) {
      if (first === undefined || Buffer.compare(first.bytes, other.bytes) === 0) continue;
      const sizes = `${first.bytes.byteLength} and ${other.bytes.byteLength} bytes`;
      return `the replicas on ${first.server.host} and ${other.server.host} differ (${sizes})`;
    }
    return undefined;
  }

  /** Up to where it is valid; undefined when the server does not give it to readers, which is always right. */
  async #read(server: Server, { handle, version, validBytes }: Chunk): Promise<Buffer | undefined> {
    try {
      const peer = await this.#connections.to(server);
      const { chunkBytes } = this.#client;
      const body = { handle, version, offset: 0, length: chunkBytes };
      const { payload } = await peer.call(ReadChunk, body, { deadlineMs: 20_000 });
      const bytes = Buffer.from(payload?.bytes.subarray(0, validBytes) ?? []);
      payload?.release();
      return bytes;
    } catch {
      return undefined;
    }
  }
}
