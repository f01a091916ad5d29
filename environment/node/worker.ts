/** Work in a thread of its own, so that the event loop of the process does not wait for it. */
import { Worker } from 'node:worker_threads';
import type { LogFields, Logger } from '../ports/index.js';

/** What the thread sends. */
export type WorkerMessage =
  | {
      readonly type: 'log';
      readonly level: keyof Omit<Logger, 'child'>;
      readonly fields: LogFields;
      readonly text: string;
    }
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly error: unknown };

/** What it is to do: the function `name` of a module, called with a disk, a clock, timers, a logger and `input`. */
export interface WorkerTask {
  readonly module: string;
  readonly name: string;
  readonly input: unknown;
}

/**
 * Calls `name` of `module` in a new thread, at a lower priority than this one.
 * @param input copied to the thread, as the result is back
 * @throws what the function throws; the signal's reason when that ends it
 */
export function runInWorker<Result>(task: WorkerTask, logger: Logger, signal: AbortSignal): Promise<Result> {
  return new Promise<Result>((resolve, reject) => {
    const worker = new Worker(new URL('./worker-main.js', import.meta.url), { workerData: task });
    const abort = (): void => void worker.terminate().then(() => reject(signal.reason));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    worker.on('message', (message: WorkerMessage) => {
      if (message.type === 'log') logger[message.level](message.fields, message.text);
      else if (message.type === 'done') resolve(message.result as Result);
      else reject(message.error);
    });
    worker.on('error', reject);
    worker.on('exit', (code) => {
      signal.removeEventListener('abort', abort);
      reject(new Error(`the thread ended with ${code}`));
    });
  });
}
