/**
 * The journal of a data directory: one append-only log, in segments, of everything that changes its
 * chunks. What arrives while a write runs goes out together in the next one, and what waits for the
 * disk shares one flush.
 */
import type { Disk, DiskFile } from '../../environment/ports/index.js';
import { checksum } from '../../protocol/checksum.js';
import { MIB } from '../../protocol/limits.js';
import { readU53, writeU53 } from './binary.js';
import type { Layout } from './layout.js';
import { encodeRecord, type JournalRecord } from './record.js';

const SEGMENT_MAGIC = 0x4a534647;
const SEGMENT_FORMAT = 1;
export const SEGMENT_HEAD_BYTES = 32;
export const LSN_MODULUS = 2 ** 32;
/** What one write gathers at most. */
const MAX_BATCH_BYTES = 16 * MIB;
const MAX_BATCH_BUFFERS = 1000;
/**
 * Zeros written ahead of the records once somebody flushes. A flush of bytes inside the file's present
 * size has no metadata to commit: it takes half the time, and no turn in the file system's own journal.
 */
const WRITE_AHEAD = new Uint8Array(1 * MIB);

export interface Entry {
  readonly record: JournalRecord;
  readonly data?: Uint8Array | undefined;
}

interface Waiting {
  readonly buffers: readonly Uint8Array[];
  readonly sizeBytes: number;
  readonly lastLsn: number;
  readonly resolve: (lsn: number) => void;
  readonly reject: (error: unknown) => void;
}

interface Flush {
  readonly lsn: number;
  readonly isAlone: boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Rotation {
  readonly resolve: (segment: number) => void;
  readonly reject: (error: unknown) => void;
}

export interface JournalStart {
  readonly disk: Disk;
  readonly layout: Layout;
  readonly bootId: number;
  /** The newest segment that is there; 0 for none. */
  readonly segment: number;
  readonly nextLsn: number;
  /** Called when what was written may not reach the disk: the process must end. */
  readonly onFatal: (error: Error) => void;
}

export class Journal {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #bootId: number;
  readonly #onFatal: (error: Error) => void;
  /** The segment that is written to; none until the first write needs it. */
  #file: DiskFile | undefined;
  #segment: number;
  #position = 0;
  /** Up to here the file has been written, with zeros behind {@link #position}. */
  #writtenAheadTo = 0;
  #flushesSinceAhead = 0;
  #nextLsn: number;
  #writtenLsn: number;
  #flushedLsn: number;
  #queue: Waiting[] = [];
  #flushes: Flush[] = [];
  /** The flush that runs; it stops after the current one when a rotation waits. */
  #flushing: Promise<void> | undefined;
  #rotations: Rotation[] = [];
  /** Writes and rotations take turns. */
  #busy = false;
  #failure: Error | undefined;
  /** Written since the last rotation. */
  #segmentBytes = 0;

  constructor(start: JournalStart) {
    this.#disk = start.disk;
    this.#layout = start.layout;
    this.#bootId = start.bootId;
    this.#onFatal = start.onFatal;
    this.#segment = start.segment;
    this.#nextLsn = start.nextLsn;
    this.#writtenLsn = start.nextLsn - 1;
    this.#flushedLsn = start.nextLsn - 1;
  }

  get segmentBytes(): number {
    return this.#segmentBytes;
  }

  /** The newest record, written or on its way. */
  get lastLsn(): number {
    return this.#nextLsn - 1;
  }

  /**
   * Appends records, together and in order. Resolves, with the number of the last, when they outlive
   * this process.
   * @throws the disk's error when they could not be written: then none of them is there
   */
  append(entries: readonly Entry[]): Promise<number> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const { buffers, sizeBytes } = this.#encode(entries);
    return new Promise((resolve, reject) => {
      this.#queue.push({ buffers, sizeBytes, lastLsn: this.#nextLsn - 1, resolve, reject });
      if (!this.#busy) void this.#run();
    });
  }

