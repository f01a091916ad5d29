/**
 * Lengths that are told late: a client that nobody else looks at may tell how long a file is when it likes. Whoever
 * looks has it asked first (docs/decisions/0017 and 0022).
 */
import { ReportLengths } from '../protocol/messages/index.js';
import type { Caller } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Holder } from './breaking.js';
import { PromiseKind, type PromiseTable } from './promise-table.js';
import type { Unforgotten } from './unforgotten.js';

const { ATTRIBUTES, DEFERRED, DATA } = PromiseKind;

const REPORT_DEADLINE_MS = 10_000;

export class LateLengths {
  readonly #table: PromiseTable;
  /** By number, and by session. */
  readonly #holders: ReadonlyMap<number, Holder>;
  readonly #ofSession: ReadonlyMap<number, Holder>;
  readonly #unforgotten: Pick<Unforgotten, 'isAny'>;
  /** Files whose appenders are being asked for their lengths, and how often at once. */
  readonly #asking = new Map<number, number>();
  /** Files whose promise to tell late made room: they are being told, by whom. */
  readonly #reporting = new Map<number, Map<Holder, Promise<void>>>();
  #deferredCount = 0;

  constructor(
    table: PromiseTable,
    holders: ReadonlyMap<number, Holder>,
    ofSession: ReadonlyMap<number, Holder>,
    unforgotten: Pick<Unforgotten, 'isAny'>,
  ) {
    this.#table = table;
    this.#holders = holders;
    this.#ofSession = ofSession;
    this.#unforgotten = unforgotten;
  }

  get #isAny(): boolean {
    return this.#deferredCount + this.#reporting.size > 0;
  }

  /** Whether somebody else may know more of the node than was told. */
  mayBeMore(node: number, session: number): boolean {
    if (!this.#isAny) return false;
    const own = this.#ofSession.get(session);
    for (const holder of this.#reporting.get(node)?.keys() ?? []) if (holder !== own) return true;
    return this.#deferring(node, own).length > 0;
  }

  /**
   * The session may tell the lengths of its appends to this file late, until somebody asks; whoever was
   * promised its attributes has forgotten them by then.
   */
  defer(session: number, node: number): boolean {
    const holder = this.#ofSession.get(session);
    // Whoever is being asked would not be asked again.
    if (holder === undefined || this.#asking.has(node)) return false;
    let others = this.#unforgotten.isAny(node, holder);
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

  /** A promise of these kinds has left the table. */
  noteDropped(kinds: number): void {
    if ((kinds & DEFERRED) !== 0) this.#deferredCount--;
  }

  /**
   * Has those who append to these nodes tell what they have not told yet. Undefined when there are none.
   * @param session who asks
   */
  reported(nodes: readonly number[], session: number): Promise<unknown> | undefined {
    if (!this.#isAny) return undefined;
    const own = this.#ofSession.get(session);
    const asked = new Map<Holder, number[]>();
    const waits: Promise<void>[] = [];
    for (const node of nodes) {
      for (const [holder, report] of this.#reporting.get(node) ?? []) if (holder !== own) waits.push(report);
      for (const holder of this.#deferring(node, own)) {
        const ids = asked.get(holder);
        if (ids === undefined) asked.set(holder, [node]);
        else ids.push(node);
      }
    }
    for (const [holder, ids] of asked) waits.push(this.#ask(holder, ids));
    return waits.length === 0 ? undefined : Promise.all(waits);
  }

  /** {@link reported}, of every file of everybody else. */
  async allReported(session: number): Promise<void> {
    if (!this.#isAny) return;
    const own = this.#ofSession.get(session);
    const others = [...this.#holders.values()].filter((holder) => holder !== own);
    await Promise.all(others.map((holder) => this.#ask(holder, [])));
  }

  /**
   * Has those who append to the node send what they have acknowledged before. Undefined when there are none. They go
   * on telling lengths late.
   */
  aheadSent(node: number, session: number): Promise<unknown> | undefined {
    if (!this.#isAny) return undefined;
    const own = this.#ofSession.get(session);
    const holders = new Set([...this.#deferring(node, own), ...(this.#reporting.get(node)?.keys() ?? [])]);
    if (own !== undefined) holders.delete(own);
    if (holders.size === 0) return undefined;
    return Promise.all([...holders].map(({ peer }) => askLengths(peer, { ids: [node], ahead: true })));
  }

  /** The promise has made room for others. Not waited for by changes, of which one is what the holder tells. */
  askEvicted(holder: Holder, node: number): void {
    const reports = this.#reporting.get(node) ?? new Map<Holder, Promise<void>>();
    this.#reporting.set(node, reports);
    const report = this.#ask(holder, [node]).then(() => {
      if (reports.get(holder) === report) reports.delete(holder);
      if (reports.size === 0 && this.#reporting.get(node) === reports) this.#reporting.delete(node);
    });
    reports.set(holder, report);
  }

  #deferring(node: number, except: Holder | undefined): Holder[] {
    const found: Holder[] = [];
    this.#table.update(node, (number, kinds) => {
      if ((kinds & DEFERRED) === 0) return kinds;
      const holder = this.#holders.get(number);
      if (holder === undefined) {
        this.noteDropped(kinds);
        return 0;
      }
      if (holder !== except) found.push(holder);
      return kinds;
    });
    return found;
  }

  async #ask(holder: Holder, ids: number[]): Promise<void> {
    for (const id of ids) this.#asking.set(id, (this.#asking.get(id) ?? 0) + 1);
    await askLengths(holder.peer, { ids });
    for (const id of ids) {
      const asking = (this.#asking.get(id) as number) - 1;
      if (asking === 0) this.#asking.delete(id);
      else this.#asking.set(id, asking);
      this.#table.update(id, (number, kinds) => {
        if (number !== holder.number) return kinds;
        this.noteDropped(kinds);
        return kinds & ~DEFERRED;
      });
    }
  }
}

/** Who cannot tell is silent, or dead with what it had not told. */
async function askLengths(peer: Caller, asked: ValueOf<typeof ReportLengths.request>): Promise<void> {
  await peer.call(ReportLengths, asked, { deadlineMs: REPORT_DEADLINE_MS }).catch(() => undefined);
}
