/** `gfs master` and `gfs shadow`: the processes around {@link Master} and {@link Shadow}. */
import process from 'node:process';
import { nodeEnvironment } from '../environment/node/index.js';
import { type ProcessOptions, runDaemon } from '../environment/node/process.js';
import { runInWorker } from '../environment/node/worker.js';
import type { Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { CheckpointMade, MakeCheckpoint } from './checkpointing.js';
import { Master } from './master.js';
import type { MasterOptions, ShadowOptions } from './options.js';
import { Shadow } from './shadow.js';
import { ReplacedError } from './tenure.js';

/** Runs until the process is told to end. @throws what keeps it from starting */
export async function runMaster(options: MasterOptions, processOptions: ProcessOptions): Promise<void> {
  const environment = nodeEnvironment({
    role: 'master',
    logLevel: processOptions.logLevel,
    logFile: processOptions.logFile,
  });
  const master = new Master(environment, options, { makeCheckpoint: inThread(environment.logger) });
  void master.replaced.then(endWith);
  await runDaemon(environment, master, processOptions);
}

/** `gfs shadow`. @throws what keeps it from starting */
export async function runShadow(options: ShadowOptions, processOptions: ProcessOptions): Promise<void> {
  const environment = nodeEnvironment({ role: 'shadow', ...processOptions });
  const shadow = new Shadow(environment, options, inThread(environment.logger));
  void shadow.failed.then(endWith);
  await runDaemon(environment, shadow, processOptions);
}

/** What it says is for the operator; a broken invariant is thrown elsewhere, and ends the process by itself. */
function endWith(error: unknown): void {
  if (!(error instanceof ReplacedError || error instanceof GfsError)) return;
  process.stderr.write(`gfs: ${error.message}\n`);
  process.exit(1);
}

/** Checkpoints made in a thread of their own. */
export function inThread(logger: Logger): MakeCheckpoint {
  const module = new URL('./checkpointing.js', import.meta.url).href;
  return (input, signal) =>
    runInWorker<CheckpointMade>({ module, name: 'makeCheckpoint', input }, logger, signal);
}
