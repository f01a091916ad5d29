/**
 * Scrubbing (paper §5.2): while no client asks for anything, every block is read and compared with its
 * checksum, so that damage to what nobody reads is found while there are other replicas. One pass over
 * all chunks in each interval, a slice at a time, at a bounded rate; a client that comes waits for one
 * slice at most. A restart goes on with the pass that was under way.
 */
import type { Clock, Counter, Logger, Metrics, Timer, Timers } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import type { ScrubProgress } from '../protocol/messages/index.js';
import type { Activity } from './activity.js';
import { DiskScrub, SAVE_INTERVAL_MS } from './disk-scrub.js';
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
  /** Of each data directory, in the order of the configuration. */
  readonly #disks: readonly DiskScrub[];
  #stopped = false;
  #timer: Timer | undefined;
  #wake: (() => void) | undefined;
  #ended: Promise<void> | undefined;
  /** Somebody wants the next pass now. */
  #asked = false;
  #rateBps = MAX_RATE_BPS;
  #nextSliceMs = 0;
  #total = 0;
  #passes = 0;
  #running = false;

  constructor(components: ScrubberComponents) {
    this.#c = components;
    const { metrics, store, clock, logger } = components;
    this.#disks = store.directories.map((directory) => new DiskScrub(directory, clock, logger));
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
    const disks = this.#working();
    return {
      running: this.#running,
      checked: disks.reduce((sum, { checked }) => sum + checked, 0),
      total: this.#total,
      damaged: disks.reduce((sum, { damaged }) => sum + damaged.size, 0),
      passes: this.#passes,
    };
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** Resolves when nothing is read any more, and the next start knows how far this one came. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#wake?.();
    await this.#ended;
  }

  /** Begins a pass as soon as clients are quiet; one that runs goes on, as fast as it may. */
  beginNow(): void {
    this.#asked = true;
    this.#rateBps = MAX_RATE_BPS;
    this.#nextSliceMs = 0;
    this.#wake?.();
  }

  /** Without those that were given up. */
  #working(): DiskScrub[] {
    const { directories } = this.#c.store;
    return this.#disks.filter(({ directory }) => directories.includes(directory));
  }

  async #run(): Promise<void> {
    const { clock } = this.#c;
    try {
      await this.#resume();
      let dueMs = clock.monotonicMs() + this.#untilFirstMs();
      for (;;) {
        while (!this.#asked && clock.monotonicMs() < dueMs) {
          const isSaved = this.#working().every((disk) => disk.isSaved);
          const untilDueMs = dueMs - clock.monotonicMs();
          await this.#sleep(isSaved ? untilDueMs : Math.min(untilDueMs, SAVE_INTERVAL_MS));
          await this.#saveDue();
        }
        const beganSec = this.#join();
        dueMs = clock.monotonicMs() + this.#untilNextMs(beganSec);
        await this.#pass();
      }
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      for (const disk of this.#working()) await disk.save();
    }
  }

  async #saveDue(): Promise<void> {
    for (const disk of this.#working()) {
      if (!disk.isSaveDue) continue;
      await this.#turn(0);
      await disk.save();
    }
  }

  /** What an earlier process has found may not have reached the master, or not have been healed: it is told again. */
  async #resume(): Promise<void> {
    for (const disk of this.#disks) await disk.load();
    this.#passes = Math.max(...this.#disks.map(({ passes }) => passes));
    this.#total = this.progress.checked;
    for (const { damaged, directory } of this.#disks) {
      for (const handle of damaged) {
        const chunk = directory.chunks.get(handle);
        if (chunk !== undefined && (await this.#isDamaged(chunk))) this.#c.onDamage(handle);
      }
    }
  }

  /** When the pass began that is under way or was the last; 0: there was none. */
  get #newestSec(): number {
    return Math.max(0, ...this.#working().map(({ beganSec }) => beganSec));
  }

  get #isUnderWay(): boolean {
    const newestSec = this.#newestSec;
    return (
      newestSec > 0 && this.#working().some(({ beganSec, isComplete }) => beganSec < newestSec || !isComplete)
    );
  }

  #untilFirstMs(): number {
    if (this.#isUnderWay) return IDLE_MS;
    if (this.#c.intervalMs > 0 && this.#newestSec === 0) return IDLE_MS;
    return Math.max(IDLE_MS, this.#untilNextMs(this.#newestSec));
  }

  /** By wall time, which alone lasts over a restart: a wrong one makes a pass come early or late, no more. */
  #untilNextMs(beganSec: number): number {
    const { intervalMs, clock } = this.#c;
    if (intervalMs === 0) return Number.POSITIVE_INFINITY;
    const elapsedMs = (clock.wallTime().sec - beganSec) * 1_000;
    return Math.max(0, intervalMs - Math.max(0, elapsedMs));
  }

  /** All disks take part in the pass that is under way, or in a new one. @returns when it began */
  #join(): number {
    const newestSec = this.#newestSec;
    const beganSec = this.#isUnderWay ? newestSec : Math.max(this.#c.clock.wallTime().sec, newestSec + 1);
    for (const disk of this.#working()) disk.join(beganSec);
    return beganSec;
  }

  async #pass(): Promise<void> {
    const { store, logger } = this.#c;
    this.#chooseRate();
    const parts = this.#working().map((disk) => ({ disk, handles: disk.remaining() }));
    this.#total = parts.reduce((sum, { disk, handles }) => sum + disk.checked + handles.length, 0);
    this.#running = true;
    for (const { disk, handles } of parts) {
      for (const handle of handles) {
        const chunk = disk.directory.chunks.get(handle);
        if (chunk !== undefined && (await this.#isDamaged(chunk))) this.#noteDamage(disk, handle);
        disk.noteChecked(handle);
        await this.#saveDue();
      }
    }
    this.#passes++;
    for (const { disk } of parts) disk.complete(this.#passes);
    this.#running = false;
    const { damaged } = this.progress;
    logger.info({ chunks: store.chunkCount, damaged }, 'every replica was scrubbed');
  }

  #chooseRate(): void {
    const { store, intervalMs } = this.#c;
    let sizeBytes = 0;
    for (const { state } of store.chunks()) sizeBytes += state.length;
    const evenBps = intervalMs === 0 ? MAX_RATE_BPS : (PASSES_IN_INTERVAL * sizeBytes * 1_000) / intervalMs;
    this.#rateBps = this.#asked ? MAX_RATE_BPS : Math.min(MAX_RATE_BPS, Math.max(MIN_RATE_BPS, evenBps));
    this.#asked = false;
  }

  async #isDamaged(chunk: Chunk): Promise<boolean> {
    try {
      await this.#turn(0);
      await chunk.directory.load(chunk);
      for (let offset = 0; offset < chunk.state.length; offset += SLICE_BYTES) {
        await this.#turn(SLICE_BYTES);
        const read = await readVerified(chunk, offset, SLICE_BYTES);
        this.#checkedBytes.add(read.bytes.byteLength);
        read.release();
      }
      return false;
    } catch (error) {
      if (error instanceof Stopped) throw error;
      // Otherwise it was deleted meanwhile, or is on a disk that was given up.
      return error instanceof GfsError && error.code === 'CHUNK_CORRUPT';
    }
  }

  #noteDamage(disk: DiskScrub, handle: number): void {
    this.#c.onDamage(handle);
    if (disk.noteDamaged(handle)) this.#damagedReplicas.add(1);
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
