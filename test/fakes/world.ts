/** A world of hosts, processes, disks and links that one seed determines. Where tests begin. */
import { FakeHost, type FakeProcess, type HostOptions } from './host.js';
import { LogBook } from './logger.js';
import { FakeNetwork } from './network.js';
import { FakeRandom } from './random.js';
import { Scheduler } from './scheduler.js';

export interface ProcessFailure {
  readonly process: string;
  readonly timeMs: number;
  readonly thrown: unknown;
}

export class SimulatedWorld {
  readonly seed: number;
  readonly random: FakeRandom;
  readonly scheduler = new Scheduler();
  readonly log = new LogBook();
  readonly network: FakeNetwork;
  readonly hosts = new Map<string, FakeHost>();
  /** Processes that ended by an uncaught error. */
  readonly failures: ProcessFailure[] = [];

  constructor(seed = 1) {
    this.seed = seed;
    this.random = new FakeRandom(seed);
    this.network = new FakeNetwork(this.scheduler, this.random.fork('network'), (name) =>
      this.hosts.get(name),
    );
  }

  /** The host of that name, made when it is first asked for. The name is its address too. */
  host(name: string, options: HostOptions = {}): FakeHost {
    let host = this.hosts.get(name);
    if (host === undefined) {
      host = new FakeHost(this, name, options);
      this.hosts.set(name, host);
    }
    return host;
  }

  /** A process on the host of the same name: enough for most tests. */
  process(name: string): FakeProcess {
    return this.host(name).start(name);
  }

  /** Runs the world until the promise settles, and returns what it gave. */
  until<T>(promise: Promise<T>, limitMs?: number): Promise<T> {
    return this.scheduler.until(promise, limitMs);
  }

  runFor(durationMs: number): Promise<void> {
    return this.scheduler.runFor(durationMs);
  }
}
