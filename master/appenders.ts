/**
 * Who may append to a file (soft state). A client that is the only one may acknowledge its appends before it
 * sends them: nobody can put bytes before them, and nobody sees the file's length without asking us, who have
 * the client send first (docs/decisions/0022-appends-alone.md).
 */
import type { Clock } from '../environment/ports/index.js';
import type { LoggedState } from './state.js';

/** Files that are remembered; of another one nothing is known, and nobody is alone with it. */
const MAX_FILES = 65_536;

interface Writer {
  readonly session: number;
  /** Until then another client may still use a lease that it was told of. */
  readonly othersUntilMs: number;
}

export class Appenders {
  readonly #state: LoggedState;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #leaseDurationMs: number;
  /** In the order in which they were first written to. */
  readonly #writers = new Map<number, Writer>();
  /** By file, the sessions that are being told a lease: one for each request under way. */
  readonly #asking = new Map<number, number[]>();

  constructor(state: LoggedState, clock: Pick<Clock, 'monotonicMs'>, leaseDurationMs: number) {
    this.#state = state;
    this.#clock = clock;
    this.#leaseDurationMs = leaseDurationMs;
  }

  /**
   * A client is told the lease of one of the file's chunks when `grant` resolves, which may be longer from now than a
   * lease lasts: all the time, and for a lease's duration from then on, nobody else is alone with the file.
   */
  async leasing<T>(session: number, node: number, grant: () => Promise<T>): Promise<T> {
    this.#noteAsked(session, node);
    const asking = this.#asking.get(node) ?? [];
    this.#asking.set(node, asking);
    asking.push(session);
    try {
      return await grant();
    } finally {
      asking.splice(asking.indexOf(session), 1);
      if (asking.length === 0) this.#asking.delete(node);
      this.#noteTold(session, node);
    }
  }

  #noteAsked(session: number, node: number): void {
    const known = this.#writers.get(node);
    if (known?.session === session) return;
    // A file without chunks has no leases that others could know.
    const isFirst = known === undefined && (this.#state.nodes.get(node)?.chunks?.size ?? 0) === 0;
    this.#note(node, { session, othersUntilMs: isFirst ? 0 : this.#overAtMs() });
  }

  /** Who asked after it may append as well, but is not alone. */
  #noteTold(session: number, node: number): void {
    const known = this.#writers.get(node);
    if (known === undefined || known.session === session) return;
    this.#writers.set(node, { ...known, othersUntilMs: this.#overAtMs() });
  }

  /** A client made the file, and was told the lease of its first chunk with it. */
  noteCreated(session: number, node: number): void {
    if (this.#writers.has(node)) this.#noteTold(session, node);
    else this.#note(node, { session, othersUntilMs: 0 });
  }

  /** A client tells what it has appended, perhaps long ago: others do not know where the file ends until then. */
  noteTells(session: number, node: number): void {
    this.#noteTold(session, node);
  }

  isAlone(session: number, node: number): boolean {
    const writer = this.#writers.get(node);
    if (writer?.session !== session || writer.othersUntilMs > this.#clock.monotonicMs()) return false;
    return this.#asking.get(node)?.every((asking) => asking === session) ?? true;
  }

  /** When a lease that a client is told of now is over. */
  #overAtMs(): number {
    return this.#clock.monotonicMs() + this.#leaseDurationMs;
  }

  #note(node: number, writer: Writer): void {
    this.#writers.delete(node);
    this.#writers.set(node, writer);
    if (this.#writers.size > MAX_FILES) this.#writers.delete(this.#writers.keys().next().value as number);
  }
}
