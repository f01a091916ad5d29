/** Deleted files: how long they are kept, which there are, and how one comes back or goes for good. */
import { MAX_DELETED_PAGE } from '../limits.js';
import { method } from '../rpc.js';
import { bool, list, optional, struct, u32, u53, type ValueOf } from '../schema.js';
import { attributesCodec, nameCodec, nodeIdCodec, pathCodec } from './types.js';

const empty = struct({});

/** A file without a name that can be brought back. */
export const deletedFileCodec = struct({
  attributes: attributesCodec,
  /** Its last name, as a path of the cluster from then. */
  path: pathCodec,
  deletedSec: u53,
  deletedNsec: u32,
  /** How long it is kept from then on. */
  retentionMs: u53,
});
export type DeletedFile = ValueOf<typeof deletedFileCodec>;

/**
 * A page of the deleted files that the caller may bring back (its own; all of them for root), oldest
 * first, from after the one whose id was `next` (0: the start). A page may be empty and not the last:
 * each looks at a bounded number.
 */
export const ListDeleted = method(
  140,
  'listDeleted',
  struct({
    after: nodeIdCodec,
    limit: u32,
    /** Only those that were below this directory, a path of the cluster. */
    under: optional(pathCodec),
    /** Only those that had this very path. */
    path: optional(pathCodec),
  }),
  struct({ files: list(deletedFileCodec, MAX_DELETED_PAGE), next: nodeIdCodec, end: bool }),
);

/** One deleted file. @throws NOT_FOUND; ACCESS_DENIED: it is somebody else's */
export const GetDeleted = method(141, 'getDeleted', struct({ id: nodeIdCodec }), deletedFileCodec);

/**
 * Gives a deleted file a name again: `name` in `parent`, or the one that it had. Mode, owner and times stay.
 * @throws NOT_FOUND: it is not deleted, or its directory is gone; EXISTS: the name is taken;
 *   ACCESS_DENIED: not the caller's file, or not a directory that the caller may write
 */
export const Undelete = method(
  142,
  'undelete',
  struct({ id: nodeIdCodec, parent: optional(nodeIdCodec), name: optional(nameCodec) }),
  struct({ attributes: attributesCodec, path: pathCodec }),
);

/**
 * Gives deleted files up now, or as soon as nobody has them open (paper §4.4: deleting again expedites).
 * What is not there any more is passed over. @throws ACCESS_DENIED
 */
export const Purge = method(
  143,
  'purge',
  struct({ ids: list(nodeIdCodec, MAX_DELETED_PAGE) }),
  struct({ count: u32 }),
);

/** How long a file is kept after its deletion; of a directory, what new files and directories in it inherit. */
export const GetRetention = method(
  144,
  'getRetention',
  struct({ id: nodeIdCodec }),
  /** `own`: set on this node, by somebody or by inheritance; else the cluster's default. */
  struct({ retentionMs: u53, own: bool }),
);

/** Without `retentionMs`: back to the cluster's default. @throws INVALID: neither a file nor a directory */
export const SetRetention = method(
  145,
  'setRetention',
  struct({ id: nodeIdCodec, retentionMs: optional(u53) }),
  empty,
);
