/**
 * Keeps a mount alive: runs the process that serves it as a child, and starts another one when it has crashed
 * or hangs. The dead mount goes first: the new process tidies it away, as every start does.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** What the child sends while it lives: see environment/node/process.ts. */
export const ALIVE = 'alive';
const TICK_MS = 1000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
/** A mount that has lasted so long was well: the next crash is a new one. */
const WELL_AFTER_TICKS = 60;

export interface SupervisorOptions {
  /** What runs the mount in the foreground: a program and its words, asked for before each start. */
  readonly command: () => readonly [string, ...string[]];
  /** A child that has not answered for so long is killed; 0: it may take its time. */
  readonly watchdogMs: number;
  readonly tell: (line: string) => void;
}

export class MountSupervisor {
  readonly #options: SupervisorOptions;
  #child: ChildProcess | undefined;
  #stopping = false;
  #wake = () => {};

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** SIGTERM: the mount ends in order, and nothing comes after it. */
  stop(): void {
    this.#stopping = true;
    this.#child?.kill('SIGTERM');
    this.#wake();
  }

  /** @returns the exit code of the last child: 0 when it was unmounted or stopped */
  async run(): Promise<number> {
    const { tell } = this.#options;
    let pauseMs = FIRST_PAUSE_MS;
    let everMounted = false;
    for (;;) {
      const { code, signal, ticks } = await this.#runOnce();
      everMounted ||= ticks > 0;
      if (code === 0 || this.#stopping) return code ?? 0;
      // What never was there is not brought back: the user is told why it failed.
      if (!everMounted) return code ?? 1;
      if (ticks >= WELL_AFTER_TICKS) pauseMs = FIRST_PAUSE_MS;
      tell(`the mount's process ended by ${signal ?? `exit code ${code}`}: mounting again in ${pauseMs} ms`);
      await this.#pause(pauseMs);
      if (this.#stopping) return 0;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  /** @returns also for how many ticks it said that it lives: it does so once it has mounted */
  async #runOnce(): Promise<{ code: number | null; signal: string | null; ticks: number }> {
    const { command, watchdogMs, tell } = this.#options;
    const [program, ...words] = command();
    const child = spawn(program, words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child = child;
    let ticks = 0;
    let silentMs = 0;
    child.on('message', (message) => {
      if (message !== ALIVE) return;
      ticks++;
      silentMs = 0;
    });
    // Counted in ticks of our own: where the whole host was suspended, nobody was silent.
    const timer = setInterval(() => {
      silentMs += TICK_MS;
      if (watchdogMs === 0 || ticks === 0 || silentMs <= watchdogMs) return;
      tell(`the mount's process has not answered for ${silentMs / 1000} s: killing it`);
      child.kill('SIGKILL');
      silentMs = 0;
    }, TICK_MS);
    try {
      const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
      return { code, signal, ticks };
    } finally {
      clearInterval(timer);
      this.#child = undefined;
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
