/** The data path: what clients and chunkservers ask of a chunkserver. Bytes travel as the frame's payload. */
import {
  MAX_CHUNKS_PER_REPLY,
  MAX_REPLICAS,
  MAX_SMALL_READ_BYTES,
  MAX_WRITE_PARTS,
  SEGMENT_BYTES,
} from '../limits.js';
import { method } from '../rpc.js';
import { bool, bytes, list, oneOf, optional, struct, u32, u53, uint } from '../schema.js';
import { chunkCodec, chunkHandleCodec, serverCodec } from './types.js';

const empty = struct({});

/**
 * Reads from a replica. The reply's payload may be shorter than asked: the chunk ends there.
 * `version` is the lowest that the reader accepts.
 * @throws STALE_CHUNK_VERSION, NO_SUCH_CHUNK, CHUNK_CORRUPT: try another replica
 */
export const ReadChunk = method(
  80,
  'readChunk',
  struct({ handle: chunkHandleCodec, version: u53, offset: u53, length: u32 }),
  struct({ chunkLength: u53 }),
);

/**
 * As {@link ReadChunk}, from the beginning of each of several chunks: small files that are likely to be read next.
 * The payload has them one after another. Nil: that one cannot be read here, ReadChunk tells why.
 */
export const ReadChunks = method(
  231,
  'readChunks',
  struct({
    chunks: list(
      struct({ handle: chunkHandleCodec, version: u53, length: uint(MAX_SMALL_READ_BYTES) }),
      MAX_CHUNKS_PER_REPLY,
    ),
  }),
  struct({ lengths: list(optional(uint(MAX_SMALL_READ_BYTES)), MAX_CHUNKS_PER_REPLY) }),
);

/** Names pushed data: the client's session and a number that it has not used before. */
const dataIdCodec = struct({ session: u53, number: u53 });

/**
 * Data for a later WriteChunk, held in a bounded LRU buffer (paper §3.1 step 3) and forwarded to the
 * first of `chain`, which gets the rest (§3.2). Replied to when every server of the chain has it.
 */
export const PushData = method(
  81,
  'pushData',
  struct({ dataId: dataIdCodec, chain: list(serverCodec, MAX_REPLICAS) }),
  empty,
);

/** Where the bytes of a payload go, one part after another. */
const partsCodec = list(struct({ offset: u53, length: u32 }), MAX_WRITE_PARTS);

/**
 * As {@link PushData}, of bytes that chunkservers have: `length` of them at `offset` of a replica of `source`.
 * Every server of the chain takes them from its own replica, else from another's, and checks them; behind
 * `validBytes`, and behind the chunk's end, they are zeros. `crc` of the reply: of what all of them have.
 * @throws CHUNK_UNAVAILABLE: not everyone could get them, or not everyone the same: read and push them
 */
export const StageCopy = method(
  195,
  'stageCopy',
  struct({
    dataId: dataIdCodec,
    source: chunkCodec,
    offset: u53,
    length: uint(SEGMENT_BYTES),
    chain: list(serverCodec, MAX_REPLICAS),
  }),
  struct({ crc: u32 }),
);

/**
 * To the primary: apply `length` bytes at `offset` on every replica, in an order that the primary
 * chooses. The bytes come as this frame's payload, or were pushed under `dataId`.
 * `verifiers`: the boot id of every replica, primary first (as NFS write verifiers).
 * @throws NOT_PRIMARY, STALE_CHUNK_VERSION, REPLICA_FAILED, DATA_NOT_BUFFERED, NO_SPACE, INVALID
 */
export const WriteChunk = method(
  82,
  'writeChunk',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    offset: u53,
    length: u32,
    dataId: optional(dataIdCodec),
    /** Flush the chunk as well, on every replica, as SyncChunk does: a small write and its fsync are one round. */
    sync: optional(bool),
    /**
     * From the primary of the file's chunk before: the part of an exact append that does not fit there. Taken
     * while this chunk is empty or holds an earlier spill alone, which it replaces; the numbers grow.
     * @throws CHUNK_FULL: the file goes on here already; STALE_CHUNK_VERSION: a later spill is here
     */
    spill: optional(u53),
    /** Several writes in one, in this order: `length` is that of all, `offset` the first one's. */
    parts: optional(partsCodec),
  }),
  struct({ verifiers: list(u53, MAX_REPLICAS) }),
);

/**
 * To the primary: append at an offset of its choice, and return it.
 * `record`: record append (paper §3.3). What would cross the chunk's end pads the chunk on all
 * replicas instead, and CHUNK_FULL tells the client to go on in the next chunk.
 * `exact`: for O_APPEND. Without padding; what does not fit goes to the file's next chunk, before anything
 * is written here, when `file` tells where that is and it fits there; else as much as fits is written, and
 * `written` tells.
 * `from`: the append goes at this offset or after it (the file's length as the client knows it).
 * The bytes are the payload.
 */
export const AppendChunk = method(
  83,
  'appendChunk',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    mode: oneOf('record', 'exact'),
    from: u53,
    /** The file that the chunk belongs to, and its index there. */
    file: optional(struct({ id: u53, index: u53 })),
    /** As of WriteChunk. What goes to the next chunk is not flushed. */
    sync: optional(bool),
  }),
  struct({
    offset: u53,
    written: u32,
    verifiers: list(u53, MAX_REPLICAS),
    /** Of the next chunk's replicas, when a part went there. */
    spillVerifiers: optional(list(u53, MAX_REPLICAS)),
  }),
);

/** To the primary, or without a lease to any replica: flush the chunk to disk, here and on `secondaries`. */
export const SyncChunk = method(
  84,
  'syncChunk',
  struct({ handle: chunkHandleCodec, version: u53, secondaries: list(serverCodec, MAX_REPLICAS) }),
  struct({ verifiers: list(u53, MAX_REPLICAS) }),
);

/** The length of a chunk as this replica has it. */
export const GetChunkLength = method(
  85,
  'getChunkLength',
  struct({ handle: chunkHandleCodec, version: u53 }),
  struct({ lengthBytes: u53 }),
);

/**
 * Primary to secondary: one mutation, in serial order (paper §3.1 step 5).
 * `write` puts payload or pushed data at `offset`; `pad` makes the chunk end at `offset`, zeros in
 * between (record append); `truncate` cuts it to `offset`.
 */
export const ApplyMutation = method(
  90,
  'applyMutation',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    serial: u53,
    kind: oneOf('write', 'pad', 'truncate'),
    offset: u53,
    length: u32,
    dataId: optional(dataIdCodec),
    /** Whose mutation it is, for the chunk's table of what was done. */
    session: u53,
    sequence: u53,
    /** Flush the chunk before the reply. */
    sync: optional(bool),
    /** As of WriteChunk. The first has this serial, each other the next; the last one's outcome is the mutation's. */
    parts: optional(partsCodec),
  }),
  struct({ verifier: u53 }),
);

/** The whole checksum vector of a replica, u32 little-endian each, for repair. */
export const GetChecksums = method(
  91,
  'getChecksums',
  struct({ handle: chunkHandleCodec, version: u53 }),
  struct({ lengthBytes: u53, appliedSerial: u53, checksums: bytes(64 * 1024) }),
);

/** Repair: the payload replaces bytes at `offset`; with `lengthBytes` the replica then has that length. Sets the applied serial. */
export const RepairChunk = method(
  92,
  'repairChunk',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    offset: u53,
    lengthBytes: optional(u53),
    appliedSerial: u53,
    last: bool,
  }),
  empty,
);
