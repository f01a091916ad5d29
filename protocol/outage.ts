/** When it is worth telling that something still fails which is tried again and again. */
import type { Clock } from '../environment/ports/index.js';

const TOLD_AGAIN_MS = 60_000;

/** One for each thing that is tried. */
export class Outage {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  /** When each kind was last told. */
  readonly #told = new Map<string, number>();
  #sinceMs: number | undefined;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /**
   * It failed once more. @returns for how long it has been failing, where that is to be told: the first failure of
   * each kind, and then once a minute
   * @param kind the error's code, with the address where that is one of a few
   */
  failed(kind: string): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    this.#sinceMs ??= nowMs;
    const toldMs = this.#told.get(kind);
    if (toldMs !== undefined && nowMs - toldMs < TOLD_AGAIN_MS) return undefined;
    this.#told.set(kind, nowMs);
    return nowMs - this.#sinceMs;
  }

  /** It works. */
  over(): void {
    this.#told.clear();
    this.#sinceMs = undefined;
  }
}
