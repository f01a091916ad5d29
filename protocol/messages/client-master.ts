/** What a client asks of the master. Mutations carry (session, sequence) in their header. */
import {
  MAX_ACCESSES,
  MAX_CHUNKS_PER_REPLY,
  MAX_DIRECTORY_PAGE,
  MAX_XATTR_NAME_BYTES,
  MAX_XATTR_VALUE_BYTES,
  MAX_XATTRS_PER_NODE,
} from '../limits.js';
import { method } from '../rpc.js';
import {
  bool,
  byteString,
  bytes,
  int,
  list,
  oneOf,
  optional,
  struct,
  text,
  u32,
  u53,
  uint,
  type ValueOf,
} from '../schema.js';
import { heldLockCodec } from './locks.js';
import { healthCodec } from './scrub.js';
import {
  accessCodec,
  attributeChangesCodec,
  attributesCodec,
  chunkCodec,
  entryCodec,
  leaseCodec,
  locationCodec,
  nameCodec,
  nodeIdCodec,
  pathCodec,
  serverCodec,
  writtenCodec,
} from './types.js';

const empty = struct({});
/** Which of the promises (messages/coherence.ts) come with a reply. Absent for a client that does not cache. */
const promised = optional(u32);
const entryReply = struct({ attributes: attributesCodec });
const promisedReply = struct({ attributes: attributesCodec, promised });
/** Told to a client that caches. */
const changedReply = struct({ attributes: optional(attributesCodec), promised });
/** The directory as the new name has left it. */
const madeReply = struct({ attributes: attributesCodec, promised, parent: optional(attributesCodec) });
const xattrName = byteString(MAX_XATTR_NAME_BYTES);
/** What the master's wall clock shows as it answers. */
const masterTime = { timeSec: optional(int), timeNsec: optional(uint(999_999_999)) };

/**
 * `register_client`: opens a session, or takes one up again after the connection broke (`resume` its
 * id). @throws SESSION_UNKNOWN when the one to resume is over
 */
export const RegisterClient = method(
  10,
  'registerClient',
  struct({
    clientId: text(64),
    hostname: text(255),
    location: optional(locationCodec),
    rack: optional(text(64)),
    resume: optional(u53),
    /** It keeps what it is told, and answers BreakPromises: replies come with promises. */
    caches: optional(bool),
    /** File locks that it holds: these and no others. */
    locks: optional(list(heldLockCodec, 8_192)),
  }),
  struct({
    session: u53,
    clusterId: text(64),
    chunkBytes: u53,
    term: u53,
    renewIntervalMs: u32,
    /** Silence after which the session is dead. */
    timeoutMs: u32,
    /** The session was silent for too long: its file locks are lost. */
    locksLost: optional(bool),
    ...masterTime,
  }),
);

/** Keeps the session alive, and tells which files have been opened and closed since the last time. */
export const Renew = method(
  11,
  'renew',
  struct({ opened: list(nodeIdCodec, 65_536), closed: list(nodeIdCodec, 65_536) }),
  struct(masterTime),
);

/** An orderly end of the session. */
export const EndSession = method(12, 'endSession', empty, empty);

/**
 * To a client that caches a name that is not there is an answer, without attributes.
 * @throws NOT_FOUND, NOT_DIRECTORY, STALE_NODE
 */
export const Lookup = method(
  20,
  'lookup',
  struct({ parent: nodeIdCodec, name: nameCodec }),
  struct({ attributes: optional(attributesCodec), promised }),
);

/** Resolves an absolute path of the cluster, without following symbolic links. `names` are its components. */
export const LookupPath = method(21, 'lookupPath', struct({ path: pathCodec }), entryReply);

export const GetAttributes = method(22, 'getAttributes', struct({ id: nodeIdCodec }), promisedReply);

/** setattr. A `size` smaller than the file's revokes the leases of the chunks that it cuts, first. */
export const SetAttributes = method(
  23,
  'setAttributes',
  struct({
    id: nodeIdCodec,
    changes: attributeChangesCodec,
    /** Written before: as `size` of ExtendFile. Not together with a `size` among the changes. */
    written: optional(writtenCodec),
  }),
  promisedReply,
);

