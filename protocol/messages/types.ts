/** The shapes that several messages share. */
import { MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_REPLICAS } from '../limits.js';
import {
  bool,
  byteString,
  int,
  list,
  optional,
  real,
  struct,
  text,
  u32,
  u53,
  uint,
  type ValueOf,
} from '../schema.js';

/** A node of the namespace: stable for its life, never reused, 53 bits. */
export const nodeIdCodec = u53;
/** Immutable and globally unique (paper §2.3). */
export const chunkHandleCodec = u53;
export const nameCodec = byteString(MAX_NAME_BYTES);
export const pathCodec = byteString(MAX_PATH_BYTES);

/** The root directory's node id, which is also FUSE's. */
export const ROOT_ID = 1;

/** What stat(2) tells. `mode` has the file type in it, as `st_mode`. */
export const attributesCodec = struct({
  id: nodeIdCodec,
  mode: u32,
  nlink: u32,
  uid: u32,
  gid: u32,
  rdev: u32,
  /** Bytes; of a directory 4096, of a symbolic link its target's length. */
  size: u53,
  atimeSec: int,
  atimeNsec: u32,
  mtimeSec: int,
  mtimeNsec: u32,
  ctimeSec: int,
  ctimeNsec: u32,
  /** Counts the changes of a file's data that were told to the master: equal means that nobody else changed it. */
  dataVersion: optional(u53),
  /** It has ACLs, of its own or for what is made in it. */
  hasAcl: optional(bool),
  /** It has extended attributes of any kind; where it has none, nobody need ask for one. */
  hasXattrs: optional(bool),
});
export type Attributes = ValueOf<typeof attributesCodec>;

/** 2-D coordinates, in whatever unit the cluster's operator measures distance. */
export const locationCodec = struct({ x: real, y: real });
export type Location = ValueOf<typeof locationCodec>;

/** A chunkserver as others need to know it: who, and where to connect. */
export const serverCodec = struct({
  serverId: text(64),
  host: text(255),
  port: uint(65_535),
});
export type Server = ValueOf<typeof serverCodec>;

/**
 * Where a chunk of a file is. `handle` 0 means that the file has no chunk there: a hole, all zeros.
 * Replicas come best first for whoever asked.
 */
export const chunkCodec = struct({
  index: u53,
  handle: chunkHandleCodec,
  version: u53,
  /** Bytes past this offset in the chunk are zeros, whatever the replicas hold (a truncation not yet carried out). */
  validBytes: u53,
  replicas: list(serverCodec, MAX_REPLICAS),
});
export type Chunk = ValueOf<typeof chunkCodec>;

/** A lease as a writer needs it (paper §3.1): one primary, the rest secondaries, for `remainingMs`. */
export const leaseCodec = struct({
  index: u53,
  handle: chunkHandleCodec,
  version: u53,
  primary: serverCodec,
  secondaries: list(serverCodec, MAX_REPLICAS),
  remainingMs: u53,
  /** In which order data is pushed: 0 the primary, then the secondaries from 1 on. As they stand when left out. */
  chain: optional(list(uint(MAX_REPLICAS), MAX_REPLICAS + 1)),
});
export type Lease = ValueOf<typeof leaseCodec>;

export const entryCodec = struct({
  name: nameCodec,
  /** Where to go on reading the directory: after this entry. Grows with every entry that is made. */
  cookie: u53,
  attributes: attributesCodec,
});
export type DirectoryEntry = ValueOf<typeof entryCodec>;

/** What was written to a file: it is at least this long. Without a time, or with a later one, it is when that is logged. */
export const writtenCodec = struct({ size: u53, mtimeSec: optional(int), mtimeNsec: optional(u32) });
export type Written = ValueOf<typeof writtenCodec>;

/** A node was read, then. */
export const accessCodec = struct({ id: nodeIdCodec, sec: int, nsec: uint(999_999_999) });

/** Only what is given changes. Times come in pairs, `atimeSec` with `atimeNsec`; `ctime` is always the master's. */
export const attributeChangesCodec = struct({
  mode: optional(u32),
  uid: optional(u32),
  gid: optional(u32),
  size: optional(u53),
  atimeSec: optional(int),
  atimeNsec: optional(u32),
  mtimeSec: optional(int),
  mtimeNsec: optional(u32),
});
export type AttributeChanges = ValueOf<typeof attributeChangesCodec>;
