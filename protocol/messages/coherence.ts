/**
 * Caching by promise (docs/decisions/0017-caching-by-promise.md): what a client may believe until the
 * master says otherwise, and how the master says it.
 */
import { MAX_BROKEN_NAMES, MAX_BROKEN_NODES } from '../limits.js';
import { method } from '../rpc.js';
import { bool, list, optional, struct } from '../schema.js';
import { nameCodec, nodeIdCodec } from './types.js';

/** What a reply promises: none of it changes before the master has asked this client to forget it. */
export const Promised = {
  /** The attributes of the node that the reply is about. */
  ATTRIBUTES: 1,
  /** The names in the directory that was asked: the ones told, and that others are not there. */
  ENTRIES: 2,
  /** `parent` of the reply, as {@link Promised.ATTRIBUTES}. */
  PARENT: 4,
  /** `newParent` of the reply. */
  NEW_PARENT: 8,
  /** The names in the directory that was made: none so far. */
  CONTENTS: 16,
} as const;

const empty = struct({});

/**
 * From the master to a client that caches: forget this. The reply says that it is forgotten, by whoever
 * the client told as well; the mutation that changed it is answered only then.
 */
export const BreakPromises = method(
  160,
  'breakPromises',
  struct({
    /** Attributes that have changed. */
    attributes: list(nodeIdCodec, MAX_BROKEN_NODES),
    /** Files whose data has changed, and with it their attributes. */
    data: list(nodeIdCodec, MAX_BROKEN_NODES),
    /** Names that have changed. What else is promised of their directories stays promised. */
    entries: list(struct({ directory: nodeIdCodec, name: nameCodec }), MAX_BROKEN_NAMES),
    /** Directories of whose names nothing is promised any more. */
    directories: list(nodeIdCodec, MAX_BROKEN_NODES),
    /** Of `data`, those that may be shorter now: an append from where the end was would leave a hole. */
    cut: list(nodeIdCodec, MAX_BROKEN_NODES),
  }),
  empty,
);

/**
 * From the master to a client whose last ExtendFile of these files was deferred (of all files, when none is
 * named): somebody else asks. The reply comes when the master has been told of every change that was acknowledged,
 * and later ones are told before they are.
 *
 * With `ahead` somebody else is about to get a lease: the reply comes when every append that was acknowledged before
 * it was sent has arrived, and later ones are sent before they are. Nothing else is waited for: it may need a lease,
 * whose grant may wait for the one who asks.
 */
export const ReportLengths = method(
  161,
  'reportLengths',
  struct({ ids: list(nodeIdCodec, MAX_BROKEN_NODES), ahead: optional(bool) }),
  empty,
);
