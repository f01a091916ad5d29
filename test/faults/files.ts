/** Files written and read by programs of their own, so that nobody here hangs with them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { FileReport } from './file-worker.js';

const WORKER = new URL('./file-worker.js', import.meta.url).pathname;

export interface FileJob {
  readonly done: Promise<FileReport>;
  /** Waits until so many megabytes are through. */
  reached(mib: number): Promise<void>;
}

/** @param timeoutMs after which it counts as hung: killed, as far as it can be */
export function startFile(
  mode: 'write' | 'read',
  path: string,
  mib: number,
  seed: number,
  timeoutMs: number,
): FileJob {
  const child = spawn(process.execPath, [WORKER, mode, path, String(mib), String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let [text, progress] = ['', 0];
  const waiters: { readonly mib: number; readonly resolve: () => void }[] = [];
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
    progress = Number([...text.matchAll(/progress (\d+)\n/g)].at(-1)?.[1] ?? 0);
    for (const waiter of waiters) if (progress >= waiter.mib) waiter.resolve();
  });
  const ended = once(child, 'close').then((): FileReport => {
    for (const { resolve } of waiters) resolve();
    const line = text.split('\n').find((each) => each.startsWith('{'));
    if (line !== undefined) return JSON.parse(line) as FileReport;
    return { bytes: 0, longestMs: timeoutMs, totalMs: timeoutMs, wrongBytes: 0, error: 'HUNG' };
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  void ended.then(() => clearTimeout(timer));
  return {
    done: ended,
    reached: (wanted) => {
      if (progress >= wanted) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ mib: wanted, resolve }));
    },
  };
}

export function writeFile(path: string, mib: number, seed: number, timeoutMs = 300_000): Promise<FileReport> {
  return startFile('write', path, mib, seed, timeoutMs).done;
}

/** @throws Error that says what is wrong: an error, or bytes that nobody wrote */
export async function verifyFile(
  path: string,
  mib: number,
  seed: number,
  timeoutMs = 300_000,
): Promise<FileReport> {
  const report = await startFile('read', path, mib, seed, timeoutMs).done;
  if (report.error !== undefined) throw new Broken(`reading ${path}: ${report.error}`);
  if (report.wrongBytes > 0) throw new Broken(`${path}: ${report.wrongBytes} bytes are not what was written`);
  if (report.bytes !== mib * 1024 * 1024) throw new Broken(`${path}: ${report.bytes} bytes were read`);
  return report;
}

/** A promise of the system is broken: bytes lost or wrong, an error where there should be none, a hang. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

/** @throws Broken when a writer was told of an error */
export function mustSucceed(what: string, report: FileReport): FileReport {
  if (report.error !== undefined) throw new Broken(`${what}: ${report.error}`);
  return report;
}
