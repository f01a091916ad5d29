/**
 * Self-describing records for files that many hosts append to (paper §2.7.2): a reader skips padding and
 * what is left of failed appends, and drops a record that was appended twice. No I/O. The format is in
 * docs/formats/records.md.
 */
import { checksumOf } from '../protocol/checksum.js';
import { GfsError } from '../protocol/errors.js';
import { MIB } from '../protocol/limits.js';

/** "GFSr", little-endian. */
const MAGIC = 0x72534647;
const MAGIC_FIRST_BYTE = MAGIC & 0xff;
const ID_BYTES = 16;
export const RECORD_HEADER_BYTES = 12 + ID_BYTES;
/** A quarter of the largest usual chunk. A longer length is garbage, and not waited for. */
const MAX_RECORD_BYTES = 16 * MIB;
/** Records whose ids are remembered to drop duplicates: a retry follows its first try closely. */
const REMEMBERED_IDS = 65_536;

/** Names the records of one writer. */
export class RecordWriter {
  readonly #writer: Buffer;
  #count = 0;

  /** @param writerId 16 hexadecimal digits that no other writer of the file has: random ones will do */
  constructor(writerId: string) {
    this.#writer = Buffer.from(writerId, 'hex');
    if (this.#writer.byteLength !== ID_BYTES / 2) throw new GfsError('INVALID', 'a writer id is 8 bytes');
  }

  /** One record, ready to be appended as often as it takes. @throws TOO_BIG */
  encode(data: Uint8Array): Buffer {
    if (data.byteLength > MAX_RECORD_BYTES - RECORD_HEADER_BYTES)
      throw new GfsError('TOO_BIG', `a record of ${data.byteLength} bytes`);
    const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + data.byteLength);
    record.writeUInt32LE(MAGIC, 0);
    record.writeUInt32LE(data.byteLength, 4);
    this.#writer.copy(record, 12);
    record.writeBigUInt64LE(BigInt(++this.#count), 20);
    record.set(data, RECORD_HEADER_BYTES);
    record.writeUInt32LE(checksumOf([record.subarray(4, 8), record.subarray(12)]), 8);
    return record;
  }
}

export interface RecordCounts {
  readonly records: number;
  /** Dropped: their id had come before. */
  readonly duplicates: number;
  /** Bytes that belong to no whole record: padding, and what failed appends left. */
  readonly skippedBytes: number;
}

/** Finds the records in the bytes of a file, given to {@link push} from the beginning, in pieces of any size. */
export class RecordReader {
  readonly #onRecord: (data: Buffer, offset: number) => void;
  readonly #seen = new Set<string>();
  readonly #pieces: Uint8Array[] = [];
  #pendingBytes = 0;
  /** So many bytes have to be pending before more can be said. */
  #neededBytes = 1;
  #pending: Buffer = Buffer.alloc(0);
  /** Of the first pending byte in the file. */
  #offset = 0;
  #records = 0;
  #duplicates = 0;
  #skippedBytes = 0;

  /** @param onRecord gets each record once, in file order; `data` may be kept */
  constructor(onRecord: (data: Buffer, offset: number) => void) {
    this.#onRecord = onRecord;
  }

  get counts(): RecordCounts {
    return { records: this.#records, duplicates: this.#duplicates, skippedBytes: this.#skippedBytes };
  }

  /** @param bytes not changed until the next call, or {@link end} */
  push(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
    this.#pendingBytes += bytes.byteLength;
    if (this.#pendingBytes >= this.#neededBytes) this.#scan(false);
    else this.#pieces.push(Buffer.from(this.#pieces.pop() as Uint8Array));
  }

  /** The file is over: what is pending is no whole record. @returns what was found */
  end(): RecordCounts {
    this.#scan(true);
    return this.counts;
  }

  #scan(isEnd: boolean): void {
    this.#pending = Buffer.concat(this.#pieces.splice(0));
    let at = 0;
    for (let taken = 1; taken > 0; at += taken) taken = this.#take(at, isEnd);
    this.#pieces.push(this.#pending.subarray(at));
    this.#pendingBytes -= at;
    this.#offset += at;
    this.#pending = Buffer.alloc(0);
  }

  /** What can be decided of the pending bytes from `at` on. @returns how many bytes are done with; 0 to wait for more */
  #take(at: number, isEnd: boolean): number {
    const left = this.#pending.byteLength - at;
    if (left === 0) return this.#waitFor(1);
    if (this.#pending[at] !== MAGIC_FIRST_BYTE) return this.#skip(at);
    if (left < RECORD_HEADER_BYTES) return isEnd ? this.#skip(at) : this.#waitFor(RECORD_HEADER_BYTES);
    const length = this.#pending.readUInt32LE(at + 4);
    const sizeBytes = RECORD_HEADER_BYTES + length;
    if (this.#pending.readUInt32LE(at) !== MAGIC || sizeBytes > MAX_RECORD_BYTES) return this.#skip(at);
    // At the end, a length that is garbage must not hide the records behind it.
    if (left < sizeBytes) return isEnd ? this.#skip(at) : this.#waitFor(sizeBytes);
    const record = this.#pending.subarray(at, at + sizeBytes);
    if (checksumOf([record.subarray(4, 8), record.subarray(12)]) !== record.readUInt32LE(8))
      return this.#skip(at);
    this.#give(record, this.#offset + at);
    return sizeBytes;
  }

  #waitFor(bytes: number): 0 {
    this.#neededBytes = bytes;
    return 0;
  }

  /** To the next byte from which a record could begin. */
  #skip(at: number): number {
    const next = this.#pending.indexOf(MAGIC_FIRST_BYTE, at + 1);
    const skipped = (next === -1 ? this.#pending.byteLength : next) - at;
    this.#skippedBytes += skipped;
    return skipped;
  }

  #give(record: Buffer, offset: number): void {
    const id = record.toString('latin1', 12, RECORD_HEADER_BYTES);
    if (this.#seen.has(id)) {
      this.#duplicates++;
      return;
    }
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED_IDS) this.#seen.delete(this.#seen.values().next().value as string);
    this.#records++;
    this.#onRecord(Buffer.from(record.subarray(RECORD_HEADER_BYTES)), offset);
  }
}
