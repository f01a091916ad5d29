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
