/** The limits that every part agrees on. DESIGN: "every queue, cache and buffer has a stated bound". */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

export const PROTOCOL_VERSION = 1;

export const MAX_HEADER_BYTES = 1 * MIB;
export const MAX_PAYLOAD_BYTES = 16 * MIB;

/** Paper §2.5. Set per cluster when it is made; tests use small ones. */
export const DEFAULT_CHUNK_BYTES = 64 * MIB;
/** Paper §5.2: the unit of a checksum, within a chunk. */
export const BLOCK_BYTES = 64 * KIB;
/** What a client pushes at once. A multiple of {@link BLOCK_BYTES}. */
export const SEGMENT_BYTES = 1 * MIB;
/** Writes up to this size travel with the write request instead of through the push chain. */
export const INLINE_WRITE_BYTES = 64 * KIB;
/** Files up to this size are read several at once. */
export const MAX_SMALL_READ_BYTES = 64 * KIB;
/** Small writes to one chunk that travel together. */
export const MAX_WRITE_PARTS = 64;

export const MAX_NAME_BYTES = 255;
export const MAX_PATH_BYTES = 4096;
export const MAX_XATTR_NAME_BYTES = 255;
export const MAX_XATTR_VALUE_BYTES = 64 * KIB;
/** Times of access that are told at once. */
export const MAX_ACCESSES = 4096;
export const MAX_XATTRS_PER_NODE = 256;
export const MAX_LINKS = 65_000;
export const MAX_GROUPS = 256;
export const MAX_REPLICAS = 16;
/** One page of a directory listing. */
export const MAX_DIRECTORY_PAGE = 1024;
/** Deleted files in one page, or purged by one request. */
export const MAX_DELETED_PAGE = 512;
/** Chunks that are not well, in one part of a check. */
export const MAX_PROBLEMS_PAGE = 512;
/** Numbers in the cursor of a walk: two for each directory on the way down the longest path. */
export const MAX_TREE_DEPTH = MAX_PATH_BYTES + 2;
/** A longer message is traced by its header alone; with it a record fits into a page of the trace. */
export const MAX_TRACED_BYTES = 4 * KIB;
/** Records of a trace in one reply. */
export const MAX_TRACE_PAGE_BYTES = 512 * KIB;
/** Chunks described by one reply. */
export const MAX_CHUNKS_PER_REPLY = 64;
/** Nodes, and names, that one message breaks promises of; what is above goes in the next. */
export const MAX_BROKEN_NODES = 16_384;
export const MAX_BROKEN_NAMES = 1_024;
/** Chunks that the master has made before any file needs them. */
export const MAX_CHUNKS_AHEAD = 32;
/** Chunks in one page of a chunkserver's report. */
export const MAX_REPORT_PAGE = 16_384;

/** 1 PiB and more is addressable: 2^53 - 1. */
export const MAX_FILE_BYTES = Number.MAX_SAFE_INTEGER;

/** The mutation results that the master remembers for each session; a client has fewer in flight. */
export const SESSION_RESULTS = 64;

/** What a peer may have outstanding at another, unless its hello says otherwise. */
/** On the data path a server that says nothing for so long while calls wait for it hangs (protocol/peer.ts). */
export const SILENCE_MS = 2_000;

export const DEFAULT_MAX_REQUESTS = 1024;
export const DEFAULT_MAX_REQUEST_BYTES = 64 * MIB;
/** Calls that wait for credit before new ones are refused with OVERLOADED. */
export const MAX_WAITING_CALLS = 16_384;
/** Urgent requests that may be outstanding above the credit: those that keep sessions alive. */
export const URGENT_ALLOWANCE = 8;