  /**
   * The same without waiting, where nothing else is to be written and the disk takes it at once.
   * @returns the number of the last; undefined when it has not been done
   */
  appendNow(entries: readonly Entry[]): number | undefined {
    if (this.#busy || this.#failure !== undefined || this.#file?.writeNow === undefined) return undefined;
    const firstLsn = this.#nextLsn;
    const { buffers, sizeBytes } = this.#encode(entries);
    try {
      const isInside = this.#position + sizeBytes <= this.#writtenAheadTo;
      if ((isInside || this.#flushesSinceAhead === 0) && this.#file.writeNow(buffers, this.#position)) {
        this.#position += sizeBytes;
        this.#segmentBytes += sizeBytes;
        this.#writtenLsn = this.#nextLsn - 1;
        return this.#writtenLsn;
      }
    } catch {
      // A part of it, perhaps: it is written over, or cut off, by the one who waits.
    }
    this.#nextLsn = firstLsn;
    return undefined;
  }

  #encode(entries: readonly Entry[]): { buffers: Uint8Array[]; sizeBytes: number } {
    const buffers: Uint8Array[] = [];
    for (const { record, data } of entries) {
      buffers.push(...encodeRecord(this.#nextLsn++, this.#flushedLsn, record, data));
    }
    let sizeBytes = 0;
    for (const buffer of buffers) sizeBytes += buffer.byteLength;
    return { buffers, sizeBytes };
  }

  /**
   * Resolves when everything up to `lsn`, which has been written, outlives the host.
   * @param isAlone this process has nothing else to do meanwhile
   */
  sync(lsn: number = this.#writtenLsn, isAlone = false): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (lsn <= this.#flushedLsn) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#flushes.push({ lsn, isAlone, resolve, reject });
      this.#startFlush();
    });
  }

  /** Begins a new segment; all before it is on the disk then. Returns the new one's number. */
  rotate(): Promise<number> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#rotations.push({ resolve, reject });
      if (!this.#busy) void this.#run();
    });
  }

  /** Everything that is queued is written and flushed, then the file is closed. */
  async close(): Promise<void> {
    if (this.#failure !== undefined) return;
    await this.rotate();
    this.#failure = new Error('the journal is closed');
    await this.#file?.close();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    try {
      for (;;) {
        if (this.#queue.length > 0) await this.#writeBatch();
        if (this.#rotations.length > 0) await this.#rotateNow();
        if (this.#queue.length === 0 && this.#rotations.length === 0) break;
      }
    } catch (error) {
      this.#fail(error as Error);
    } finally {
      this.#busy = false;
    }
  }

  async #writeBatch(): Promise<void> {
    const batch = this.#takeBatch();
    const buffers = batch.flatMap((waiting) => waiting.buffers);
    const sizeBytes = batch.reduce((sum, waiting) => sum + waiting.sizeBytes, 0);
    try {
      this.#file ??= await this.#newSegment();
      const end = this.#position + sizeBytes;
      if (end > this.#writtenAheadTo && this.#flushesSinceAhead > 0) {
        buffers.push(WRITE_AHEAD);
        this.#flushesSinceAhead = 0;
        await this.#file.write(buffers, this.#position);
        this.#writtenAheadTo = end + WRITE_AHEAD.byteLength;
      } else {
        await this.#file.write(buffers, this.#position);
      }
    } catch (error) {
      for (const waiting of batch) waiting.reject(error);
      // A part may have been written. Behind a shorter record it would look like a record of its own.
      await this.#file?.truncate(this.#position);
      this.#writtenAheadTo = this.#position;
      return;
    }
    this.#position += sizeBytes;
    this.#segmentBytes += sizeBytes;
    this.#writtenLsn = (batch.at(-1) as Waiting).lastLsn;
    for (const waiting of batch) waiting.resolve(waiting.lastLsn);
  }

  async #rotateNow(): Promise<void> {
    // A running flush holds the file that is about to be closed.
    await this.#flushing;
    const former = this.#file;
    await this.#syncFile();
    this.#flushedUpTo(this.#writtenLsn);
    const rotations = this.#rotations.splice(0);
    try {
      this.#file = await this.#newSegment();
    } catch (error) {
      // The disk is full, perhaps: the former segment goes on.
      for (const rotation of rotations) rotation.reject(error);
      return;
    }
    for (const rotation of rotations) rotation.resolve(this.#segment);
    await former?.close();
  }

  #takeBatch(): Waiting[] {
    let count = 0;
    let sizeBytes = 0;
    let buffers = 0;
    for (const waiting of this.#queue) {
      sizeBytes += waiting.sizeBytes;
      buffers += waiting.buffers.length;
      if (count > 0 && (sizeBytes > MAX_BATCH_BYTES || buffers > MAX_BATCH_BUFFERS)) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  #startFlush(): void {
    // A rotation that waits flushes too.
    if (this.#flushing !== undefined || this.#rotations.length > 0) return;
    this.#flushing = this.#flush().finally(() => {
      this.#flushing = undefined;
    });
  }

  async #flush(): Promise<void> {
    try {
      while (this.#flushes.length > 0 && this.#rotations.length === 0) {
        const upTo = this.#writtenLsn;
        this.#flushesSinceAhead++;
        const [first, ...others] = this.#flushes;
        await this.#syncFile(others.length === 0 && first?.isAlone);
        this.#flushedUpTo(upTo);
      }
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #flushedUpTo(lsn: number): void {
    this.#flushedLsn = lsn;
    const waiting = this.#flushes;
    this.#flushes = waiting.filter((flush) => flush.lsn > lsn);
    for (const flush of waiting) if (flush.lsn <= lsn) flush.resolve();
  }

  async #syncFile(isAlone = false): Promise<void> {
    try {
      await this.#file?.sync(isAlone);
    } catch (cause) {
      throw new Error(`cannot flush the journal below ${this.#layout.root}`, { cause });
    }
  }

