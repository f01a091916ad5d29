/**
 * Writes a large file from its beginning to its end, past the page cache where the file system can
 * (O_DIRECT): dirty pages of hundreds of megabytes would have every flush of the log wait for them.
 */
import type { Clock, Disk, DiskFile, Timers } from '../environment/ports/index.js';
import { MIB } from '../protocol/limits.js';

const BUFFER_BYTES = 1 * MIB;

/** So much a second, however fast the disk is. */
export class Pace {
  readonly #bytesPerSecond: number;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #startedMs: number;

  constructor(bytesPerSecond: number, clock: Clock, timers: Timers) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
    this.#timers = timers;
    this.#startedMs = clock.monotonicMs();
  }

  /** Resolves when `bytes` in all may have been written. */
  async keep(bytes: number): Promise<void> {
    const dueMs = this.#startedMs + (bytes / this.#bytesPerSecond) * 1000;
    const waitMs = dueMs - this.#clock.monotonicMs();
    if (waitMs > 0) await new Promise<void>((resolve) => void this.#timers.after(waitMs, resolve));
  }
}

export class SequentialWriter {
  readonly #file: DiskFile;
  readonly #buffer: Uint8Array;
  #filled = 0;
  /** Where the buffer goes: at a page's start. */
  #at = 0;

  readonly #pace: Pace | undefined;

  constructor(disk: Disk, file: DiskFile, pace?: Pace) {
    this.#file = file;
    this.#pace = pace;
    this.#buffer = disk.allocate(BUFFER_BYTES);
  }

  /** How long the file is with what was written so far. */
  get sizeBytes(): number {
    return this.#at + this.#filled;
  }

  /** The bytes may change once it resolves. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let taken = 0; taken < bytes.byteLength; ) {
      const part = bytes.subarray(taken, taken + BUFFER_BYTES - this.#filled);
      this.#buffer.set(part, this.#filled);
      this.#filled += part.byteLength;
      taken += part.byteLength;
      if (this.#filled === BUFFER_BYTES) await this.#flush();
    }
  }

  /** Everything is on the disk. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#file.sync();
  }

  async #flush(): Promise<void> {
    await this.#file.write([this.#buffer.subarray(0, this.#filled)], this.#at);
    this.#at += this.#filled;
    this.#filled = 0;
    await this.#pace?.keep(this.#at);
  }
}
