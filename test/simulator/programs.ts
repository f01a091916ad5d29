/** Programs on simulated hosts: begun, ended in order, and what becomes of them. */
import type { FakeHost, FakeProcess } from '../fakes/index.js';

/** Something that can be killed and started again on its host. */
export interface Member {
  readonly host: FakeHost;
  /** What runs now; dead when it was killed and not started since. */
  process: FakeProcess | undefined;
  start(): void;
  /** An orderly end, as by SIGTERM, where there is one. */
  stop?(): void;
  /** What its disk holds, where nothing has made it smaller; undefined: whatever comes. */
  readonly diskBytes?: number | undefined;
}

/** Runs a process' program; if it throws the process has failed, unless its disk was full. */
export function begin(process: FakeProcess, program: () => Promise<void>): void {
  process.enter(() => {
    program().catch((thrown: unknown) => {
      if ((thrown as { code?: unknown }).code === 'ENOSPC') process.crash();
      else process.fail(thrown);
    });
  });
}

/** Those that end in order, which may take a while on a slow disk. */
const ending = new WeakSet<FakeProcess>();

/** Has a process end in order, and be gone then. */
export function end(process: FakeProcess, stop: () => Promise<void>): void {
  ending.add(process);
  begin(process, async () => {
    await stop();
    process.crash();
  });
}

/** Whether it ends in order and is still at it. */
export function isEnding(process: FakeProcess): boolean {
  return ending.has(process);
}
