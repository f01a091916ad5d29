/** The files of the trace: each is written from its start to its end, and the oldest is removed when there are too many. */
import type { Clock, Disk, DiskFile, Environment, Logger } from '../environment/ports/index.js';
import { MIB } from './limits.js';

/** Pages of the ring: 4 MiB, some ten thousand requests. */
export const TRACE_PAGES = 64;
/** After an error of the disk: as long nothing is written. */
const PAUSE_MS = 30_000;
const FILES = 4;
const FILE_NAME = /^trace-(\d{8})$/;

export interface TracePage {
  readonly bytes: Buffer;
  /** Its place in the whole trace: pages are numbered from 0, and `number` modulo the ring's size is where it lies. */
  number: number;
  filled: number;
  /** Being written to a file: it must not change. */
  busy: boolean;
}

export interface TraceFilesOptions {
  readonly directory: string;
  /** Of all files together. */
  readonly totalBytes: number;
}

export class TraceFiles {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: TraceFilesOptions;
  readonly #preamble: () => Buffer;
  readonly #fileBytes: number;
  #file: DiskFile | undefined;
  #endBytes = 0;
  /** Of the ring: what comes before is written, or lost. */
  #page = 0;
  #at = 0;
  #writing: Promise<void> | undefined;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(
    { disk, clock, logger }: Pick<Environment, 'disk' | 'clock' | 'logger'>,
    options: TraceFilesOptions,
    preamble: () => Buffer,
  ) {
    this.#disk = disk;
    this.#clock = clock;
    this.#logger = logger;
    this.#options = options;
    this.#preamble = preamble;
    this.#fileBytes = Math.max(MIB, Math.floor(options.totalBytes / FILES));
  }

  /** Whether all of a page is in the files. */
  hasWritten({ number }: TracePage): boolean {
    return number < this.#page;
  }

  /** Begins to write what has not been, unless that is under way. */
  write(pages: readonly TracePage[]): void {
    if (this.#writing !== undefined || this.#closed) return;
    if (this.#clock.monotonicMs() < this.#pausedUntilMs) return;
    this.#writing = this.#writeAll(pages)
      .catch((err) => {
        const { directory } = this.#options;
        this.#logger.warn({ err, directory }, 'the trace of requests cannot be written');
        this.#pausedUntilMs = this.#clock.monotonicMs() + PAUSE_MS;
        this.#file?.close().catch(() => undefined);
        this.#file = undefined;
      })
      .finally(() => {
        this.#writing = undefined;
      });
  }

  async close(): Promise<void> {
    // First of all: what began to write from now on would have the file closed under it, or close it again.
    this.#closed = true;
    await this.#writing;
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** From where it stopped to the end of the trace. What was overwritten meanwhile is passed over. */
  async #writeAll(pages: readonly TracePage[]): Promise<void> {
    for (;;) {
      const page = pages[this.#page % TRACE_PAGES];
      if (page === undefined || page.number < this.#page) return;
      if (page.number > this.#page) {
        this.#page = pages.reduce((least, { number }) => Math.min(least, number), page.number);
        this.#at = 0;
        continue;
      }
      const to = page.filled;
      if (to > this.#at) {
        page.busy = true;
        try {
          await this.#append(page.bytes.subarray(this.#at, to));
        } finally {
          page.busy = false;
        }
        this.#at = to;
        continue;
      }
      // A page is full once there is another behind it.
      if (pages[(this.#page + 1) % TRACE_PAGES]?.number !== this.#page + 1) return;
      this.#page++;
      this.#at = 0;
    }
  }

  async #append(bytes: Buffer): Promise<void> {
    const file =
      this.#file !== undefined && this.#endBytes < this.#fileBytes ? this.#file : await this.#next();
    await file.write([bytes], this.#endBytes);
    this.#endBytes += bytes.byteLength;
  }

  async #next(): Promise<DiskFile> {
    const { directory } = this.#options;
    await this.#file?.close();
    this.#file = undefined;
    await this.#disk.makeDirectory(directory);
    const names = (await this.#disk.list(directory)).filter((name) => FILE_NAME.test(name)).sort();
    for (const name of names.slice(0, Math.max(0, names.length - FILES + 1)))
      await this.#disk.remove(`${directory}/${name}`);
    const newest = Number(FILE_NAME.exec(names.at(-1) ?? '')?.[1] ?? 0);
    const path = `${directory}/trace-${String(newest + 1).padStart(8, '0')}`;
    const file = await this.#disk.open(path, 'create-new');
    const preamble = this.#preamble();
    await file.write([preamble], 0);
    this.#file = file;
    this.#endBytes = preamble.byteLength;
    return file;
  }
}
