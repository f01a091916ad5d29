/**
 * Appends, at offsets that the primary chooses (paper §3.3): records, each on its own and padded at a
 * chunk's end; and exact appends for O_APPEND, where those that wait go together in one request.
 */
import type { Timer, Timers } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { KIB, MIB } from '../protocol/limits.js';
import type { Replicas } from './replicas.js';
import type { CallContext, Deadline } from './retry.js';
import type { WriteBudget } from './write-behind.js';

const MAX_BATCH_BYTES = 1 * MIB;
const MAX_WAITING_APPENDS = 4_096;
/** What was acknowledged ahead waits so long for more to go with it, or for an fsync. */
const MAX_AHEAD_MS = 20;
const ENOUGH_AHEAD_BYTES = 64 * KIB;

/** What an appender needs to know of its file. */
export interface AppendTarget {
  readonly id: number;
  /** The file's length as far as this client knows, without what is still to arrive. */
  readonly arrivedBytes: number;
  /**
   * The file has bytes up to `end` now; these replicas of its chunks took them.
   * @param flushed they have also put them on disk, with all that they had of the chunk
   */
  noteAppended(
    end: number,
    took: readonly { index: number; verifiers: readonly number[] }[],
    flushed: boolean,
  ): void;
  /** So many bytes that were acknowledged as appended will not be there. */
  noteLost(bytes: number): void;
}

export interface AppenderParts {
  readonly timers: Timers;
  readonly replicas: Pick<Replicas, 'append'>;
  readonly budget: WriteBudget;
  readonly chunkBytes: number;
  readonly deadline: () => Deadline;
}

/** Bytes that went together. */
interface Piece {
  /** Of the file. */
  readonly offset: number;
  readonly written: number;
}

interface Waiting {
  readonly data: Uint8Array;
  readonly resolve: (offset: number) => void;
  readonly reject: (error: GfsError) => void;
}

export class Appender {
  readonly #target: AppendTarget;
  readonly #parts: AppenderParts;
  readonly #waiting: Waiting[] = [];
  #running = false;
  /** The next batch is to be flushed as well. */
  #syncNext = false;
  #aheadBytes = 0;
  /** Until what was acknowledged ahead is sent in any case. */
  #aheadTimer: Timer | undefined;
  /** Of an append that was acknowledged before it was sent. */
  #failure: GfsError | undefined;
  /** Settles when everything appended so far has arrived, or failed. */
  #latest: Promise<unknown> = Promise.resolve();

  constructor(target: AppendTarget, parts: AppenderParts) {
    this.#target = target;
    this.#parts = parts;
  }

  /** Bytes that were acknowledged and have not arrived yet. */
  get aheadBytes(): number {
    return this.#aheadBytes;
  }

  /**
   * Record append: whole, at one offset of the file, which is returned.
   * @param data at most a quarter of a chunk @throws TOO_BIG
   */
  async record(data: Uint8Array, context: CallContext): Promise<number> {
    const limitBytes = this.#parts.chunkBytes / 4;
    if (data.byteLength > limitBytes)
      throw new GfsError('TOO_BIG', `a record is at most a quarter of a chunk, ${limitBytes} bytes`);
    const { offset } = await this.#appendFrom('record', [data], false, context, this.#parts.deadline());
    return offset;
  }

  /** Appends at the exact end. `data` must not change until then. @returns the file offset */
  exact(data: Uint8Array): Promise<number> {
    const appended = this.#queue(data);
    this.#start();
    return appended;
  }

  #queue(data: Uint8Array): Promise<number> {
    if (this.#waiting.length >= MAX_WAITING_APPENDS)
      return Promise.reject(new GfsError('OVERLOADED', `${MAX_WAITING_APPENDS} appends wait`));
    const appended = new Promise<number>((resolve, reject) => {
      this.#waiting.push({ data, resolve, reject });
    });
    this.#latest = appended.catch(() => undefined);
    return appended;
  }

