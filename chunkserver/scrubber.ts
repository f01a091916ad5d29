/**
 * Scrubbing (paper §5.2): while no client asks for anything, every block is read and compared with its
 * checksum, so that damage to what nobody reads is found while there are other replicas. One pass over
 * all chunks in each interval, a slice at a time, at a bounded rate; a client that comes waits for one
 * slice at most.
 */
import type { Clock, Counter, Logger, Metrics, Timer, Timers } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import type { ScrubProgress } from '../protocol/messages/index.js';
import type { Activity } from './activity.js';
import type { Chunk } from './store/chunk.js';
import type { Store } from './store/store.js';
import { readVerified } from './store/verified-read.js';

/** Clients have been quiet for so long. */
const IDLE_MS = 1_000;
const SLICE_BYTES = 1 * MIB;
/** A pass takes a part of the interval: the rest is for clients. */
const PASSES_IN_INTERVAL = 8;
const MIN_RATE_BPS = 8 * MIB;
const MAX_RATE_BPS = 128 * MIB;

export interface ScrubberComponents {
  readonly store: Store;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly activity: Activity;
  /** A replica does not match its checksums: the master has to know. */
  readonly onDamage: (handle: number) => void;
  /** Every chunk is checked once in this time; 0: only when asked to. */
  readonly intervalMs: number;
}

class Stopped extends Error {}

export class Scrubber {
  readonly #c: ScrubberComponents;
  readonly #checkedBytes: Counter;
  readonly #damagedReplicas: Counter;
  #stopped = false;
  #timer: Timer | undefined;
  #wake: (() => void) | undefined;
  /** Somebody wants the next pass now. */
  #asked = false;
  #rateBps = MAX_RATE_BPS;
  #nextSliceMs = 0;
  #checked = 0;
  #total = 0;
  #damaged = 0;
  /** Found in the pass before this one, and perhaps still on their way out. */
  #known = new Set<number>();
  #found = new Set<number>();
  #passes = 0;
  #running = false;

  constructor(components: ScrubberComponents) {
    this.#c = components;
    const { metrics } = components;
    this.#checkedBytes = metrics.counter(
      'gfs_chunkserver_scrubbed_bytes_total',
      'Bytes checked by scrubbing',
    );
    this.#damagedReplicas = metrics.counter(
      'gfs_chunkserver_scrub_damaged_total',
      'Damaged replicas found by scrubbing',
    );
  }

  get progress(): ScrubProgress {
    return {
      running: this.#running,
      checked: this.#checked,
      total: this.#total,
      damaged: this.#damaged,
      passes: this.#passes,
    };
  }

  start(): void {
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#wake?.();
  }

  /** Begins a pass as soon as clients are quiet; one that runs goes on, as fast as it may. */
  beginNow(): void {
    this.#asked = true;
    this.#rateBps = MAX_RATE_BPS;
    this.#nextSliceMs = 0;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    const { intervalMs, clock } = this.#c;
    let dueMs = clock.monotonicMs() + (intervalMs === 0 ? Number.POSITIVE_INFINITY : IDLE_MS);
    try {
      for (;;) {
        while (!this.#asked && clock.monotonicMs() < dueMs) await this.#sleep(dueMs - clock.monotonicMs());
        const startedMs = clock.monotonicMs();
        await this.#pass();
        dueMs = intervalMs === 0 ? Number.POSITIVE_INFINITY : startedMs + intervalMs;
      }
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
    }
  }

  async #pass(): Promise<void> {
    const { store, intervalMs, logger } = this.#c;
    const handles: number[] = [];
    let sizeBytes = 0;
    for (const { handle, state } of store.chunks()) {
      handles.push(handle);
      sizeBytes += state.length;
    }
    const evenBps = intervalMs === 0 ? MAX_RATE_BPS : (PASSES_IN_INTERVAL * sizeBytes * 1_000) / intervalMs;
    this.#rateBps = this.#asked ? MAX_RATE_BPS : Math.min(MAX_RATE_BPS, Math.max(MIN_RATE_BPS, evenBps));
    this.#asked = false;
    this.#known = this.#found;
    this.#found = new Set();
    this.#checked = 0;
    this.#total = handles.length;
    this.#running = true;
    for (const handle of handles) {
      const chunk = store.find(handle);
      if (chunk !== undefined) await this.#check(chunk);
      this.#checked++;
    }
    this.#running = false;
    this.#passes++;
    logger.info({ chunks: handles.length, sizeBytes, damaged: this.#damaged }, 'every replica was scrubbed');
  }

  async #check(chunk: Chunk): Promise<void> {
    try {
      await this.#turn(0);
      await chunk.directory.load(chunk);
      for (let offset = 0; offset < chunk.state.length; offset += SLICE_BYTES) {
        await this.#turn(SLICE_BYTES);
        const read = await readVerified(chunk, offset, SLICE_BYTES);
        this.#checkedBytes.add(read.bytes.byteLength);
        read.release();
      }
    } catch (error) {
      if (error instanceof Stopped) throw error;
      // Deleted meanwhile, or on a disk that was given up.
      if (!(error instanceof GfsError) || error.code !== 'CHUNK_CORRUPT') return;
      this.#noteDamage(chunk.handle);
    }
  }

  #noteDamage(handle: number): void {
    this.#c.onDamage(handle);
    this.#found.add(handle);
    if (this.#known.has(handle)) return;
    this.#damaged++;
    this.#damagedReplicas.add(1);
  }

  /** Waits until clients are quiet and the rate allows it. */
  async #turn(sizeBytes: number): Promise<void> {
    const { clock, activity } = this.#c;
    for (;;) {
      const nowMs = clock.monotonicMs();
      const waitMs = Math.max(this.#nextSliceMs - nowMs, IDLE_MS - activity.idleMs);
      if (waitMs <= 0) {
        this.#nextSliceMs = Math.max(nowMs, this.#nextSliceMs) + (sizeBytes * 1_000) / this.#rateBps;
        return;
      }
      await this.#sleep(waitMs);
    }
  }

  /** At most so long; less when somebody has something to say. */
  async #sleep(delayMs: number): Promise<void> {
    if (!this.#stopped) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        // Timers do not count further than a month.
        this.#timer = this.#c.timers.after(Math.min(delayMs, 86_400_000), resolve);
      });
      this.#timer?.cancel();
    }
    if (this.#stopped) throw new Stopped();
  }
}
