/**
 * Space of the open segment, taken ahead: zeros are written behind the log's end before it needs them. A
 * flush of bytes within the file's present size commits no metadata, so it takes about half the time; and
 * a full disk shows while there is still room, so that the master turns read-only with nothing lost.
 */
import type { DiskFile, Logger, Timer, Timers } from '../environment/ports/index.js';
import { toGfsError } from '../protocol/errors.js';

/** How often a full disk is tried again. */
const PROBE_INTERVAL_MS = 1_000;

export class LogSpace {
  readonly #logger: Logger;
  readonly #timers: Timers;
  readonly #file: DiskFile;
  /** Reused: nobody writes to it. */
  readonly #zeros: Uint8Array;
  readonly #onProbe: () => void;
  #reservedTo: number;
  #full = false;
  #probe: Timer | undefined;
  #probeIsDue = false;

  /**
   * @param reservedTo the file's size; behind the log's end are zeros
   * @param stepBytes how much is taken at once, and half of it kept in reserve
   * @param onProbe called when it is time for {@link extend}: at a moment when nobody else writes
   */
  constructor(
    { logger, timers }: { readonly logger: Logger; readonly timers: Timers },
    file: DiskFile,
    reservedTo: number,
    stepBytes: number,
    onProbe: () => void,
  ) {
    this.#logger = logger;
    this.#timers = timers;
    this.#file = file;
    this.#zeros = new Uint8Array(stepBytes);
    this.#onProbe = onProbe;
    this.#reservedTo = reservedTo;
  }

  get full(): boolean {
    return this.#full;
  }

  get probeIsDue(): boolean {
    return this.#probeIsDue;
  }

  /** Whether the log may grow to `endBytes` and leaves half a step: there is nothing to {@link reserve}. */
  isReserved(endBytes: number): boolean {
    return endBytes + this.#zeros.byteLength / 2 <= this.#reservedTo;
  }

  /** Whether the log may grow to `endBytes`. Takes more space when less than half a step would be left. */
  async reserve(endBytes: number): Promise<boolean> {
    while (!this.isReserved(endBytes) && (await this.extend()));
    return endBytes <= this.#reservedTo;
  }

  /** Takes a step more; false when the disk is full. @throws any other error of the disk */
  async extend(): Promise<boolean> {
    this.#probeIsDue = false;
    try {
      await this.#file.write([this.#zeros], this.#reservedTo);
      this.#reservedTo += this.#zeros.byteLength;
      this.#setFull(false);
      return true;
    } catch (error) {
      if (toGfsError(error).code !== 'NO_SPACE') throw error;
      await this.#file.truncate(this.#reservedTo);
      this.#setFull(true);
      return false;
    }
  }

  /** A write within the reserve found no space: on a file system that copies on write, it is none. */
  async lose(endBytes: number): Promise<void> {
    await this.#file.truncate(endBytes);
    this.#reservedTo = endBytes;
    this.#setFull(true);
  }

  stop(): void {
    this.#probe?.cancel();
  }

  #setFull(full: boolean): void {
    if (full) {
      this.#probe?.cancel();
      this.#probe = this.#timers.after(PROBE_INTERVAL_MS, () => {
        this.#probeIsDue = true;
        this.#onProbe();
      });
    }
    if (full === this.#full) return;
    this.#full = full;
    if (full) this.#logger.error({}, 'the disk of the operation log is full: the master is read-only');
    else this.#logger.info({}, 'there is space for the operation log again: the master takes mutations');
  }
}
