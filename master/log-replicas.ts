/**
 * The log replicas of a master (paper §2.6.3): they follow its log, and a record counts when enough of
 * them have flushed it. Which there are is logged, so that a restarted master knows whom to wait for.
 */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { FollowLog, LogReplicaStatus, LogStatus, Member } from '../protocol/messages/index.js';
import { MAX_LOG_REPLICAS } from '../protocol/messages/index.js';
import type { Caller, IncomingRequest, Outcome } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Journal } from './journal.js';
import { LogFeed } from './log-feed.js';
import type { LogGate } from './log-gate.js';
import type { LogReader } from './log-reader.js';
import type { OperationLog, Replication } from './operation-log.js';
import type { MasterOptions } from './options.js';
import { acknowledgementsNeeded } from './quorum.js';
import type { LoggedState } from './state.js';
import type { Superblock } from './superblock.js';
import type { Tenure } from './tenure.js';

type Request = ValueOf<typeof FollowLog.request>;
type Reply = ValueOf<typeof FollowLog.reply>;

export interface LogReplicaParts {
  readonly state: LoggedState;
  readonly log: OperationLog;
  readonly journal: Journal;
  readonly gate: LogGate;
  readonly superblock: Superblock;
  readonly options: MasterOptions;
  readonly environment: Environment;
  readonly tenure: Tenure;
  /** Where others reach this master. */
  readonly self: () => Member;
}

interface Follower {
  member: Member;
  /** Undefined while it is not connected. */
  peer: Caller | undefined;
  lastHeardMs: number;
  /** The last record that it has flushed. */
  acknowledged: number;
  /** It gets records as they are written, and not from the disk. */
  inStep: boolean;
  readonly reader: LogReader;
}

const NOBODY: readonly Member[] = [];

interface Commit {
  readonly through: number;
  readonly sinceMs: number;
  readonly resolve: () => void;
  readonly reject: (error: GfsError) => void;
}

export class LogReplicas implements Replication {
  /** What followers are given. */
  readonly feed: LogFeed;
  readonly #parts: LogReplicaParts;
  readonly #followers = new Map<string, Follower>();
  /** Being removed: no longer waited for, not even for the record that says so. */
  readonly #leaving = new Set<string>();
  readonly #ready: { readonly resolve: () => void; readonly reject: (error: GfsError) => void }[] = [];
  #commit: Commit | undefined;
  /** When enough log replicas were last heard of. */
  #enoughAtMs: number;
  #adding = false;
  #stopped = false;

  constructor(parts: LogReplicaParts) {
    this.#parts = parts;
    this.feed = new LogFeed(parts.environment, parts.options, parts.superblock, parts.log.endSequence);
    this.#enoughAtMs = parts.environment.clock.monotonicMs();
    parts.gate.active = this.#counted().length > 0;
    parts.tenure.onBegun = () => this.#evaluate();
  }

  // What the operation log asks.

