/**
 * The ioctls of a mounted file, as `include/gfs_ioctl.h` has them: command numbers and the bytes of
 * their structures, for the mount (which decodes requests) and the command line (which makes them).
 * The header says what each one does and which errors it gives. No I/O here.
 */
import { GfsError } from '../protocol/errors.js';
import type { ByteString } from './handler.js';

/** Bytes of a `struct gfs_record_append`, then of its data. */
const RECORD_APPEND_BYTES = 16_376;
const RECORD_DATA_OFFSET = 16;
/** The longest record of one RECORD_APPEND (`GFS_RECORD_APPEND_MAX`). */
export const RECORD_APPEND_MAX_BYTES = RECORD_APPEND_BYTES - RECORD_DATA_OFFSET;

/** Bytes of a `struct gfs_snapshot`: a path and its NUL (`GFS_PATH_MAX`). */
const SNAPSHOT_BYTES = 4096;

/** Bytes of a `struct gfs_chunk_info`, then of its text. */
const CHUNK_INFO_BYTES = 16_376;
const CHUNK_INFO_TEXT_OFFSET = 24;
/** The most JSON that one CHUNK_INFO returns, in bytes, without its NUL. */
export const CHUNK_INFO_TEXT_MAX_BYTES = CHUNK_INFO_BYTES - CHUNK_INFO_TEXT_OFFSET - 1;

const OFFSET_BYTES = 8;

/** asm-generic/ioctl.h: 8 bits of number, 8 of type, 14 of size, 2 of direction. Same on x86-64 and arm64. */
const Direction = { NONE: 0, WRITE: 1, READ: 2 } as const;
const MAGIC = 'G'.charCodeAt(0);
const MAX_SIZE_BYTES = (1 << 14) - 1;

function command(number: number, direction: number, sizeBytes: number): number {
  return ((direction << 30) | (sizeBytes << 16) | (MAGIC << 8) | number) >>> 0;
}

/** The commands, as unsigned numbers. */
export const Ioctl = {
  RECORD_APPEND: command(1, Direction.READ | Direction.WRITE, RECORD_APPEND_BYTES),
  LAST_APPEND: command(2, Direction.READ, OFFSET_BYTES),
  SNAPSHOT: command(3, Direction.WRITE, SNAPSHOT_BYTES),
  CHUNK_INFO: command(4, Direction.READ | Direction.WRITE, CHUNK_INFO_BYTES),
  DROP_CACHES: command(5, Direction.NONE, 0),
  APPEND_BEGIN: command(6, Direction.NONE, 0),
  APPEND_COMMIT: command(7, Direction.READ, OFFSET_BYTES),
  APPEND_ABORT: command(8, Direction.NONE, 0),
} as const;

/** Bytes of the command's argument, from its encoding: what is read from and written to the caller's memory. */
export function ioctlSizeBytes(ioctl: number): number {
  return (ioctl >>> 16) & MAX_SIZE_BYTES;
}

/** Whether the command is one of ours by its type; anything else is ENOTTY. */
export function isGfsIoctl(ioctl: number): boolean {
  return ((ioctl >>> 8) & 0xff) === MAGIC;
}

/**
 * @param data at most {@link RECORD_APPEND_MAX_BYTES}
 * @returns the argument of RECORD_APPEND
 */
export function encodeRecordAppend(data: Uint8Array): Uint8Array {
  if (data.length > RECORD_APPEND_MAX_BYTES) throw new RangeError(`record of ${data.length} bytes`);
  const bytes = new Uint8Array(RECORD_APPEND_BYTES);
  viewOf(bytes).setUint32(8, data.length, true);
  bytes.set(data, RECORD_DATA_OFFSET);
  return bytes;
}

/**
 * @returns the record, as a view of `input`
 * @throws INVALID: empty, too long, or a reserved field is not 0
 */
export function decodeRecordAppend(input: Uint8Array): Uint8Array {
  const view = fullView(input, RECORD_APPEND_BYTES);
  const length = view.getUint32(8, true);
  if (length === 0 || length > RECORD_APPEND_MAX_BYTES)
    throw new GfsError('INVALID', `record of ${length} bytes`);
  requireZero(view.getUint32(12, true));
  return input.subarray(RECORD_DATA_OFFSET, RECORD_DATA_OFFSET + length);
}

