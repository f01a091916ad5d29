import { MIB } from '../protocol/limits.js';
import type { Location } from '../protocol/messages/index.js';
import type { CacheLimits } from './cache-limits.js';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface ClientOptions {
  /** Tried in turn until one answers. */
  readonly masters: readonly HostPort[];
  readonly hostname: string;
  /** Where this client is, for the choice of the nearest replicas. */
  readonly location?: Location;
  readonly rack?: string;
  /** How long a chunk location is believed (paper §2.4). */
  readonly locationTtlMs: number;
  /** After this long without success an operation fails with EIO or ETIMEDOUT. */
  readonly deadlineMs: number;
  /** Wait for ever instead. */
  readonly hard: boolean;
  /** Written data that may wait to be sent, all files together. */
  readonly writeBehindBytes: number;
  /** Keep names and attributes as long as the master promises them. */
  readonly caches: boolean;
  /** What it keeps at most, of everything that was told. */
  readonly cacheLimits?: CacheLimits;
}

export const clientDefaults = {
  hostname: 'localhost',
  locationTtlMs: 60_000,
  deadlineMs: 30_000,
  hard: false,
  writeBehindBytes: 32 * MIB,
  caches: false,
} as const satisfies Partial<ClientOptions>;
