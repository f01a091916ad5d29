/** Locks of flock(2) and fcntl(2), between all mounts. Soft state of the master: clients tell theirs again. */
import { method } from '../rpc.js';
import { bool, oneOf, optional, struct, text, u32, u53, type ValueOf } from '../schema.js';
import { nodeIdCodec } from './types.js';

const empty = struct({});

/** The end of every file that there can be. */
export const LOCK_TO_END = Number.MAX_SAFE_INTEGER;

export const fileLockCodec = struct({
  type: oneOf('read', 'write', 'unlock'),
  start: u53,
  /** Inclusive; {@link LOCK_TO_END} for the end of the file, wherever it is. */
  end: u53,
  /** Of the process that asked, on its host. */
  pid: u32,
  /** Who holds it, as the client's kernel tells owners apart. */
  owner: text(16),
  /** Of flock(2): those and fcntl(2)'s pass each other by. */
  flock: bool,
});
export type LockRange = ValueOf<typeof fileLockCodec>;

/** A lock that a client holds. */
export const heldLockCodec = struct({ id: nodeIdCodec, lock: fileLockCodec });
export type HeldLock = ValueOf<typeof heldLockCodec>;

/**
 * Takes, changes or gives up a lock. With `wait` the reply comes when nobody is in the way any more.
 * @throws LOCKED, DEADLOCK (fcntl: everybody would wait for ever), NO_LOCKS, CANCELLED
 */
export const SetLock = method(
  162,
  'setLock',
  struct({ id: nodeIdCodec, lock: fileLockCodec, wait: bool }),
  empty,
);

/** The lock that is in the way of this one, if there is one. `pid` is 0 when it is of another client. */
export const GetLock = method(
  163,
  'getLock',
  struct({ id: nodeIdCodec, lock: fileLockCodec }),
  struct({ lock: optional(fileLockCodec) }),
);
