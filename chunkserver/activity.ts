import type { Clock } from '../environment/ports/index.js';

/** When clients last asked for something: what can wait keeps out of their way. */
export class Activity {
  readonly #clock: Clock;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(): void {
    this.#lastMs = this.#clock.monotonicMs();
  }

  /** For how long nobody has asked for anything. */
  get idleMs(): number {
    return this.#clock.monotonicMs() - this.#lastMs;
  }
}
