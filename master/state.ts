/**
 * Everything that the operation log says, and nothing else: what a master, a shadow and a replay agree
 * on, byte for byte. Only `apply` writes it. Where replicas are, who is alive and what is under way is
 * soft state, and lives in other types.
 */
import type { CommitRule, Member } from '../protocol/messages/index.js';
import { ROOT_ID } from '../protocol/messages/index.js';
import { assert } from './assert.js';
import { ChunkTable } from './chunk-table.js';
import { DeletedTable } from './deleted-table.js';
import { Mode } from './mode.js';
import type { Node } from './node.js';
import { NodeTable } from './node-table.js';

export { ChunkState } from './chunk-table.js';
export { Node } from './node.js';

export interface Link {
  readonly parent: number;
  readonly name: string;
}

/** What apply needs to know of a record's time. */
export interface Timestamp {
  readonly timeSec: number;
  readonly timeNsec: number;
}

/** What a new node begins with; everything else of it is 0 or missing. */
export interface NewNode {
  readonly id: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  /** Of all three times. */
  readonly time: Timestamp;
}

/** The reply to a mutation, for its retry. */
export interface StoredResult {
  readonly method: number;
  readonly reply: unknown;
}

export interface Session {
  readonly id: number;
  readonly kind: 'client' | 'chunkserver';
  /** Client id or server id. */
  readonly owner: string;
  readonly hostname: string;
  /** By sequence: the last 64 up to `highestSequence`. */
  readonly results: Map<number, StoredResult>;
  highestSequence: number;
}

/** A node without a name: kept for a while, and as long as someone has it open. */
export interface DeletedNode {
  readonly id: number;
  readonly timeSec: number;
  readonly timeNsec: number;
  /** Where it was last; the directory and a slash, of one that never had a name. */
  readonly path: string;
}

export class LoggedState {
  readonly chunkBytes: number;
  readonly nodes: NodeTable;
  readonly chunks = new ChunkTable();
  readonly sessions = new Map<number, Session>();
  /** In the order of deletion. */
  readonly deleted = new DeletedTable();
  /** Node id → how long it is kept once it is deleted, in milliseconds, where that is not the cluster's default. */
  readonly retentions = new Map<number, number>();
  /** The log replicas that a record has to be flushed on before it counts, by id. */
  readonly logReplicas = new Map<string, Member>();
  /** How many of them have to. */
  commitRule: CommitRule = 'all';
  /** Each term's first record, in order: the last `MAX_TERMS` of them. */
  readonly terms = new Map<number, number>([[1, 1]]);
  /** Node id → how many replicas its chunks shall have, where that is not the cluster's default. */
  readonly goals = new Map<number, number>();
  /** Ids of servers that are being emptied. */
  readonly drains = new Set<string>();
  nextNodeId = ROOT_ID + 1;
  nextSessionId = 1;
  nextCookie = 1;
  /** Handles up to here may exist somewhere. */
  reservedHandles = 0;
  fileCount = 0;
  directoryCount = 1;
  /** Grows when a directory's path changes, and with it the paths below. Derived. */
  pathMoves = 0;

  /** @param hashSeed of this process alone, so that nobody can choose names that all fall together */
  constructor(chunkBytes: number, hashSeed = 0) {
    this.chunkBytes = chunkBytes;
    this.nodes = new NodeTable(hashSeed);
    const time = { timeSec: 0, timeNsec: 0 };
    this.nodes.add({ id: ROOT_ID, mode: Mode.DIRECTORY | 0o755, uid: 0, gid: 0, rdev: 0, time });
  }

  /** What the packed tables take; side tables and sessions not counted. */
  get memoryBytes(): number {
    return this.nodes.memoryBytes + this.chunks.memoryBytes + this.deleted.memoryBytes;
  }

  /** The full path of a directory, '' for the root, undefined when it (or one above) was removed. */
  pathOf(directory: Node): string | undefined {
    if (directory.id === ROOT_ID) return '';
    const { entries } = directory;
    assert(entries !== undefined, `node ${directory.id} is not a directory`);
    if (entries.cachedPathMoves >= this.pathMoves && entries.cachedPath !== undefined)
      return entries.cachedPath;
    const parent = this.nodes.get(directory.parent);
    if (parent === undefined) return undefined;
    const above = this.pathOf(parent);
    if (above === undefined) return undefined;
    entries.cachedPath = `${above}/${directory.name}`;
    entries.cachedPathMoves = this.pathMoves;
    return entries.cachedPath;
  }
}