  ready(): Promise<void> | undefined {
    if (this.#canWrite) return undefined;
    return new Promise((resolve, reject) => {
      if (this.#stopped) reject(stopping());
      else this.#ready.push({ resolve, reject });
    });
  }

  written(firstSequence: number, records: readonly Buffer[]): boolean {
    const isFollowed = this.#followers.size > 0;
    this.feed.written(firstSequence, records, isFollowed);
    return isFollowed;
  }

  committed(through: number): Promise<void> | undefined {
    if (this.#counts(through)) return undefined;
    const sinceMs = this.#parts.environment.clock.monotonicMs();
    return new Promise((resolve, reject) => {
      if (this.#stopped) reject(stopping());
      else this.#commit = { through, sinceMs, resolve, reject };
    });
  }

  /** Who is waited for, by id. */
  #counted(): readonly Member[] {
    const { state, superblock } = this.#parts;
    if (state.logReplicas.size === 0) return NOBODY;
    // One that has become the master is its own log replica until the log says otherwise.
    return [...state.logReplicas.values()].filter(({ id }) => !this.#leaving.has(id) && id !== superblock.id);
  }

  /** While the rule changes, both the old and the new one hold. */
  #needed(count: number): number {
    const { state, options } = this.#parts;
    return Math.max(
      acknowledgementsNeeded(state.commitRule, count),
      acknowledgementsNeeded(options.logCommit, count),
    );
  }

  #counts(through: number): boolean {
    const counted = this.#counted();
    const having = counted.filter(({ id }) => (this.#followers.get(id)?.acknowledged ?? 0) >= through);
    return having.length >= this.#needed(counted.length);
  }

  /** When the log replicas that it takes were last heard of; undefined where too few are in step. */
  #heardOfEnoughMs(): number | undefined {
    const counted = this.#counted();
    const needed = this.#needed(counted.length);
    if (needed === 0) return this.#parts.environment.clock.monotonicMs();
    const heard = counted
      .map(({ id }) => this.#followers.get(id))
      .filter((follower) => follower?.peer !== undefined && follower.inStep)
      .map((follower) => (follower as Follower).lastHeardMs)
      .sort((a, b) => b - a);
    return heard[needed - 1];
  }

  get #canWrite(): boolean {
    if (this.#stopped || !this.#parts.tenure.begun) return false;
    if (this.#needed(this.#counted().length) === 0) return true;
    const heardMs = this.#heardOfEnoughMs();
    return heardMs !== undefined && this.#silenceMs(heardMs) <= this.#parts.options.logReplicaTimeoutMs;
  }

  #silenceMs(sinceMs: number): number {
    return this.#parts.environment.clock.monotonicMs() - sinceMs;
  }

  /** Something has changed: what waited may go on. */
  #evaluate(): void {
    const { gate, options } = this.#parts;
    gate.active = this.#counted().length > 0 || !this.#parts.tenure.begun;
    if (this.#commit !== undefined && this.#counts(this.#commit.through)) {
      this.#commit.resolve();
      this.#commit = undefined;
    }
    const canWrite = this.#canWrite;
    if (canWrite) {
      this.#enoughAtMs = this.#heardOfEnoughMs() as number;
      for (const { resolve } of this.#ready.splice(0)) resolve();
    }
    const waitedMs = Math.max(
      this.#silenceMs(this.#enoughAtMs),
      this.#commit === undefined ? 0 : this.#silenceMs(this.#commit.sinceMs),
    );
    const stalled = waitedMs > options.logReplicaTimeoutMs;
    if (stalled === gate.stalled) return;
    gate.stalled = stalled;
    const fields = { missing: this.missing.map(({ id }) => id), commit: options.logCommit };
    if (stalled)
      this.#parts.environment.logger.error(fields, 'too few log replicas answer: mutations are refused');
    else this.#parts.environment.logger.info(fields, 'enough log replicas answer: mutations are taken');
  }

  /** Those that are waited for and do not answer. */
  get missing(): Member[] {
    return this.#counted().filter(({ id }) => this.#stateOf(id) === 'missing');
  }

  #stateOf(id: string): LogReplicaStatus['state'] {
    const follower = this.#followers.get(id);
    const { logReplicaTimeoutMs } = this.#parts.options;
    if (follower?.peer === undefined || this.#silenceMs(follower.lastHeardMs) > logReplicaTimeoutMs)
      return 'missing';
    return follower.inStep ? 'in step' : 'catching up';
  }

  status(): LogReplicaStatus[] {
    const { state, superblock } = this.#parts;
    const all = new Map([...this.#followers].map(([id, { member }]) => [id, member]));
    for (const [id, member] of state.logReplicas) if (!all.has(id)) all.set(id, member);
    all.delete(superblock.id);
    return [...all].map(([id, member]) => {
      const follower = this.#followers.get(id);
      const silentMs = Math.floor(this.#silenceMs(follower?.lastHeardMs ?? this.#parts.tenure.startedAtMs));
      const counted = state.logReplicas.has(id);
      const sequence = follower?.acknowledged ?? 0;
      return { member, state: this.#stateOf(id), counted, sequence, silentMs };
    });
  }

  logStatus(): LogStatus {
    const { superblock, tenure, log, state, options, self } = this.#parts;
    const { clusterId, term } = superblock;
    return {
      role: 'master',
      member: self(),
      clusterId,
      term,
      lastTerm: tenure.lastTerm,
      lastSequence: log.endSequence,
      commit: state.logReplicas.size > 0 ? state.commitRule : options.logCommit,
      writable: this.#canWrite,
      behindMs: 0,
      standsIn: false,
      silentMs: 0,
      replicas: this.status(),
    };
  }

  /** Every shadow that is known, for whoever may need one. */
  get members(): Member[] {
    return this.status().map(({ member }) => member);
  }

  // What log replicas ask.

  /** @throws STALE_TERM, NOT_PERMITTED, OVERLOADED */
  async follow(body: Request, request: IncomingRequest): Promise<Outcome<Reply>> {
    const { tenure, superblock } = this.#parts;
    const { id } = body.shadow;
    if (request.from.role !== 'shadow' || id === superblock.id)
      throw new GfsError('NOT_PERMITTED', 'only a shadow follows the log');
    await tenure.heardOf(body, request.peer);
    if (body.term > superblock.term)
      throw new GfsError('STALE_TERM', `this master is of term ${superblock.term}, not of ${body.term}`);
    const follower = this.#note(body.shadow, request.peer);
    // It has to promise our term before what it has counts.
    if (body.term < superblock.term) return this.feed.reply('records', body.nextSequence);
    const common = tenure.commonEnd(body.lastTerm, body.nextSequence - 1, this.feed.writtenThrough);
    if (common < body.nextSequence - 1) return this.feed.reply('cut', common);
    follower.acknowledged = body.nextSequence - 1;
    follower.inStep = follower.inStep || follower.acknowledged >= this.feed.writtenThrough;
    this.#evaluate();
    this.#register(follower);
    await this.feed.untilWritten(body.nextSequence, body.waitMs);
    if (body.nextSequence <= this.feed.writtenThrough)
      follower.inStep = this.feed.isRecent(body.nextSequence);
    return this.feed.next(follower.reader, body.nextSequence);
  }

  #note(member: Member, peer: Caller): Follower {
    let follower = this.#followers.get(member.id);
    if (follower === undefined) {
      if (this.#followers.size >= 2 * MAX_LOG_REPLICAS)
        throw new GfsError('OVERLOADED', 'too many shadows follow');
      const reader = this.feed.newReader();
      follower = { member, peer: undefined, lastHeardMs: 0, acknowledged: 0, inStep: false, reader };
      this.#followers.set(member.id, follower);
    }
    follower.member = member;
    follower.lastHeardMs = this.#parts.environment.clock.monotonicMs();
    if (follower.peer !== peer) this.#connect(follower, peer);
    return follower;
  }

  #connect(follower: Follower, peer: Caller): void {
    follower.peer = peer;
    follower.inStep = false;
    follower.acknowledged = 0;
    const { logger } = this.#parts.environment;
    logger.info({ shadow: follower.member.id, remote: peer.remote }, 'a log replica follows');
    peer.onceClosed(() => {
      if (follower.peer !== peer) return;
      follower.peer = undefined;
      follower.inStep = false;
      if (!this.#parts.state.logReplicas.has(follower.member.id)) this.#followers.delete(follower.member.id);
      if (this.#stopped) return;
      logger.warn({ shadow: follower.member.id }, 'a log replica is gone');
      this.#evaluate();
    });
  }

  /** Who has the whole log is waited for from now on; who has moved is known where it is. */
  #register({ member, inStep }: Follower): void {
    const { state, journal, options, tenure, environment } = this.#parts;
    const known = state.logReplicas.get(member.id);
    if (known?.host === member.host && known.port === member.port) return;
    if (!inStep || this.#adding || !tenure.begun || this.#leaving.has(member.id)) return;
    if (known === undefined && state.logReplicas.size >= MAX_LOG_REPLICAS) return;
    this.#adding = true;
    journal
      .commit({ type: 'logReplicaAdded', member, commit: options.logCommit })
      .then(() => {
        environment.logger.info({ shadow: member.id, commit: options.logCommit }, 'a log replica counts');
        this.#evaluate();
      })
      .catch((err) =>
        environment.logger.warn({ err, shadow: member.id }, 'a log replica cannot be added now'),
      )
      .finally(() => {
        this.#adding = false;
      });
  }

  /** An operator says that it is gone for good. @throws NOT_FOUND, NOT_PERMITTED, OUTCOME_PENDING */
  async remove(id: string): Promise<void> {
    const { state, journal, gate } = this.#parts;
    if (!state.logReplicas.has(id)) throw new GfsError('NOT_FOUND', `no log replica ${id} is waited for`);
    if (this.#followers.get(id)?.peer !== undefined)
      throw new GfsError('NOT_PERMITTED', `log replica ${id} is connected: stop it first`);
    this.#leaving.add(id);
    await this.#parts.tenure.doWithout(id);
    this.#evaluate();
    const removed = journal.commit({ type: 'logReplicaRemoved', id });
    // Where others are missing too it stays as good as removed, until they are removed or back.
    const done = (): void => {
      this.#leaving.delete(id);
      this.#evaluate();
    };
    removed.then(() => this.#followers.delete(id)).then(done, done);
    await gate.answer(removed);
  }

  /**
   * Called every now and then.
   * @param lateMs time in which nobody could be heard
   */
  sweep(lateMs: number): void {
    const nowMs = this.#parts.environment.clock.monotonicMs();
    this.#enoughAtMs = Math.min(nowMs, this.#enoughAtMs + lateMs);
    for (const follower of this.#followers.values())
      follower.lastHeardMs = Math.min(nowMs, follower.lastHeardMs + lateMs);
    this.#evaluate();
    this.#parts.tenure.watch(this.missing);
  }

  /** What waits for log replicas waits for ever: its outcome is unknown. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#commit?.reject(stopping());
    this.#commit = undefined;
    for (const { reject } of this.#ready.splice(0)) reject(stopping());
    this.feed.stop();
    await Promise.all([...this.#followers.values()].map(({ reader }) => reader.close()));
  }
}

function stopping(): GfsError {
  return new GfsError('OUTCOME_PENDING', 'the master is stopping');
}
