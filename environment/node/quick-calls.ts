/**
 * Whether calls of the disk are worth doing at once: what is in the page cache is copied in a few microseconds,
 * and a quick device flushes in a hundred, while a thread that does it costs fifty and two wake-ups. A call that
 * has to wait for a slow device would hold up everything else, so after one that took long the next are left to
 * threads, more of them each time. One that does not end holds up the whole process: others take it for one that hangs,
 * and do without it (docs/replication.md, "A disk that hangs").
 */
const FEWEST = 16;
const MOST = 1024;

export class QuickCalls {
  readonly #longMs: number;
  readonly #fewest: number;
  /** Calls that are left to threads before one is tried at once again. */
  #left = 0;
  #penalty: number;

  /**
   * @param longMs what took longer would have been better left to a thread
   * @param fewest that are left to threads after one that took long
   */
  constructor(longMs: number, fewest = FEWEST) {
    this.#longMs = longMs;
    this.#fewest = fewest;
    this.#penalty = fewest;
  }

  /** Whether the next may be done at once. */
  get areDue(): boolean {
    if (this.#left === 0) return true;
    this.#left--;
    return false;
  }

  /** How long one that was done at once has taken. */
  note(tookMs: number): void {
    if (tookMs <= this.#longMs) {
      this.#penalty = Math.max(this.#fewest, this.#penalty / 2);
      return;
    }
    this.#left = this.#penalty;
    this.#penalty = Math.min(MOST, 2 * this.#penalty);
  }
}
