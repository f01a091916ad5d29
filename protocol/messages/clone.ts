/**
 * Cloning (paper §4.3, docs/decisions/0011): the master has a chunkserver fetch a chunk from a valid
 * replica. What it fetched is nobody's replica until the master has it adopted.
 */
import { MIB, SEGMENT_BYTES } from '../limits.js';
import { method } from '../rpc.js';
import { bool, bytes, optional, struct, u32, u53, uint } from '../schema.js';
import { chunkHandleCodec, serverCodec } from './types.js';

const empty = struct({});

/**
 * From the destination to the source: bytes of a replica at exactly `version`, and with `whole` what
 * else there is of it, all as of one moment: the checksum of every block, and the table of results.
 * Held back so long as the source sends more than `serverRateBps` to all who clone from it; 0 is no limit.
 * @throws STALE_CHUNK_VERSION, NO_SUCH_CHUNK, CHUNK_CORRUPT, UNREACHABLE
 */
export const FetchReplica = method(
  120,
  'fetchReplica',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    offset: u53,
    length: uint(SEGMENT_BYTES),
    whole: bool,
    serverRateBps: u53,
  }),
  struct({
    lengthBytes: u53,
    appliedSerial: u53,
    /** u32 little-endian each. */
    checksums: optional(bytes(64 * 1024)),
    results: optional(bytes(MIB / 2)),
  }),
);

/**
 * From the master to the destination: fetch a chunk, as it is at `version` on `source`. Asked again it
 * goes on where it was, from the same source or another, and fetches what has changed since. On return
 * it has the chunk exactly as the source had it when it had applied `appliedSerial`.
 * @throws NO_SPACE, EXISTS when it has a replica, and what {@link FetchReplica} throws
 */
export const CloneChunk = method(
  121,
  'cloneChunk',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    source: serverCodec,
    /** Bytes per second for this clone, and for all that this server sends or receives; 0 for no limit. */
    rateBps: u53,
    serverRateBps: u53,
  }),
  struct({ lengthBytes: u53, digest: u32, appliedSerial: u53, fetchedBytes: u53 }),
);

/**
 * From the master to the destination: what was fetched is a replica from now on, flushed to disk on return.
 * The master has made sure that nothing was changed under `version` since `appliedSerial`, and nothing will be.
 * @throws NO_SUCH_CHUNK: it has no such clone (any more)
 */
export const AdoptClone = method(
  122,
  'adoptClone',
  struct({ handle: chunkHandleCodec, version: u53, appliedSerial: u53 }),
  empty,
);
