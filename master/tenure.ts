/**
 * Whether this master may serve. Where there are log replicas, each life of a master is a term of its
 * own, and begins when enough of them have promised to follow nobody of a lower one: so no two masters
 * can make records count, and a record is known by its term and its place. Without log replicas the
 * disk alone decides.
 */
import type { Environment } from '../environment/ports/index.js';
import { type FollowLog, type LogStatus, type Member, PromiseTerm } from '../protocol/messages/index.js';
import type { Caller } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { type Asker, ask, askAllStatus } from './dialing.js';
import { type Journal, OWN } from './journal.js';
import type { LogGate } from './log-gate.js';
import type { OperationLog } from './operation-log.js';
import type { MasterOptions } from './options.js';
import { acknowledgementsNeeded, promisesNeeded } from './quorum.js';
import type { LoggedState } from './state.js';
import type { SuperblockKeeper } from './superblock.js';

const WATCH_INTERVAL_MS = 1_000;
/** So long whoever has been promised a later term may take to win it, and to serve. */
const OVERTAKEN_MS = 5_000;

/** Another master serves, in a later term. This one never does again. */
export class ReplacedError extends Error {
  override readonly name = 'ReplacedError';
  readonly by: Member;

  constructor(by: Member, dataDirectory: string) {
    super(
      `this master was replaced: ${by.host}:${by.port} serves. To make this host its shadow: ` +
        `gfs shadow --master ${by.host}:${by.port} --data ${dataDirectory}`,
    );
    this.by = by;
  }
}

export interface TenureParts {
  readonly environment: Environment;
  readonly options: MasterOptions;
  readonly superblock: SuperblockKeeper;
  readonly state: LoggedState;
  readonly log: OperationLog;
  readonly journal: Journal;
  readonly gate: LogGate;
  /** Where others reach this master. */
  readonly self: () => Member;
  /** Called once: the process has to end. */
  readonly onReplaced: (error: ReplacedError) => void;
  /** Called once: a log replica follows a later term, in which nobody serves. Only a later one brings it back. */
  readonly onOvertaken: () => void;
}

export class Tenure {
  readonly startedAtMs: number;
  onBegun: () => void = () => undefined;
  readonly #parts: TenureParts;
  #begun: boolean;
  /** The record that says so counts, and with it all before. */
  #onCounted: () => void = () => undefined;
  /** Its first record, once it has begun. */
  #from: number | undefined;
  /** The term that is asked for. */
  #target: number;
  readonly #promised = new Set<string>();
  /** Log replicas that follow a later term. */
  readonly #lost = new Set<string>();
  /** Log replicas that are gone for good, as an operator says: their word is not needed. */
  readonly #gone = new Set<string>();
  /** Of these, since when each has asked for records of this one all the same. */
  readonly #strayed = new Map<string, number>();
  #replaced = false;
  #beginning = false;
  #watchedAtMs = 0;
  #watching = false;

