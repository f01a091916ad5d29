/**
 * Serial numbers. The primary numbers the mutations of a chunk 1, 2, 3… under each version; on the
 * wire and on disk a serial is (version, number) packed into one number, `version × 2^24 + number`. So
 * all replicas know the first serial of a new version without asking, and of two replicas the one
 * with the higher applied serial has seen more.
 */
import { MAX_WRITE_PARTS } from '../../protocol/limits.js';

const NUMBERS_PER_VERSION = 2 ** 24;

/** The serial before the first of `version`. */
export function serialBase(version: number): number {
  return version * NUMBERS_PER_VERSION;
}

/** The serial that must come next on a replica at `version` that has applied `applied`. */
export function nextSerial(version: number, applied: number): number {
  return Math.max(applied, serialBase(version)) + 1;
}

/** A lease ends when its version has no serials left for another mutation of the most parts. */
export function isLastSerial(serial: number): boolean {
  return serial % NUMBERS_PER_VERSION >= NUMBERS_PER_VERSION - MAX_WRITE_PARTS;
}

export const MAX_VERSION = 2 ** 29 - 1;
