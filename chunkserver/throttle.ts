import type { Clock, Timers } from '../environment/ports/index.js';

/** So much may go at once before the rate counts: small chunks do not wait for each other. */
const BURST_MS = 50;

/** Spreads bytes over time, for all who take from it together. */
export class Throttle {
  readonly #clock: Clock;
  readonly #timers: Timers;
  /** When all that was taken so far has gone, at its rate. */
  #freeAtMs = 0;

  constructor(clock: Clock, timers: Timers) {
    this.#clock = clock;
    this.#timers = timers;
  }

  /** Resolves when it is `sizeBytes`' turn. @param rateBps bytes per second; 0 for no limit */
  async take(sizeBytes: number, rateBps: number): Promise<void> {
    if (rateBps === 0) return;
    const nowMs = this.#clock.monotonicMs();
    const startMs = this.charge(sizeBytes, rateBps);
    if (startMs <= nowMs) return;
    await new Promise<void>((resolve) => void this.#timers.after(startMs - nowMs, resolve));
  }

  /** For bytes that have gone already: whoever comes next waits for them. @returns when they should have gone */
  charge(sizeBytes: number, rateBps: number): number {
    if (rateBps === 0) return 0;
    const startMs = Math.max(this.#freeAtMs, this.#clock.monotonicMs() - BURST_MS);
    this.#freeAtMs = startMs + (sizeBytes * 1000) / rateBps;
    return startMs;
  }
}
