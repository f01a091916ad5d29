/**
 * Everything that the operation log says, and nothing else: what a master, a shadow and a replay agree
 * on, byte for byte. Only `apply` writes it. Where replicas are, who is alive and what is under way is
 * soft state, and lives in other types.
 */
import type { Attributes } from '../protocol/messages/index.js';
import { ROOT_ID } from '../protocol/messages/index.js';
import { ChunkList } from './chunk-list.js';
import { Directory } from './directory.js';
import { isDirectory, isRegular, Mode } from './mode.js';

export interface Link {
  readonly parent: number;
  readonly name: string;
}

/** What apply needs to know of a record's time. */
export interface Timestamp {
  readonly timeSec: number;
  readonly timeNsec: number;
}

/** A file, directory or other node. Its id is stable and never reused, so that handles outlive names. */
export class Node {
  readonly id: number;
  mode: number;
  /** 0 once it is deleted. */
  nlink: number;
  uid: number;
  gid: number;
  readonly rdev: number;
  size = 0;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
  dataVersion = 0;
  /** The first of its names; `parent` is 0 when it has none. */
  parent = 0;
  name = '';
  /** Its other names, of a file with hard links. */
  otherLinks: Link[] | undefined;
  /** Of a directory. */
  readonly entries: Directory | undefined;
  /** Of a regular file that has or had chunks. */
  chunks: ChunkList | undefined;
  /** Of a symbolic link. */
  target: string | undefined;
  xattrs: Map<string, Uint8Array> | undefined;
  /** The full path of a directory as of `pathMoves`; derived, never compared or dumped. */
  cachedPath: string | undefined;
  cachedPathMoves = 0;

  constructor(id: number, mode: number, uid: number, gid: number, rdev: number, time: Timestamp) {
    this.id = id;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.rdev = rdev;
    this.nlink = isDirectory(mode) ? 2 : 1;
    this.atimeSec = this.mtimeSec = this.ctimeSec = time.timeSec;
    this.atimeNsec = this.mtimeNsec = this.ctimeNsec = time.timeNsec;
    this.entries = isDirectory(mode) ? new Directory() : undefined;
  }

  get isDirectory(): boolean {
    return this.entries !== undefined;
  }

  get isRegular(): boolean {
    return isRegular(this.mode);
  }

  attributes(): Attributes {
    return {
      id: this.id,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: this.rdev,
      size: this.entries === undefined ? this.size : DIRECTORY_SIZE,
      atimeSec: this.atimeSec,
      atimeNsec: this.atimeNsec,
      mtimeSec: this.mtimeSec,
      mtimeNsec: this.mtimeNsec,
      ctimeSec: this.ctimeSec,
      ctimeNsec: this.ctimeNsec,
      dataVersion: this.dataVersion,
    };
  }
}

const DIRECTORY_SIZE = 4096;

/** A chunk as the master logs it. Where it is, is soft. */
export interface ChunkState {
  readonly handle: number;
  version: number;
  /** The files that it belongs to; above 1 the next write copies it (paper §3.4). */
  references: number;
  readonly goal: number;
  /** How many replicas have the version: after a start the next lease waits a while for all of them. */
  replicas: number;
  /** The last lease at `version`, empty when it was granted without. Whether it has run out is not logged. */
  holder: string;
  durationMs: number;
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
  /** Where it was last. */
  readonly path: string;
}

export class LoggedState {
  readonly chunkBytes: number;
  readonly nodes = new Map<number, Node>();
  readonly chunks = new Map<number, ChunkState>();
  readonly sessions = new Map<number, Session>();
  /** In the order of deletion. */
  readonly deleted = new Map<number, DeletedNode>();
  /** Node id → how long it is kept once it is deleted, in milliseconds, where that is not the cluster's default. */
  readonly retentions = new Map<number, number>();
  nextNodeId = ROOT_ID + 1;
  nextSessionId = 1;
  nextCookie = 1;
  /** Handles up to here may exist somewhere. */
  reservedHandles = 0;
  fileCount = 0;
  directoryCount = 1;
  /** Grows when a directory's path changes, and with it the paths below. Derived. */
  pathMoves = 0;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
    const root = new Node(ROOT_ID, Mode.DIRECTORY | 0o755, 0, 0, 0, { timeSec: 0, timeNsec: 0 });
    root.cachedPath = '';
    root.cachedPathMoves = Number.POSITIVE_INFINITY;
    this.nodes.set(ROOT_ID, root);
  }

  /** The full path of a directory, '' for the root, undefined when it (or one above) was removed. */
  pathOf(directory: Node): string | undefined {
    if (directory.cachedPathMoves >= this.pathMoves && directory.cachedPath !== undefined)
      return directory.cachedPath;
    const parent = this.nodes.get(directory.parent);
    if (parent === undefined) return undefined;
    const above = this.pathOf(parent);
    if (above === undefined) return undefined;
    directory.cachedPath = `${above}/${directory.name}`;
    directory.cachedPathMoves = this.pathMoves;
    return directory.cachedPath;
  }

  chunkListOf(file: Node): ChunkList {
    file.chunks ??= new ChunkList();
    return file.chunks;
  }
}
