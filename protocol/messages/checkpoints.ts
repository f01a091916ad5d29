/** Checkpoints on demand, for those who run a cluster. */
import { method } from '../rpc.js';
import { struct, u53 } from '../schema.js';

/**
 * Begins a new segment of the log and makes a checkpoint of all before it; answers when it is on disk.
 * Mutations go on meanwhile. One that is under way is waited for first.
 * @throws NO_SPACE; NOT_PERMITTED: the caller is not root
 */
export const MakeCheckpoint = method(
  210,
  'makeCheckpoint',
  struct({}),
  /** How many records are in it, and how many bytes of log a start still replays. */
  struct({ records: u53, logBytesBehind: u53 }),
);
