/**
 * Writes a large file from its beginning to its end, past the page cache where the file system can
 * (O_DIRECT): dirty pages of hundreds of megabytes would have every flush of the log wait for them.
 */
import type { Disk, DiskFile } from '../environment/ports/index.js';
import { MIB } from '../protocol/limits.js';

const BUFFER_BYTES = 1 * MIB;

export class SequentialWriter {
  readonly #file: DiskFile;
  readonly #buffer: Uint8Array;
  #filled = 0;
  /** Where the buffer goes: at a page's start. */
  #at = 0;

  constructor(disk: Disk, file: DiskFile) {
    this.#file = file;
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
  }
}
