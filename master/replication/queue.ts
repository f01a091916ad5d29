import { MOST_URGENT, URGENCIES } from './standing.js';

/** Bounded: what does not fit is found again by the next census. */
export const MAX_QUEUED = 65_536;

/** Chunks that need a clone, the most urgent first, first come first served among equals. */
export class ReplicationQueue {
  readonly #buckets: number[][] = Array.from({ length: URGENCIES }, () => []);
  /** Where in its bucket the next one is. */
  readonly #heads: number[] = new Array(URGENCIES).fill(0);
  /** Of every chunk in the queue. An entry in another bucket than this is one that was moved up. */
  readonly #urgencies = new Map<number, number>();

  get size(): number {
    return this.#urgencies.size;
  }

  has(handle: number): boolean {
    return this.#urgencies.has(handle);
  }

  /** One that is in it already can only move up. @returns false when it is full */
  push(handle: number, urgency: number): boolean {
    const before = this.#urgencies.get(handle);
    if (before !== undefined && before <= urgency) return true;
    if (before === undefined && this.size >= MAX_QUEUED) return false;
    this.#urgencies.set(handle, urgency);
    this.#buckets[urgency]?.push(handle);
    return true;
  }

  /** Somebody waits for it. */
  boost(handle: number): void {
    if (this.#urgencies.has(handle)) this.push(handle, MOST_URGENT);
  }

  take(): { readonly handle: number; readonly urgency: number } | undefined {
    for (const [urgency, bucket] of this.#buckets.entries()) {
      while ((this.#heads[urgency] as number) < bucket.length) {
        const handle = bucket[(this.#heads[urgency] as number)++] as number;
        if (this.#urgencies.get(handle) !== urgency) continue;
        this.#urgencies.delete(handle);
        return { handle, urgency };
      }
      bucket.length = 0;
      this.#heads[urgency] = 0;
    }
    return undefined;
  }
}
