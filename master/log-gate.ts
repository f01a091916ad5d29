/**
 * Whether mutations are taken, and when an answer is given that waits for log replicas no longer: so that
 * nobody hangs while they are away, and nobody is told that something failed that may yet happen.
 */
import { GfsError } from '../protocol/errors.js';

export class LogGate {
  /** Whether anybody is waited for at all: without log replicas nothing can stall. */
  active = false;
  #stalled = false;
  readonly #waiting = new Set<(error: GfsError) => void>();
  #replayed: Promise<void> | undefined;

  /** @param counts resolves once all that was in the log at the start counts: the last of it may be on no other disk */
  holdUntil(counts: Promise<void>): void {
    this.#replayed = counts;
    void counts.then(() => {
      this.#replayed = undefined;
    });
  }

  /** What `work` comes to, told to nobody before the records that it follows from count. */
  proven<T>(work: Promise<T>): Promise<T> {
    const replayed = this.#replayed;
    return replayed === undefined ? work : Promise.allSettled([replayed, work]).then(() => work);
  }

  /** Too few log replicas answer: what was begun waits, what is new is refused, reads go on. */
  get stalled(): boolean {
    return this.#stalled;
  }

  set stalled(stalled: boolean) {
    this.#stalled = stalled;
    if (!stalled) return;
    for (const reject of this.#waiting) reject(outcomePending());
    this.#waiting.clear();
  }

  /** @throws READ_ONLY */
  check(): void {
    if (this.#stalled) {
      throw new GfsError('READ_ONLY', 'too few log replicas answer (gfs status tells which)');
    }
  }

  /** What `work` comes to, which goes on in any case. @throws OUTCOME_PENDING when the log stalls first */
  answer<T>(work: Promise<T>): Promise<T> {
    if (!this.active) return work;
    return new Promise<T>((resolve, reject) => {
      if (this.#stalled) {
        work.catch(() => undefined);
        reject(outcomePending());
        return;
      }
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  /** Resolves with the work, or when the log stalls: for what need not be durable to go on. */
  async settled(work: Promise<unknown>): Promise<void> {
    try {
      await this.answer(work);
    } catch (error) {
      if (!(error instanceof GfsError && error.code === 'OUTCOME_PENDING')) throw error;
    }
  }
}

function outcomePending(): GfsError {
  return new GfsError(
    'OUTCOME_PENDING',
    'too few log replicas answer: whether it happened is known when they do',
  );
}
