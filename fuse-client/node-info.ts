/** What the attributes `user.gfs.*` tell of one node: its chunks, its health, how long it is kept. */
import { checkTree, type GfsClient, type TreeSummary } from '../client/index.js';
import { parseDuration, showDuration } from '../protocol/duration.js';
import { GfsError } from '../protocol/errors.js';
import {
  type ChunkDescription,
  DescribeChunks,
  GetDeleted,
  GetGoal,
  GetPath,
  GetRetention,
  SetGoal,
  SetRetention,
} from '../protocol/messages/index.js';
import { callContext } from './access.js';
import type { ByteString, Context } from './handler.js';

const CHUNKS_PER_QUESTION = 64;
const MAX_RETENTION_MS = 3650 * 86_400_000;
/** What is written around the chunks of a description. */
const FRAME_BYTES = 256;

/** Some of a file's chunks, in order; a run of holes is one entry. */
export interface ChunkPage {
  /** `{ size, chunkBytes, chunks }` */
  readonly json: string;
  /** The index to go on from; 0 at the end. */
  readonly next: number;
}

export class NodeInfo {
  readonly #client: GfsClient;

  constructor(client: GfsClient) {
    this.#client = client;
  }

  /** The chunks of a file from index `first`, in at most `maxBytes`. @throws IS_DIRECTORY, INVALID */
  async chunks(
    context: Context,
    id: number,
    first: number,
    size: number,
    maxBytes: number,
  ): Promise<ChunkPage> {
    const { chunkBytes, master } = this.#client;
    const described: object[] = [];
    let bytes = FRAME_BYTES;
    const page = (next: number) => ({ json: JSON.stringify({ size, chunkBytes, chunks: described }), next });
    const put = (entry: object): boolean => {
      bytes += JSON.stringify(entry).length + 1;
      if (bytes <= maxBytes) described.push(entry);
      return bytes <= maxBytes;
    };
    let index = first;
    for (let from = first; ; ) {
      const body = { id, index: from, count: CHUNKS_PER_QUESTION };
      const { chunks, next } = await master.query(DescribeChunks, body, callContext(context));
      for (const chunk of chunks) {
        if (chunk.index > index && !put(this.#hole(index, chunk.index, size))) return page(index);
        if (!put(this.#chunk(chunk, size))) return page(chunk.index);
        index = chunk.index + 1;
      }
      if (next === 0) break;
      from = next;
    }
    const end = Math.ceil(size / chunkBytes);
    if (end > index && !put(this.#hole(index, end, size))) return page(index);
    return page(0);
  }

  #hole(from: number, to: number, size: number): object {
    const { chunkBytes } = this.#client;
    const length = Math.max(0, Math.min(to * chunkBytes, size) - from * chunkBytes);
    return { index: from, handle: null, chunks: to - from, length };
  }

  #chunk(chunk: ChunkDescription, size: number): object {
    const { chunkBytes } = this.#client;
    const { index, handle, version, goal, references, primary, leaseMs } = chunk;
    const length = Math.max(0, Math.min(chunkBytes, size - index * chunkBytes));
    const replicas = chunk.replicas.map(({ server, rack, location, version, state, distance, score }) => ({
      ...{ server: server.serverId, host: server.host, port: server.port, rack, location },
      ...{ version, state, distance: rounded(distance), score: rounded(score) },
    }));
    const lease = primary === undefined ? {} : { primary, leaseMs };
    return { index, handle, version, length, goal, references, ...lease, replicas };
  }

  /** `{ state, chunks, healthy, belowGoal, lost, unknown, … }`, of a directory for all below it. */
  async health(context: Context, id: number): Promise<object> {
    const summary = await checkTree(this.#client.master, id, callContext(context));
    return { state: stateOf(summary), ...summary };
  }

  /** `3d`, `12h`, `0`. */
  async retention(context: Context, id: number): Promise<string> {
    const { retentionMs } = await this.#client.master.query(GetRetention, { id }, callContext(context));
    return showDuration(retentionMs);
  }

  /** How many replicas its chunks shall have. */
  async goal(context: Context, id: number): Promise<string> {
    return String((await this.#client.master.query(GetGoal, { id }, callContext(context))).goal);
  }

  /** @param text a number, or `default` @throws INVALID */
  async setGoal(context: Context, id: number, text: string): Promise<void> {
    if (text !== 'default' && !/^\d{1,3}$/.test(text)) throw new GfsError('INVALID', `a goal of "${text}"`);
    const body = { ids: [id], ...(text === 'default' ? {} : { goal: Number(text) }) };
    const { count } = await this.#client.master.mutate(SetGoal, body, callContext(context));
    if (count === 0) throw new GfsError('INVALID', 'neither a file nor a directory');
  }

  /** @param text undefined, or `default`: as the cluster's configuration says @throws INVALID */
  async setRetention(context: Context, id: number, text: string | undefined): Promise<void> {
    const body = {
      id,
      ...(text === undefined || text === 'default' ? {} : { retentionMs: retentionOf(text) }),
    };
    await this.#client.master.mutate(SetRetention, body, callContext(context));
  }

  /** When it was deleted, as an ISO date with nanoseconds. @throws NO_ATTRIBUTE when it is not */
  async deletedAt(context: Context, id: number): Promise<string> {
    try {
      const file = await this.#client.master.query(GetDeleted, { id }, callContext(context));
      return showDate(file.deletedSec, file.deletedNsec);
    } catch (error) {
      if (error instanceof GfsError && error.code === 'NOT_FOUND')
        throw new GfsError('NO_ATTRIBUTE', 'it is not deleted');
      throw error;
    }
  }

  /** Its path in the cluster; undefined when it has no name any more. */
  async path(context: Context, id: number): Promise<ByteString | undefined> {
    try {
      return (await this.#client.master.query(GetPath, { id }, callContext(context))).path;
    } catch (error) {
      if (error instanceof GfsError && error.code === 'STALE_NODE') return undefined;
      throw error;
    }
  }
}

/** @throws INVALID */
function retentionOf(text: string): number {
  const retentionMs = parseDuration(text);
  if (retentionMs !== undefined && retentionMs <= MAX_RETENTION_MS) return retentionMs;
  throw new GfsError(
    'INVALID',
    `${text} is not a time of up to ${showDuration(MAX_RETENTION_MS)}, as in 3d, 12h, 0`,
  );
}

export function showDate(sec: number, nsec: number): string {
  return `${new Date(sec * 1000).toISOString().slice(0, 19)}.${String(nsec).padStart(9, '0')}Z`;
}

/** The worst that there is. */
function stateOf({ lost, unknown, belowGoal }: TreeSummary): string {
  if (lost > 0) return 'lost';
  if (unknown > 0) return 'unknown';
  return belowGoal > 0 ? 'below goal' : 'healthy';
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
