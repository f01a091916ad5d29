/**
 * The bytes of the operation log (docs/formats/operation-log.md): a segment is a header and then groups,
 * each the records that one flush made durable. A group is whole or it does not count.
 */
import { Packr } from 'msgpackr';
import { checksum, checksumOf } from '../protocol/checksum.js';
import { GfsError } from '../protocol/errors.js';
import { KIB, MIB } from '../protocol/limits.js';
import { type LogRecord, recordCodec } from '../protocol/records.js';

export const SEGMENT_HEADER_BYTES = 128;
export const GROUP_HEADER_BYTES = 32;
export const MAX_GROUP_BYTES = 4 * MIB;
/** Up to here a group is put together in memory: one buffer is checked and written quicker than several. */
const MAX_JOINED_BYTES = 4 * KIB;
const MAGIC = Buffer.from('GFSOPLOG', 'latin1');
const FORMAT_VERSION = 1;
const CLUSTER_ID_BYTES = 64;
const CRC_AT = SEGMENT_HEADER_BYTES - 4;

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, moreTypes: false });

export interface SegmentHeader {
  readonly clusterId: string;
  readonly chunkBytes: number;
  readonly term: number;
  /** The sequence number of its first record. */
  readonly firstSequence: number;
}

/** @param magic 8 bytes: a checkpoint's header differs in them alone */
export function encodeSegmentHeader(header: SegmentHeader, magic: Uint8Array = MAGIC): Buffer {
  const out = Buffer.alloc(SEGMENT_HEADER_BYTES);
  out.set(magic, 0);
  out.writeUInt32LE(FORMAT_VERSION, 8);
  out.writeUInt32LE(SEGMENT_HEADER_BYTES, 12);
  writeU53(out, 0, 16);
  writeU53(out, header.firstSequence, 24);
  writeU53(out, header.term, 32);
  writeU53(out, header.chunkBytes, 40);
  out.write(header.clusterId, 48, CLUSTER_ID_BYTES, 'latin1');
  out.writeUInt32LE(checksum(out.subarray(0, CRC_AT)), CRC_AT);
  return out;
}

/** @throws Error that says what is wrong with it */
export function decodeSegmentHeader(bytes: Buffer, magic: Uint8Array = MAGIC): SegmentHeader {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(magic)) {
    const what = magic === MAGIC ? 'a segment of an operation log' : 'a checkpoint';
    throw new Error(`it does not begin as ${what}`);
  }
  const version = bytes.readUInt32LE(8);
  if (version !== FORMAT_VERSION)
    throw new Error(`format version ${version}, this master reads ${FORMAT_VERSION}`);
  if (checksum(bytes.subarray(0, CRC_AT)) !== bytes.readUInt32LE(CRC_AT))
    throw new Error('its header is damaged');
  const features = readU53(bytes, 16);
  if (features !== 0) throw new Error(`it uses features that this master does not know (${features})`);
  const id = bytes.subarray(48, 48 + CLUSTER_ID_BYTES).toString('latin1');
  return {
    firstSequence: readU53(bytes, 24),
    term: readU53(bytes, 32),
    chunkBytes: readU53(bytes, 40),
    clusterId: id.replace(/\0+$/, ''),
  };
}

export function encodeRecord(record: LogRecord): Buffer {
  const packed = packr.pack(recordCodec.encode(record));
  const out = Buffer.allocUnsafe(4 + packed.byteLength);
  out.writeUInt32LE(packed.byteLength, 0);
  out.set(packed, 4);
  return out;
}

/**
 * The buffers of one group.
 * @param records as {@link encodeRecord} made them
 * @param syncedBytes how much of the segment was on disk for certain when this group was written
 */
export function encodeGroup(
  records: readonly Buffer[],
  firstSequence: number,
  syncedBytes: number,
): Buffer[] {
  let bodyBytes = 0;
  for (const record of records) bodyBytes += record.byteLength;
  const isSmall = bodyBytes <= MAX_JOINED_BYTES;
  const group = Buffer.allocUnsafe(GROUP_HEADER_BYTES + (isSmall ? bodyBytes : 0));
  group.writeUInt32LE(bodyBytes, 0);
  writeU53(group, firstSequence, 8);
  writeU53(group, syncedBytes, 16);
  group.writeUInt32LE(records.length, 24);
  group.writeUInt32LE(0, 28);
  let at = GROUP_HEADER_BYTES;
  if (isSmall) {
    for (const record of records) {
      group.set(record, at);
      at += record.byteLength;
    }
  }
  const rest = isSmall ? [] : records;
  group.writeUInt32LE(checksumOf([group.subarray(8), ...rest]), 4);
  return [group, ...rest];
}

export interface Scan {
  readonly recordCount: number;
  /** Where the last whole group ends. */
  readonly endBytes: number;
  /** Bytes after it, up to the last that is not 0: a torn tail. Zeros behind are space reserved ahead. */
  readonly tornBytes: number;
}

/** Damage in the middle of a segment, or a record that this master cannot read. */
export class SegmentError extends Error {
  override readonly name = 'SegmentError';
  /** Where it begins. */
  readonly offset: number;
  /** The last record that stands behind it; 0 when none does. */
  readonly seenThrough: number;

  constructor(offset: number, message: string, seenThrough = 0, options?: ErrorOptions) {
    super(message, options);
    this.offset = offset;
    this.seenThrough = seenThrough;
  }
}

/**
 * Reads a segment's groups. What is damaged at its end, and was never known to be on disk, is a torn
 * tail; anything else that does not verify was damaged later.
 * @param onRecord gets each record with its sequence number
 * @throws SegmentError that names the offset of damage in the middle
 */
