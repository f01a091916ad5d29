import process from 'node:process';
import { nodeEnvironment } from '../environment/node/index.js';
import { type ProcessOptions, runDaemon } from '../environment/node/process.js';
import { GfsError } from '../protocol/errors.js';
import { Chunkserver } from './chunkserver.js';
import type { ChunkserverOptions } from './options.js';
import { isDeviceError } from './store/watched-disk.js';

/** Runs a chunkserver as this process, until it is told to stop. */
export async function runChunkserver(
  options: ChunkserverOptions,
  processOptions: ProcessOptions,
): Promise<void> {
  const environment = nodeEnvironment({ role: 'chunkserver', ...processOptions });
  const chunkserver = new Chunkserver(environment, options);
  void chunkserver.failed.then((error) => {
    if (
      error instanceof GfsError &&
      (error.code === 'WRONG_CLUSTER' || error.code === 'WRONG_PROTOCOL_VERSION')
    ) {
      const data = options.dataDirectories.join(', ');
      process.stderr.write(
        `gfs: the master refuses this chunkserver with its data in ${data}: ${error.message}\n`,
      );
      process.exit(1);
    }
    const cause = isDeviceError(error) ? error : error.cause;
    if (isDeviceError(cause)) {
      const disks = options.dataDirectories.join(', ');
      process.stderr.write(
        `gfs: no disk of this chunkserver works any more (${disks}): ${(cause as Error).message}. It ends; its chunks are made anew from other replicas. Replace the disk and start it again, with an empty directory or the old one.\n`,
      );
      process.exit(1);
    }
    // What was acknowledged may be lost, or never wanted: only the end of the process is safe.
    throw error;
  });
  await runDaemon(environment, chunkserver, processOptions);
}
