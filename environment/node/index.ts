/** The ports on a real host. The only folder, beside the kernel bindings and main.ts files, that may import `node:*`. */
import { readFileSync } from 'node:fs';
import type { Environment } from '../ports/index.js';
import { NodeClock } from './clock.js';
import { NodeDisk } from './disk.js';
import { type LogOptions, nodeLogger } from './logger.js';
import { NodeMetrics } from './metrics.js';
import { NodeNetwork } from './network.js';
import { NodeRandom } from './random.js';
import { NodeTimers } from './timers.js';

export type { LogOptions } from './logger.js';

const BOOT_ID_DIGITS = 12;

/** What a GFS process on this host runs in. One per process. */
export function nodeEnvironment(options: LogOptions): Environment {
  const logger = nodeLogger(options);
  return {
    clock: new NodeClock(),
    timers: new NodeTimers(),
    random: new NodeRandom(),
    disk: new NodeDisk(),
    network: new NodeNetwork(logger),
    logger,
    metrics: new NodeMetrics(),
    bootId: readBootId(),
  };
}

/** The first 48 bits of the kernel's boot id, a random UUID. */
function readBootId(): number {
  const uuid = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1');
  return Number.parseInt(uuid.replaceAll('-', '').slice(0, BOOT_ID_DIGITS), 16) || 1;
}
