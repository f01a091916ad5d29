/**
 * Caching by promise (docs/decisions/0017-caching-by-promise.md). The master remembers, within a bound, which
 * client was told what. Before a mutation is answered every other client that was told something else has
 * forgotten it, or its session is dead; so nobody who hears of a change sees the old state afterwards.
 *
 * INVARIANT: a promise is in the table before the state that it is about is read for the reply. A change in
 * between then sends its message before the reply can leave, and the client does not keep the reply.
 */
import type { Clock, Timers } from '../environment/ports/index.js';
import { type Attributes, Promised } from '../protocol/messages/index.js';
import type { LogEvent, LogRecord } from '../protocol/records.js';
import type { Caller } from '../protocol/rpc.js';
import { Holder } from './breaking.js';
import { Contention } from './contention.js';
import { LateLengths } from './late-lengths.js';
import { PromiseKind, PromiseTable } from './promise-table.js';
import type { LoggedState } from './state.js';
import { type Touched, touchedBy } from './touches.js';
import { Unforgotten } from './unforgotten.js';

const { ATTRIBUTES, ENTRIES, DEFERRED, DATA } = PromiseKind;

/** Changes of names that a client hears of without asking about that directory; then it hears of no more. */
const MAX_UNASKED_CHANGES = 64;

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
  readonly #timers: Timers;
  readonly #options: CoherenceOptions;
  readonly #table: PromiseTable;
  /** By number, and by session. */
  readonly #holders = new Map<number, Holder>();
  readonly #ofSession = new Map<number, Holder>();
  #nextHolder = 1;
  readonly #contention: Contention;
  /** What clients may tell late. */
  readonly late: LateLengths;
  /** What has left the table: its holders are being told. */
  readonly #unforgotten = new Unforgotten();
  #brokenCount = 0;

  constructor(
    state: LoggedState,
    environment: { readonly clock: Clock; readonly timers: Timers },
    options: CoherenceOptions,
  ) {
    this.#state = state;
    this.#contention = new Contention(environment.clock);
    this.#timers = environment.timers;
    this.#options = options;
    this.#table = new PromiseTable(2 ** Math.ceil(Math.log2(options.maxPromises)), (holder, node, kinds) =>
      this.#evicted(holder, node, kinds),
    );
    this.late = new LateLengths(this.#table, this.#holders, this.#ofSession, this.#unforgotten);
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
    if (holder === undefined || this.#contention.isShared(node)) return false;
    if (this.late.mayBeMore(node, session)) return false;
    const isDirectory = this.#state.nodes.get(node)?.isDirectory === true;
    this.#table.grant(holder.number, node, isDirectory ? ATTRIBUTES : ATTRIBUTES | DATA);
    return true;
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
      this.#contention.noteChange(directory, own?.number ?? 0);
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
      this.#unforgotten.add(node, holder, tell(holder));
      return kinds & (~broken | DEFERRED);
    });
    this.#unforgotten.collect(node, own, waits);
  }

  #breakEntry(directory: number, name: string, own: Holder | undefined, waits: Set<Promise<void>>): void {
    const counted: number[] = [];
    this.#table.update(directory, (number, kinds, changes) => {
      const holder = this.#holders.get(number);
      if (holder === undefined) return this.#dropped(kinds);
      if (holder === own || (kinds & ENTRIES) === 0) return kinds;
      this.#brokenCount++;
      if (changes >= MAX_UNASKED_CHANGES) {
        this.#unforgotten.add(directory, holder, holder.breakDirectory(directory));
        return kinds & ~ENTRIES;
      }
      waits.add(holder.breakEntry({ directory, name }));
      counted.push(number);
      return kinds;
    });
    for (const number of counted) this.#table.noteChange(number, directory);
    this.#unforgotten.collect(directory, own, waits);
  }

  /** The promise of a client that is gone. */
  #dropped(kinds: number): 0 {
    this.late.noteDropped(kinds);
    return 0;
  }

  #evicted(number: number, node: number, kinds: number): void {
    const holder = this.#holders.get(number);
    this.late.noteDropped(kinds);
    if (holder === undefined) return;
    this.#brokenCount++;
    const tell = (forgotten: Promise<void>) => this.#unforgotten.add(node, holder, forgotten);
    if ((kinds & (ATTRIBUTES | DATA)) !== 0) tell(holder.breakData(node, false));
    if ((kinds & ENTRIES) !== 0) tell(holder.breakDirectory(node));
    if ((kinds & DEFERRED) !== 0) this.late.askEvicted(holder, node);
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
