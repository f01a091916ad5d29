/**
 * Caching by promise (docs/decisions/0017-caching-by-promise.md). The master remembers, within a bound, which
 * client was told what. Before a mutation is answered every other client that was told something else has
 * forgotten it, or its session is dead; so nobody who hears of a change sees the old state afterwards.
 *
 * INVARIANT: a promise is in the table before the state that it is about is read for the reply. A change in
 * between then sends its message before the reply can leave, and the client does not keep the reply.
 */
import type { Clock, Timers } from '../environment/ports/index.js';
import { type Attributes, Promised, ReportLengths } from '../protocol/messages/index.js';
import type { LogEvent, LogRecord } from '../protocol/records.js';
import type { Caller } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { Holder } from './breaking.js';
import { PromiseKind, PromiseTable } from './promise-table.js';
import type { LoggedState } from './state.js';
import { type Touched, touchedBy } from './touches.js';

const { ATTRIBUTES, ENTRIES, DEFERRED, DATA } = PromiseKind;

/** Changes of names that a client hears of without asking about that directory; then it hears of no more. */
const MAX_UNASKED_CHANGES = 64;
/** A directory whose changes came from another client than the one before this often in a row is shared. */
const SHARED_AFTER = 4;
/** For so long after the last such change. */
const SHARED_FOR_MS = 1_000;
const MAX_SHARED = 4_096;
const REPORT_DEADLINE_MS = 10_000;

interface Contention {
  lastHolder: number;
  alternations: number;
  atMs: number;
}

export interface CoherenceOptions {
  /** Promises remembered; rounded up to a power of two. */
  readonly maxPromises: number;
  readonly sessionTimeoutMs: number;
}

/** What comes of a mutation for those who cache. */
export interface Consequences {
  /** Resolves when everybody else has forgotten what it changed; undefined when nobody has to. */
  readonly acknowledged: Promise<unknown> | undefined;
  /** Joins the reply to the client that asked for it: what it may keep. */
  readonly extras: object | undefined;
}

const NO_CONSEQUENCES: Consequences = { acknowledged: undefined, extras: undefined };

export class Coherence {
  readonly #state: LoggedState;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #options: CoherenceOptions;
  readonly #table: PromiseTable;
  /** By number, and by session. */
  readonly #holders = new Map<number, Holder>();
  readonly #ofSession = new Map<number, Holder>();
  #nextHolder = 1;
  readonly #shared = new Map<number, Contention>();
  /** Promises that made room: their holders are being told. */
  readonly #evicting = new Map<number, Promise<void>>();
  /** Files whose appenders are being asked for their lengths, and how often at once. */
  readonly #asking = new Map<number, number>();
  /** Files whose promise to tell late made room: they are being told, by whom. */
  readonly #reporting = new Map<number, Map<Holder, Promise<void>>>();
  #deferredCount = 0;
  #brokenCount = 0;

