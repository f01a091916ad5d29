/** One TCP connection between simulated hosts: its two ends, and what is on its way between them. */
import type { Socket, SocketEvents } from '../../environment/ports/index.js';
import type { FakeProcess } from './host.js';
import type { FakeNetwork } from './network.js';

/** What may be on its way before the sender waits: the kernel's send and receive buffers. */
const WINDOW_BYTES = 256 * 1024;
const HIGH_WATER_BYTES = 256 * 1024;
/** A reset that follows data at once would take it away unread. */
const READ_WITHIN_MS = 20;
const LINGER_MS = 1_000;

type Packet =
  | { readonly kind: 'data'; readonly bytes: Uint8Array; readonly dueMs: number }
  | { readonly kind: 'end'; readonly dueMs: number }
  | { readonly kind: 'reset'; readonly dueMs: number };

export function failure(code: string, message: string): Error {
  return Object.assign(new Error(`${code}: ${message}`), { code });
}

/** What is on its way from one endpoint to the other. */
export class Direction {
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

  /** What is on its way comes `lateMs` later; then, when it has been read, a reset. */
  abandon(lateMs: number): void {
    this.send({ kind: 'reset' });
    const delayOf = ({ kind }: Packet) => lateMs + (kind === 'reset' ? READ_WITHIN_MS : 0);
    this.#packets = this.#packets.map((packet) => ({ ...packet, dueMs: packet.dueMs + delayOf(packet) }));
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
export class Endpoint implements Socket {
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
