/** What a thread of {@link runInWorker} runs. */
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import type { Disk, LogFields, Logger } from '../ports/index.js';
import { NodeDisk } from './disk.js';
import type { WorkerMessage, WorkerTask } from './worker.js';

/** Of this thread alone (Linux counts threads): requests come first. */
const NICENESS = 10;

type Function = (ports: { readonly disk: Disk; readonly logger: Logger }, input: unknown) => Promise<unknown>;

function send(message: WorkerMessage): void {
  parentPort?.postMessage(message);
}

function relay(bound: LogFields): Logger {
  const at = (level: keyof Omit<Logger, 'child'>) => (fields: LogFields, text: string) =>
    send({ type: 'log', level, fields: { ...bound, ...fields }, text });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => relay({ ...bound, ...fields }),
  };
}

const { module, name, input } = workerData as WorkerTask;
setPriority(NICENESS);
try {
  const run = ((await import(module)) as Record<string, Function>)[name] as Function;
  send({ type: 'done', result: await run({ disk: new NodeDisk(), logger: relay({}) }, input) });
} catch (error) {
  send({ type: 'failed', error });
}
