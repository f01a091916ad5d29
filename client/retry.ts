/** Retrying as the error table says, within one deadline. */
import type { Clock, Counter, Metrics, Timers } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import type { Cancellation } from '../protocol/rpc.js';

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 500;

/** On whose behalf a request is made, and how long it may take. */
export interface CallContext {
  readonly uid?: number;
  readonly gids?: readonly number[];
  readonly signal?: Cancellation | undefined;
}

/** The moment after which an operation fails instead of being tried again. */
export class Deadline {
  readonly #clock: Clock;
  readonly #expiresAtMs: number;

  /** @param durationMs from now; Infinity to wait for ever */
  constructor(clock: Clock, durationMs: number) {
    this.#clock = clock;
    this.#expiresAtMs = clock.monotonicMs() + durationMs;
  }

  get remainingMs(): number {
    return Math.max(0, this.#expiresAtMs - this.#clock.monotonicMs());
  }

  /** The deadline of one call: what is left, `limitMs` at most. */
  within(limitMs: number): number {
    return Math.max(1, Math.min(limitMs, this.remainingMs));
  }
}

/** Waits, or fails at once when the caller gives up. @throws CANCELLED */
export function pause(timers: Timers, durationMs: number, signal?: Cancellation): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      timer.cancel();
      reject(new GfsError('CANCELLED'));
    };
    const timer = timers.after(durationMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Of requests that had to be made again. @param kind of what */
export function retryCounter(metrics: Metrics, kind: 'read' | 'write' | 'master'): Counter {
  return metrics.counter('gfs_client_retries_total', 'Requests that were made again.', { kind });
}

/**
 * Runs `attempt` until it succeeds, its error is one that the caller has to hear, or the deadline has
 * passed; then the last error is thrown.
 * @param onFailure hears of every failure before the next attempt, to drop what it has proved wrong
 */
export function retrying<T>(
  timers: Timers,
  deadline: Deadline,
  signal: Cancellation | undefined,
  attempt: () => Promise<T>,
  onFailure?: (error: GfsError) => void,
): Promise<T> {
  // Nearly all succeed, and pay for no more than this.
  return attempt().catch((thrown) => tryAgain(thrown, timers, deadline, signal, attempt, onFailure));
}

async function tryAgain<T>(
  failure: unknown,
  timers: Timers,
  deadline: Deadline,
  signal: Cancellation | undefined,
  attempt: () => Promise<T>,
  onFailure?: (error: GfsError) => void,
): Promise<T> {
  let pauseMs = FIRST_PAUSE_MS;
  let thrown = failure;
  for (let tries = 1; ; tries++) {
    const error = toGfsError(thrown);
    if (error.reaction === 'never' && error.code !== 'DEADLINE_EXCEEDED') throw error;
    if (deadline.remainingMs <= 0) throw error;
    onFailure?.(error);
    // The first retry follows at once: most failures are a location or a connection gone stale.
    if (tries > 1) {
      await pause(timers, deadline.within(pauseMs), signal);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
    try {
      return await attempt();
    } catch (again) {
      thrown = again;
    }
  }
}
