/**
 * TCP between simulated hosts: bytes arrive in order, after a while, cut in any pieces. A link that is
 * cut holds what is sent until it heals; a process that dies resets its connections; a host that dies
 * says nothing, and answers with a reset once it is back. TCP neither loses nor reorders bytes, so loss is
 * a connection that is reset or falls silent, and a duplicate or reordered request is one that is sent
 * again over a new connection while the old one still delivers it ({@link FakeNetwork.abandon}).
 */
import type { Listener, Network, Socket, SocketEvents } from '../../environment/ports/index.js';
import type { FakeHost, FakeProcess } from './host.js';
import type { FakeRandom } from './random.js';
import type { Scheduler } from './scheduler.js';

/** What may be on its way before the sender waits: the kernel's send and receive buffers. */
const WINDOW_BYTES = 256 * 1024;
const HIGH_WATER_BYTES = 256 * 1024;
const LINGER_MS = 1_000;
/** When a connect that hears nothing tries again. */
const CONNECT_RETRY_MS = 1_000;
const FIRST_FREE_PORT = 30_000;

type Packet =
  | { readonly kind: 'data'; readonly bytes: Uint8Array; readonly dueMs: number }
  | { readonly kind: 'end'; readonly dueMs: number }
  | { readonly kind: 'reset'; readonly dueMs: number };

interface Listening {
  readonly process: FakeProcess;
  readonly onSocket: (socket: Socket) => void;
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(`${code}: ${message}`), { code });
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

/** What is on its way from one endpoint to the other. */
class Direction {
  readonly #network: FakeNetwork;
  readonly #from: string;
  readonly #to: Endpoint;
  #packets: Packet[] = [];
  #armed = false;
  /** Takes nothing any more. */
  #closed = false;

