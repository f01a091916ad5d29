/** What takes how long in the master, as histograms on its metrics page (gfs_master_*). */
import type { Clock, Counter, Histogram, Metrics, Timer, Timers } from '../environment/ports/index.js';
import type { Chunkserver } from './replicas.js';

const LATE_BUCKETS_MS = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];
const TIME_BUCKETS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000];
const LOOP_INTERVAL_MS = 50;

interface Counts {
  /** Since the last {@link Watch.update}. */
  requests: number;
  errors: number;
  readonly requestCounter: Counter;
  readonly errorCounter: Counter;
  mutationMs: Histogram | undefined;
}

export class Watch {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #heartbeatIntervalMs: number;
  readonly #heartbeatLateMs: Histogram;
  readonly #lockWaitMs: Histogram;
  readonly #loopDelayMs: Histogram;
  readonly #counts = new Map<string, Counts>();
  /** When each server's last full heartbeat came. */
  readonly #heardAtMs = new WeakMap<Chunkserver, number>();

  constructor(clock: Clock, metrics: Metrics, heartbeatIntervalMs: number) {
    this.#clock = clock;
    this.#metrics = metrics;
    this.#heartbeatIntervalMs = heartbeatIntervalMs;
    const histogram = (name: string, help: string, buckets: readonly number[]) =>
      metrics.histogram(`gfs_master_${name}`, help, buckets);
    this.#heartbeatLateMs = histogram(
      'heartbeat_late_ms',
      'How long after its time a full heartbeat of a chunkserver came',
      LATE_BUCKETS_MS,
    );
    this.#lockWaitMs = histogram(
      'lock_wait_ms',
      'How long a mutation waited for locks, of those that had to wait',
      TIME_BUCKETS_MS,
    );
    this.#loopDelayMs = histogram(
      'event_loop_delay_ms',
      'How much later than asked the event loop came to a timer',
      LATE_BUCKETS_MS,
    );
  }

  noteHeartbeat(chunkserver: Chunkserver): void {
    const nowMs = this.#clock.monotonicMs();
    const beforeMs = this.#heardAtMs.get(chunkserver);
    this.#heardAtMs.set(chunkserver, nowMs);
    // The first one has no time.
    if (beforeMs === undefined) return;
    this.#heartbeatLateMs.observe(Math.max(0, nowMs - beforeMs - this.#heartbeatIntervalMs));
  }

  /** Waits for `acquiring`, and notes how long that was. */
  async lockWait<T>(acquiring: Promise<T>): Promise<T> {
    const startedAtMs = this.#clock.monotonicMs();
    try {
      return await acquiring;
    } finally {
      this.#lockWaitMs.observe(this.#clock.monotonicMs() - startedAtMs);
    }
  }

  /** A request has come. @returns when, to be handed to {@link answered}; only mutations are timed */
  arrived(isMutation: boolean): number {
    return isMutation ? this.#clock.monotonicMs() : 0;
  }

  /** It is answered. */
  answered(method: string, isMutation: boolean, arrivedAtMs: number, failed: boolean): void {
    const counts = this.#countsOf(method);
    counts.requests++;
    if (failed) counts.errors++;
    if (!isMutation) return;
    // From its arrival to its answer, waiting for locks and for the log included.
    counts.mutationMs ??= this.#mutationOf(method);
    counts.mutationMs.observe(this.#clock.monotonicMs() - arrivedAtMs);
  }

  /** Once a second: counters of a library cost more than what most requests take. */
  update(): void {
    for (const counts of this.#counts.values()) {
      counts.requestCounter.add(counts.requests);
      counts.errorCounter.add(counts.errors);
      counts.requests = 0;
      counts.errors = 0;
    }
  }

  /** Until the timer is cancelled. */
  watchLoop(timers: Timers): Timer {
    let lastMs = this.#clock.monotonicMs();
    return timers.every(LOOP_INTERVAL_MS, () => {
      const nowMs = this.#clock.monotonicMs();
      this.#loopDelayMs.observe(Math.max(0, nowMs - lastMs - LOOP_INTERVAL_MS));
      lastMs = nowMs;
    });
  }

  #countsOf(method: string): Counts {
    const known = this.#counts.get(method);
    if (known !== undefined) return known;
    const counter = (name: string, help: string) =>
      this.#metrics.counter(`gfs_master_${name}_total`, help, { method });
    const made: Counts = {
      requests: 0,
      errors: 0,
      requestCounter: counter('requests', 'Requests answered'),
      errorCounter: counter('request_errors', 'Requests answered with an error'),
      mutationMs: undefined,
    };
    this.#counts.set(method, made);
    return made;
  }

  #mutationOf(method: string): Histogram {
    const help = 'Time of a mutation, from its arrival to its answer';
    return this.#metrics.histogram('gfs_master_mutation_ms', help, TIME_BUCKETS_MS, { method });
  }
}
