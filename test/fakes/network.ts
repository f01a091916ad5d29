/**
 * TCP between simulated hosts: bytes arrive in order, after a while, cut in any pieces. A link that is
 * cut holds what is sent until it heals; a process that dies resets its connections; a host that dies
 * says nothing, and answers with a reset once it is back. TCP neither loses nor reorders bytes, so loss is
 * a connection that is reset or falls silent, and a duplicate or reordered request is one that is sent
 * again over a new connection while the old one still delivers it ({@link FakeNetwork.abandon}).
 */
import type { Listener, Network, Socket } from '../../environment/ports/index.js';
import { type Direction, Endpoint, failure } from './connection.js';
import type { FakeHost, FakeProcess } from './host.js';
import type { FakeRandom } from './random.js';
import type { Scheduler } from './scheduler.js';

/** When a connect that hears nothing tries again. */
const CONNECT_RETRY_MS = 1_000;
const FIRST_FREE_PORT = 30_000;

interface Listening {
  readonly process: FakeProcess;
  readonly onSocket: (socket: Socket) => void;
}

export class FakeNetwork {
  /** Between hosts, one way; on one host a tenth of it. */
  latencyMs: readonly [low: number, high: number] = [0.05, 1];
  /** Sees what processes send, as it leaves them. `connection` is the same both ways. */
  onSent: ((connection: number, from: FakeProcess, to: FakeProcess, bytes: Uint8Array) => void) | undefined;
  /** How often a packet is much later than that. */
  spikeChance = 0.002;
  readonly scheduler: Scheduler;
  readonly random: FakeRandom;
  readonly #hostOf: (name: string) => FakeHost | undefined;
  readonly #listening = new Map<string, Listening>();
  readonly #cuts = new Set<string>();
  /** `from > to` → what is added to the latency. */
  readonly #slow = new Map<string, number>();
  readonly #directions = new Set<Direction>();
  /** Both ends of each connection that has one open. */
  readonly #open = new Map<number, readonly [near: Endpoint, far: Endpoint]>();
  #nextPort = FIRST_FREE_PORT;
  #connections = 0;

  constructor(scheduler: Scheduler, random: FakeRandom, hostOf: (name: string) => FakeHost | undefined) {
    this.scheduler = scheduler;
    this.random = random;
    this.#hostOf = hostOf;
  }

  forProcess(process: FakeProcess): Network {
    return {
      connect: (host, port, timeoutMs) => this.#connect(process, host, port, timeoutMs),
      listen: (host, port, onSocket) => this.#listen(process, host, port, onSocket),
    };
  }

  /** Nothing goes from one host to the other any more. The other way is open unless it is cut too. */
  cutOneWay(from: string, to: string): void {
    this.scheduler.trace(`cut ${from} > ${to}`);
    this.#cuts.add(`${from} > ${to}`);
  }

  cut(a: string, b: string): void {
    this.cutOneWay(a, b);
    this.cutOneWay(b, a);
  }

  /** Both ways. What was held goes on. */
  heal(a: string, b: string): void {
    this.scheduler.trace(`heal ${a} <> ${b}`);
    this.#cuts.delete(`${a} > ${b}`);
    this.#cuts.delete(`${b} > ${a}`);
    this.onLinksChanged();
  }

  /** Packets between the two take about `extraMs` longer, each way; 0: as they did. */
  slow(a: string, b: string, extraMs: number): void {
    this.scheduler.trace(`slow ${a} <> ${b} ${extraMs}`);
    this.#slow.set(`${a} > ${b}`, extraMs);
    this.#slow.set(`${b} > ${a}`, extraMs);
  }

  /** Their connections are reset, as a firewall that forgets them does: what is on its way is lost. */
  reset(a: string, b: string): void {
    this.scheduler.trace(`reset ${a} <> ${b}`);
    for (const [near, far] of this.#between(a, b)) {
      near.fail();
      far.fail();
    }
  }

  /** Their connections deliver nothing any more, and neither end is told. New ones work. */
  hang(a: string, b: string): void {
    this.scheduler.trace(`hang ${a} <> ${b}`);
    for (const [near, far] of this.#between(a, b)) {
      near.silence();
      far.silence();
    }
  }

