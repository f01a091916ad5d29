/** A line at the bottom of a terminal that tells how far a long command is. */

const WIDTH = 30;
const INTERVAL_MS = 100;
/** ECMA-48: erase the line. */
const ERASE = '\r\u001b[K';

/** Silent where standard error is not a terminal. */
export class Progress {
  readonly #isShown = process.stderr.isTTY === true;
  #lastMs = Number.NEGATIVE_INFINITY;
  #line = '';

  /** @param share from 0 to 1; undefined when nobody knows */
  show(share: number | undefined, text: string): void {
    if (!this.#isShown) return;
    const bar = share === undefined ? '' : `${barOf(share)} `;
    this.#line = `${bar}${text}`.slice(0, (process.stderr.columns ?? 80) - 1);
    if (performance.now() - this.#lastMs < INTERVAL_MS) return;
    this.#lastMs = performance.now();
    process.stderr.write(`${ERASE}${this.#line}`);
  }

  /** Prints something above it. */
  around(print: () => void): void {
    this.end();
    print();
  }

  end(): void {
    if (this.#isShown && this.#line !== '') process.stderr.write(ERASE);
    this.#lastMs = Number.NEGATIVE_INFINITY;
  }
}

function barOf(share: number): string {
  const done = Math.round(Math.min(1, share) * WIDTH);
  const percent = Math.floor(Math.min(1, share) * 100);
  return `[${'#'.repeat(done)}${' '.repeat(WIDTH - done)}] ${String(percent).padStart(3)} %`;
}