/**
 * The reply to RECORD_APPEND, LAST_APPEND and APPEND_COMMIT. For RECORD_APPEND it is the first field
 * alone: the kernel copies to the caller what the reply has, and leaves the rest.
 */
export function encodeOffset(offset: number): Uint8Array {
  const bytes = new Uint8Array(OFFSET_BYTES);
  viewOf(bytes).setBigUint64(0, BigInt(offset), true);
  return bytes;
}

export function decodeOffset(output: Uint8Array): number {
  return safeNumber(viewOf(output).getBigUint64(0, true));
}

/** @throws NAME_TOO_LONG: the path and its NUL do not fit */
export function encodeSnapshot(destination: ByteString): Uint8Array {
  if (destination.length >= SNAPSHOT_BYTES) throw new GfsError('NAME_TOO_LONG', 'destination too long');
  const bytes = new Uint8Array(SNAPSHOT_BYTES);
  Buffer.from(bytes.buffer).write(destination, 'latin1');
  return bytes;
}

/** @throws INVALID: the path is empty or has no NUL */
export function decodeSnapshot(input: Uint8Array): ByteString {
  fullView(input, SNAPSHOT_BYTES);
  const end = input.indexOf(0);
  if (end <= 0) throw new GfsError('INVALID', end === 0 ? 'no destination' : 'the destination has no NUL');
  return Buffer.from(input.buffer, input.byteOffset, end).toString('latin1');
}

/** @param first index of the first chunk to describe */
export function encodeChunkInfo(first: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_INFO_BYTES);
  viewOf(bytes).setBigUint64(0, BigInt(first), true);
  return bytes;
}

/**
 * @returns index of the first chunk to describe
 * @throws INVALID: no index of a chunk, or a reserved field is not 0
 */
export function decodeChunkInfo(input: Uint8Array): number {
  const view = fullView(input, CHUNK_INFO_BYTES);
  requireZero(view.getUint32(20, true));
  return safeNumber(view.getBigUint64(0, true));
}

export interface ChunkInfo {
  /** Index to go on from; 0 when no chunk follows. */
  readonly next: number;
  /** At most {@link CHUNK_INFO_TEXT_MAX_BYTES} in UTF-8. */
  readonly json: string;
}

export function encodeChunkInfoReply(first: number, info: ChunkInfo): Uint8Array {
  const text = Buffer.from(info.json);
  if (text.length > CHUNK_INFO_TEXT_MAX_BYTES)
    throw new RangeError(`chunk information of ${text.length} bytes`);
  const bytes = new Uint8Array(CHUNK_INFO_TEXT_OFFSET + text.length + 1);
  const view = viewOf(bytes);
  view.setBigUint64(0, BigInt(first), true);
  view.setBigUint64(8, BigInt(info.next), true);
  view.setUint32(16, text.length, true);
  bytes.set(text, CHUNK_INFO_TEXT_OFFSET);
  return bytes;
}

export function decodeChunkInfoReply(output: Uint8Array): ChunkInfo {
  const view = viewOf(output);
  const length = view.getUint32(16, true);
  const text = output.subarray(CHUNK_INFO_TEXT_OFFSET, CHUNK_INFO_TEXT_OFFSET + length);
  return { next: safeNumber(view.getBigUint64(8, true)), json: Buffer.from(text).toString() };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The kernel sends as many bytes as the command's encoding says; a binding that sends fewer is caught here. */
function fullView(input: Uint8Array, sizeBytes: number): DataView {
  if (input.length !== sizeBytes) throw new GfsError('INVALID', `${input.length} bytes, not ${sizeBytes}`);
  return viewOf(input);
}

function requireZero(reserved: number): void {
  if (reserved !== 0) throw new GfsError('INVALID', 'a reserved field is not 0');
}

function safeNumber(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new GfsError('INVALID', `${value} is out of range`);
  return Number(value);
}
