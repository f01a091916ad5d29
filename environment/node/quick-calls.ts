/**
 * Whether short system calls are worth making at once: a read of what is in the page cache takes a few
 * microseconds and a flush on a quick device a hundred, while a thread that does it costs fifty and two
 * wake-ups. One that has to wait for the device holds up everything else, so after one that took long the
 * next are left to threads, more of them each time.
 */
const FEWEST = 16;
const MOST = 1024;

export class QuickCalls {
  readonly #longMs: number;
  /** Calls that are left to threads before one is made at once again. */
  #left = 0;
  #penalty = FEWEST;

  /** @param longMs what took longer should have been left to a thread */
  constructor(longMs: number) {
    this.#longMs = longMs;
  }

  /** Whether the next call may be made at once. */
  get areDue(): boolean {
    if (this.#left === 0) return true;
    this.#left--;
    return false;
  }

  /** How long one that was made at once has taken. */
  note(tookMs: number): void {
    if (tookMs <= this.#longMs) {
      this.#penalty = Math.max(FEWEST, this.#penalty / 2);
      return;
    }
    this.#left = this.#penalty;
    this.#penalty = Math.min(MOST, 2 * this.#penalty);
  }
}