  constructor(network: FakeNetwork, from: string, to: Endpoint) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
  }

  send(
    packet: { readonly kind: 'data'; readonly bytes: Uint8Array } | { readonly kind: 'end' | 'reset' },
  ): void {
    if (this.#closed) return;
    const dueMs = this.#network.scheduler.nowMs + this.#network.delayMs(this.#from, this.#to.hostName);
    this.#packets.push({ ...packet, dueMs } as Packet);
    this.#network.track(this, true);
    this.arm();
  }

  /** Loses what is on its way: the host that would send it again is gone. */
  drop(): void {
    this.#packets.length = 0;
    this.#network.track(this, false);
  }

  /** Nothing comes through any more. */
  silence(): void {
    this.#closed = true;
    this.drop();
  }

  /** What is on its way comes `lateMs` later, and then a reset. */
  abandon(lateMs: number): void {
    this.send({ kind: 'reset' });
    this.#packets = this.#packets.map((packet) => ({ ...packet, dueMs: packet.dueMs + lateMs }));
    this.#closed = true;
  }

  arm(): void {
    const first = this.#packets[0];
    if (first === undefined) this.#network.track(this, false);
    if (this.#armed || first === undefined || !this.#network.isOpen(this.#from, this.#to.hostName)) return;
    this.#armed = true;
    this.#network.scheduler.after(first.dueMs - this.#network.scheduler.nowMs, () => {
      this.#armed = false;
      const due = this.#packets[0];
      if (due === undefined || !this.#network.isOpen(this.#from, this.#to.hostName)) return;
      // What was first when this was set may have been put off, or been lost.
      if (due.dueMs > this.#network.scheduler.nowMs) return this.arm();
      const packet = this.#packets.shift();
      if (packet !== undefined) this.#to.onPacket(packet);
      this.arm();
    });
  }
}

interface QueuedWrite {
  readonly buffers: readonly Uint8Array[];
  readonly byteCount: number;
  readonly onWritten: (() => void) | undefined;
}

/** One end of a connection, and one process' socket. */
class Endpoint implements Socket {
  readonly remote: string;
  readonly #network: FakeNetwork;
  readonly #process: FakeProcess;
  #peer!: Endpoint;
  #connection = 0;
  #outgoing!: Direction;
  #events: SocketEvents | undefined;
  /** `ended`: by us, the queue still goes out; `over`: onClose is due; `closed`: it was called. */
  #state: 'open' | 'ended' | 'over' | 'closed' = 'open';
  #closeError: Error | undefined;
  readonly #queue: QueuedWrite[] = [];
  #queuedBytes = 0;
  #needsDrain = false;
  #endSent = false;
  #pumping = false;
  #onTheWayBytes = 0;
  readonly #received: Uint8Array[] = [];
  #endReceived = false;
  #paused = false;
  #delivering = false;
  readonly #forget: () => void;

  constructor(network: FakeNetwork, process: FakeProcess, remote: string) {
    this.#network = network;
    this.#process = process;
    this.remote = remote;
    this.#forget = process.onEnd((how) => this.#onProcessEnd(how));
  }

  get hostName(): string {
    return this.#process.host.name;
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** Reset from outside. */
  fail(): void {
    this.#outgoing.silence();
    this.#process.enter(() => this.#finish(failure('ECONNRESET', `connection to ${this.remote} was reset`)));
  }

  silence(): void {
    this.#outgoing.silence();
  }

  /** Reset here alone, for now: what was sent is still on its way. */
  abandon(lateMs: number): void {
    this.#outgoing.abandon(lateMs);
    this.#peer.#outgoing.silence();
    this.#process.enter(() => this.#finish(failure('ECONNRESET', `connection to ${this.remote} was reset`)));
  }

  connectTo(peer: Endpoint, connection: number): void {
    this.#peer = peer;
    this.#connection = connection;
    this.#outgoing = new Direction(this.#network, this.hostName, peer);
  }

  start(events: SocketEvents): void {
    this.#events = events;
    this.#deliverSoon();
    if (this.#state === 'over') this.#closeSoon();
  }

  write(buffers: readonly Uint8Array[], onWritten?: () => void): boolean {
    if (this.#state !== 'open') {
      if (onWritten !== undefined) this.#later(0, onWritten);
      return true;
    }
    const byteCount = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
    this.#queue.push({ buffers, byteCount, onWritten });
    this.#queuedBytes += byteCount;
    this.#pumpSoon();
    if (this.#queuedBytes <= HIGH_WATER_BYTES) return true;
    this.#needsDrain = true;
    return false;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#deliverSoon();
  }

  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#discardReceived();
    this.#pumpSoon();
    this.#later(LINGER_MS, () => this.#finish());
  }

  destroy(): void {
    if (this.#state === 'over' || this.#state === 'closed') return;
    this.#sendEnd();
    this.#finish();
  }

  onPacket(packet: Packet): void {
    const scheduler = this.#network.scheduler;
    scheduler.trace(
      `${this.remote} > ${this.#process.name} ${packet.kind === 'data' ? packet.bytes.byteLength : packet.kind}`,
    );
    if (packet.kind === 'reset') {
      this.#finish(failure('ECONNRESET', `connection to ${this.remote} was reset`));
      return;
    }
    if (!this.#process.alive) {
      // Nobody knows this connection here: its process is gone.
      this.#outgoing.send({ kind: 'reset' });
      return;
    }
    if (packet.kind === 'end') {
      this.#endReceived = true;
    } else if (this.#state === 'open') {
      this.#received.push(packet.bytes);
    } else {
      this.#peer.#taken(packet.bytes.byteLength);
    }
    this.#deliverSoon();
  }

  /** Runs something of our process, unless the connection is closed by then. */
  #later(delayMs: number, run: () => void): void {
    this.#network.scheduler.after(delayMs, () => this.#process.enter(run));
  }

  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    this.#network.scheduler.after(this.#network.random.between(0, 0.05), () => {
      this.#pumping = false;
      this.#process.enter(() => this.#pump());
    });
  }

  /** The kernel takes what fits: only now are the bytes read. */
  #pump(): void {
    if (this.#state === 'over' || this.#state === 'closed') return;
    while (this.#onTheWayBytes < WINDOW_BYTES) {
      const write = this.#queue.shift();
      if (write === undefined) break;
      this.#queuedBytes -= write.byteCount;
      this.#onTheWayBytes += write.byteCount;
      if (write.byteCount > 0) this.#transmit(Buffer.concat(write.buffers));
      if (write.onWritten !== undefined) this.#later(0, write.onWritten);
    }
    if (this.#queue.length > 0) return;
    if (this.#state === 'ended') this.#sendEnd();
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    this.#events?.onDrain();
  }

  #transmit(bytes: Uint8Array): void {
    this.#network.onSent?.(this.#connection, this.#process, this.#peer.#process, bytes);
    this.#outgoing.send({ kind: 'data', bytes });
  }

  #sendEnd(): void {
    if (this.#endSent) return;
    this.#endSent = true;
    this.#outgoing.send({ kind: 'end' });
  }

  /** The other side read this much: there is room for more. */
  #taken(byteCount: number): void {
    this.#onTheWayBytes -= byteCount;
    if (this.#process.alive) this.#pumpSoon();
  }

  #deliverSoon(): void {
    if (this.#delivering || (this.#received.length === 0 && !this.#endReceived)) return;
    this.#delivering = true;
    this.#network.scheduler.after(this.#network.random.between(0, 0.02), () => {
      this.#process.enter(() => {
        this.#delivering = false;
        this.#deliver();
      });
    });
  }

  #deliver(): void {
    if (this.#state === 'over' || this.#state === 'closed') return;
    const chunk = this.#received[0];
    if (this.#state === 'open' && (this.#events === undefined || this.#paused)) return;
    if (chunk === undefined || this.#events === undefined) {
      if (this.#endReceived) this.#finish();
      return;
    }
    this.#received.shift();
    const { random } = this.#network;
    // As it was sent, mostly; else cut anywhere.
    const count = random.chance(0.8) ? chunk.byteLength : 1 + random.below(chunk.byteLength);
    if (count < chunk.byteLength) this.#received.unshift(chunk.subarray(count));
    const lent = chunk.slice(0, count);
    this.#peer.#taken(count);
    this.#events.onData(lent);
    // It was only borrowed: who kept it reads nonsense now.
    lent.fill(0xdd);
    this.#deliverSoon();
  }

  #discardReceived(): void {
    for (const chunk of this.#received.splice(0)) this.#peer.#taken(chunk.byteLength);
    this.#deliverSoon();
  }

  #finish(error?: Error): void {
    if (this.#state === 'over' || this.#state === 'closed') return;
    this.#state = 'over';
    this.#closeError = error;
    this.#sendEnd();
    for (const { onWritten } of this.#queue.splice(0)) if (onWritten !== undefined) this.#later(0, onWritten);
    this.#queuedBytes = 0;
    if (this.#events !== undefined) this.#closeSoon();
  }

  #closeSoon(): void {
    this.#later(0, () => {
      if (this.#state === 'closed') return;
      this.#state = 'closed';
      this.#network.forget(this.#connection);
      this.#received.length = 0;
      this.#forget();
      this.#events?.onClose(this.#closeError);
    });
  }

  #onProcessEnd(how: 'exit' | 'host'): void {
    if (how === 'host') this.#outgoing.drop();
    else if (this.#state !== 'closed') this.#outgoing.send({ kind: 'reset' });
    this.#state = 'closed';
    this.#network.forget(this.#connection);
  }
}
