import type { Clock, WallTime } from '../ports/index.js';

/** How far the two clocks may part before the wall clock is believed to have been set. */
const STEP_MS = 1;

/** CLOCK_MONOTONIC and CLOCK_REALTIME, as Node gives them. */
export class NodeClock implements Clock {
  #originMs = Date.now() - performance.now();

  monotonicMs(): number {
    return performance.now();
  }

  /**
   * Date.now() counts whole milliseconds, which would give all files that are made within one the same
   * time. The digits below come from the monotonic clock, tied to the wall clock again when that is set.
   */
  wallTime(): WallTime {
    const wallMs = Date.now();
    const runningMs = performance.now();
    let nowMs = this.#originMs + runningMs;
    if (Math.abs(nowMs - wallMs) > STEP_MS) {
      this.#originMs = wallMs - runningMs;
      nowMs = wallMs;
    }
    const sec = Math.floor(nowMs / 1000);
    return { sec, nsec: Math.min(999_999_999, Math.floor((nowMs - sec * 1000) * 1e6)) };
  }
}
