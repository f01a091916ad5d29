/** One open file of the client library. */
import { GfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import type { GfsClient } from './index.js';
import type { OpenFile } from './open-file.js';
import type { CallContext } from './retry.js';

/** What {@link GfsFile.readStream} asks for at once, and how many such questions it has under way at most. */
const READ_BYTES = 1 * MIB;
const MAX_READAHEAD = 8;
/** What is taken before room for it is waited for. */
const MAX_TAKEN_BYTES = 4 * MIB;

export class GfsFile {
  readonly #client: GfsClient;
  readonly #file: OpenFile;
  readonly #caller: CallContext;
  /** For what is not given up half-way. */
  readonly #uninterrupted: CallContext;
  #closed = false;

  /** @internal use FileSystem.open */
  constructor(client: GfsClient, file: OpenFile, caller: CallContext) {
    this.#client = client;
    this.#file = file;
    this.#caller = caller;
    this.#uninterrupted = { ...caller, signal: undefined };
  }

  /** Bytes, as far as this client knows: what it wrote is counted. */
  get sizeBytes(): number {
    return this.#file.size;
  }

  /** Up to `length` bytes from `offset`, fewer only at the end of the file. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.#check();
    checkNumbers(offset, length);
    const { buffers, release } = await this.#file.read(offset, length, this.#caller);
    try {
      return Buffer.concat(buffers);
    } finally {
      release();
    }
  }

  /**
   * The bytes from `start` on, in order. The first piece is asked for alone; while the reader keeps
   * taking them, twice as many are under way each time, up to 8 MiB ahead.
   * @param end where to stop; the end of the file as it is now when it is left out
   */
  async *readStream(start = 0, end: number = this.sizeBytes): AsyncGenerator<Buffer> {
    checkNumbers(start, end);
    const underWay: Promise<Buffer>[] = [];
    let next = start;
    let ahead = 1;
    try {
      while (next < end || underWay.length > 0) {
        for (; next < end && underWay.length < ahead; next += READ_BYTES) {
          const piece = this.read(next, Math.min(READ_BYTES, end - next));
          // One that nobody comes to wait for must not end the process.
          piece.catch(() => undefined);
          underWay.push(piece);
        }
        const piece = await (underWay.shift() as Promise<Buffer>);
        if (piece.byteLength === 0) return;
        yield piece;
        ahead = Math.min(2 * ahead, MAX_READAHEAD);
      }
    } finally {
      await Promise.allSettled(underWay);
    }
  }

  /**
   * The bytes are on their way when it resolves; {@link flush} or {@link sync} tell that they have arrived.
   * @param data a copy of up to 4 MiB is taken at once; more than that must not change until it resolves
   */
  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#check();
    checkNumbers(offset);
    checkBytes(data);
    for (let at = 0; at < data.byteLength; at += MAX_TAKEN_BYTES)
      await this.#file.write(offset + at, data.subarray(at, at + MAX_TAKEN_BYTES));
  }

  /** Appends at the exact end, whole up to 1 MiB − 4 KiB, among whatever others append. @returns the offset */
  async append(data: Uint8Array): Promise<number> {
    this.#check();
    checkBytes(data);
    return this.#file.append(data);
  }

  /** Record append (paper §3.3): whole, at one offset, which is returned. @throws TOO_BIG over a quarter of a chunk */
  async recordAppend(record: Uint8Array): Promise<number> {
    this.#check();
    checkBytes(record);
    return this.#file.appendRecord(record, this.#uninterrupted);
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#check();
    checkNumbers(sizeBytes);
    await this.#file.setAttributes({ size: sizeBytes }, this.#uninterrupted);
  }

  /** Until what was written is on every replica. @throws what an earlier write met */
  async flush(): Promise<void> {
    this.#check();
    await this.#file.flush(this.#uninterrupted);
  }

  /** {@link flush}, and on every replica's disk. */
  async sync(): Promise<void> {
    this.#check();
    await this.#file.sync(this.#uninterrupted);
  }

  /** Flushes and closes. @throws what an earlier write met; it is closed then, too */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#file.flush(this.#uninterrupted);
    } finally {
      await this.#client.close(this.#file);
    }
  }

  #check(): void {
    if (this.#closed) throw new GfsError('INVALID', 'the file is closed');
  }
}

/** Offsets and lengths, which no type keeps from being none. @throws INVALID */
function checkNumbers(...numbers: readonly number[]): void {
  for (const number of numbers)
    if (!Number.isSafeInteger(number) || number < 0)
      throw new GfsError('INVALID', `${number} is no offset or length in a file`);
}

/** @throws INVALID */
function checkBytes(data: Uint8Array): void {
  if (!(data instanceof Uint8Array)) throw new GfsError('INVALID', 'data is bytes: a Uint8Array');
}
