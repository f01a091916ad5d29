/**
 * Records of the journal: everything that changes a chunk. Each says what came out, not what was
 * asked, so replaying it needs nothing but the chunk before it. See docs/formats/chunk-store.md.
 *
 *     0  u32  magic "GFSR"
 *     4  u32  header bytes
 *     8  u32  data bytes
 *    12  u32  CRC-32 of bytes 4 to 11, header and data
 *    16       header (msgpack), then data (raw)
 */
import { Packr } from 'msgpackr';
import { checksum } from '../../protocol/checksum.js';
import { MAX_PAYLOAD_BYTES, MIB } from '../../protocol/limits.js';
import { bytes, struct, u32, u53, type VariantOf, variant } from '../../protocol/schema.js';

export const RECORD_MAGIC = 0x52534647;
export const RECORD_PREFIX_BYTES = 16;
const MAX_RECORD_HEADER_BYTES = 1 * MIB;

const records = {
  /** A new, empty chunk. `mark`: see {@link ChunkState.mark}. */
  create: { number: 1, body: struct({ handle: u53, version: u53, mark: u53 }) },
  /** A new version, for a new lease. */
  version: { number: 2, body: struct({ handle: u53, version: u53, mark: u53 }) },
  /**
   * `length` bytes at `offset`; zeros between the former end and `offset`. The bytes before
   * `directFrom` are the record's data; the rest was written to the chunk file first. `checksums`:
   * u32 little-endian, of every block touched, as it is afterwards.
   */
  write: {
    number: 3,
    body: struct({
      handle: u53,
      serial: u53,
      offset: u53,
      length: u32,
      directFrom: u53,
      session: u53,
      sequence: u53,
      checksums: bytes(64 * 1024),
    }),
  },
  /** The chunk ends at `length`, zeros from its former end on (padding). */
  extend: { number: 4, body: struct({ handle: u53, serial: u53, length: u53 }) },
  /** The chunk is cut to `length`; `checksum` of what is then its last block. */
  truncate: { number: 5, body: struct({ handle: u53, serial: u53, length: u53, checksum: u32 }) },
  /** The mark alone. */
  mark: { number: 6, body: struct({ handle: u53, mark: u53 }) },
  /** Made equal to the replica that had applied `serial`: no longer suspect. The data is that one's table of results. */
  settle: { number: 7, body: struct({ handle: u53, serial: u53 }) },
  delete: { number: 8, body: struct({ handle: u53 }) },
  /**
   * What the records up to number `upTo` speak of as written to the chunk file is on the disk: written after the
   * file's flush, and on the disk itself before anybody is told of that flush.
   */
  flushed: { number: 9, body: struct({ handle: u53, upTo: u53 }) },
} as const;

export const recordCodec = variant(records);
export type JournalRecord = VariantOf<typeof records>;
export type RecordOf<T extends JournalRecord['type']> = Extract<JournalRecord, { type: T }>;

const headerCodec = struct({
  /** Grows with every record of this journal. */
  lsn: u53,
  /** The newest record known to be on the disk when this one was written. */
  flushedLsn: u53,
  record: recordCodec,
});

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, moreTypes: false });

/** The buffers of one record, ready to be written in order. */
export function encodeRecord(
  lsn: number,
  flushedLsn: number,
  record: JournalRecord,
  data: Uint8Array | undefined,
): Uint8Array[] {
  const packed = packr.pack(headerCodec.encode({ lsn, flushedLsn, record }));
  const head = Buffer.allocUnsafe(RECORD_PREFIX_BYTES + packed.byteLength);
  head.writeUInt32LE(RECORD_MAGIC, 0);
  head.writeUInt32LE(packed.byteLength, 4);
  head.writeUInt32LE(data?.byteLength ?? 0, 8);
  head.set(packed, RECORD_PREFIX_BYTES);
  let crc = checksum(head.subarray(4, 12));
  crc = checksum(packed, crc);
  if (data !== undefined) crc = checksum(data, crc);
  head.writeUInt32LE(crc, 12);
  return data === undefined || data.byteLength === 0 ? [head] : [head, data];
}

export interface DecodedRecord {
  readonly lsn: number;
  readonly flushedLsn: number;
  readonly record: JournalRecord;
  /** Part of the buffer that was decoded. */
  readonly data: Uint8Array;
  /** Where the next record starts. */
  readonly end: number;
}

/** The record at `at`, or undefined when there is no whole, undamaged one. */
export function decodeRecord(buffer: Buffer, at: number): DecodedRecord | undefined {
  if (at + RECORD_PREFIX_BYTES > buffer.byteLength || buffer.readUInt32LE(at) !== RECORD_MAGIC)
    return undefined;
  const headerBytes = buffer.readUInt32LE(at + 4);
  const dataBytes = buffer.readUInt32LE(at + 8);
  if (headerBytes > MAX_RECORD_HEADER_BYTES || dataBytes > MAX_PAYLOAD_BYTES) return undefined;
  const headerAt = at + RECORD_PREFIX_BYTES;
  const dataAt = headerAt + headerBytes;
  const end = dataAt + dataBytes;
  if (end > buffer.byteLength) return undefined;
  const crc = checksum(buffer.subarray(headerAt, end), checksum(buffer.subarray(at + 4, at + 12)));
  if (crc !== buffer.readUInt32LE(at + 12)) return undefined;
  const { lsn, flushedLsn, record } = headerCodec.decode(
    packr.unpack(buffer.subarray(headerAt, dataAt)),
    'record',
  );
  return { lsn, flushedLsn, record, data: buffer.subarray(dataAt, end), end };
}
