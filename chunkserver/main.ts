import { nodeEnvironment } from '../environment/node/index.js';
import { type ProcessOptions, runDaemon } from '../environment/node/process.js';
import { Chunkserver } from './chunkserver.js';
import type { ChunkserverOptions } from './options.js';

/** Runs a chunkserver as this process, until it is told to stop. */
export async function runChunkserver(options: ChunkserverOptions, process: ProcessOptions): Promise<void> {
  const { logLevel, logFile } = process;
  const environment = nodeEnvironment({
    role: 'chunkserver',
    logLevel,
    ...(logFile === undefined ? {} : { logFile }),
  });
  const chunkserver = new Chunkserver(environment, options);
  // What was acknowledged may be lost, or never wanted: only the end of the process is safe.
  void chunkserver.failed.then((error) => {
    throw error;
  });
  await runDaemon(environment, chunkserver, process);
}
