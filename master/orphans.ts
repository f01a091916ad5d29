/**
 * The scan for orphaned chunks (paper §4.4): chunks that no file has. Reference counts see to it that
 * there are none; this looks whether it is so, and gives up those that a fault has left behind.
 */
import type { Clock, Counter, Logger, Metrics, Timers } from '../environment/ports/index.js';
import type { Journal } from './journal.js';
import type { LoggedState } from './state.js';

/** Nodes or chunks looked at in one turn of the event loop. */
const SLICE = 2048;
/** Handles that one pass is about: a bit for each, 4 MiB. */
const WINDOW = 2 ** 25;
const MAX_PER_RECORD = 512;
const DEFAULT_INTERVAL_MS = 600_000;

export class OrphanScan {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #logger: Logger;
  readonly #found: Counter;
  readonly #intervalMs: number;
  #scannedAtMs: number;
  #scanning = false;
  /** The first handle of the next pass. */
  #from = 0;

  constructor(
    state: LoggedState,
    journal: Journal,
    environment: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly logger: Logger;
      readonly metrics: Metrics;
    },
    intervalMs = DEFAULT_INTERVAL_MS,
  ) {
    this.#intervalMs = intervalMs;
    this.#state = state;
    this.#journal = journal;
    this.#clock = environment.clock;
    this.#timers = environment.timers;
    this.#logger = environment.logger;
    this.#scannedAtMs = environment.clock.monotonicMs();
    this.#found = environment.metrics.counter(
      'gfs_master_orphaned_chunks_total',
      'Chunks that no file had, found by the scan and given up',
    );
  }

  /** From the regular scans: begins a pass when it is time. */
  sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#scanning || nowMs - this.#scannedAtMs < this.#intervalMs) return;
    this.#scanning = true;
    this.scan()
      .catch((err) => this.#logger.warn({ err }, 'orphaned chunks cannot be given up now'))
      .finally(() => {
        this.#scanning = false;
        this.#scannedAtMs = this.#clock.monotonicMs();
      });
  }

  /** One pass. @returns the handles that were given up */
  async scan(): Promise<number[]> {
    const from = this.#from;
    // What is made from here on is not looked at: it may get its file behind our back.
    const end = Math.min(from + WINDOW, this.#state.reservedHandles + 1);
    this.#from = end > this.#state.reservedHandles ? 0 : end;
    const suspects = await this.#withoutFile(from, end);
    const orphans = this.#verified(suspects);
    for (let at = 0; at < orphans.length; at += MAX_PER_RECORD) {
      const handles = orphans.slice(at, at + MAX_PER_RECORD);
      this.#logger.error({ handles: handles.slice(0, 16), count: handles.length }, 'chunks that no file has');
      this.#found.add(handles.length);
      await this.#journal.commit({ type: 'chunksForgotten', handles });
    }
    return orphans;
  }

  /** A file may have taken one over from another meanwhile, unseen: it is looked again whether it is so. */
  async #withoutFile(from: number, end: number): Promise<Set<number>> {
    const seen = new Uint8Array(Math.ceil((end - from) / 8));
    let looked = 0;
    for (const node of this.#state.nodes.values()) {
      for (const handle of node.chunks?.handles() ?? []) {
        if (handle >= from && handle < end) seen[(handle - from) >> 3]! |= 1 << ((handle - from) & 7);
      }
      if (++looked % SLICE === 0) await this.#pause();
    }
    const suspects = new Set<number>();
    for (const { handle } of this.#state.chunks.values()) {
      const isSeen =
        handle < from || handle >= end || (seen[(handle - from) >> 3]! >> ((handle - from) & 7)) & 1;
      if (!isSeen) suspects.add(handle);
      if (++looked % SLICE === 0) await this.#pause();
    }
    return suspects;
  }

  /**
   * Without a pause, so that nothing can move: only where there is something to lose. Nobody can take a
   * chunk into a file later that no file has.
   */
  #verified(suspects: Set<number>): number[] {
    if (suspects.size === 0) return [];
    for (const node of this.#state.nodes.values()) {
      for (const handle of node.chunks?.handles() ?? []) suspects.delete(handle);
    }
    return [...suspects].filter((handle) => this.#state.chunks.has(handle)).sort((a, b) => a - b);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#timers.after(0, resolve));
  }
}
