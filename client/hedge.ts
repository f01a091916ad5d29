/**
 * Hedged requests: when one replica takes long, the next one is asked as well, and the first answer
 * counts. So one slow disk or one hung server costs a reader a moment instead of a timeout.
 */
import type { Clock, Timer, Timers } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import type { Cancellation } from '../protocol/rpc.js';

/** Never sooner: a read from a disk's platter takes that long. */
const LEAST_DELAY_MS = 20;
const MOST_DELAY_MS = 1_000;
/** Several times what an answer usually takes. */
const DELAY_FACTOR = 8;
/** How much one answer moves the usual time. */
const SMOOTHING = 0.05;
/** One request in so many may be doubled, so that a cluster that is slow as a whole does not get twice the load. */
const REQUESTS_PER_HEDGE = 20;
const MAX_SAVED_HEDGES = 10;

/** Tells one candidate that its answer is not needed any more. An AbortController takes 13 us of each read. */
class Abort implements Cancellation {
  aborted = false;
  #listeners: (() => void)[] = [];

  addEventListener(_type: 'abort', listener: () => void): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    this.#listeners = this.#listeners.filter((each) => each !== listener);
  }

  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    for (const listener of this.#listeners.splice(0)) listener();
  }
}

/** One whose candidate is waited for alone. */
interface Waiting {
  readonly dueMs: number;
  readonly onDelay: () => void;
}

interface Ports {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly timers: Timers;
}

export class Hedge<Result> {
  readonly #ports: Ports;
  readonly #discard: (late: Result) => void;
  #usualMs = LEAST_DELAY_MS;
  #savedHedges = MAX_SAVED_HEDGES;
  /** As many as there are requests under way. */
  readonly #waiting = new Set<Waiting>();
  /** One for all: hardly any is slow, and to set and cancel a timer takes 2 us of each request. */
  #timer: Timer | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;

  /** @param discard gets the answers that came second */
  constructor(ports: Ports, discard: (late: Result) => void) {
    this.#ports = ports;
    this.#discard = discard;
  }

  /** How long the first is waited for before the next is asked. */
  get delayMs(): number {
    return Math.min(MOST_DELAY_MS, Math.max(LEAST_DELAY_MS, DELAY_FACTOR * this.#usualMs));
  }

  /**
   * Asks the candidates in turn, the next one when one fails or takes long, until one answers.
   * @param ask gets a signal that is aborted when its answer is not needed any more
   * @param onSlow hears of the one that is no longer waited for alone
   * @throws the last failure; CANCELLED
   */
  run<Candidate>(
    candidates: readonly Candidate[],
    signal: Cancellation | undefined,
    ask: (candidate: Candidate, signal: Cancellation) => Promise<Result>,
    onSlow: (candidate: Candidate) => void = () => undefined,
  ): Promise<Result> {
    this.#savedHedges = Math.min(MAX_SAVED_HEDGES, this.#savedHedges + 1 / REQUESTS_PER_HEDGE);
    return new Promise((resolve, reject) => {
      const aborts = new Set<Abort>();
      let next = 0;
      let waiting: Waiting | undefined;
      let isOver = false;
      const end = (settle: () => void) => {
        if (isOver) return;
        isOver = true;
        if (waiting !== undefined) this.#waiting.delete(waiting);
        signal?.removeEventListener('abort', onAbort);
        for (const abort of aborts) abort.abort();
        settle();
      };
      const onAbort = () => end(() => reject(new GfsError('CANCELLED')));
      const start = () => {
        const candidate = candidates[next++] as Candidate;
        const abort = new Abort();
        aborts.add(abort);
        const startedMs = this.#ports.clock.monotonicMs();
        if (waiting !== undefined) this.#waiting.delete(waiting);
        if (next < candidates.length) waiting = this.#wait(startedMs + this.delayMs, onDelay);
        ask(candidate, abort).then(
          (result) => {
            aborts.delete(abort);
            if (isOver) return this.#discard(result);
            this.#noteTook(this.#ports.clock.monotonicMs() - startedMs);
            end(() => resolve(result));
          },
          (thrown) => {
            aborts.delete(abort);
            const error = toGfsError(thrown);
            if (next < candidates.length && !isOver) start();
            else if (aborts.size === 0) end(() => reject(error));
          },
        );
      };
      const onDelay = () => {
        if (isOver || this.#savedHedges < 1) return;
        this.#savedHedges--;
        onSlow(candidates[next - 1] as Candidate);
        start();
      };
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort, { once: true });
      start();
    });
  }

  #wait(dueMs: number, onDelay: () => void): Waiting {
    const waiting = { dueMs, onDelay };
    this.#waiting.add(waiting);
    if (dueMs < this.#timerDueMs) this.#arm(dueMs);
    return waiting;
  }

  #arm(dueMs: number): void {
    this.#timer?.cancel();
    this.#timerDueMs = dueMs;
    const delayMs = dueMs - this.#ports.clock.monotonicMs();
    this.#timer = this.#ports.timers.after(Math.max(0, delayMs), () => this.#onTimer());
  }

  /** Those that were answered meanwhile are gone, so it is set again for the next that is left, if any. */
  #onTimer(): void {
    this.#timer = undefined;
    this.#timerDueMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#ports.clock.monotonicMs();
    const due = [...this.#waiting].filter(({ dueMs }) => dueMs <= nowMs);
    for (const waiting of due) {
      this.#waiting.delete(waiting);
      waiting.onDelay();
    }
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.#waiting) nextMs = Math.min(nextMs, dueMs);
    if (nextMs < this.#timerDueMs) this.#arm(nextMs);
  }

  #noteTook(tookMs: number): void {
    this.#usualMs += SMOOTHING * (tookMs - this.#usualMs);
  }
}
