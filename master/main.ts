/** `gfs master`: the process around {@link Master}. */
import { nodeEnvironment } from '../environment/node/index.js';
import { type ProcessOptions, runDaemon } from '../environment/node/process.js';
import { runInWorker } from '../environment/node/worker.js';
import type { Logger } from '../environment/ports/index.js';
import type { CheckpointMade, MakeCheckpoint } from './checkpointing.js';
import { Master } from './master.js';
import type { MasterOptions } from './options.js';

/** Runs until the process is told to end. @throws what keeps it from starting */
export async function runMaster(options: MasterOptions, process: ProcessOptions): Promise<void> {
  const environment = nodeEnvironment({
    role: 'master',
    logLevel: process.logLevel,
    logFile: process.logFile,
  });
  const makeCheckpoint = inThread(environment.logger);
  await runDaemon(environment, new Master(environment, options, { makeCheckpoint }), process);
}

/** Checkpoints made in a thread of their own. */
export function inThread(logger: Logger): MakeCheckpoint {
  const module = new URL('./checkpointing.js', import.meta.url).href;
  return (input, signal) =>
    runInWorker<CheckpointMade>({ module, name: 'makeCheckpoint', input }, logger, signal);
}
