/** One process of a cluster that `gfs up` runs: started, watched, started again when it dies, stopped. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from '../failure.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** Who lived this long has not died of what killed it before. */
const GOOD_LIFE_MS = 30_000;
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const SHOWN_LOG_LINES = 12;

export interface Address {
  readonly pid: number;
  readonly host?: string;
  readonly port?: number;
}

export interface PartOptions {
  readonly name: string;
  /** The program and its words, without the address file. */
  readonly command: () => readonly string[];
  readonly addressFile: string;
  readonly logFile: string;
  /** Before each start, the first one too. */
  readonly prepare?: () => Promise<void>;
  /** It may end in order by itself and is then let be: a mount that somebody unmounts. */
  readonly mayEnd?: boolean;
  readonly tell: (line: string) => void;
}

const ENDED_IN_ORDER = 'exit code 0';

export class Part {
  readonly name: string;
  readonly #options: PartOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<string> | undefined;
  #stopping = false;
  #pauseMs = FIRST_PAUSE_MS;
  #pausing = new AbortController();
  #watching: Promise<void> | undefined;

  constructor(options: PartOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Starts it for the first time and waits until it works. @throws Failure with the end of its log */
  async start(timeoutMs: number): Promise<Address> {
    const address = await this.#launch(timeoutMs);
    this.#watching = this.#watch();
    return address;
  }

  async #launch(timeoutMs: number): Promise<Address> {
    await this.#options.prepare?.();
    if (this.#stopping) throw new Failure(`${this.name} is not wanted any more`);
    rmSync(this.#options.addressFile, { force: true });
    rotate(this.#options.logFile);
    const logFrom = sizeOf(this.#options.logFile);
    const log = openSync(this.#options.logFile, 'a', 0o600);
    const [program, ...words] = this.#options.command() as [string, ...string[]];
    // A session of its own: Ctrl-C at the terminal is for us, who stop the parts in order.
    const child = spawn(program, [...words, '--address-file', this.#options.addressFile], {
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) =>
        resolve(signal === null ? `exit code ${code}` : `signal ${signal}`),
      );
    });
    const result = await Promise.race([this.#addressOf(child, timeoutMs), this.#ended]);
    if (typeof result !== 'string') return result;
    child.kill('SIGKILL');
    throw new Failure(`${this.name} did not start (${result})`, endOfLog(this.#options.logFile, logFrom));
  }

  async #addressOf(child: ChildProcess, timeoutMs: number): Promise<Address | string> {
    const endMs = performance.now() + timeoutMs;
    while (performance.now() < endMs) {
      if (child.exitCode !== null || child.signalCode !== null) return this.#ended as Promise<string>;
      const address = readAddress(this.#options.addressFile);
      if (address !== undefined && address.pid === child.pid) return address;
      await delay(20);
    }
    return `it was not ready after ${timeoutMs / 1000} s`;
  }

  /** Starts it again whenever it ends, at growing intervals. */
  async #watch(): Promise<void> {
    while (!this.#stopping) {
      const startedMs = performance.now();
      const reason = await this.#ended;
      if (this.#stopping) return;
      if (this.#options.mayEnd === true && reason === ENDED_IN_ORDER) {
        this.#options.tell(`${this.name} has ended; the rest goes on`);
        return;
      }
      if (performance.now() - startedMs > GOOD_LIFE_MS) this.#pauseMs = FIRST_PAUSE_MS;
      this.#options.tell(`${this.name} ended (${reason}): starting it again in ${this.#pauseMs / 1000} s`);
      await this.#restart();
    }
  }

  async #restart(): Promise<void> {
    while (!this.#stopping) {
      await delay(this.#pauseMs, undefined, { signal: this.#pausing.signal }).catch(() => undefined);
      if (this.#stopping) return;
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
      try {
        await this.#launch(LONGEST_PAUSE_MS);
        this.#options.tell(`${this.name} is back`);
        return;
      } catch (error) {
        if (this.#stopping) return;
        this.#options.tell(`${(error as Error).message}\ntrying again in ${this.#pauseMs / 1000} s`);
      }
    }
  }

  /** SIGTERM, after `graceMs` SIGKILL. @returns whether it ended by itself */
  async stop(graceMs: number): Promise<boolean> {
    this.#stopping = true;
    this.#pausing.abort();
    const child = this.#child;
    let inOrder = true;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      const timedOut = Symbol('timed out');
      const timeout = new AbortController();
      const timer = delay(graceMs, timedOut, { signal: timeout.signal }).catch(() => undefined);
      if ((await Promise.race([this.#ended, timer])) === timedOut) {
        inOrder = false;
        child.kill('SIGKILL');
        await this.#ended;
      }
      timeout.abort();
    }
    await this.#watching;
    return inOrder;
  }
}

export function readAddress(file: string): Address | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Address;
  } catch {
    return undefined;
  }
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}

function rotate(file: string): void {
  if (sizeOf(file) > MAX_LOG_BYTES) renameSync(file, `${file}.1`);
}

/** What it logged in this life, the last lines. */
function endOfLog(file: string, from: number): string {
  const lines = readFileSync(file).subarray(from).toString().trimEnd().split('\n');
  const shown = lines.slice(-SHOWN_LOG_LINES).map((line) => `  ${line}`);
  return lines.length <= 1 && lines[0] === ''
    ? `It logged nothing (${file}).`
    : `The end of its log (${file}):\n${shown.join('\n')}`;
}
