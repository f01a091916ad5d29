import type { Clock, WallTime } from '../ports/index.js';

/** Date.now() counts whole milliseconds. */
const TICK_MS = 1;

/** CLOCK_MONOTONIC and CLOCK_REALTIME, as Node gives them. */
export class NodeClock implements Clock {
  readonly #wallMs: () => number;
  readonly #runningMs: () => number;
  #originMs: number;

  /** @param wallMs as Date.now(); @param runningMs as performance.now() */
  constructor(wallMs: () => number = () => Date.now(), runningMs: () => number = () => performance.now()) {
    this.#wallMs = wallMs;
    this.#runningMs = runningMs;
    this.#originMs = wallMs() - runningMs();
  }

  monotonicMs(): number {
    return this.#runningMs();
  }

  /**
   * Whole milliseconds would give all files that are made within one the same time. The digits below come from the
   * monotonic clock: what the wall clock is ahead of it is known to be within the bounds that each reading of both
   * allows, so it is moved no further than to where it contradicts none. A process that stands still between the
   * two readings learns little, and takes nothing for a clock that was set.
   */
  wallTime(): WallTime {
    const runningMs = this.#runningMs();
    const wallMs = this.#wallMs();
    if (this.#originMs + runningMs > wallMs + TICK_MS) this.#originMs = wallMs + TICK_MS - runningMs;
    else if (this.#originMs + runningMs < wallMs)
      this.#originMs = Math.max(this.#originMs, wallMs - this.#runningMs());
    const nowMs = this.#originMs + runningMs;
    const sec = Math.floor(nowMs / 1000);
    return { sec, nsec: Math.min(999_999_999, Math.floor((nowMs - sec * 1000) * 1e6)) };
  }
}