/**
 * After a write: the file is at least `size` long, and was written to last at that time (by the master's clock,
 * as Renew tells it; a time to come counts as now). Never shortens.
 */
export const ExtendFile = method(
  24,
  'extendFile',
  struct({
    id: nodeIdCodec,
    size: u53,
    /** The next lengths may be told later, but when the master asks for them (ReportLengths). */
    defer: optional(bool),
    mtimeSec: optional(int),
    mtimeNsec: optional(u32),
  }),
  struct({
    attributes: attributesCodec,
    promised,
    deferred: optional(bool),
    /** Deferred, and nobody else can append: appends may be acknowledged before they are sent. */
    alone: optional(bool),
  }),
);

/** A page of a directory from after `cookie` (0: the start), without `.` and `..`. */
export const ReadDirectory = method(
  25,
  'readDirectory',
  struct({ id: nodeIdCodec, cookie: u53, limit: u32 }),
  struct({
    entries: list(entryCodec, MAX_DIRECTORY_PAGE),
    end: bool,
    parent: nodeIdCodec,
    promised,
    /** Those of the entries whose attributes are not promised. */
    unpromised: optional(list(nodeIdCodec, MAX_DIRECTORY_PAGE)),
  }),
);

/**
 * Whole listings of these directories and of those below, as a walk through them meets them, until about `limit`
 * entries are told: for who lists one directory after another. Left out is what does not fit any more, and
 * directories whose names nobody can be promised, for ReadDirectory.
 */
export const ReadTree = method(
  230,
  'readTree',
  struct({ ids: list(nodeIdCodec, MAX_CHUNKS_PER_REPLY), limit: u32 }),
  struct({
    directories: list(
      struct({
        id: nodeIdCodec,
        parent: nodeIdCodec,
        entries: list(entryCodec, MAX_DIRECTORY_PAGE),
        /** As in {@link ReadDirectory}. */
        unpromised: optional(list(nodeIdCodec, MAX_DIRECTORY_PAGE)),
      }),
      MAX_DIRECTORY_PAGE,
    ),
  }),
);

/** creat, mkdir, mknod by the type in `mode`. The caller's uid and gid become the owner (setgid directories honoured). @throws EXISTS */
export const Create = method(
  26,
  'create',
  struct({
    parent: nodeIdCodec,
    name: nameCodec,
    mode: u32,
    rdev: u32,
    exclusive: bool,
    /** Taken from the mode, but where the directory has a default ACL, which then decides. */
    umask: optional(u32),
    /** It will be written to: the lease of its first chunk is welcome. */
    writes: optional(bool),
  }),
  struct({
    attributes: attributesCodec,
    created: bool,
    promised,
    parent: optional(attributesCodec),
    /** Of its first chunk, where one was ready. */
    lease: optional(leaseCodec),
  }),
);

/**
 * open(2) with O_TMPFILE: a regular file without a name, for the caller to hold open (Renew tells) or to Link. It
 * is given up when nobody has it open, and is never among the deleted files that can be brought back.
 * @throws NOT_PERMITTED when the directory was removed
 */
export const CreateTmpfile = method(
  240,
  'createTmpfile',
  struct({ parent: nodeIdCodec, mode: u32, umask: optional(u32), writes: optional(bool) }),
  struct({ attributes: attributesCodec, promised, lease: optional(leaseCodec) }),
);

export const Symlink = method(
  27,
  'symlink',
  struct({ parent: nodeIdCodec, name: nameCodec, target: pathCodec }),
  madeReply,
);

export const ReadLink = method(28, 'readLink', struct({ id: nodeIdCodec }), struct({ target: pathCodec }));

export const Link = method(
  29,
  'link',
  struct({ id: nodeIdCodec, parent: nodeIdCodec, name: nameCodec }),
  madeReply,
);

/** unlink or, with `directory`, rmdir. */
export const Unlink = method(
  30,
  'unlink',
  struct({ parent: nodeIdCodec, name: nameCodec, directory: bool }),
  struct({ id: nodeIdCodec, promised, parent: optional(attributesCodec) }),
);

