/**
 * The time that the master's clock shows, as far as its answers tell. What a client says of when a file was changed
 * stands beside times that the master chose, so both have to come from one clock: by another one, a file could be
 * written to before it was made, or its mtime go back when the master hears of it.
 */
import type { Clock, WallTime } from '../environment/ports/index.js';
import type { Attributes } from '../protocol/messages/index.js';
import { isLater } from '../protocol/times.js';

type Changed = Pick<Attributes, 'ctimeSec' | 'ctimeNsec'>;

const NONE: WallTime = { sec: 0, nsec: 0 };
const NSEC = 1_000_000_000;

/**
 * INVARIANT: what it tells is not ahead of the master's clock, but for drift and steps since the last renewal; and
 * it is later than every time that the master has told, as long as that clock is not set back.
 */
export class MasterTime {
  readonly #clock: Clock;
  /** The master's time without our monotonic time: at least, and at most. Undefined before it has told any. */
  #offsetMs: number | undefined;
  #mostMs = 0;
  /** The latest that was met in an answer. */
  #latest = NONE;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The master has told its time, between `askedAtMs` (monotonic) and now. */
  heard(time: WallTime, askedAtMs: number): void {
    const toldMs = millisecondsOf(time);
    const leastMs = toldMs - this.#clock.monotonicMs();
    this.#mostMs = toldMs - askedAtMs;
    const before = this.#offsetMs ?? leastMs;
    this.#offsetMs = Math.min(Math.max(before, leastMs), this.#mostMs);
    // Set back, or slower than ours.
    if (this.#offsetMs < before) this.#latest = NONE;
  }

  /** The master has told of something that was changed last then. */
  met({ ctimeSec: sec, ctimeNsec: nsec }: Changed): void {
    const { sec: latestSec, nsec: latestNsec } = this.#latest;
    if (this.#offsetMs === undefined || sec < latestSec || (sec === latestSec && nsec <= latestNsec)) return;
    const leastMs = millisecondsOf({ sec, nsec }) - this.#clock.monotonicMs();
    // Where its clock was ahead when that was changed.
    if (leastMs > this.#mostMs) return;
    this.#latest = { sec, nsec };
    if (leastMs > this.#offsetMs) this.#offsetMs = leastMs;
  }

  now(): WallTime {
    if (this.#offsetMs === undefined) return this.#clock.wallTime();
    const nowMs = this.#offsetMs + this.#clock.monotonicMs();
    const sec = Math.floor(nowMs / 1000);
    const nsec = Math.min(NSEC - 1, Math.floor((nowMs - sec * 1000) * 1e6));
    const latest = this.#latest;
    if (isLater(sec, nsec, latest.sec, latest.nsec)) return { sec, nsec };
    return latest.nsec < NSEC - 1
      ? { sec: latest.sec, nsec: latest.nsec + 1 }
      : { sec: latest.sec + 1, nsec: 0 };
  }
}

function millisecondsOf({ sec, nsec }: WallTime): number {
  return sec * 1000 + nsec / 1e6;
}
