import type { Timer, Timers } from '../ports/index.js';

/** What setTimeout takes; more would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 2;

class OnceTimer implements Timer {
  #handle: NodeJS.Timeout | undefined;

  constructor(delayMs: number, callback: () => void) {
    this.#arm(delayMs, callback);
  }

  #arm(delayMs: number, callback: () => void): void {
    const stepMs = Math.min(delayMs, MAX_DELAY_MS);
    const next = stepMs < delayMs ? () => this.#arm(delayMs - stepMs, callback) : callback;
    // Node's timers count whole milliseconds and may fire almost one early. The contract is "or more".
    this.#handle = setTimeout(next, stepMs > 0 ? Math.ceil(stepMs) + 1 : 0);
  }

  cancel(): void {
    clearTimeout(this.#handle);
  }
}

export class NodeTimers implements Timers {
  after(delayMs: number, callback: () => void): Timer {
    return new OnceTimer(Math.max(0, delayMs), callback);
  }

  every(intervalMs: number, callback: () => void): Timer {
    const handle = setInterval(callback, Math.min(intervalMs, MAX_DELAY_MS));
    return { cancel: () => clearInterval(handle) };
  }
}
