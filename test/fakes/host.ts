/** Hosts and the processes on them: what crashes, pauses and keeps time of its own. */
import type { Clock, Environment, Timer, Timers, WallTime } from '../../environment/ports/index.js';
import { FakeDisk } from './disk.js';
import { FakeLogger } from './logger.js';
import { FakeMetrics } from './metrics.js';
import type { FakeRandom } from './random.js';
import type { Scheduler } from './scheduler.js';
import type { SimulatedWorld } from './world.js';

/** 2026-01-01, where wall time starts. */
const WALL_ORIGIN_SEC = 1_767_225_600;
const MAX_BOOT_ID = 2 ** 48;
/** How late a timer may be. */
const TIMER_LATENESS_MS = 1;

export interface HostOptions {
  /** How fast the host's clock runs: 1.01 is one percent fast. */
  readonly clockRate?: number;
  /** What the disk holds; beyond it ENOSPC. */
  readonly diskBytes?: number;
}

export class FakeHost {
  readonly name: string;
  readonly world: SimulatedWorld;
  readonly disk: FakeDisk;
  readonly clockRate: number;
  /** Added to the wall clock: an operator or NTP sets it, at any time. */
  wallSkewMs = 0;
  readonly processes = new Set<FakeProcess>();
  readonly #random: FakeRandom;
  #bootId: number;
  #monotonicOriginMs: number;
  #up = true;

