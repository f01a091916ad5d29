/** `gfs master`: the process around {@link Master}. */
import { nodeEnvironment } from '../environment/node/index.js';
import { type ProcessOptions, runDaemon } from '../environment/node/process.js';
import { Master } from './master.js';
import type { MasterOptions } from './options.js';

/** Runs until the process is told to end. @throws what keeps it from starting */
export async function runMaster(options: MasterOptions, process: ProcessOptions): Promise<void> {
  const environment = nodeEnvironment({
    role: 'master',
    logLevel: process.logLevel,
    logFile: process.logFile,
  });
  await runDaemon(environment, new Master(environment, options), process);
}
