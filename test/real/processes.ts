/** Real processes for tests: started with their address files, ended whatever happens. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseMountInfo } from '../../cli/mounts.js';

const START_TIMEOUT_MS = 30_000;
const STOP_GRACE_MS = 10_000;
const COMMAND_TIMEOUT_MS = 60_000;

export interface Address {
  readonly pid: number;
  readonly host: string;
  readonly port: number;
  readonly metricsPort?: number;
}

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A temporary directory, and everything that runs in it. What is left at the end, by whatever way the
 * test process ends, is killed and unmounted.
 */
export class Workspace {
  readonly directory: string;
  /** `node` and a script that is `gfs`, as these very sources were compiled. */
  readonly gfs: readonly [string, string];
  readonly #processes = new Set<RealProcess>();
  readonly #onExit = () => this.#destroy();

  constructor(name = 'real') {
    this.directory = mkdtempSync(join(tmpdir(), `gfs-${name}-`));
    // Tests act as other users too.
    chmodSync(this.directory, 0o755);
    const main = new URL('../../cli/main.js', import.meta.url);
    const script = join(this.directory, 'gfs.mjs');
    writeFileSync(
      script,
      `import('${pathToFileURL(main.pathname)}').then((cli) => cli.main(process.argv.slice(2)));\n`,
    );
    this.gfs = [process.execPath, script];
    process.once('exit', this.#onExit);
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** A name that is there is left as it is: it may be a dead mount, which nobody can look into. */
  makeDirectory(name: string): string {
    const path = this.path(name);
    if (!readdirSync(this.directory).includes(name)) mkdirSync(path);
    return path;
  }

  write(name: string, text: string): string {
    writeFileSync(this.path(name), text);
    return this.path(name);
  }

  /** Runs `gfs` to its end. */
  run(words: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return runCommand([...this.gfs, ...words], { cwd: this.directory, ...options });
  }

  /** A `gfs` that goes on; {@link RealProcess.started} waits for its address file. */
  spawn(name: string, words: readonly string[]): RealProcess {
    const addressFile = this.path(`${name}.address.json`);
    rmSync(addressFile, { force: true });
    const process = new RealProcess(
      name,
      [...this.gfs, ...words, '--address-file', addressFile],
      this.directory,
      this.path(`${name}.log`),
      addressFile,
    );
    this.#processes.add(process);
    return process;
  }

  /** Any program that goes on, without an address file. */
  spawnProgram(name: string, command: readonly string[]): RealProcess {
    const process = new RealProcess(name, command, this.directory, this.path(`${name}.log`), undefined);
    this.#processes.add(process);
    return process;
  }

  async remove(): Promise<void> {
    process.removeListener('exit', this.#onExit);
    this.#killAll();
    await Promise.all([...this.#processes].map((process) => process.ended));
    this.#destroy();
  }

  /** Ours, and those that they started: their command lines name the directory. */
  #killAll(): void {
    const { stdout } = spawnSync('ps', ['-ww', '-e', '-o', 'pid=,args='], { encoding: 'utf8' });
    for (const line of stdout.split('\n')) {
      const pid = Number.parseInt(line, 10);
      if (pid > 0 && pid !== process.pid && line.includes(`${this.directory}/`)) kill(pid, 'SIGKILL');
    }
  }

  /** Synchronous: it is also what happens when the test process ends. */
  #destroy(): void {
    this.#killAll();
    for (const { mountPoint } of parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8')).reverse()) {
      if (mountPoint.startsWith(`${this.directory}/`)) {
        spawnSync('umount', ['--lazy', '--no-canonicalize', mountPoint], { timeout: 10_000 });
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

export class RealProcess {
  readonly name: string;
  readonly pid: number;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly #addressFile: string | undefined;

  constructor(
    name: string,
    command: readonly string[],
    cwd: string,
    logFile: string,
    addressFile: string | undefined,
  ) {
    this.name = name;
    this.#logFile = logFile;
    this.#addressFile = addressFile;
    const log = openSync(logFile, 'a');
    const [program, ...words] = command as [string, ...string[]];
    this.#child = spawn(program, words, { cwd, stdio: ['ignore', log, log], env: cleanEnvironment() });
    closeSync(log);
    this.pid = this.#child.pid ?? -1;
    this.ended = once(this.#child, 'exit').then(([code, signal]) => ({ code, signal }));
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  /** Waits until it works. @throws with its log when it ends before */
  async started(timeoutMs = START_TIMEOUT_MS): Promise<Address> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const address = this.#address();
      if (address?.pid === this.pid) return address;
      if (!this.isRunning) throw new Error(`${this.name} ended before it was ready:\n${this.log}`);
      if (performance.now() > endMs) throw new Error(`${this.name} was not ready in time:\n${this.log}`);
      await delay(20);
    }
  }

  #address(): Address | undefined {
    try {
      return JSON.parse(readFileSync(this.#addressFile ?? '', 'utf8')) as Address;
    } catch {
      return undefined;
    }
  }

  /** Waits for a text in its output. */
  async says(text: string | RegExp, timeoutMs = START_TIMEOUT_MS): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while (!(typeof text === 'string' ? this.log.includes(text) : text.test(this.log))) {
      if (!this.isRunning) throw new Error(`${this.name} ended and did not say ${text}:\n${this.log}`);
      if (performance.now() > endMs) throw new Error(`${this.name} did not say ${text}:\n${this.log}`);
      await delay(20);
    }
  }

  /** kill -9, and nothing of it is left. */
  async kill(): Promise<void> {
    kill(this.pid, 'SIGKILL');
    await this.ended;
  }

  /** SIGTERM. @throws when it does not end in time */
  async stop(graceMs = STOP_GRACE_MS): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.resume();
    kill(this.pid, 'SIGTERM');
    const late = delay(graceMs, undefined, { ref: false }).then(() => undefined);
    const end = await Promise.race([this.ended, late]);
    if (end !== undefined) return end;
    const { log } = this;
    await this.kill();
    throw new Error(`${this.name} did not end within ${graceMs} ms of SIGTERM:\n${log}`);
  }

  /** It hangs, as far as others can see. */
  pause(): void {
    kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    kill(this.pid, 'SIGCONT');
  }
}

/** No configuration of whoever runs the tests. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith('GFS_') && name !== 'npm_lifecycle_event',
    ),
  );
}

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * Runs a program to its end, without blocking: a test process must stay able to kill what it waits for.
 * Out of time: SIGKILL, and `status` is null.
 */
export function runCommand(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const [program, ...words] = command as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, {
      cwd: options.cwd,
      env: { ...cleanEnvironment(), ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? COMMAND_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (bytes: Buffer) => {
        output[name] += bytes.toString('latin1');
      });
    }
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...output }));
    // A program that reads nothing closes its end.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });
}
