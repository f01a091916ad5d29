/** Wall time as `struct timespec` has it: `nsec` counts up from `sec`, so times before 1970 are exact too. */
export interface WallTime {
  readonly sec: number;
  /** 0 to 999,999,999. */
  readonly nsec: number;
}

export interface Clock {
  /** Milliseconds on a monotonic clock with an arbitrary origin: for intervals, leases and deadlines. */
  monotonicMs(): number;
  /** Wall time: for timestamps that people read, and what has to last over a restart; never for a decision that safety rests on. */
  wallTime(): WallTime;
}

export interface Timer {
  /** Stops the timer; harmless when it has fired or was cancelled. */
  cancel(): void;
}

export interface Timers {
  /** Calls back once, `delayMs` or more from now. */
  after(delayMs: number, callback: () => void): Timer;
  /** Calls back every `intervalMs`, first after one interval. A tick that comes late is not made up for. */
  every(intervalMs: number, callback: () => void): Timer;
}
