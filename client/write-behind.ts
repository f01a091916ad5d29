/**
 * Written data on its way to the chunkservers: gathered into segments of up to 1 MiB, several of them
 * in flight, the memory bounded. An error is kept for the next write, fsync or close.
 */
import type { Environment, Timer } from '../environment/ports/index.js';
import { type GfsError, toGfsError } from '../protocol/errors.js';
import { INLINE_WRITE_BYTES, KIB, MAX_WRITE_PARTS, MIB, SEGMENT_BYTES } from '../protocol/limits.js';
import type { BufferPool, Payload } from '../protocol/payload.js';
import type { Replicas } from './replicas.js';
import type { Deadline } from './retry.js';
import type { UnsyncedChunks } from './unsynced.js';

const MAX_IN_FLIGHT_SEGMENTS = 64;
const MAX_IN_FLIGHT_BYTES = 8 * MIB;
/** How far behind the next segment others are looked for that go together with it. */
const MAX_LOOKED_AT = 256;
/** Segments up to this size go together. */
const SMALL_BYTES = 32 * KIB;
/** Data that nobody adds to is sent after this long. */
const IDLE_FLUSH_MS = 100;
const SMALLEST_SEGMENT_BYTES = 4 * KIB;

/** The memory that written data may take, shared by all files of a client. */
export class WriteBudget {
  readonly #maxBytes: number;
  #usedBytes = 0;
  readonly #waiters: (() => void)[] = [];

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get exhausted(): boolean {
    return this.#usedBytes > this.#maxBytes;
  }

  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  giveBack(bytes: number): void {
    this.#usedBytes -= bytes;
    if (!this.exhausted) for (const wake of this.#waiters.splice(0)) wake();
  }

  /** Until there is room again. */
  async room(): Promise<void> {
    while (this.exhausted) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }
}

/** A contiguous run of written bytes, within one chunk and one 1 MiB-aligned stretch of the file. */
interface Segment {
  readonly index: number;
  /** Within the chunk. */
  readonly offset: number;
  length: number;
  memory: Payload;
  /** To be flushed to disk along with its writing. */
  sync: boolean;
}

/** What is written to. */
export interface WriteTarget {
  readonly id: number;
  /** The file has what was written up to `end` of it. */
  noteArrived(end: number): void;
  /** Something that was written is lost. @param waitingEnd up to where there is more on its way */
  noteFailed(waitingEnd: number): void;
}

export interface WriteBehindParts {
  readonly environment: Environment;
  readonly replicas: Pick<Replicas, 'write' | 'prepare'>;
  readonly unsynced: UnsyncedChunks;
  readonly pool: BufferPool;
  readonly budget: WriteBudget;
  readonly chunkBytes: number;
  readonly deadline: () => Deadline;
}

export class WriteBehind {
  readonly #target: WriteTarget;
  readonly #parts: WriteBehindParts;
  /** Still growing, by the number of their stretch. */
  readonly #growing = new Map<number, Segment>();
  /** Complete, in the order in which they were written. */
  readonly #queue: Segment[] = [];
  #queuedBytes = 0;
  readonly #inFlight = new Set<Segment>();
  #inFlightBytes = 0;
  /** Messages under way with small segments. */
  #inFlightSmall = 0;
  #preparedIndex = -1;
  #failure: GfsError | undefined;
  #idleTimer: Timer | undefined;
  /** Complete and not yet on every replica: those of the queue and those in flight. */
  readonly #unfinished = new Set<Segment>();
  readonly #waiters: (() => void)[] = [];

  constructor(target: WriteTarget, parts: WriteBehindParts) {
    this.#target = target;
    this.#parts = parts;
  }

  get isIdle(): boolean {
    return this.#growing.size === 0 && this.#unfinished.size === 0;
  }

  /** {@link isIdle}, and no error waits to be told. */
  get isSettled(): boolean {
    return this.isIdle && this.#failure === undefined;
  }