  /**
   * As {@link exact}, acknowledged at once: for a client that nobody else can get ahead of. Waits only for
   * memory. @throws what an earlier one met
   * @param expected the file offset where it should go @param moved somebody got ahead nevertheless: it is there instead
   */
  async ahead(data: Uint8Array, expected: number, moved: (offset: number) => void): Promise<void> {
    this.#throwFailure();
    const { budget } = this.#parts;
    const bytes = data.byteLength;
    this.#aheadBytes += bytes;
    budget.take(bytes);
    const done = () => {
      this.#aheadBytes -= bytes;
      budget.giveBack(bytes);
    };
    this.#queue(data).then(
      (offset) => {
        done();
        if (offset !== expected) moved(offset);
      },
      (thrown) => {
        done();
        this.#target.noteLost(bytes);
        this.#failure ??= toGfsError(thrown);
      },
    );
    if (this.#aheadBytes >= ENOUGH_AHEAD_BYTES) this.#start();
    else this.#aheadTimer ??= this.#parts.timers.after(MAX_AHEAD_MS, () => this.#start());
    await budget.room();
    while (this.#waiting.length > MAX_WAITING_APPENDS / 2) await this.settle();
  }

  /** Until everything appended so far has arrived, and with `sync` is likely to be on disk. @throws what went wrong */
  async drain(sync = false): Promise<void> {
    if (sync && this.#waiting.length > 0) this.#syncNext = true;
    await this.settle();
    this.#throwFailure();
  }

  /** As {@link drain}, for one who only reads: an error stays for the writer to hear. */
  async settle(): Promise<void> {
    this.#start();
    await this.#latest;
  }

  #start(): void {
    this.#aheadTimer?.cancel();
    this.#aheadTimer = undefined;
    if (!this.#running && this.#waiting.length > 0) void this.#run();
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      const sync = this.#syncNext;
      this.#syncNext = false;
      try {
        const pieces = await this.#appendBatch(
          batch.map(({ data }) => data),
          sync,
        );
        let before = 0;
        for (const { data, resolve } of batch) {
          resolve(offsetOf(before, pieces));
          before += data.byteLength;
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

  /** @returns the pieces that it went in: what others append may be between them */
  async #appendBatch(buffers: readonly Uint8Array[], sync: boolean): Promise<readonly Piece[]> {
    const deadline = this.#parts.deadline();
    const pieces: Piece[] = [];
    let rest = buffers;
    while (rest.length > 0) {
      const piece = await this.#appendFrom('exact', rest, sync, {}, deadline);
      pieces.push(piece);
      rest = skipBytes(rest, piece.written);
    }
    return pieces;
  }

  /** Appends at the file's last chunk, or in the next one when that is full. */
  async #appendFrom(
    mode: 'record' | 'exact',
    buffers: readonly Uint8Array[],
    sync: boolean,
    context: CallContext,
    deadline: Deadline,
  ): Promise<Piece> {
    const { id } = this.#target;
    const { chunkBytes, replicas } = this.#parts;
    let index = Math.floor(this.#target.arrivedBytes / chunkBytes);
    for (;;) {
      const from = Math.max(0, this.#target.arrivedBytes - index * chunkBytes);
      try {
        const at = { mode, from, sync };
        const appended = await replicas.append({ id, index }, at, buffers, context, deadline);
        const offset = index * chunkBytes + appended.offset;
        const { verifiers, spillVerifiers } = appended;
        const took = [{ index, verifiers }];
        if (spillVerifiers !== undefined) took.push({ index: index + 1, verifiers: spillVerifiers });
        this.#target.noteAppended(offset + appended.written, took, sync && spillVerifiers === undefined);
        return { offset, written: appended.written };
      } catch (thrown) {
        if (toGfsError(thrown).code !== 'CHUNK_FULL') throw thrown;
        index = Math.max(index + 1, Math.floor(this.#target.arrivedBytes / chunkBytes));
      }
    }
  }
}

/** The file offset of the byte that has `before` others before it. */
function offsetOf(before: number, pieces: readonly Piece[]): number {
  let left = before;
  for (const { offset, written } of pieces) {
    if (left < written) return offset + left;
    left -= written;
  }
  const last = pieces.at(-1);
  return (last?.offset ?? 0) + (last?.written ?? 0) + left;
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