  constructor(
    state: LoggedState,
    environment: { readonly clock: Clock; readonly timers: Timers },
    options: CoherenceOptions,
  ) {
    this.#state = state;
    this.#clock = environment.clock;
    this.#timers = environment.timers;
    this.#options = options;
    this.#table = new PromiseTable(2 ** Math.ceil(Math.log2(options.maxPromises)), (holder, node, kinds) =>
      this.#evicted(holder, node, kinds),
    );
  }

  get promiseCount(): number {
    return this.#table.count;
  }

  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** Promises that were taken back so far. */
  get brokenCount(): number {
    return this.#brokenCount;
  }

  /** A session has a connection, and caches what it is told from now on. */
  open(session: number, peer: Caller): void {
    this.close(session);
    const holder = new Holder(this.#nextHolder++, peer, this.#timers, this.#options.sessionTimeoutMs);
    this.#holders.set(holder.number, holder);
    this.#ofSession.set(session, holder);
  }

  /** A session is dead, or on its way to another connection: nothing is promised to it any more. */
  close(session: number): void {
    const holder = this.#ofSession.get(session);
    if (holder === undefined) return;
    // Its promises go when they are met.
    this.#ofSession.delete(session);
    this.#holders.delete(holder.number);
  }

  /** Promises the attributes of a node, and a file's data. INVARIANT: they are read after this. @returns whether it did */
  promiseAttributes(session: number, node: number): boolean {
    const holder = this.#ofSession.get(session);
    if (holder === undefined || this.#isShared(node)) return false;
    if (this.#isAnyLate && this.#mayBeMore(node, session)) return false;
    const isDirectory = this.#state.nodes.get(node)?.isDirectory === true;
    this.#table.grant(holder.number, node, isDirectory ? ATTRIBUTES : ATTRIBUTES | DATA);
    return true;
  }

  /** Whether somebody else may know more of the node than was told. */
  #mayBeMore(node: number, session: number): boolean {
    const own = this.#ofSession.get(session);
    for (const holder of this.#reporting.get(node)?.keys() ?? []) if (holder !== own) return true;
    return this.#deferring(node, session).length > 0;
  }

  /** Promises the names of a directory. INVARIANT: as {@link promiseAttributes}. */
  promiseEntries(session: number, directory: number): boolean {
    const holder = this.#ofSession.get(session);
    if (holder === undefined) return false;
    this.#table.grant(holder.number, directory, ENTRIES);
    return true;
  }

  /** Whether a session's client keeps what it is told. */
  caches(session: number): boolean {
    return this.#ofSession.has(session);
  }

  /**
   * The session may tell the lengths of its appends to this file late, until somebody asks; whoever was
   * promised its attributes has forgotten them by then.
   */
  defer(session: number, node: number): boolean {
    const holder = this.#ofSession.get(session);
    // Whoever is being asked would not be asked again.
    if (holder === undefined || this.#asking.has(node)) return false;
    let others = false;
    this.#table.update(node, (one, kinds) => {
      if (one !== holder.number && (kinds & (ATTRIBUTES | DATA)) !== 0 && this.#holders.has(one))
        others = true;
      return kinds;
    });
    if (others) return false;
    if ((this.#table.kindsOf(holder.number, node) & DEFERRED) === 0) this.#deferredCount++;
    this.#table.grant(holder.number, node, DEFERRED);
    return true;
  }

  /**
   * Has those who append to these nodes tell what they have not told yet. Undefined when there are none.
   * @param session who asks
   */
  reported(nodes: readonly number[], session: number): Promise<unknown> | undefined {
    if (!this.#isAnyLate) return undefined;
    const own = this.#ofSession.get(session);
    const asked = new Map<Holder, number[]>();
    const waits: Promise<void>[] = [];
    for (const node of nodes) {
      for (const [holder, report] of this.#reporting.get(node) ?? []) if (holder !== own) waits.push(report);
      for (const holder of this.#deferring(node, session)) {
        const ids = asked.get(holder);
        if (ids === undefined) asked.set(holder, [node]);
        else ids.push(node);
      }
    }
    for (const [holder, ids] of asked) waits.push(this.#askLengths(holder, ids));
    return waits.length === 0 ? undefined : Promise.all(waits);
  }

  /**
   * Has those who append to the node send what they have acknowledged before. Undefined when there are none. They go
   * on telling lengths late.
   */
  aheadSent(node: number, session: number): Promise<unknown> | undefined {
    if (!this.#isAnyLate) return undefined;
    const own = this.#ofSession.get(session);
    const holders = new Set([
      ...this.#deferring(node, session),
      ...(this.#reporting.get(node)?.keys() ?? []),
    ]);
    if (own !== undefined) holders.delete(own);
    if (holders.size === 0) return undefined;
    return Promise.all([...holders].map(({ peer }) => askLengths(peer, { ids: [node], ahead: true })));
  }

  get #isAnyLate(): boolean {
    return this.#deferredCount + this.#reporting.size > 0;
  }

  /** {@link reported}, of every file of everybody else. */
  async allReported(session: number): Promise<void> {
    if (!this.#isAnyLate) return;
    const own = this.#ofSession.get(session);
    const others = [...this.#holders.values()].filter((holder) => holder !== own);
    await Promise.all(others.map((holder) => this.#askLengths(holder, [])));
  }

  /** What an event is about to change. To be asked for before it is applied. */
  touches(event: LogEvent): Touched | undefined {
    return this.#holders.size === 0 ? undefined : touchedBy(this.#state, event);
  }

  /**
   * The event has been applied.
   * @param isAbandoned whoever asked for it does not wait for the answer: it has to be told as all others
   */
  applied(record: LogRecord, touched: Touched | undefined, isAbandoned: boolean): Consequences {
    if (touched === undefined) return NO_CONSEQUENCES;
    const own = isAbandoned ? undefined : this.#ofSession.get(record.session);
    const waits = new Set<Promise<void>>();
    for (const node of touched.attributes)
      this.#break(node, ATTRIBUTES, own, waits, (holder) => holder.breakAttributes(node));
    if (touched.data !== undefined) this.#breakData(touched.data, touched.isCut === true, own, waits);
    for (const { directory, name } of touched.entries) {
      this.#noteSharing(directory, own?.number ?? 0);
      this.#breakEntry(directory, name, own, waits);
    }
    return {
      acknowledged: waits.size === 0 ? undefined : Promise.all(waits),
      extras: own === undefined ? undefined : this.#extras(record.session, record.event, touched),
    };
  }

  /**
   * Those who tell lengths late have to hear of a cut as well. They stay among them until they were asked: what they
   * acknowledge before they hear of it is theirs alone.
   */
  #breakData(node: number, isCut: boolean, own: Holder | undefined, waits: Set<Promise<void>>): void {
    const kinds = ATTRIBUTES | DATA | (isCut ? DEFERRED : 0);
    this.#break(node, kinds, own, waits, (holder) => holder.breakData(node, isCut));
  }

  #break(
    node: number,
    broken: number,
    own: Holder | undefined,
    waits: Set<Promise<void>>,
    tell: (holder: Holder) => Promise<void>,
  ): void {
    this.#table.update(node, (number, kinds) => {
      const holder = this.#holders.get(number);
      if (holder === undefined) return this.#dropped(kinds);
      if (holder === own || (kinds & broken) === 0) return kinds;
      this.#brokenCount++;
      waits.add(tell(holder));
      return kinds & (~broken | DEFERRED);
    });
    const evicting = this.#evicting.get(node);
    if (evicting !== undefined) waits.add(evicting);
  }

  #breakEntry(directory: number, name: string, own: Holder | undefined, waits: Set<Promise<void>>): void {
    const counted: number[] = [];
    this.#table.update(directory, (number, kinds, changes) => {
      const holder = this.#holders.get(number);
      if (holder === undefined) return this.#dropped(kinds);
      if (holder === own || (kinds & ENTRIES) === 0) return kinds;
      this.#brokenCount++;
      if (changes >= MAX_UNASKED_CHANGES) {
        waits.add(holder.breakDirectory(directory));
        return kinds & ~ENTRIES;
      }
      waits.add(holder.breakEntry({ directory, name }));
      counted.push(number);
      return kinds;
    });
    for (const number of counted) this.#table.noteChange(number, directory);
    const evicting = this.#evicting.get(directory);
    if (evicting !== undefined) waits.add(evicting);
  }

  /** The promise of a client that is gone. */
  #dropped(kinds: number): 0 {
    if ((kinds & DEFERRED) !== 0) this.#deferredCount--;
    return 0;
  }

  #evicted(number: number, node: number, kinds: number): void {
    const holder = this.#holders.get(number);
    if ((kinds & DEFERRED) !== 0) this.#deferredCount--;
    if (holder === undefined) return;
    this.#brokenCount++;
    const waits: Promise<unknown>[] = [];
    if ((kinds & (ATTRIBUTES | DATA)) !== 0) waits.push(holder.breakData(node, false));
    if ((kinds & ENTRIES) !== 0) waits.push(holder.breakDirectory(node));
    if ((kinds & DEFERRED) !== 0) this.#askEvicted(holder, node);
    if (waits.length === 0) return;
    const before = this.#evicting.get(node);
    if (before !== undefined) waits.push(before);
    const done: Promise<void> = Promise.all(waits).then(() => {
      if (this.#evicting.get(node) === done) this.#evicting.delete(node);
    });
    this.#evicting.set(node, done);
  }

  /** Not waited for by changes, of which one is what the holder tells. */
  #askEvicted(holder: Holder, node: number): void {
    const reports = this.#reporting.get(node) ?? new Map<Holder, Promise<void>>();
    this.#reporting.set(node, reports);
    const report = this.#askLengths(holder, [node]).then(() => {
      if (reports.get(holder) === report) reports.delete(holder);
      if (reports.size === 0 && this.#reporting.get(node) === reports) this.#reporting.delete(node);
    });
    reports.set(holder, report);
  }

  // Lengths that are told late.

  #deferring(node: number, exceptSession: number): Holder[] {
    const own = this.#ofSession.get(exceptSession);
    const found: Holder[] = [];
    this.#table.update(node, (number, kinds) => {
      if ((kinds & DEFERRED) === 0) return kinds;
      const holder = this.#holders.get(number);
      if (holder === undefined) return this.#dropped(kinds);
      if (holder !== own) found.push(holder);
      return kinds;
    });
    return found;
  }

  async #askLengths(holder: Holder, ids: number[]): Promise<void> {
    for (const id of ids) this.#asking.set(id, (this.#asking.get(id) ?? 0) + 1);
    await askLengths(holder.peer, { ids });
    for (const id of ids) {
      const asking = (this.#asking.get(id) as number) - 1;
      if (asking === 0) this.#asking.delete(id);
      else this.#asking.set(id, asking);
      this.#table.update(id, (number, kinds) => {
        if (number !== holder.number || (kinds & DEFERRED) === 0) return kinds;
        this.#deferredCount--;
        return kinds & ~DEFERRED;
      });
    }
  }

  // Directories that several clients keep changing.

  #isShared(node: number): boolean {
    const sharing = this.#shared.get(node);
    if (sharing === undefined || sharing.alternations < SHARED_AFTER) return false;
    return this.#clock.monotonicMs() - sharing.atMs < SHARED_FOR_MS;
  }

  #noteSharing(directory: number, holder: number): void {
    const nowMs = this.#clock.monotonicMs();
    const sharing = this.#shared.get(directory);
    if (sharing === undefined) {
      if (this.#shared.size >= MAX_SHARED) this.#shared.delete(this.#shared.keys().next().value as number);
      this.#shared.set(directory, { lastHolder: holder, alternations: 0, atMs: nowMs });
      return;
    }
    if (nowMs - sharing.atMs > SHARED_FOR_MS) sharing.alternations = 0;
    if (sharing.lastHolder !== holder) {
      sharing.lastHolder = holder;
      sharing.alternations++;
      sharing.atMs = nowMs;
    }
  }

  // What the client that made a change may keep of its reply.

  #extras(session: number, event: LogEvent, touched: Touched): object | undefined {
    switch (event.type) {
      case 'created':
      case 'linked':
      case 'undeleted': {
        const contents = event.type === 'created' && this.#state.nodes.get(event.id)?.isDirectory === true;
        return {
          promised:
            (this.promiseAttributes(session, event.id) ? Promised.ATTRIBUTES : 0) |
            (this.promiseAttributes(session, event.parent) ? Promised.PARENT : 0) |
            (this.promiseEntries(session, event.parent) ? Promised.ENTRIES : 0) |
            (contents && this.promiseEntries(session, event.id) ? Promised.CONTENTS : 0),
          parent: this.#attributesOf(event.parent),
        };
      }
      case 'unlinked':
        return {
          promised:
            (this.promiseAttributes(session, event.parent) ? Promised.PARENT : 0) |
            (this.promiseEntries(session, event.parent) ? Promised.ENTRIES : 0),
          parent: this.#attributesOf(event.parent),
        };
      case 'renamed':
        return {
          promised:
            (this.promiseAttributes(session, event.parent) ? Promised.PARENT : 0) |
            (this.promiseAttributes(session, event.newParent) ? Promised.NEW_PARENT : 0),
          parent: this.#attributesOf(event.parent),
          newParent: this.#attributesOf(event.newParent),
          nodes: touched.attributes.filter((id) => id !== event.parent && id !== event.newParent),
        };
      case 'tmpfileCreated':
      case 'attributesSet':
      case 'extended':
      case 'chunksShared':
      case 'punched':
        return { promised: this.promiseAttributes(session, event.id) ? Promised.ATTRIBUTES : 0 };
      case 'xattrSet':
      case 'xattrRemoved':
      case 'aclSet':
        return {
          promised: this.promiseAttributes(session, event.id) ? Promised.ATTRIBUTES : 0,
          attributes: this.#attributesOf(event.id),
        };
      default:
        return undefined;
    }
  }

  #attributesOf(node: number): Attributes | undefined {
    return this.#state.nodes.get(node)?.attributes();
  }
}

/** Who cannot tell is silent, or dead with what it had not told. */
async function askLengths(peer: Caller, asked: ValueOf<typeof ReportLengths.request>): Promise<void> {
  await peer.call(ReportLengths, asked, { deadlineMs: REPORT_DEADLINE_MS }).catch(() => undefined);
}
