import type { Clock } from '../environment/ports/index.js';

/** When clients last wanted something: what can wait keeps out of their way. */
export class Activity {
  readonly #clock: Clock;
  #underWay = 0;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What clients wait for now. */
  get underWay(): number {
    return this.#underWay;
  }

  note(): void {
    this.#lastMs = this.#clock.monotonicMs();
  }

  /** A client waits for `work`, however long it takes. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      return await work;
    } finally {
      this.#underWay--;
      this.note();
    }
  }

  /** For how long nobody has wanted anything. */
  get idleMs(): number {
    return this.#underWay > 0 ? 0 : this.#clock.monotonicMs() - this.#lastMs;
  }
}
