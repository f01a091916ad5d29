/**
 * Appends, at offsets that the primary chooses (paper §3.3): records, each on its own and padded at a
 * chunk's end; and exact appends for O_APPEND, where those that wait go together in one request.
 */
import { GfsError, toGfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';
import type { Replicas } from './replicas.js';
import type { CallContext, Deadline } from './retry.js';

const MAX_BATCH_BYTES = 1 * MIB;
const MAX_WAITING_APPENDS = 4_096;

/** What an appender needs to know of its file. */
export interface AppendTarget {
  readonly id: number;
  /** The file's length as far as this client knows. */
  readonly size: number;
  /** The file has bytes up to `end` now; these replicas of its chunks took them. */
  noteAppended(end: number, took: readonly { index: number; verifiers: readonly number[] }[]): void;
}

interface Waiting {
  readonly data: Uint8Array;
  readonly resolve: (offset: number) => void;
  readonly reject: (error: GfsError) => void;
}

export class Appender {
  readonly #target: AppendTarget;
  readonly #replicas: Pick<Replicas, 'append'>;
  readonly #chunkBytes: number;
  readonly #deadline: () => Deadline;
  readonly #waiting: Waiting[] = [];
  #running = false;

  constructor(
    target: AppendTarget,
    replicas: Pick<Replicas, 'append'>,
    chunkBytes: number,
    deadline: () => Deadline,
  ) {
    this.#target = target;
    this.#replicas = replicas;
    this.#chunkBytes = chunkBytes;
    this.#deadline = deadline;
  }

  /**
   * Record append: whole, at one offset of the file, which is returned.
   * @param data at most a quarter of a chunk @throws TOO_BIG
   */
  async record(data: Uint8Array, context: CallContext): Promise<number> {
    if (data.byteLength > this.#chunkBytes / 4) {
      throw new GfsError(
        'TOO_BIG',
        `a record is at most a quarter of a chunk, ${this.#chunkBytes / 4} bytes`,
      );
    }
    const deadline = this.#deadline();
    const { offset } = await this.#appendFrom('record', [data], context, deadline);
    return offset;
  }

  /** Appends at the exact end. `data` must not change until then. @returns the file offset */
  exact(data: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length >= MAX_WAITING_APPENDS) {
        reject(new GfsError('OVERLOADED', `${MAX_WAITING_APPENDS} appends wait`));
        return;
      }
      this.#waiting.push({ data, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      try {
        let offset = await this.#appendBatch(batch.map(({ data }) => data));
        for (const { data, resolve } of batch) {
          resolve(offset);
          offset += data.byteLength;
        }
      } catch (thrown) {
        for (const { reject } of batch) reject(toGfsError(thrown));
      }
    }
    this.#running = false;
  }

  #takeBatch(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#waiting) {
      bytes += data.byteLength;
      if (count > 0 && bytes > MAX_BATCH_BYTES) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  /** @returns the file offset of the first byte */
  async #appendBatch(buffers: readonly Uint8Array[]): Promise<number> {
    const deadline = this.#deadline();
    let rest = buffers;
    let start: number | undefined;
    while (rest.length > 0) {
      const { offset, written } = await this.#appendFrom('exact', rest, {}, deadline);
      start ??= offset;
      rest = skipBytes(rest, written);
    }
    return start ?? this.#target.size;
  }

  /** Appends at the file's last chunk, or in the next one when that is full. */
  async #appendFrom(
    mode: 'record' | 'exact',
    buffers: readonly Uint8Array[],
    context: CallContext,
    deadline: Deadline,
  ): Promise<{ offset: number; written: number }> {
    const { id } = this.#target;
    let index = Math.floor(this.#target.size / this.#chunkBytes);
    for (;;) {
      const from = Math.max(0, this.#target.size - index * this.#chunkBytes);
      try {
        const appended = await this.#replicas.append({ id, index }, mode, from, buffers, context, deadline);
        const offset = index * this.#chunkBytes + appended.offset;
        const { verifiers, spillVerifiers } = appended;
        const took = [{ index, verifiers }];
        if (spillVerifiers !== undefined) took.push({ index: index + 1, verifiers: spillVerifiers });
        this.#target.noteAppended(offset + appended.written, took);
        return { offset, written: appended.written };
      } catch (thrown) {
        if (toGfsError(thrown).code !== 'CHUNK_FULL') throw thrown;
        index = Math.max(index + 1, Math.floor(this.#target.size / this.#chunkBytes));
      }
    }
  }
}

function skipBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let left = count;
  for (const buffer of buffers) {
    if (left >= buffer.byteLength) left -= buffer.byteLength;
    else {
      rest.push(buffer.subarray(left));
      left = 0;
    }
  }
  return rest;
}
