/** Small files of a data directory: a line of JSON, and the CRC-32 of that line as 8 hexadecimal digits. */
import { checksum } from '../../protocol/checksum.js';

export function sealed(content: object): Buffer {
  const line = JSON.stringify(content);
  return Buffer.from(`${line}\n${sumOf(line)}\n`);
}

/**
 * Undefined when the bytes are not what was sealed.
 * @typeParam T what was sealed, which its `name` and `format` have to confirm
 */
export function unsealed<T>(raw: Buffer): T | undefined {
  const [line, sum] = raw.toString('utf8').split('\n');
  return line !== undefined && sum === sumOf(line) ? JSON.parse(line) : undefined;
}

function sumOf(line: string): string {
  return checksum(Buffer.from(line)).toString(16).padStart(8, '0');
}