  constructor(world: SimulatedWorld, name: string, options: HostOptions) {
    this.world = world;
    this.name = name;
    this.#random = world.random.fork(`host ${name}`);
    this.clockRate = options.clockRate ?? 1;
    this.disk = new FakeDisk(world.scheduler, this.#random.fork('disk'), options.diskBytes);
    this.#bootId = 1 + this.#random.below(MAX_BOOT_ID - 1);
    this.#monotonicOriginMs = this.#random.between(1_000, 1_000_000);
  }

  get bootId(): number {
    return this.#bootId;
  }

  get up(): boolean {
    return this.#up;
  }

  monotonicMs(): number {
    return this.#monotonicOriginMs + this.world.scheduler.nowMs * this.clockRate;
  }

  /** A new process on this host. */
  start(name: string): FakeProcess {
    if (!this.#up) throw new Error(`host ${this.name} is down`);
    const process = new FakeProcess(this, name, this.#random.fork(`process ${name} ${this.#random.u32()}`));
    this.processes.add(process);
    return process;
  }

  /** The power fails: all processes are gone, nobody is told, what was not flushed is lost in whole or in part. */
  crash(): void {
    this.world.scheduler.trace(`host ${this.name} crashes`);
    this.#up = false;
    for (const process of [...this.processes]) process.vanish();
    this.disk.crashHost();
  }

  /** Power is back: a new boot. Its processes have to be started. */
  boot(): void {
    this.world.scheduler.trace(`host ${this.name} boots`);
    this.#up = true;
    this.#bootId = 1 + this.#random.below(MAX_BOOT_ID - 1);
    this.#monotonicOriginMs = this.#random.between(0, 1_000) - this.world.scheduler.nowMs * this.clockRate;
    this.world.network.onLinksChanged();
  }
}

/** How a process ended, for whoever holds something of it. */
type EndOfProcess = 'exit' | 'host';

export class FakeProcess {
  readonly name: string;
  readonly host: FakeHost;
  readonly environment: Environment;
  readonly metrics = new FakeMetrics();
  /** What its code threw where nobody caught it; the process ended then. */
  failure: unknown;
  readonly #scheduler: Scheduler;
  readonly #endings = new Set<(how: EndOfProcess) => void>();
  readonly #held: (() => void)[] = [];
  #state: 'running' | 'paused' | 'ended' = 'running';

  constructor(host: FakeHost, name: string, random: FakeRandom) {
    const { world } = host;
    this.host = host;
    this.name = name;
    this.#scheduler = world.scheduler;
    this.environment = {
      clock: new FakeClock(host),
      timers: new FakeTimers(this, world.scheduler, random.fork('timers')),
      random: random.fork('random'),
      disk: host.disk.forProcess(this),
      network: world.network.forProcess(this),
      logger: new FakeLogger(world.log, name, () => world.scheduler.nowMs),
      metrics: this.metrics,
      bootId: host.bootId,
    };
  }

  get alive(): boolean {
    return this.#state !== 'ended';
  }

  /** Runs something of this process, unless it is no more; later, when it is paused. */
  enter(run: () => void): void {
    if (this.#state === 'ended') return;
    if (this.#state === 'paused') {
      this.#held.push(run);
      return;
    }
    try {
      run();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** A broken invariant: the process ends, and the world remembers why. */
  fail(thrown: unknown): void {
    this.failure = thrown;
    this.host.world.failures.push({ process: this.name, timeMs: this.#scheduler.nowMs, thrown });
    this.environment.logger.error({ err: thrown }, 'the process ended by an uncaught error');
    this.crash();
  }

  /** kill -9: its connections are reset, its files closed; the page cache stays. */
  crash(): void {
    this.#end('exit');
  }

  /** Its host is gone: nobody is told. */
  vanish(): void {
    this.#end('host');
  }

  #end(how: EndOfProcess): void {
    if (this.#state === 'ended') return;
    this.#scheduler.trace(`${this.name} ends (${how})`);
    this.#state = 'ended';
    this.#held.length = 0;
    this.host.processes.delete(this);
    for (const ending of [...this.#endings]) ending(how);
    this.#endings.clear();
  }

  /** SIGSTOP: what happens to it waits. */
  pause(): void {
    if (this.#state !== 'running') return;
    this.#scheduler.trace(`${this.name} pauses`);
    this.#state = 'paused';
  }

  /** SIGCONT. */
  resume(): void {
    if (this.#state !== 'paused') return;
    this.#scheduler.trace(`${this.name} resumes`);
    this.#state = 'running';
    for (const run of this.#held.splice(0)) this.#scheduler.after(0, () => this.enter(run));
  }

  /** Calls back when the process ends; the returned function takes that back. */
  onEnd(ending: (how: EndOfProcess) => void): () => void {
    this.#endings.add(ending);
    return () => this.#endings.delete(ending);
  }
}

class FakeClock implements Clock {
  readonly #host: FakeHost;

  constructor(host: FakeHost) {
    this.#host = host;
  }

  monotonicMs(): number {
    return this.#host.monotonicMs();
  }

  wallTime(): WallTime {
    const host = this.#host;
    const sinceMs = host.world.scheduler.nowMs * host.clockRate + host.wallSkewMs;
    const sec = Math.floor(sinceMs / 1000);
    return {
      sec: WALL_ORIGIN_SEC + sec,
      nsec: Math.min(999_999_999, Math.floor((sinceMs - sec * 1000) * 1e6)),
    };
  }
}

class FakeTimers implements Timers {
  readonly #process: FakeProcess;
  readonly #scheduler: Scheduler;
  readonly #random: FakeRandom;

  constructor(process: FakeProcess, scheduler: Scheduler, random: FakeRandom) {
    this.#process = process;
    this.#scheduler = scheduler;
    this.#random = random;
  }

  after(delayMs: number, callback: () => void): Timer {
    let cancelled = false;
    const event = this.#scheduler.after(this.#worldMs(delayMs), () => {
      this.#process.enter(() => {
        // A paused process may have been told to cancel it by something that was held before it.
        if (!cancelled) callback();
      });
    });
    return {
      cancel: () => {
        cancelled = true;
        event.cancel();
      },
    };
  }

  every(intervalMs: number, callback: () => void): Timer {
    let timer: Timer;
    let cancelled = false;
    const arm = () => {
      timer = this.after(intervalMs, () => {
        callback();
        if (!cancelled) arm();
      });
    };
    arm();
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  /** What the host's clock calls `delayMs`, and a little: timers are late, never early. */
  #worldMs(delayMs: number): number {
    return Math.max(0, delayMs) / this.#process.host.clockRate + this.#random.between(0, TIMER_LATENESS_MS);
  }
}
