/**
 * Times of access, which clients tell a moment after the reads. Where somebody has set the time in between, with
 * utimensat(2), that is what holds: a read that was before it must not replace it.
 */
import type { Clock, WallTime } from '../environment/ports/index.js';
import { isLater } from '../protocol/times.js';

/** Nodes whose time was set last: more than are set in the time that reads are told late. */
const MAX_REMEMBERED = 8_192;

export class AccessTimes {
  readonly #clock: Clock;
  /** When, oldest first. */
  readonly #set = new Map<number, WallTime>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It is being set. INVARIANT: what {@link newer} leaves comes into the log after it, or was there before. */
  noteSet(node: number): void {
    this.#set.delete(node);
    if (this.#set.size === MAX_REMEMBERED) this.#set.delete(this.#set.keys().next().value as number);
    this.#set.set(node, this.#clock.wallTime());
  }

  /** What is told, without reads that were before the time was set. */
  newer<Access extends WallTime & { readonly id: number }>(told: readonly Access[]): Access[] {
    return told.filter(({ id, sec, nsec }) => {
      const set = this.#set.get(id);
      return set === undefined || isLater(sec, nsec, set.sec, set.nsec);
    });
  }
}
