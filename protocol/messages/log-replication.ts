/**
 * Between a master and its log replicas, the shadow masters, and what others ask of them (paper §2.6.3,
 * §5.1.3; docs/formats/log-replication.md).
 */
import { MAX_CHUNKS_PER_REPLY } from '../limits.js';
import { method } from '../rpc.js';
import { bool, list, oneOf, optional, struct, text, u32, u53, uint, type ValueOf } from '../schema.js';
import { chunkHandleCodec } from './types.js';

/** Log replicas of one master. */
export const MAX_LOG_REPLICAS = 16;

const empty = struct({});

/** A master or a shadow: which data directory it is, and where it is reached. */
export const memberCodec = struct({ id: text(64), host: text(255), port: uint(65_535) });
export type Member = ValueOf<typeof memberCodec>;

export const commitRuleCodec = oneOf('all', 'majority');
export type CommitRule = ValueOf<typeof commitRuleCodec>;

/**
 * From a shadow to the master: "I have flushed everything before `nextSequence`; give me what follows".
 * So one message asks for the next group and acknowledges the last; it is answered when there is
 * something, or after `waitMs`. With payload: the records, each as in a group of the log.
 * @throws STALE_TERM when the shadow knows a newer term; NOT_PERMITTED
 */
export const FollowLog = method(
  100,
  'followLog',
  struct({
    shadow: memberCodec,
    /** The newest term that it has promised to follow. */
    term: u53,
    /** The term of its last record, 0 when it has none. */
    lastTerm: u53,
    nextSequence: u53,
    waitMs: u32,
  }),
  struct({
    term: u53,
    /** Who serves in that term. */
    masterId: text(64),
    clusterId: text(64),
    chunkBytes: u53,
    /** `cut`: its log has parted from the master's after `sequence`. `checkpoint`: what it needs is no longer kept. */
    action: oneOf('records', 'cut', 'checkpoint'),
    /** Of the first record; of the last one to keep; of the last one in the checkpoint. */
    sequence: u53,
    count: u32,
    /** The last record that the master has written. */
    endSequence: u53,
    renewIntervalMs: u32,
    timeoutMs: u32,
  }),
);

/** A part of the checkpoint that ends with record `sequence`; its bytes are the payload. @throws NOT_FOUND when it is gone */
export const ReadCheckpoint = method(
  101,
  'readCheckpoint',
  struct({ sequence: u53, offset: u53, length: u32 }),
  struct({ sizeBytes: u53 }),
);

/**
 * To a shadow: "follow nobody of a lower term any more". Durable there before it is answered: who has it
 * from enough log replicas is the only one that can commit a record in that term.
 */
export const PromiseTerm = method(
  102,
  'promiseTerm',
  struct({ term: u53, candidate: memberCodec }),
  struct({ granted: bool, term: u53, promisedTo: optional(memberCodec), lastTerm: u53, lastSequence: u53 }),
);

const logReplicaStatus = struct({
  member: memberCodec,
  state: oneOf('in step', 'catching up', 'missing'),
  /** Whether mutations wait for it. */
  counted: bool,
  /** The last record that it has flushed, as far as it was heard. */
  sequence: u53,
  /** Since it was heard of. */
  silentMs: u53,
});
export type LogReplicaStatus = ValueOf<typeof logReplicaStatus>;

/** Where a master or a shadow stands. */
export const GetLogStatus = method(
  103,
  'getLogStatus',
  empty,
  struct({
    role: oneOf('master', 'shadow'),
    member: memberCodec,
    clusterId: text(64),
    term: u53,
    promisedTo: optional(memberCodec),
    lastTerm: u53,
    lastSequence: u53,
    commit: commitRuleCodec,
    /** Of a master: whether it takes mutations now. */
    writable: bool,
    /** Of a shadow: how old what it tells may be, and whether it stands in for a master that is away. */
    behindMs: u53,
    standsIn: bool,
    /** Of a shadow: since it heard of the master. */
    silentMs: u53,
    /** Of a master: its log replicas. Of a shadow: those that it knows to be counted. */
    replicas: list(logReplicaStatus, 2 * MAX_LOG_REPLICAS),
  }),
);
export type LogStatus = ValueOf<typeof GetLogStatus.reply>;

/** Where the shadows are: for chunkservers and clients, who need them when the master is away. */
export const GetShadows = method(104, 'getShadows', empty, struct({ shadows: list(memberCodec, 32) }));

/** A chunkserver keeps its session with a shadow. The reply tells whether reads may rest on that one alone. */
export const RenewAtShadow = method(105, 'renewAtShadow', empty, struct({ standsIn: bool, term: u53 }));

/** From a shadow to a chunkserver: which of these it has, and how (paper §5.1.3: it polls chunkservers). */
export const FindChunks = method(
  106,
  'findChunks',
  struct({ handles: list(chunkHandleCodec, MAX_CHUNKS_PER_REPLY) }),
  struct({
    found: list(
      struct({ handle: chunkHandleCodec, version: u53, lengthBytes: u53, suspect: bool }),
      MAX_CHUNKS_PER_REPLY,
    ),
  }),
);

/**
 * To a shadow: become the master.
 * @throws NOT_PERMITTED when it may lack acknowledged records, or too few others promise; the message tells whom to take instead
 */
export const Promote = method(107, 'promote', empty, struct({ term: u53 }));

/** To the master: stop waiting for a log replica that is gone for good. @throws NOT_FOUND; NOT_PERMITTED while it is connected */
export const RemoveLogReplica = method(108, 'removeLogReplica', struct({ id: text(64) }), empty);
