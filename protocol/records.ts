/**
 * The records of the operation log (paper §2.6.3, docs/formats/operation-log.md). A record says what
 * happened, with every time, id and handle that was chosen for it, so that replaying it needs no clock
 * and cannot fail.
 */

import { MAX_ACCESSES, MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES } from './limits.js';
import { commitRuleCodec, memberCodec } from './messages/log-replication.js';
import {
  accessCodec,
  attributeChangesCodec,
  chunkHandleCodec,
  nameCodec,
  nodeIdCodec,
  pathCodec,
  writtenCodec,
} from './messages/types.js';
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
  type ValueOf,
  variant,
} from './schema.js';

/** Nodes or sessions that one record names at most. */
export const MAX_IDS_PER_RECORD = 4096;

const xattrName = byteString(MAX_XATTR_NAME_BYTES);

/** A lease as it is logged: who holds it, for how long from the grant, and how many replicas have its version. */
const leaseFields = {
  holder: text(64),
  durationMs: u53,
  replicas: u32,
} as const;

/** Of a file that is about to be written: its first chunk, leased. */
const firstChunk = struct({ handle: chunkHandleCodec, version: u53, goal: u32, ...leaseFields });

/** Type numbers are for ever: a number that was used once never means anything else. */
export const eventCodec = variant({
  /** A client or a chunkserver registered. `owner` is its client id or server id. */
  sessionOpened: {
    number: 1,
    body: struct({ id: u53, kind: oneOf('client', 'chunkserver'), owner: text(64), hostname: text(255) }),
  },
  sessionsEnded: { number: 2, body: struct({ ids: list(u53, MAX_IDS_PER_RECORD) }) },
  /** Chunk handles up to `through` may be on chunkservers already, logged or not: never give them out again. */
  handlesReserved: { number: 3, body: struct({ through: chunkHandleCodec }) },

  /** A node of any type, with its first name. */
  created: {
    number: 10,
    body: struct({
      parent: nodeIdCodec,
      name: nameCodec,
      id: nodeIdCodec,
      mode: u32,
      uid: u32,
      gid: u32,
      rdev: u32,
      /** Of a symbolic link. */
      target: optional(pathCodec),
      /** What the default ACL of the directory gave it. */
      accessAcl: optional(bytes(MAX_XATTR_VALUE_BYTES)),
      defaultAcl: optional(bytes(MAX_XATTR_VALUE_BYTES)),
      chunk: optional(firstChunk),
    }),
  },
  linked: { number: 11, body: struct({ id: nodeIdCodec, parent: nodeIdCodec, name: nameCodec }) },
  /** A name is gone; with a node's last name the node goes to the deleted table. */
  unlinked: { number: 12, body: struct({ parent: nodeIdCodec, name: nameCodec }) },
  /** What had the new name goes as if unlinked, or takes the old name (`exchange`). */
  renamed: {
    number: 13,
    body: struct({
      parent: nodeIdCodec,
      name: nameCodec,
      newParent: nodeIdCodec,
      newName: nameCodec,
      exchange: bool,
    }),
  },
  /** A `size` cuts chunks: those past it leave the file, the one it falls into gets a pending truncation. */
  attributesSet: {
    number: 14,
    body: struct({
      id: nodeIdCodec,
      changes: attributeChangesCodec,
      /** The file was written to before, and is at least this long. */
      written: optional(writtenCodec),
    }),
  },
  extended: {
    number: 15,
    body: struct({
      id: nodeIdCodec,
      size: u53,
      /** When it was written to; without, or later than the record, the record's own time. */
      mtimeSec: optional(int),
      mtimeNsec: optional(u32),
    }),
  },
  xattrSet: {
    number: 16,
    body: struct({ id: nodeIdCodec, name: xattrName, value: bytes(MAX_XATTR_VALUE_BYTES) }),
  },
  xattrRemoved: { number: 17, body: struct({ id: nodeIdCodec, name: xattrName }) },
  /** The copies get ids from `firstId` on, in the order of the walk (docs/formats/operation-log.md). */
  snapshotTaken: {
    number: 18,
    body: struct({ source: nodeIdCodec, parent: nodeIdCodec, name: nameCodec, firstId: nodeIdCodec }),
  },
  /** Deleted nodes are given up, and the chunks that nothing else refers to. */
  reclaimed: { number: 19, body: struct({ ids: list(nodeIdCodec, MAX_IDS_PER_RECORD) }) },

  /** A fresh chunk at `index` of a file, leased. */
  chunkAdded: {
    number: 30,
    body: struct({
      id: nodeIdCodec,
      index: u53,
      handle: chunkHandleCodec,
      version: u53,
      goal: u32,
      ...leaseFields,
    }),
  },
  /** A lease on a chunk of a file; a truncation that was pending there has been carried out. */
  leaseGranted: {
    number: 31,
    body: struct({ id: nodeIdCodec, index: u53, handle: chunkHandleCodec, version: u53, ...leaseFields }),
  },
  /** Copy on write (paper §3.4): `handle` takes the place of `source` in this file, leased. */
  chunkCopied: {
    number: 32,
    body: struct({
      id: nodeIdCodec,
      index: u53,
      source: chunkHandleCodec,
      handle: chunkHandleCodec,
      version: u53,
      ...leaseFields,
    }),
  },
  /** A version without a lease: one that replicas reported, or that fences an old primary. */
  versionRaised: { number: 33, body: struct({ handle: chunkHandleCodec, version: u53, replicas: u32 }) },

  /**
   * The goal of nodes, and of the chunks that they have; `own` false: the cluster's default, which `goal` was
   * at the time. Of a chunk that several files share it only raises the goal.
   */
  goalSet: {
    number: 70,
    body: struct({ ids: list(nodeIdCodec, MAX_IDS_PER_RECORD), goal: u32, own: bool }),
  },
  /** Chunks that several files share, and the highest goal of these files. */
  chunkGoalsSet: {
    number: 71,
    body: struct({ handles: list(chunkHandleCodec, MAX_IDS_PER_RECORD), goal: u32 }),
  },

  /** A server is being emptied, or is not any more. */
  drainSet: { number: 72, body: struct({ serverId: text(64), on: bool }) },

  /** How long nodes are kept once they are deleted; without a time: as the cluster's configuration says. */
  retentionSet: {
    number: 90,
    body: struct({ ids: list(nodeIdCodec, MAX_IDS_PER_RECORD), retentionMs: optional(u53) }),
  },
  /** A deleted node has a name again. */
  undeleted: { number: 91, body: struct({ id: nodeIdCodec, parent: nodeIdCodec, name: nameCodec }) },
  /** Chunks that no file has are given up. */
  chunksForgotten: { number: 92, body: struct({ handles: list(chunkHandleCodec, MAX_IDS_PER_RECORD) }) },
  /** File `id` has the chunks of `source` from `index` on, `bytes` of them, at `toIndex`; its own there are gone. */
  chunksShared: {
    number: 100,
    body: struct({ source: nodeIdCodec, index: u53, id: nodeIdCodec, toIndex: u53, bytes: u53 }),
  },
  /** A node's ACL is replaced, or gone without a `value`; an access ACL brings the mode that stands for it. */
  aclSet: {
    number: 102,
    body: struct({
      id: nodeIdCodec,
      kind: oneOf('access', 'default'),
      value: optional(bytes(MAX_XATTR_VALUE_BYTES)),
      mode: optional(u32),
    }),
  },
  /** Nodes were read: each time that is later than the node's atime takes its place. */
  accessed: { number: 103, body: struct({ items: list(accessCodec, MAX_ACCESSES) }) },
  /** The chunks from `index` to before `end` have left the file: a hole. */
  punched: { number: 101, body: struct({ id: nodeIdCodec, index: u53, end: u53 }) },
  /** A master begins to serve: records from `sequence` on are of its term, and wait for log replicas as `commit` says. */
  termBegun: { number: 60, body: struct({ term: u53, sequence: u53, commit: commitRuleCodec }) },
  /** A shadow has the whole log: from here on it has to flush a record before that counts. Again: it moved. */
  logReplicaAdded: { number: 61, body: struct({ member: memberCodec, commit: commitRuleCodec }) },
  logReplicaRemoved: { number: 62, body: struct({ id: text(64) }) },

  /** A file without a name (O_TMPFILE), made in `parent`: in the deleted table until it is linked. */
  tmpfileCreated: {
    number: 130,
    body: struct({
      parent: nodeIdCodec,
      id: nodeIdCodec,
      mode: u32,
      uid: u32,
      gid: u32,
      accessAcl: optional(bytes(MAX_XATTR_VALUE_BYTES)),
      chunk: optional(firstChunk),
    }),
  },
});
export type LogEvent = ValueOf<typeof eventCodec>;
export type LogEventOf<T extends LogEvent['type']> = Extract<LogEvent, { type: T }>;

export const recordCodec = struct({
  /** When it happened, by the master's wall clock. */
  timeSec: int,
  timeNsec: u32,
  /** The client's mutation that it carries out, whose reply is remembered; zeros when it is the master's own. */
  session: u53,
  sequence: u53,
  method: u32,
  event: eventCodec,
});
export type LogRecord = ValueOf<typeof recordCodec>;