  /** Takes a copy of `data` before it returns; waits only for the budget. @throws what an earlier write met */
  write(offset: number, data: Uint8Array): Promise<void> {
    let at = 0;
    while (at < data.byteLength) {
      const stretch = Math.floor((offset + at) / SEGMENT_BYTES);
      const chunkEnd = (Math.floor((offset + at) / this.#parts.chunkBytes) + 1) * this.#parts.chunkBytes;
      const end = Math.min(data.byteLength, (stretch + 1) * SEGMENT_BYTES - offset, chunkEnd - offset);
      this.#add(stretch, offset + at, data.subarray(at, end));
      at = end;
    }
    if (this.#parts.budget.exhausted) this.#completeAll();
    else this.#idleTimer ??= this.#parts.environment.timers.after(IDLE_FLUSH_MS, () => this.#onIdle());
    return this.#parts.budget.room().then(() => this.#throwFailure());
  }

  /** Until everything written before is on every replica. @throws what went wrong since it was last asked */
  async drain(): Promise<void> {
    await this.settle();
    this.#throwFailure();
  }

  /** {@link drain} for an fsync. What is all that waits goes out as a write and flush in one. */
  drainForSync(): Promise<void> {
    const waiting = [...this.#growing.values()];
    const [first] = waiting;
    if (first !== undefined && this.#unfinished.size === 0) {
      const sizeBytes = waiting.reduce((sum, { length }) => sum + length, 0);
      const areOne = waiting.every(
        (one) => one === first || goTogether(first, one, waiting.length, sizeBytes),
      );
      if (areOne) for (const segment of waiting) segment.sync = true;
    }
    return this.drain();
  }

  /** As {@link drain}, for one who only reads: an error stays for the writer to hear. */
  async settle(): Promise<void> {
    this.#completeAll();
    const mine = [...this.#queue, ...this.#inFlight];
    for (const segment of mine) {
      while (this.#unfinished.has(segment)) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Whether bytes of this range are still on their way. */
  overlaps(offset: number, length: number): boolean {
    const touches = (segment: Segment) => {
      const start = segment.index * this.#parts.chunkBytes + segment.offset;
      return start < offset + length && offset < start + segment.length;
    };
    if (this.isIdle) return false;
    return [...this.#growing.values(), ...this.#unfinished].some(touches);
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Adds bytes of one stretch to the segment that grows there, or starts a new one. */
  #add(stretch: number, fileOffset: number, bytes: Uint8Array): void {
    const index = Math.floor(fileOffset / this.#parts.chunkBytes);
    const offset = fileOffset - index * this.#parts.chunkBytes;
    let segment = this.#growing.get(stretch);
    const joins =
      segment !== undefined &&
      segment.index === index &&
      offset >= segment.offset &&
      offset <= segment.offset + segment.length;
    if (segment === undefined || !joins) {
      if (segment !== undefined) {
        this.#complete(stretch, segment);
        this.#sendMore();
      }
      const capacity = Math.max(SMALLEST_SEGMENT_BYTES, bytes.byteLength);
      segment = { index, offset, length: 0, memory: this.#parts.pool.take(capacity), sync: false };
      this.#growing.set(stretch, segment);
      this.#prepare(index);
    }
    const at = offset - segment.offset;
    const length = Math.max(segment.length, at + bytes.byteLength);
    if (length > segment.memory.bytes.byteLength) this.#enlarge(segment, length);
    segment.memory.bytes.set(bytes, at);
    this.#parts.budget.take(length - segment.length);
    segment.length = length;
    const isFull = (fileOffset + bytes.byteLength) % SEGMENT_BYTES === 0;
    const endsChunk = offset + bytes.byteLength === this.#parts.chunkBytes;
    if (!isFull && !endsChunk) return;
    this.#complete(stretch, segment);
    this.#sendMore();
  }

  /** The lease of a chunk that is written for the first time is asked for while its segment still grows. */
  #prepare(index: number): void {
    if (index === this.#preparedIndex) return;
    this.#preparedIndex = index;
    this.#parts.replicas.prepare({ id: this.#target.id, index }, this.#parts.deadline());
  }

  #enlarge(segment: Segment, neededBytes: number): void {
    const capacity = Math.min(SEGMENT_BYTES, Math.max(neededBytes, 4 * segment.memory.bytes.byteLength));
    const memory = this.#parts.pool.take(capacity);
    memory.bytes.set(segment.memory.bytes.subarray(0, segment.length));
    segment.memory.release();
    segment.memory = memory;
  }

  #complete(stretch: number, segment: Segment): void {
    this.#growing.delete(stretch);
    this.#queue.push(segment);
    this.#queuedBytes += segment.length;
    this.#unfinished.add(segment);
  }

  #completeAll(): void {
    this.#idleTimer?.cancel();
    this.#idleTimer = undefined;
    for (const [stretch, segment] of this.#growing) this.#complete(stretch, segment);
    this.#sendMore(true);
  }

  #onIdle(): void {
    this.#idleTimer = undefined;
    this.#completeAll();
  }

  /**
   * Sends what the window allows, in order, but nothing that overlaps what is still in flight. While small
   * segments are in flight, others wait until they fill a message (as Nagle's algorithm has it): then each
   * message and each of the servers' wake-ups is for many.
   * @param isUrgent somebody waits for them
   */
  #sendMore(isUrgent = false): void {
    while (this.#queue.length > 0) {
      if (this.#inFlight.size >= MAX_IN_FLIGHT_SEGMENTS || this.#inFlightBytes >= MAX_IN_FLIGHT_BYTES) return;
      const isSmall = (this.#queue[0] as Segment).length <= SMALL_BYTES;
      const isFull = this.#queuedBytes >= INLINE_WRITE_BYTES || this.#queue.length >= MAX_WRITE_PARTS;
      if (isSmall && !isFull && !isUrgent && this.#inFlightSmall > 0) return;
      const message = this.#takeMessage();
      if (message.length === 0) return;
      if (isSmall) this.#inFlightSmall++;
      for (const segment of message) {
        this.#inFlight.add(segment);
        this.#inFlightBytes += segment.length;
        this.#queuedBytes -= segment.length;
      }
      void this.#send(message).then(() => {
        if (isSmall) this.#inFlightSmall--;
        this.#sendMore();
        for (const wake of this.#waiters.splice(0)) wake();
      });
    }
  }

  /**
   * Takes the next segment from the queue, with those behind it that go together with it; none when it has to
   * wait. Segments of other chunks are overtaken, none of its own.
   */
  #takeMessage(): Segment[] {
    const message: Segment[] = [];
    const first = this.#queue[0] as Segment;
    const overtaken: Segment[] = [];
    let sizeBytes = 0;
    let looked = 0;
    for (const segment of this.#queue) {
      if (looked === MAX_LOOKED_AT) break;
      if (segment.index === first.index) {
        sizeBytes += segment.length;
        if (segment !== first && !goTogether(first, segment, message.length + 1, sizeBytes)) break;
        if (this.#overlapsInFlight(segment)) break;
        message.push(segment);
      } else overtaken.push(segment);
      looked++;
    }
    if (message.length > 0) this.#queue.splice(0, looked, ...overtaken);
    return message;
  }

  #overlapsInFlight(segment: Segment): boolean {
    for (const other of this.#inFlight) if (overlap(segment, other)) return true;
    return false;
  }

  async #send(message: readonly Segment[]): Promise<void> {
    const { replicas, unsynced, budget, deadline, environment } = this.#parts;
    const { index } = message[0] as Segment;
    const pieces = message.map(({ offset, length, memory }) => ({
      offset,
      data: memory.bytes.subarray(0, length),
    }));
    const sync = message.every((segment) => segment.sync);
    const { id } = this.#target;
    let hasArrived = false;
    try {
      const chunk = { id, index };
      const { verifiers, memoryIsFree } = await replicas.write(chunk, pieces, sync, {}, deadline());
      hasArrived = true;
      unsynced.note(id, index, verifiers);
      if (sync) unsynced.noteFlushed(id, index, verifiers);
      if (memoryIsFree) for (const { memory } of message) memory.release();
    } catch (thrown) {
      this.#failure ??= toGfsError(thrown);
      environment.logger.error({ err: thrown, id, index }, 'written data was lost');
    }
    for (const segment of message) {
      this.#inFlight.delete(segment);
      this.#unfinished.delete(segment);
      this.#inFlightBytes -= segment.length;
      budget.giveBack(segment.length);
    }
    if (hasArrived) this.#target.noteArrived(this.#endOf(message));
    else this.#target.noteFailed(this.#endOf([...this.#growing.values(), ...this.#unfinished]));
  }

  /** Of the last byte of these, in the file. */
  #endOf(segments: readonly Segment[]): number {
    const { chunkBytes } = this.#parts;
    return segments.reduce(
      (end, { index, offset, length }) => Math.max(end, index * chunkBytes + offset + length),
      0,
    );
  }
}

/** Whether segments of one message, which would be so many with so many bytes, are small enough and of one chunk. */
function goTogether(one: Segment, other: Segment, count: number, sizeBytes: number): boolean {
  return (
    one.index === other.index &&
    Math.max(one.length, other.length) <= SMALL_BYTES &&
    count <= MAX_WRITE_PARTS &&
    sizeBytes <= INLINE_WRITE_BYTES
  );
}

function overlap(a: Segment, b: Segment): boolean {
  return a.index === b.index && a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