  constructor(parts: TenureParts) {
    this.#parts = parts;
    this.startedAtMs = parts.environment.clock.monotonicMs();
    const { id, term, promisedTo } = parts.superblock.current;
    const { logReplicas, terms } = parts.state;
    this.#begun = logReplicas.size === 0 && terms.has(term);
    // A shadow that was promoted has been promised its term, and only has to begin it.
    this.#target = promisedTo?.id === id && !terms.has(term) ? term : term + 1;
    if (logReplicas.has(id)) this.#promised.add(id);
    if (this.#begun) return;
    parts.gate.holdUntil(
      new Promise((resolve) => {
        this.#onCounted = resolve;
      }),
    );
  }

  /** Whether it may write records. */
  get begun(): boolean {
    return this.#begun && !this.#replaced;
  }

  /** Of the last record, 0 when there is none. */
  get lastTerm(): number {
    return this.#parts.log.endSequence === 0 ? 0 : Math.max(...this.#parts.state.terms.keys());
  }

  get #members(): ReadonlyMap<string, Member> {
    const { logReplicas } = this.#parts.state;
    return this.#gone.size === 0
      ? logReplicas
      : new Map([...logReplicas].filter(([id]) => !this.#gone.has(id)));
  }

  /** Nobody waits for what this log replica would say. */
  async doWithout(id: string): Promise<void> {
    this.#gone.add(id);
    await this.#beginIfPromised();
  }

  get #asker(): Asker {
    const { clusterId, term } = this.#parts.superblock.current;
    return { role: 'master', id: clusterId, clusterId, term };
  }

  /** Asks the log replicas where they are known to be. Those that cannot be reached may come by themselves. */
  async seek(): Promise<void> {
    if (this.#begun) return;
    const { environment, superblock } = this.#parts;
    const others = [...this.#members.values()].filter(({ id }) => id !== superblock.current.id);
    const found = await askAllStatus(environment, this.#asker, others);
    for (const status of found.values()) await this.#learn(status);
    if (this.#replaced) return;
    for (const { member } of found.values()) {
      await this.#seekPromise(member.id, (body) =>
        ask(environment, this.#asker, member, PromiseTerm, body),
      ).catch((err) => environment.logger.warn({ err, shadow: member.id }, 'a log replica does not promise'));
    }
    await this.#beginIfPromised();
  }

  /** A log replica has come to follow. */
  async heardOf(body: ValueOf<typeof FollowLog.request>, peer: Caller): Promise<void> {
    const { id } = body.shadow;
    if (!this.#members.has(id) || this.#replaced) return;
    if (this.#begun) {
      if (body.term > this.#parts.superblock.current.term) this.#onStray(body.shadow);
      else {
        this.#lost.delete(id);
        this.#strayed.delete(id);
      }
      return;
    }
    if (body.lastTerm > this.lastTerm) return this.#inspect([body.shadow]);
    await this.#seekPromise(id, async (request) => (await peer.call(PromiseTerm, request)).body);
  }

  /** Perhaps another master serves; perhaps a promotion came to nothing after its first promise. */
  #onStray(member: Member): void {
    const { environment, onOvertaken } = this.#parts;
    const nowMs = environment.clock.monotonicMs();
    const sinceMs = this.#strayed.get(member.id) ?? nowMs;
    this.#strayed.set(member.id, sinceMs);
    if (nowMs - sinceMs < OVERTAKEN_MS) {
      void this.#inspect([member]);
      return;
    }
    environment.logger.warn({ shadow: member.id }, 'a log replica has promised a later term that nobody won');
    this.#strayed.clear();
    onOvertaken();
  }

  async #seekPromise(
    id: string,
    askFor: (body: ValueOf<typeof PromiseTerm.request>) => Promise<ValueOf<typeof PromiseTerm.reply>>,
  ): Promise<void> {
    const { superblock, self } = this.#parts;
    if (this.#begun || this.#replaced) return;
    if (this.#promised.has(id)) return this.#beginIfPromised();
    const term = this.#target;
    const reply = await askFor({ term, candidate: self() });
    if (reply.granted && reply.lastTerm <= this.lastTerm) {
      if (term !== this.#target) return;
      this.#promised.add(id);
      return this.#beginIfPromised();
    }
    const isOwn = reply.promisedTo?.id === superblock.current.id;
    if (!isOwn && reply.promisedTo !== undefined) await this.#lose(id, reply.promisedTo);
    if (this.#replaced || reply.term < this.#target) return;
    this.#target = reply.term + 1;
    for (const other of this.#promised) if (other !== superblock.current.id) this.#promised.delete(other);
  }

  async #beginIfPromised(): Promise<void> {
    const { superblock, environment, options, log, journal, state } = this.#parts;
    const count = this.#members.size;
    const needed =
      count === 0
        ? 0
        : Math.max(promisesNeeded(state.commitRule, count), promisesNeeded(options.logCommit, count));
    if (this.#beginning || this.#begun || this.#promised.size < needed) return;
    this.#beginning = true;
    const term = this.#target;
    try {
      await superblock.update(() => ({ term, promisedTo: undefined }));
    } catch (error) {
      // A full disk: the next log replica that asks tries again.
      this.#beginning = false;
      throw error;
    }
    this.#from = log.endSequence + 1;
    this.#begun = true;
    environment.logger.info({ term, sequence: this.#from }, 'the log replicas have promised: a term begins');
    journal
      .commit({ type: 'termBegun', term, sequence: this.#from, commit: options.logCommit }, OWN, true)
      .catch((err) => environment.logger.warn({ err, term }, 'the term could not be logged'))
      .finally(this.#onCounted);
    const { id } = superblock.current;
    if (this.#members.has(id)) {
      journal
        .commit({ type: 'logReplicaRemoved', id })
        .catch((err) => environment.logger.warn({ err }, 'the master is still among its log replicas'));
    }
    this.onBegun();
  }

  /**
   * The last record that a log replica has in common with this log, which ends with `through`.
   * @param lastTerm of its last record
   */
  commonEnd(lastTerm: number, lastSequence: number, through: number): number {
    const terms = [...this.#parts.state.terms];
    const own = this.#parts.superblock.current.term;
    // Logged under way: the records of this term count from its first one on.
    if (this.#from !== undefined && terms.at(-1)?.[0] !== own) terms.push([own, this.#from]);
    const at = terms.findLastIndex(([term]) => term <= lastTerm);
    if (at < 0) return 0;
    const end = at + 1 < terms.length ? (terms[at + 1] as [number, number])[1] - 1 : through;
    return Math.min(lastSequence, end);
  }

  /**
   * Called again and again with those that are missing: perhaps one of them has become the master, or
   * follows another.
   */
  watch(missing: readonly Member[]): void {
    const nowMs = this.#parts.environment.clock.monotonicMs();
    if (missing.length === 0 || this.#watching || nowMs - this.#watchedAtMs < WATCH_INTERVAL_MS) return;
    this.#watchedAtMs = nowMs;
    void this.#inspect(missing);
  }

  async #inspect(members: readonly Member[]): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    try {
      const found = await askAllStatus(this.#parts.environment, this.#asker, members);
      for (const status of found.values()) await this.#learn(status);
    } finally {
      this.#watching = false;
    }
  }

  async #learn({ role, member, term, promisedTo, lastTerm }: LogStatus): Promise<void> {
    const own = this.#parts.superblock.current;
    if (term <= own.term && lastTerm <= this.lastTerm) return;
    if (role === 'shadow' && promisedTo?.id === own.id) return;
    const successor = role === 'master' ? member : promisedTo;
    if (successor !== undefined)
      await this.#lose(member.id, successor, role === 'master' && term > own.term && lastTerm === term);
  }

  /**
   * When so many follow another that a record of ours can never count again, ours is over.
   * @param hasBegun the first record of the later term counts there: who else has promised it need not be asked
   */
  async #lose(id: string, successor: Member, hasBegun = false): Promise<void> {
    const { superblock, environment, options, state, onReplaced } = this.#parts;
    if (!this.#members.has(id) || this.#replaced) return;
    this.#lost.add(id);
    // One that was promoted is among them until it has counted a record, and no record waits for its own word.
    const count = [...this.#members.keys()].filter((each) => each !== superblock.current.id).length;
    if (!hasBegun && this.#lost.size <= count - acknowledgementsNeeded(state.commitRule, count)) return;
    this.#replaced = true;
    await superblock
      .update(() => ({ replacedBy: successor }))
      .catch((err) => {
        environment.logger.error({ err }, 'that this master was replaced cannot be written down');
      });
    onReplaced(new ReplacedError(successor, options.dataDirectory));
  }
}
