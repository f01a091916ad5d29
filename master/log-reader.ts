/** Reads the operation log as it grows, for those who follow it: whole groups, from a record on. */
import type { Disk, DiskFile } from '../environment/ports/index.js';
import { MIB } from '../protocol/limits.js';
import {
  GROUP_HEADER_BYTES,
  groupBytesAt,
  readGroup,
  SEGMENT_HEADER_BYTES,
  splitRecords,
} from './segment.js';
import { segmentName } from './segment-files.js';

const SEGMENT_NAME = /^segment-(\d{16})$/;
const WINDOW_BYTES = 1 * MIB;

export interface LogRange {
  readonly firstSequence: number;
  readonly count: number;
  /** Records as `encodeRecord` made them, one after another. */
  readonly buffers: readonly Buffer[];
}

/** One place in the log. Not for two callers at a time. */
export class LogReader {
  readonly #disk: Disk;
  readonly #directory: string;
  #file: DiskFile | undefined;
  /** Where the next group is, and what its first record is. */
  #offset = 0;
  #sequence = 0;

  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /**
   * Some records from `sequence` on, at least one; undefined when they are not kept any more.
   * @param through the last record that is in the log
   * @throws Error when the log is damaged there
   */
  async read(sequence: number, through: number): Promise<LogRange | undefined> {
    if ((this.#file === undefined || this.#sequence !== sequence) && !(await this.#seek(sequence))) {
      return undefined;
    }
    for (;;) {
      const bytes = await this.#window();
      if (bytes.byteLength > 0) return this.#take(bytes, sequence, through);
      // The segment ends here, and the next begins with the record that is wanted.
      if (!(await this.#open(this.#sequence))) return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  /** To the group that has this record. */
  async #seek(sequence: number): Promise<boolean> {
    const firsts = (await this.#disk.list(this.#directory))
      .flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? [])
      .map(Number)
      .filter((first) => first <= sequence);
    if (firsts.length === 0 || !(await this.#open(Math.max(...firsts)))) return false;
    const header = Buffer.alloc(GROUP_HEADER_BYTES);
    for (;;) {
      const read = await (this.#file as DiskFile).read(header, this.#offset);
      if (read < GROUP_HEADER_BYTES) return this.#sequence === sequence;
      const count = header.readUInt32LE(24);
      // Space that was reserved ahead is zeros.
      if (count === 0) return this.#sequence === sequence;
      if (this.#sequence + count > sequence) return true;
      this.#offset += groupBytesAt(header, 0);
      this.#sequence += count;
    }
  }

  async #open(firstSequence: number): Promise<boolean> {
    await this.close();
    try {
      this.#file = await this.#disk.open(`${this.#directory}/${segmentName(firstSequence)}`, 'read');
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ENOENT') return false;
      throw error;
    }
    this.#offset = SEGMENT_HEADER_BYTES;
    this.#sequence = firstSequence;
    return true;
  }

  /** What follows, with at least one whole group where there is one. */
  async #window(): Promise<Buffer> {
    const file = this.#file as DiskFile;
    let bytes = Buffer.allocUnsafe(WINDOW_BYTES);
    bytes = bytes.subarray(0, await file.read(bytes, this.#offset));
    if (bytes.byteLength < GROUP_HEADER_BYTES || bytes.readUInt32LE(0) === 0) return Buffer.alloc(0);
    const wanted = groupBytesAt(bytes, 0);
    if (wanted <= bytes.byteLength) return bytes;
    bytes = Buffer.allocUnsafe(wanted);
    return bytes.subarray(0, await file.read(bytes, this.#offset));
  }

  #take(bytes: Buffer, sequence: number, through: number): LogRange {
    const buffers: Buffer[] = [];
    let count = 0;
    let at = 0;
    while (at + GROUP_HEADER_BYTES <= bytes.byteLength && at + groupBytesAt(bytes, at) <= bytes.byteLength) {
      // Space that was reserved ahead: the segment ends here, and what is wanted besides is in the next.
      if (this.#sequence > through || bytes.readUInt32LE(at) === 0) break;
      const group = readGroup(bytes, at);
      if (group.first !== this.#sequence)
        throw new Error(`group ${group.first} stands where ${this.#sequence} should`);
      const skipped = Math.max(0, sequence - group.first);
      if (skipped === 0) buffers.push(group.body);
      else for (const each of splitRecords(group.body).slice(skipped)) buffers.push(each.bytes);
      count += group.count - skipped;
      at += groupBytesAt(bytes, at);
      this.#sequence += group.count;
    }
    this.#offset += at;
    return { firstSequence: sequence, count, buffers };
  }
}
