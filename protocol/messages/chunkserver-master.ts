/** What a chunkserver tells the master, and what the master asks of a chunkserver, over one connection. */
import { MAX_CHUNKS_AHEAD, MAX_REPLICAS, MAX_REPORT_PAGE } from '../limits.js';
import { method } from '../rpc.js';
import { bool, list, optional, struct, text, u32, u53, type ValueOf } from '../schema.js';
import { healthCodec } from './scrub.js';
import { chunkHandleCodec, locationCodec, serverCodec } from './types.js';

const empty = struct({});

/** Space as the chunkserver's disks report it, headroom already taken off. */
export const spaceCodec = struct({ totalBytes: u53, availableBytes: u53, usedBytes: u53 });
export type Space = ValueOf<typeof spaceCodec>;

/**
 * `register_chunk_server`: opens the chunkserver's session. Its chunks follow in ReportChunks; the
 * master counts none of them before the last page.
 * @throws WRONG_CLUSTER, DUPLICATE_SERVER
 */
export const RegisterChunkserver = method(
  60,
  'registerChunkserver',
  struct({
    server: serverCodec,
    bootId: u53,
    location: optional(locationCodec),
    rack: optional(text(64)),
    space: spaceCodec,
  }),
  struct({
    session: u53,
    clusterId: text(64),
    chunkBytes: u53,
    term: u53,
    renewIntervalMs: u32,
    timeoutMs: u32,
    heartbeatIntervalMs: u32,
  }),
);

export const replicaReportCodec = struct({
  handle: chunkHandleCodec,
  version: u53,
  lengthBytes: u53,
  /** It may be behind: it was leased when its host died (DESIGN: replica states). */
  suspect: bool,
  /** Milliseconds that are left of a lease that it holds; 0 when it holds none. */
  leaseMs: u53,
});
export type ReplicaReport = ValueOf<typeof replicaReportCodec>;

export const ReportChunks = method(
  61,
  'reportChunks',
  struct({ chunks: list(replicaReportCodec, MAX_REPORT_PAGE), last: bool }),
  empty,
);

/** Keeps the session alive: every `renewIntervalMs`. */
export const RenewChunkserver = method(62, 'renewChunkserver', empty, empty);

/** The full heartbeat: space, and the leases that the server asks to extend. The reply names the chunks to delete. */
export const Heartbeat = method(
  63,
  'heartbeat',
  struct({
    space: spaceCodec,
    location: optional(locationCodec),
    /** Requests under way. */
    load: u53,
    extend: list(struct({ handle: chunkHandleCodec, version: u53 }), 65_536),
    /** A rotating subset of the chunks that it holds. */
    chunks: list(struct({ handle: chunkHandleCodec, version: u53 }), 1024),
    health: optional(healthCodec),
  }),
  struct({
    extended: list(struct({ handle: chunkHandleCodec, remainingMs: u53 }), 65_536),
    /** Chunks that the master no longer knows (paper §4.4). */
    drop: list(chunkHandleCodec, 1024),
  }),
);

/** A replica that failed its checksum here. */
export const ReportDamage = method(
  64,
  'reportDamage',
  struct({ handle: chunkHandleCodec, version: u53 }),
  empty,
);

/**
 * From a primary: under `version` these secondaries did not do what they were told, `silent` ones said
 * nothing at all. The master raises the chunk to a new version, without those that are silent, and answers
 * when a lease of that version is logged: the mutations under way then hold, on every replica that is left.
 * @throws NOT_PRIMARY, STALE_CHUNK_VERSION: the lease is another's; and as GetLease
 */
export const DropSecondary = method(
  191,
  'dropSecondary',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    failed: list(struct({ serverId: text(64), silent: bool }), MAX_REPLICAS),
  }),
  struct({ primary: text(64), version: u53 }),
);

// From the master to a chunkserver.

const leaseTerms = struct({
  /** The replicas that have to acknowledge each mutation, this one not among them. */
  secondaries: list(serverCodec, MAX_REPLICAS),
  durationMs: u53,
});

/**
 * Raises a replica to `version`, durably, before the lease of that version is logged. With `create` the
 * chunk is made, empty. With `lease` the receiver is the primary and may acknowledge mutations from
 * now on; whatever lease it held before is over.
 * @throws STALE_CHUNK_VERSION when it has a higher version, NO_SUCH_CHUNK, NO_SPACE
 */
export const PrepareVersion = method(
  70,
  'prepareVersion',
  struct({
    handle: chunkHandleCodec,
    version: u53,
    create: bool,
    /** Cut the chunk to this length: a truncation that it had missed. */
    truncateTo: optional(u53),
    lease: optional(leaseTerms),
  }),
  struct({
    lengthBytes: u53,
    /** CRC-32 over length and all block checksums: equal where the replicas are equal. */
    digest: u32,
    appliedSerial: u53,
    suspect: bool,
  }),
);

/**
 * Makes empty chunks of version 1, durably, before any file has one of them. Of those in `leased` the receiver
 * is the primary. Where a server fails, the master gives all of them up: their handles are never used.
 * @throws NO_SPACE
 */
export const MakeChunks = method(
  205,
  'makeChunks',
  struct({
    handles: list(chunkHandleCodec, MAX_CHUNKS_AHEAD),
    leased: list(chunkHandleCodec, MAX_CHUNKS_AHEAD),
    terms: leaseTerms,
  }),
  empty,
);

/**
 * To the primary, when the digests of the replicas differ: make every secondary equal to this replica
 * (length and whole vector of block checksums), before the lease is given to a client.
 */
export const RepairReplicas = method(
  71,
  'repairReplicas',
  struct({ handle: chunkHandleCodec, version: u53, secondaries: list(serverCodec, MAX_REPLICAS) }),
  empty,
);

/**
 * Ends a lease: what is under way is finished first, then NOT_PRIMARY (paper §3.4). Also asked when the
 * lease has run out: `agreed` says that every replica applied every mutation that there was under this
 * version, so that they are equal. Absent: nobody knows.
 */
export const RevokeLease = method(
  72,
  'revokeLease',
  struct({ handle: chunkHandleCodec, version: u53 }),
  struct({ lengthBytes: u53, appliedSerial: u53, agreed: optional(bool) }),
);

/** Copy on write: a local copy of `source` under a new handle (paper §3.4). Fields else as PrepareVersion. */
export const CopyChunk = method(
  73,
  'copyChunk',
  struct({
    source: chunkHandleCodec,
    sourceVersion: u53,
    handle: chunkHandleCodec,
    version: u53,
    truncateTo: optional(u53),
    lease: optional(leaseTerms),
  }),
  PrepareVersion.reply,
);

export const DeleteChunks = method(
  74,
  'deleteChunks',
  struct({ handles: list(chunkHandleCodec, 4096) }),
  empty,
);
