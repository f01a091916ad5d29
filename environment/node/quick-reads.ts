/**
 * Whether small reads are worth doing at once: what is in the page cache is copied in a few microseconds,
 * while a thread that does it costs fifty and two wake-ups. A read that has to wait for the device would hold
 * up everything else, so after one that took long the next are left to threads, more of them each time.
 */
const FEWEST = 16;
const MOST = 1024;

export class QuickReads {
  readonly #longMs: number;
  /** Reads that are left to threads before one is tried at once again. */
  #left = 0;
  #penalty = FEWEST;

  /** @param longMs what took longer would have been better left to a thread */
  constructor(longMs: number) {
    this.#longMs = longMs;
  }

  /** Whether the next read may be done at once. */
  get areDue(): boolean {
    if (this.#left === 0) return true;
    this.#left--;
    return false;
  }

  /** How long one that was done at once has taken. */
  note(tookMs: number): void {
    if (tookMs <= this.#longMs) {
      this.#penalty = Math.max(FEWEST, this.#penalty / 2);
      return;
    }
    this.#left = this.#penalty;
    this.#penalty = Math.min(MOST, 2 * this.#penalty);
  }
}
