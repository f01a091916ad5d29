import { randomFillSync } from 'node:crypto';
import type { Random } from '../ports/index.js';

const DRAW_BYTES = 6;
const DRAW_VALUES = 2 ** (8 * DRAW_BYTES);
/** Drawn from the kernel at once: a call for 6 bytes costs as much as one for 3 KiB. */
const STOCK_BYTES = 512 * DRAW_BYTES;

/** The kernel's random numbers. */
export class NodeRandom implements Random {
  readonly #stock = Buffer.alloc(STOCK_BYTES);
  #used = STOCK_BYTES;

  below(bound: number): number {
    if (!Number.isSafeInteger(bound) || bound < 1 || bound > DRAW_VALUES)
      throw new RangeError(`bound ${bound}`);
    // What lies above the last whole multiple of `bound` is drawn again: it would favour small results.
    const fair = DRAW_VALUES - (DRAW_VALUES % bound);
    for (;;) {
      const drawn = this.#draw();
      if (drawn < fair) return drawn % bound;
    }
  }

  hex(count: number): string {
    let digits = '';
    while (digits.length < count)
      digits += this.#draw()
        .toString(16)
        .padStart(2 * DRAW_BYTES, '0');
    return digits.slice(0, count);
  }

  #draw(): number {
    if (this.#used === STOCK_BYTES) {
      randomFillSync(this.#stock);
      this.#used = 0;
    }
    const drawn = this.#stock.readUIntBE(this.#used, DRAW_BYTES);
    this.#used += DRAW_BYTES;
    return drawn;
  }
}