/** rename(2), renameat2(2). */
export const Rename = method(
  31,
  'rename',
  struct({
    parent: nodeIdCodec,
    name: nameCodec,
    newParent: nodeIdCodec,
    newName: nameCodec,
    mode: oneOf('replace', 'noreplace', 'exchange'),
  }),
  struct({
    promised,
    parent: optional(attributesCodec),
    newParent: optional(attributesCodec),
    /** What was moved, and what was replaced or exchanged. */
    nodes: optional(list(nodeIdCodec, 2)),
  }),
);

export const SetXattr = method(
  32,
  'setXattr',
  struct({
    id: nodeIdCodec,
    name: xattrName,
    value: bytes(MAX_XATTR_VALUE_BYTES),
    mode: oneOf('either', 'create', 'replace'),
    /** With an access ACL: the caller is not in the file's group, so set-group-ID falls. */
    dropSetgid: optional(bool),
  }),
  changedReply,
);
export const GetXattr = method(
  33,
  'getXattr',
  struct({ id: nodeIdCodec, name: xattrName }),
  struct({ value: bytes(MAX_XATTR_VALUE_BYTES) }),
);
export const ListXattrs = method(
  34,
  'listXattrs',
  struct({ id: nodeIdCodec }),
  struct({ names: list(xattrName, MAX_XATTRS_PER_NODE) }),
);
export const RemoveXattr = method(
  35,
  'removeXattr',
  struct({ id: nodeIdCodec, name: xattrName }),
  changedReply,
);

/** statfs(2) of the cluster: bytes are those of the disks, replicas counted. */
export const StatCluster = method(
  36,
  'statCluster',
  empty,
  struct({
    totalBytes: u53,
    availableBytes: u53,
    files: u53,
    goal: u32,
    /** No server that the master waits for after its start may still come with more. */
    settled: optional(bool),
  }),
);

/** A path of the node from the cluster's root; one of them where there are hard links. @throws STALE_NODE when it has none any more */
export const GetPath = method(37, 'getPath', struct({ id: nodeIdCodec }), struct({ path: pathCodec }));

/** Where `count` chunks of a file are, from `index` on; the master may add some that follow (paper §2.4). */
export const GetChunks = method(
  40,
  'getChunks',
  struct({ id: nodeIdCodec, index: u53, count: u32 }),
  struct({
    chunks: list(chunkCodec, MAX_CHUNKS_PER_REPLY),
    chunkCount: u53,
    size: u53,
    /** As in the attributes. */
    dataVersion: optional(u53),
    attributes: optional(attributesCodec),
    promised,
  }),
);

/**
 * Where the first chunk of each of these files is, for who reads one small file after another: what is told
 * is promised. Left out are files of which nothing can be promised or told at once, for GetChunks.
 */
export const GetFirstChunks = method(
  206,
  'getFirstChunks',
  struct({ ids: list(nodeIdCodec, MAX_CHUNKS_PER_REPLY) }),
  struct({ files: list(struct({ id: nodeIdCodec, chunk: chunkCodec }), MAX_CHUNKS_PER_REPLY) }),
);

/**
 * The lease of one chunk, for writing (paper §3.1): granted when nobody holds it, the chunk made when
 * the file has none there, copied when a snapshot shares it (§3.4). `failed` names servers that the
 * client could not reach or that refused, under `version`.
 */
export const GetLease = method(
  41,
  'getLease',
  struct({
    id: nodeIdCodec,
    index: u53,
    /** What the client knew when it failed; 0 when it knew none. */
    version: u53,
    failed: list(text(64), 16),
  }),
  struct({ lease: leaseCodec }),
);

/** A replica that failed its checksum under a reader. */
export const ReportCorrupt = method(
  42,
  'reportCorrupt',
  struct({ handle: u53, version: u53, serverId: text(64) }),
  empty,
);

/** Copies a file or a tree by metadata alone (paper §3.4). @throws EXISTS, INVALID (into itself), NOT_FOUND */
export const Snapshot = method(
  43,
  'snapshot',
  struct({ id: nodeIdCodec, parent: nodeIdCodec, name: nameCodec }),
  entryReply,
);