  /**
   * `from` loses its connections to `to`, where what it has sent arrives `lateMs` later: after whatever it
   * sends over new ones meanwhile.
   */
  abandon(from: string, to: string, lateMs: number): void {
    this.scheduler.trace(`abandon ${from} > ${to}`);
    for (const ends of this.#between(from, to)) {
      for (const end of ends) if (end.hostName === from) end.abandon(lateMs);
    }
  }

  #between(a: string, b: string): (readonly [Endpoint, Endpoint])[] {
    return [...this.#open.values()].filter(([near, far]) => {
      const hosts = [near.hostName, far.hostName];
      return hosts.includes(a) && hosts.includes(b) && a !== b;
    });
  }

  /** One end is closed. */
  forget(connection: number): void {
    const ends = this.#open.get(connection);
    if (ends?.every((end) => end.isClosed)) this.#open.delete(connection);
  }

  healAll(): void {
    this.scheduler.trace('heal all');
    this.#cuts.clear();
    this.#slow.clear();
    this.onLinksChanged();
  }

  isOpen(from: string, to: string): boolean {
    return !this.#cuts.has(`${from} > ${to}`) && this.#hostOf(to)?.up === true;
  }

  /** A link healed or a host came back: what was held is on its way. */
  onLinksChanged(): void {
    for (const direction of this.#directions) direction.arm();
  }

  delayMs(from: string, to: string): number {
    const [low, high] = this.latencyMs;
    const extraMs = this.#slow.get(`${from} > ${to}`) ?? 0;
    const usual =
      this.random.between(low, high) * (from === to ? 0.1 : 1) + extraMs * this.random.between(0.5, 1.5);
    return this.random.chance(this.spikeChance) ? usual + this.random.between(1, 50) : usual;
  }

  /** Whether something is on its way in this direction, and may have to be set going when links change. */
  track(direction: Direction, busy: boolean): void {
    if (busy) this.#directions.add(direction);
    else this.#directions.delete(direction);
  }

  async #listen(
    process: FakeProcess,
    host: string,
    port: number,
    onSocket: (socket: Socket) => void,
  ): Promise<Listener> {
    const chosen = port === 0 ? this.#nextPort++ : port;
    const key = `${process.host.name}:${chosen}`;
    if (this.#listening.has(key)) throw failure('EADDRINUSE', key);
    const listening = { process, onSocket };
    this.#listening.set(key, listening);
    const stop = () => {
      if (this.#listening.get(key) === listening) this.#listening.delete(key);
    };
    const forget = process.onEnd(stop);
    return {
      host,
      port: chosen,
      close: async () => {
        forget();
        stop();
      },
    };
  }

  #connect(process: FakeProcess, host: string, port: number, timeoutMs: number): Promise<Socket> {
    const own = process.host.name;
    const target = host === 'localhost' || host.startsWith('127.') ? own : host;
    const address = `${target}:${port}`;
    return new Promise((resolve, reject) => {
      let over = false;
      const finish = (then: () => void) => {
        if (over) return;
        over = true;
        timeout.cancel();
        process.enter(then);
      };
      const timeout = this.scheduler.after(timeoutMs, () => {
        finish(() => reject(failure('ETIMEDOUT', `connect to ${address}`)));
      });
      const knock = () => {
        if (over || !process.alive) return;
        if (!this.isOpen(own, target) || !this.isOpen(target, own)) {
          this.scheduler.after(CONNECT_RETRY_MS, knock);
          return;
        }
        const listening = this.#listening.get(address);
        if (listening === undefined) finish(() => reject(failure('ECONNREFUSED', address)));
        else finish(() => resolve(this.#establish(process, listening, address)));
      };
      this.scheduler.after(this.delayMs(own, target) + this.delayMs(target, own), knock);
    });
  }

  #establish(process: FakeProcess, listening: Listening, address: string): Socket {
    const near = new Endpoint(this, process, address);
    const far = new Endpoint(this, listening.process, `${process.host.name}:${this.#nextPort++}`);
    const connection = this.#connections++;
    near.connectTo(far, connection);
    far.connectTo(near, connection);
    this.#open.set(connection, [near, far]);
    this.scheduler.after(0, () => listening.process.enter(() => listening.onSocket(far)));
    return near;
  }
}