export function scanSegment(
  bytes: Buffer,
  header: SegmentHeader,
  onRecord: (record: LogRecord, sequence: number, groupAt: number) => void,
): Scan {
  let recordCount = 0;
  let at = SEGMENT_HEADER_BYTES;
  while (at < bytes.byteLength) {
    const sequence = header.firstSequence + recordCount;
    const bodyBytes = groupAt(bytes, at, sequence);
    if (bodyBytes === undefined) {
      const later = laterProof(bytes, at, sequence);
      if (later === undefined) break;
      throw new SegmentError(
        at,
        `damaged at offset ${at}: the group at offset ${later} was written after it was on disk`,
        lastRecordFrom(bytes, later, sequence),
      );
    }
    const records: LogRecord[] = [];
    decodeGroup(bytes.subarray(at + GROUP_HEADER_BYTES, at + GROUP_HEADER_BYTES + bodyBytes), at, records);
    for (const [index, record] of records.entries()) onRecord(record, sequence + index, at);
    recordCount += records.length;
    at += GROUP_HEADER_BYTES + bodyBytes;
  }
  return { recordCount, endBytes: at, tornBytes: lastNonZero(bytes, at) - at };
}

/** One more than the last byte from `from` on that is not 0; `from` when all are. */
function lastNonZero(bytes: Buffer, from: number): number {
  let end = bytes.byteLength;
  while (end > from && bytes[end - 1] === 0) end--;
  return end;
}

/** The body length of a valid group at `at` that begins with `sequence` or, when given a range, in it. */
function groupAt(bytes: Buffer, at: number, sequence: number, orLater = false): number | undefined {
  if (at + GROUP_HEADER_BYTES > bytes.byteLength) return undefined;
  const bodyBytes = bytes.readUInt32LE(at);
  if (bodyBytes === 0 || at + GROUP_HEADER_BYTES + bodyBytes > bytes.byteLength) return undefined;
  const first = readU53(bytes, at + 8);
  if (orLater ? first < sequence : first !== sequence) return undefined;
  const covered = bytes.subarray(at + 8, at + GROUP_HEADER_BYTES + bodyBytes);
  return checksum(covered) === bytes.readUInt32LE(at + 4) ? bodyBytes : undefined;
}

/** A valid group after `damagedAt` whose writer knew that `damagedAt` was on disk. */
function laterProof(bytes: Buffer, damagedAt: number, sequence: number): number | undefined {
  for (let at = damagedAt + 1; at + GROUP_HEADER_BYTES <= bytes.byteLength; at++) {
    const syncedBytes = readU53(bytes, at + 16);
    if (syncedBytes <= damagedAt || syncedBytes > at) continue;
    if (groupAt(bytes, at, sequence, true) !== undefined) return at;
  }
  return undefined;
}

/** What stands at `at`: the group's first record and how many there are. @throws Error when it does not verify */
export function readGroup(bytes: Buffer, at: number): { first: number; count: number; body: Buffer } {
  const first = at + GROUP_HEADER_BYTES <= bytes.byteLength ? readU53(bytes, at + 8) : 0;
  const bodyBytes = groupAt(bytes, at, first);
  if (bodyBytes === undefined) throw new Error(`the group at offset ${at} does not verify`);
  const bodyAt = at + GROUP_HEADER_BYTES;
  return { first, count: bytes.readUInt32LE(at + 24), body: bytes.subarray(bodyAt, bodyAt + bodyBytes) };
}

/** The bytes of a group of which only the beginning may be there. */
export function groupBytesAt(bytes: Buffer, at: number): number {
  return GROUP_HEADER_BYTES + bytes.readUInt32LE(at);
}

/** The records of a group, each as {@link encodeRecord} made it, and what it says. @throws Error when one cannot be read */
export function splitRecords(body: Buffer): { bytes: Buffer; record: LogRecord }[] {
  const records: LogRecord[] = [];
  decodeGroup(body, 0, records);
  let at = 0;
  return records.map((record) => {
    const from = at;
    at += 4 + body.readUInt32LE(from);
    return { record, bytes: body.subarray(from, at) };
  });
}

/** The last record of the groups that follow each other from an offset on; 0 when there is no group. */
export function lastRecordFrom(bytes: Buffer, from: number, sequence: number): number {
  let last = 0;
  for (let at = from; ; ) {
    const bodyBytes = groupAt(bytes, at, sequence, true);
    if (bodyBytes === undefined) return last;
    last = readU53(bytes, at + 8) + bytes.readUInt32LE(at + 24) - 1;
    at += GROUP_HEADER_BYTES + bodyBytes;
  }
}

function decodeGroup(body: Buffer, groupAtBytes: number, into: LogRecord[]): void {
  let at = 0;
  while (at < body.byteLength) {
    const length = body.readUInt32LE(at);
    const packed = body.subarray(at + 4, at + 4 + length);
    try {
      into.push(recordCodec.decode(packr.unpack(packed), 'record'));
    } catch (cause) {
      const reason = cause instanceof GfsError ? cause.message : String(cause);
      throw new SegmentError(
        groupAtBytes,
        `the group at offset ${groupAtBytes} has a record that this master cannot read: ${reason}`,
        0,
        { cause },
      );
    }
    at += 4 + length;
  }
}

function writeU53(buffer: Buffer, value: number, at: number): void {
  const low = value >>> 0;
  buffer.writeUInt32LE(low, at);
  buffer.writeUInt32LE((value - low) / 2 ** 32, at + 4);
}

/** Numbers past 2^53 come out above every valid one. */
function readU53(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * 2 ** 32;
}
