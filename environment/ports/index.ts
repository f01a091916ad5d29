/**
 * The ports: everything outside a GFS process that it can observe or change. A process gets one
 * {@link Environment} at its start and touches nothing ambient, so the same master, chunkserver and
 * client run on real sockets and disks (`environment/node`) and inside a seeded simulator
 * (`test/simulator`).
 */
import type { Clock, Timers } from './clock.js';
import type { Disk } from './disk.js';
import type { Logger } from './logger.js';
import type { Metrics } from './metrics.js';
import type { Network } from './network.js';
import type { Random } from './random.js';

export type { Clock, Timer, Timers, WallTime } from './clock.js';
export type { Disk, DiskFile, DiskSpace, OpenMode } from './disk.js';
export type { LogFields, Logger } from './logger.js';
export type { Counter, Gauge, Histogram, Metrics } from './metrics.js';
export type { Listener, Network, Socket, SocketEvents } from './network.js';
export type { Random } from './random.js';

export interface Environment {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly disk: Disk;
  readonly network: Network;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /**
   * Identifies one boot of this host: whatever was written but not flushed under another boot id is
   * gone. A whole number below 2^48, never 0.
   */
  readonly bootId: number;
}
