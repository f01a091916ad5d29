/** How many replicas the chunks of a file shall have (paper §2.3: settable by region of the namespace). */
import { method } from '../rpc.js';
import { bool, list, optional, struct, text, u32 } from '../schema.js';
import { nodeIdCodec } from './types.js';

/** Nodes of one request: a page of a directory. */
export const MAX_GOAL_NODES = 1024;

/** Of a file, or what new files and directories in a directory inherit. @throws STALE_NODE */
export const GetGoal = method(
  123,
  'getGoal',
  struct({ id: nodeIdCodec }),
  /** `own`: set on this node, by somebody or by inheritance; else the cluster's default. */
  struct({ goal: u32, own: bool }),
);

/**
 * Without `goal`: back to the cluster's default. Chunks that are there follow in the background; one that
 * several files share has the highest goal of them. Nodes that are gone, or are neither files nor
 * directories, are passed over; `count` tells the rest.
 * @throws INVALID: 0, or more than there are chunkservers; ACCESS_DENIED: not the owner
 */
export const SetGoal = method(
  124,
  'setGoal',
  struct({ ids: list(nodeIdCodec, MAX_GOAL_NODES), goal: optional(u32) }),
  struct({ count: u32 }),
);

/**
 * Empties a server: its chunks are cloned elsewhere, then dropped there, and it gets no new ones, until
 * `on` is false. It goes on after a restart of the master. @throws NOT_FOUND: no such server;
 * NOT_PERMITTED: only root
 */
export const SetDrain = method(125, 'setDrain', struct({ serverId: text(64), on: bool }), struct({}));