  /** A new segment, its head on the disk before anything is appended. */
  async #newSegment(): Promise<DiskFile> {
    const segment = ++this.#segment;
    const head = Buffer.alloc(SEGMENT_HEAD_BYTES);
    head.writeUInt32LE(SEGMENT_MAGIC, 0);
    head.writeUInt16LE(SEGMENT_FORMAT, 4);
    writeU53(head, segment, 8);
    writeU53(head, this.#bootId, 16);
    head.writeUInt32LE((this.#writtenLsn + 1) % LSN_MODULUS, 24);
    head.writeUInt32LE(checksum(head.subarray(0, 28)), 28);
    const file = await this.#disk.open(this.#layout.segment(segment), 'create-new');
    try {
      await file.write([head], 0);
      await file.sync();
      await this.#disk.syncDirectory(this.#layout.journal);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#position = SEGMENT_HEAD_BYTES;
    this.#writtenAheadTo = SEGMENT_HEAD_BYTES;
    this.#segmentBytes = 0;
    return file;
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const waiting of this.#queue.splice(0)) waiting.reject(error);
    for (const flush of this.#flushes.splice(0)) flush.reject(error);
    for (const rotation of this.#rotations.splice(0)) rotation.reject(error);
    this.#onFatal(error);
  }
}

export interface SegmentHead {
  readonly segment: number;
  readonly bootId: number;
  /** What its first record has at least, modulo {@link LSN_MODULUS}: everything below was on the disk before. */
  readonly firstLsn: number;
}

/** Undefined when it is damaged or cut short. */
export function decodeSegmentHead(raw: Buffer): SegmentHead | undefined {
  if (raw.byteLength < SEGMENT_HEAD_BYTES || raw.readUInt32LE(0) !== SEGMENT_MAGIC) return undefined;
  if (raw.readUInt16LE(4) !== SEGMENT_FORMAT) return undefined;
  if (checksum(raw.subarray(0, 28)) !== raw.readUInt32LE(28)) return undefined;
  return { segment: readU53(raw, 8), bootId: readU53(raw, 16), firstLsn: raw.readUInt32LE(24) };
}
