/** Looking into the cluster: where a file's chunks are and why, and whether every chunk of a tree is well. */
import {
  MAX_CHUNKS_PER_REPLY,
  MAX_PATH_BYTES,
  MAX_PROBLEMS_PAGE,
  MAX_REPLICAS,
  MAX_TREE_DEPTH,
} from '../limits.js';
import { method } from '../rpc.js';
import { bool, list, oneOf, optional, real, struct, text, u32, u53, type ValueOf } from '../schema.js';
import { chunkHandleCodec, locationCodec, nodeIdCodec, pathCodec, serverCodec } from './types.js';

/** `ahead`: at a version that the operation log does not know, and quarantined. */
const replicaState = oneOf('current', 'suspect', 'stale', 'damaged', 'ahead');

const replicaDescription = struct({
  server: serverCodec,
  rack: optional(text(64)),
  location: optional(locationCodec),
  version: u53,
  state: replicaState,
  /** From whoever asks; 0 where either has no coordinates. */
  distance: real,
  /** By which it is chosen: lowest first. */
  score: real,
});
export type ReplicaDescription = ValueOf<typeof replicaDescription>;

const chunkDescription = struct({
  index: u53,
  handle: chunkHandleCodec,
  version: u53,
  /** The files that share it. */
  references: u32,
  goal: u32,
  /** As in `getChunks`. */
  validBytes: u53,
  /** Those on live servers, the best for whoever asks first. */
  replicas: list(replicaDescription, 2 * MAX_REPLICAS),
  /** While a lease runs: who holds it, and what is left of it. */
  primary: optional(text(64)),
  leaseMs: u53,
});
export type ChunkDescription = ValueOf<typeof chunkDescription>;

/** The chunks of a file from `index` on, holes left out. `next`: where to go on, 0 at the end. */
export const DescribeChunks = method(
  146,
  'describeChunks',
  struct({ id: nodeIdCodec, index: u53, count: u32 }),
  struct({ size: u53, chunks: list(chunkDescription, MAX_CHUNKS_PER_REPLY), next: u53 }),
);

/**
 * `belowGoal`: there is a copy, but fewer than there should be. `lost`: no server that is there has one.
 * `unknown`: none yet, but the master has just started and servers that it knew may come back.
 */
const chunkHealth = oneOf('healthy', 'belowGoal', 'lost', 'unknown');
export type ChunkHealth = ValueOf<typeof chunkHealth>;

const chunkProblem = struct({
  /** Of the file, in the cluster; where it was, of a deleted one. */
  path: pathCodec,
  deleted: bool,
  id: nodeIdCodec,
  index: u53,
  handle: chunkHandleCodec,
  version: u53,
  goal: u32,
  current: u32,
  suspect: u32,
  stale: u32,
  damaged: u32,
  health: chunkHealth,
});
export type ChunkProblem = ValueOf<typeof chunkProblem>;

/** Where a walk through a tree goes on. */
const treeCursor = struct({
  /** From the top down: directory, and the cookie of the last entry of it that is done. */
  stack: list(u53, MAX_TREE_DEPTH),
  /** Chunks of the next file that are done. */
  chunks: u53,
  /** Past the tree, among the deleted files: the last one that is done. */
  deleted: optional(nodeIdCodec),
});
export type TreeCursor = ValueOf<typeof treeCursor>;

const goalCount = struct({ goal: u32, files: u53, chunks: u53 });

/**
 * Walks a file or a tree and counts what is in it, a bounded piece at a time: `cursor` is that of the
 * piece before, absent for the first; the caller adds the pieces up. A file with several names is counted
 * at the first that is in the tree. With `deleted`, the deleted files follow.
 */
export const CheckTree = method(
  147,
  'checkTree',
  struct({ root: nodeIdCodec, cursor: optional(treeCursor), deleted: bool }),
  struct({
    files: u53,
    directories: u53,
    /** Symbolic links and special files. */
    others: u53,
    deletedFiles: u53,
    bytes: u53,
    chunks: u53,
    replicas: u53,
    /** Files by the goal of their chunks; 0: files without any. */
    goals: list(goalCount, 32),
    healthy: u53,
    belowGoal: u53,
    lost: u53,
    unknown: u53,
    problems: list(chunkProblem, MAX_PROBLEMS_PAGE),
    /** Absent at the end. */
    cursor: optional(treeCursor),
  }),
);
export type TreePart = ValueOf<typeof CheckTree.reply>;

/** Bytes that a page's paths may take: half of a header, for their characters may take two bytes each. */
export const MAX_PROBLEM_PATH_BYTES = 96 * MAX_PATH_BYTES;
