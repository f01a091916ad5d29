/**
 * What becomes of a request whose caller got a signal. The kernel sends INTERRUPT for every signal, and
 * programs do not expect that open(2) or fsync(2) on a file fails with EINTR because of a timer's: with a
 * local disk it never does. So a request ends at once where the signal ends the caller, a moment later where
 * somebody wants the caller to end, and else goes on. (The signal is handled when the request is answered.)
 */
import { readFileSync } from 'node:fs';
import type { Timers } from '../../environment/ports/index.js';
import { Opcode } from './protocol.js';
import type { Request } from './request.js';

/** A second signal brings no second INTERRUPT: it is looked for, for as long as the request is under way. */
const LOOK_AGAIN_MS = 250;
/** What would be answered anyway is given this time when the caller is only asked to end. */
const PATIENCE_MS = 1_000;

const bit = (signal: number): bigint => 1n << BigInt(signal - 1);
const [HANGUP, INTERRUPT, QUIT, KILL, TERMINATE] = [1, 2, 3, 9, 15].map(bit) as [
  bigint,
  bigint,
  bigint,
  bigint,
  bigint,
];
const ASKS_TO_END = HANGUP | INTERRUPT | QUIT | TERMINATE;
/** Those whose default is to be ignored or to stop: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const HARMLESS = [17, 18, 19, 20, 21, 22, 23, 28].map(bit).reduce((all, one) => all | one, 0n);

/** `ends`: of the caller nothing will be left. `asked`: it has a handler for a signal that means to end. */
export type Fate = 'ends' | 'asked' | 'lives';

/** What the signals that wait for a thread will do to it, from /proc/PID/status. */
export function fateOf(pid: number): Fate {
  if (pid === 0) return 'ends';
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return 'ends';
  }
  return fateIn(status);
}

export function fateIn(status: string): Fate {
  const mask = (name: string): bigint => {
    const digits = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
    return digits === undefined ? 0n : BigInt(`0x${digits}`);
  };
  const waiting = (mask('SigPnd') | mask('ShdPnd')) & (~mask('SigBlk') | KILL);
  const unhandled = waiting & ~mask('SigCgt') & ~mask('SigIgn') & ~HARMLESS;
  // A signal that ends a process makes the kernel add SIGKILL for each of its threads.
  if ((waiting & KILL) !== 0n || unhandled !== 0n) return 'ends';
  return (waiting & ASKS_TO_END) !== 0n ? 'asked' : 'lives';
}

export class Interruptions {
  readonly #timers: Timers;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** @param isPending whether the request still waits for its answer */
  onInterrupt(request: Request, isPending: () => boolean): void {
    // Who waits for a lock expects any signal to end that.
    if (request.opcode === Opcode.SETLKW) request.interrupt();
    else this.#look(request, isPending, 0);
  }

  #look(request: Request, isPending: () => boolean, askedForMs: number): void {
    if (!isPending()) return;
    const fate = fateOf(request.pid);
    if (fate === 'ends' || (fate === 'asked' && askedForMs >= PATIENCE_MS)) return request.interrupt();
    const nextMs = fate === 'asked' ? askedForMs + LOOK_AGAIN_MS : 0;
    this.#timers.after(LOOK_AGAIN_MS, () => this.#look(request, isPending, nextMs));
  }
}
