/** What a thread of {@link runInWorker} runs. */
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import type { Environment, LogFields, Logger } from '../ports/index.js';
import { NodeClock } from './clock.js';
import { NodeDisk } from './disk.js';
import { NodeTimers } from './timers.js';
import type { WorkerMessage, WorkerTask } from './worker.js';

/** Of this thread alone (Linux counts threads): requests come first. */
const NICENESS = 10;

type Function = (
  ports: Pick<Environment, 'disk' | 'clock' | 'timers' | 'logger'>,
  input: unknown,
) => Promise<unknown>;

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
  const ports = { disk: new NodeDisk(), clock: new NodeClock(), timers: new NodeTimers(), logger: relay({}) };
  send({ type: 'done', result: await run(ports, input) });
} catch (error) {
  send({ type: 'failed', error });
}