/**
 * copy_file_range(2) by metadata alone: `bytes` from the beginning of chunk `index` of file `source` go to
 * the beginning of chunk `toIndex` of file `id`, whose chunks there are replaced. Both files have the
 * chunks afterwards, and whoever writes one gets a copy of it (paper §3.4). What is left of the last chunk
 * is shared only where it becomes the end of `id`.
 * @returns the bytes that were shared; fewer than asked, or none, is no error
 * @throws STALE_NODE, IS_DIRECTORY, INVALID, FILE_TOO_BIG, CHUNK_UNAVAILABLE
 */
export const ShareChunks = method(
  180,
  'shareChunks',
  struct({ source: nodeIdCodec, index: u53, id: nodeIdCodec, toIndex: u53, bytes: u53 }),
  struct({ bytes: u53, attributes: attributesCodec }),
);

/**
 * Files and directories were read at these times. A time counts by relatime's rule, as the client has already
 * seen: where it is later than the one that is there. Nodes that are gone are passed over.
 */
export const NoteAccess = method(
  182,
  'noteAccess',
  struct({ items: list(accessCodec, MAX_ACCESSES) }),
  empty,
);

/** Whole chunks of a file become holes, all zeros; its length stays. @throws STALE_NODE, IS_DIRECTORY, INVALID */
export const PunchHole = method(
  181,
  'punchHole',
  struct({ id: nodeIdCodec, index: u53, count: u53 }),
  entryReply,
);

const serverStatus = struct({
  server: serverCodec,
  state: oneOf('alive', 'silent', 'unknown'),
  rack: optional(text(64)),
  location: optional(locationCodec),
  totalBytes: u53,
  availableBytes: u53,
  chunks: u53,
  /** Milliseconds since it was heard of. */
  silentMs: u53,
  /** As it said last: its disks, and how far scrubbing is. */
  health: optional(healthCodec),
});
export type ServerStatus = ValueOf<typeof serverStatus>;

const replicationStatus = struct({
  /** As of the last census: chunks with fewer replicas than their goal, with one left, with none on a live server. */
  belowGoal: u53,
  endangered: u53,
  unavailable: u53,
  clones: u32,
  queued: u32,
  /** Chunks whose clones keep failing. */
  alarms: u32,
  /**
   * Servers that are being emptied, and how many replicas they have left, with those that are being made there;
   * `away`: nobody knows, as it is not connected, or has not told all that it has.
   */
  drains: list(struct({ serverId: text(64), chunksLeft: u53, away: optional(bool) }), 4096),
  /** Replicas that are ahead of the log by more than one version: neither used nor deleted. */
  quarantined: optional(u53),
});
export type ReplicationStatus = ValueOf<typeof replicationStatus>;

/** What `gfs status` shows. */
export const GetStatus = method(
  50,
  'getStatus',
  empty,
  struct({
    clusterId: text(64),
    term: u53,
    chunkBytes: u53,
    uptimeMs: u53,
    ready: bool,
    files: u53,
    directories: u53,
    chunks: u53,
    chunksBelowGoal: u53,
    chunksUnavailable: u53,
    leases: u53,
    sessions: u53,
    deletedFiles: u53,
    logBytes: u53,
    logRecords: u53,
    servers: list(serverStatus, 4096),
    replication: optional(replicationStatus),
    /** Of those that are unavailable: servers that the master knew before its start may bring them yet. */
    chunksUnknown: optional(u53),
    /** Sessions whose client is there. */
    clientsConnected: optional(u53),
    /** Whether deleted files are given up early to make room. */
    spaceLow: optional(bool),
    checkpoint: optional(
      struct({
        /** In the newest one; 0 when there is none. */
        records: u53,
        /** Of the log, that a start would replay. */
        logBytesBehind: u53,
        running: bool,
        /** Why the last one failed, when it did. */
        failure: optional(text(1024)),
      }),
    ),
    logReplicas: optional(
      list(struct({ id: text(64), host: text(255), port: u32, state: text(32), silentMs: u53 }), 64),
    ),
    /** The disk of the operation log is full: the master is read-only until there is room. */
    logFull: optional(bool),
  }),
);
export type ClusterStatus = ValueOf<typeof GetStatus.reply>;
