/** The last groups of the log, in memory: for log replicas that are in step, which need no disk. */
import { MIB } from '../protocol/limits.js';
import type { LogRange } from './log-reader.js';

const MAX_BYTES = 8 * MIB;

interface Group extends LogRange {
  readonly sizeBytes: number;
}

export class RecentRecords {
  readonly #groups: Group[] = [];
  #bytes = 0;

  add(firstSequence: number, records: readonly Buffer[]): void {
    let sizeBytes = 0;
    for (const record of records) sizeBytes += record.byteLength;
    this.#groups.push({ firstSequence, count: records.length, buffers: records, sizeBytes });
    this.#bytes += sizeBytes;
    // The newest stays, whatever its size.
    while (this.#bytes > MAX_BYTES && this.#groups.length > 1) {
      this.#bytes -= (this.#groups.shift() as Group).sizeBytes;
    }
  }

  /** The group that begins with this record, if it is here. */
  from(sequence: number): LogRange | undefined {
    for (let at = this.#groups.length - 1; at >= 0; at--) {
      const group = this.#groups[at] as Group;
      if (group.firstSequence === sequence) return group;
      if (group.firstSequence < sequence) return undefined;
    }
    return undefined;
  }
}
