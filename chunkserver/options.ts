import { MIB } from '../protocol/limits.js';
import type { Location } from '../protocol/messages/index.js';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ChunkserverOptions {
  /** One or more, each with its own superblock, lock and journal. */
  readonly dataDirectories: readonly string[];
  readonly host: string;
  /** 0: the system chooses one. */
  readonly port: number;
  /** What others connect to, where it is not {@link host}. */
  readonly advertiseHost?: string;
  /** Tried in turn. */
  readonly masters: readonly Address[];
  readonly location?: Location;
  readonly rack?: string;
  /** `disk`: a sync is answered once the disks have it; `memory`: at once, the page cache is enough. */
  readonly sync: 'disk' | 'memory';
  /** Kept free on every disk, for the journal, checkpoints and repair. */
  readonly reservedBytes: number;
  /** Bytes of the trace of requests that are kept in files; 0: it is in memory alone. Absent: none is kept. */
  readonly traceBytes?: number;
  /** A journal, or patches in memory, of this size begin a checkpoint. Small in tests. */
  readonly checkpointBytes?: number;
  /** Every replica is checked against its checksums once in this time, when clients are quiet; 0: never by itself. */
  readonly scrubIntervalMs: number;
}

export const chunkserverDefaults = {
  host: '127.0.0.1',
  port: 0,
  sync: 'disk',
  reservedBytes: 256 * MIB,
  scrubIntervalMs: 7 * 24 * 3_600_000,
} as const satisfies Partial<ChunkserverOptions>;
