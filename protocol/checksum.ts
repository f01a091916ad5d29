import { crc32 } from '@node-rs/crc32';

/** CRC-32 (ISO 3309, as in gzip) of `data`, continuing from `previous`. */
export function checksum(data: Uint8Array, previous = 0): number {
  return crc32(data as Buffer, previous);
}

export function checksumOf(buffers: readonly Uint8Array[]): number {
  let crc = 0;
  for (const buffer of buffers) crc = checksum(buffer, crc);
  return crc;
}

/**
 * The checksum of some bytes after a part of them has changed, from the checksum before: CRC is linear, so
 * only the part has to be known, and how many bytes come behind it. Whatever the bytes did not agree with in
 * the checksum before, they do not agree with in the one after.
 * @param before checksum of the part as it was @param after as it is, of the same length
 */
export function checksumAfterChange(
  whole: number,
  before: number,
  after: number,
  bytesBehind: number,
): number {
  return (whole ^ shifted((before ^ after) >>> 0, bytesBehind)) >>> 0;
}

/** The checksum of some bytes and `secondBytes` more behind them, from those of both. */
export function joinedChecksum(first: number, second: number, secondBytes: number): number {
  const behind = secondBytes === PAGE_BYTES ? shiftedByTable(first) : shifted(first, secondBytes);
  return (behind ^ second) >>> 0;
}

export const PAGE_BYTES = 4096;

/**
 * The checksums of some bytes piece by piece: cut where pages begin, when the first has `firstBytes` left of its
 * page. It takes little longer than that of all of them, which follows from these.
 */
export function pageChecksums(bytes: Uint8Array, firstBytes: number = PAGE_BYTES): number[] {
  const sums: number[] = [];
  let end = firstBytes;
  for (let at = 0; at < bytes.byteLength; end += PAGE_BYTES) {
    sums.push(checksum(bytes.subarray(at, Math.min(end, bytes.byteLength))));
    at = end;
  }
  return sums;
}

/** Of `sizeBytes`, from those of its pages. */
export function joinedPageChecksums(sums: readonly number[], sizeBytes: number): number {
  let crc = 0;
  for (let i = 0; i < sums.length; i++)
    crc = joinedChecksum(crc, sums[i] as number, Math.min(PAGE_BYTES, sizeBytes - i * PAGE_BYTES));
  return crc;
}

/** Pages are joined so often that it is worth a table: by byte of the difference, what it becomes. */
const table = new Uint32Array(4 * 256);

function shiftedByTable(difference: number): number {
  // Of no difference but zero does the shift come to nothing: so this tells whether it was filled.
  if (table[1] === 0)
    for (let i = 0; i < table.length; i++)
      table[i] = shifted(((i & 255) << ((i & ~255) / 32)) >>> 0, PAGE_BYTES);
  return (
    (table[difference & 255] as number) ^
    (table[256 + ((difference >>> 8) & 255)] as number) ^
    (table[512 + ((difference >>> 16) & 255)] as number) ^
    (table[768 + (difference >>> 24)] as number)
  );
}

/** The CRC polynomial, its bits in reverse, without x^32. */
const POLYNOMIAL = 0xedb88320;
/** By number of bytes: x^(8 n) modulo the polynomial; 0 where it has not been needed yet. */
const powers = new Uint32Array(64 * 1024 + 1);

/** What a difference in the checksum becomes when `count` bytes follow. */
function shifted(difference: number, count: number): number {
  if (count === 0 || difference === 0) return difference;
  let power = powers[count] ?? 0;
  if (power === 0) {
    power = powerOf(count);
    if (count < powers.length) powers[count] = power;
  }
  return product(difference, power);
}

/** x^(8 n) modulo the polynomial: by squaring. */
function powerOf(count: number): number {
  let power = 0x80000000;
  let square = 0x00800000;
  for (let left = count; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) power = product(power, square);
    square = product(square, square);
  }
  return power;
}

/** Of two polynomials, modulo the polynomial; the highest bit stands for 1. */
function product(a: number, b: number): number {
  let sum = 0;
  let shiftedB = b;
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) sum ^= shiftedB;
    shiftedB = shiftedB & 1 ? (shiftedB >>> 1) ^ POLYNOMIAL : shiftedB >>> 1;
  }
  return sum >>> 0;
}
