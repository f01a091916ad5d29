/** The last groups of the log, in memory: for log replicas that are in step, which need no disk. */
import { MIB } from '../protocol/limits.js';
import type { LogRange } from './log-reader.js';

const MAX_BYTES = 8 * MIB;

interface Group extends LogRange {
  readonly sizeBytes: number;
}

export class RecentRecords {
  #groups: (Group | undefined)[] = [];
  /** Those before it are dropped: taking the first out of a long array would move all the others. */
  #first = 0;
  #bytes = 0;

  add(firstSequence: number, records: readonly Buffer[]): void {
    let sizeBytes = 0;
    for (const record of records) sizeBytes += record.byteLength;
    this.#groups.push({ firstSequence, count: records.length, buffers: records, sizeBytes });
    this.#bytes += sizeBytes;
    // The newest stays, whatever its size.
    while (this.#bytes > MAX_BYTES && this.#groups.length - this.#first > 1) {
      this.#bytes -= (this.#groups[this.#first] as Group).sizeBytes;
      this.#groups[this.#first++] = undefined;
    }
    if (2 * this.#first < this.#groups.length) return;
    this.#groups = this.#groups.slice(this.#first);
    this.#first = 0;
  }

  /** The group that begins with this record, if it is here. */
  from(sequence: number): LogRange | undefined {
    for (let at = this.#groups.length - 1; at >= this.#first; at--) {
      const group = this.#groups[at] as Group;
      if (group.firstSequence === sequence) return group;
      if (group.firstSequence < sequence) return undefined;
    }
    return undefined;
  }

  clear(): void {
    if (this.#groups.length === 0) return;
    this.#groups = [];
    this.#first = 0;
    this.#bytes = 0;
  }
}
