/**
 * One connection between two processes. Both sides may ask (outgoing-calls.ts) and answer
 * (incoming-requests.ts). Each grants the other credit in its hello: requests and payload bytes that may be
 * outstanding. So neither side can make the other's memory grow, and a slow one slows its callers.
 */
import type { Clock, Logger, Socket, Timer, Timers } from '../environment/ports/index.js';
import { errorCodeOf, errorNumber, GfsError, toGfsError } from './errors.js';
import { encodeFrame, FrameKind, FrameReader, type IncomingFrame } from './frame.js';
import { IncomingRequests } from './incoming-requests.js';
import { DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_REQUESTS } from './limits.js';
import { OutgoingCalls } from './outgoing-calls.js';
import type { BufferPool } from './payload.js';
import {
  type Caller,
  type CallOptions,
  type CallResult,
  goodbyeCodec,
  type Hello,
  helloCodec,
  type Method,
  type Role,
  type Service,
} from './rpc.js';
import type { TraceSink } from './trace.js';

const HELLO_TIMEOUT_MS = 5_000;
const SWEEP_INTERVAL_MS = 100;
/** How long the other side may take for a sign of life, where nothing else is said. */
const SILENCE_MS = 2_000;

export interface PeerOptions {
  readonly role: Role;
  readonly id: string;
  /** Read when the hello goes out; the other side's cluster must be the same where both are known. */
  readonly clusterId: () => string;
  readonly term: () => number;
  readonly service: Service;
  readonly pool: BufferPool;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** How long the other side has for its hello. */
  readonly helloTimeoutMs?: number;
  readonly maxRequests?: number;
  readonly maxRequestBytes?: number;
  /** Hears of every request from the other side and of its response. */
  readonly trace?: TraceSink | undefined;
  /**
   * For how long the other side may say nothing at all while calls wait for it; half-way it is asked for a
   * sign of life. A process that hangs (SIGSTOP, a host that is gone) is told from one that is slow: what
   * waits for the disk answers, what hangs does not. Undefined: it is asked when a call's own deadline has
   * passed without a word.
   */
  readonly silenceMs?: number;
}

export class Peer implements Caller {
  readonly remote: string;
  readonly #socket: Socket;
  readonly #options: PeerOptions;
  readonly #reader: FrameReader;
  readonly #calls: OutgoingCalls;
  readonly #requests: IncomingRequests;
  #hello: Hello | undefined;
  readonly #ready: Promise<Hello>;
  #onReady!: (hello: Hello) => void;
  #onNotReady!: (error: GfsError) => void;
  readonly #sweeper: Timer;
  readonly #startedAtMs: number;
  /** When something arrived last. */
  #heardMs: number;
  /** It was asked for a sign of life since. */
  #isProbed = false;
  /**
   * Sweeps in a row in which something was due and nothing came. Counted rather than timed, so that a pause
   * of our own does not pass for the other side's silence.
   */
  #silentSweeps = 0;
  #closedWith: GfsError | undefined;
  readonly #closeCallbacks: ((error: Error | undefined) => void)[] = [];

  constructor(socket: Socket, options: PeerOptions) {
    this.remote = socket.remote;
    this.#socket = socket;
    this.#options = options;
    this.#reader = new FrameReader(options.pool);
    const { service, clock, logger, term } = options;
    const write = (frame: Uint8Array[], onSent?: () => void, now?: boolean) =>
      socket.write(frame, onSent, now);
    this.#calls = new OutgoingCalls({ remote: this.remote, clock, term, write });
    this.#requests = new IncomingRequests({
      ...{ peer: this, remote: this.remote, service, clock, logger, term, write },
      maxRequests: options.maxRequests ?? DEFAULT_MAX_REQUESTS,
      maxRequestBytes: options.maxRequestBytes ?? DEFAULT_MAX_REQUEST_BYTES,
    });
    this.#startedAtMs = clock.monotonicMs();
    this.#heardMs = this.#startedAtMs;
    this.#ready = new Promise<Hello>((resolve, reject) => {
      this.#onReady = resolve;
      this.#onNotReady = reject;
    });
    this.#ready.catch(() => undefined);
    this.#sweeper = options.timers.every(SWEEP_INTERVAL_MS, () => this.#sweep());
    socket.start({
      onData: (chunk) => this.#onData(chunk),
      onDrain: () => this.#requests.onDrain(),
      onClose: (error) => this.#onClose(error),
    });
    this.#sendHello();
  }

  /**
   * The other side's hello.
   * @throws DISCONNECTED, UNREACHABLE (it says nothing), WRONG_CLUSTER, WRONG_PROTOCOL_VERSION, MALFORMED
   */
  ready(): Promise<Hello> {
    return this.#ready;
  }

  get closed(): boolean {
    return this.#closedWith !== undefined;
  }

  onceClosed(callback: (error: Error | undefined) => void): void {
    if (this.#closedWith !== undefined) callback(this.#closedWith);
    else this.#closeCallbacks.push(callback);
  }

  close(): void {
    this.#shutDown(new GfsError('DISCONNECTED', `closed the connection to ${this.remote}`));
    this.#socket.end();
  }

  call<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    options: CallOptions = {},
  ): Promise<CallResult<Reply>> {
    return this.#calls.call(method, body, options);
  }

  #sweep(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const { helloTimeoutMs = HELLO_TIMEOUT_MS } = this.#options;
    if (this.#hello === undefined && nowMs - this.#startedAtMs > helloTimeoutMs) {
      this.#goodbye(new GfsError('UNREACHABLE', `no hello within ${helloTimeoutMs} ms`));
      return;
    }
    if (this.#isSilent()) {
      this.#shutDown(new GfsError('UNREACHABLE', `${this.remote} gives no sign of life`));
      // It would not take what is queued either.
      this.#socket.destroy();
      return;
    }
    if (this.#calls.sweep(nowMs, this.#heardMs)) this.#probe();
    this.#requests.sweep(nowMs);
  }

  /** Whether the other side has been silent for too long; on the way there it is asked for a sign of life. */
  #isSilent(): boolean {
    const { silenceMs } = this.#options;
    const isDue = this.#isProbed || (silenceMs !== undefined && this.#calls.areWaiting);
    this.#silentSweeps = isDue ? this.#silentSweeps + 1 : 0;
    const limit = Math.ceil((silenceMs ?? SILENCE_MS) / SWEEP_INTERVAL_MS);
    if (this.#silentSweeps === Math.ceil(limit / 2)) this.#probe();
    return this.#silentSweeps > limit;
  }

  #probe(): void {
    if (this.#isProbed) return;
    this.#isProbed = true;
    this.#calls.probe(this.#options.silenceMs ?? SILENCE_MS);
  }

  #sendHello(): void {
    const { role, id, clusterId, term, maxRequests, maxRequestBytes } = this.#options;
    const hello: Hello = {
      features: 0,
      clusterId: clusterId(),
      role,
      id,
      term: term(),
      maxRequests: maxRequests ?? DEFAULT_MAX_REQUESTS,
      maxRequestBytes: maxRequestBytes ?? DEFAULT_MAX_REQUEST_BYTES,
    };
    this.#socket.write(encodeFrame(FrameKind.hello, helloCodec.encode(hello)));
  }

  #onData(chunk: Uint8Array): void {
    if (this.#closedWith !== undefined) return;
    this.#heardMs = this.#options.clock.monotonicMs();
    this.#silentSweeps = 0;
    this.#isProbed = false;
    try {
      this.#reader.push(chunk, (frame) => this.#onFrame(frame));
    } catch (thrown) {
      this.#goodbye(toGfsError(thrown));
    }
  }

  #onFrame(frame: IncomingFrame): void {
    if (this.#closedWith !== undefined) return;
    if (frame.kind === FrameKind.goodbye) {
      const { error, message } = goodbyeCodec.decode(frame.header, 'goodbye');
      this.#shutDown(new GfsError(errorCodeOf(error), `${this.remote}: ${message}`));
      this.#socket.end();
      return;
    }
    if (frame.kind === FrameKind.hello) return this.#onHello(helloCodec.decode(frame.header, 'hello'));
    if (this.#hello === undefined) throw new GfsError('MALFORMED', 'a frame before the hello');
    if (frame.kind === FrameKind.request) return this.#requests.onRequest(frame, this.#hello);
    if (frame.kind === FrameKind.response) return this.#calls.onResponse(frame);
    if (frame.kind === FrameKind.cancel) return this.#requests.onCancel(frame.header);
    throw new GfsError('MALFORMED', `frame of kind ${frame.kind}`);
  }

  #onHello(hello: Hello): void {
    if (this.#hello !== undefined) throw new GfsError('MALFORMED', 'a second hello');
    const own = this.#options.clusterId();
    if (own !== '' && hello.clusterId !== '' && own !== hello.clusterId) {
      throw new GfsError('WRONG_CLUSTER', `this is cluster ${own}, not ${hello.clusterId}`);
    }
    if (hello.maxRequests < 1) throw new GfsError('MALFORMED', 'a hello without credit');
    this.#hello = hello;
    this.#requests.trace = this.#options.trace?.peer(hello, this.remote);
    this.#onReady(hello);
    this.#calls.grant(hello);
  }

  /** Tells the other side why, then closes. */
  #goodbye(error: GfsError): void {
    this.#options.logger.warn(
      { remote: this.remote, code: error.code, reason: error.message },
      'closing a connection',
    );
    const body = goodbyeCodec.encode({
      error: errorNumber(error.code),
      message: error.message.slice(0, 1024),
    });
    this.#socket.write(encodeFrame(FrameKind.goodbye, body));
    this.#shutDown(error);
    this.#socket.end();
  }

  #onClose(error: Error | undefined): void {
    this.#shutDown(
      new GfsError(
        'DISCONNECTED',
        `lost the connection to ${this.remote}: ${error?.message ?? 'it was closed'}`,
      ),
    );
  }

  #shutDown(error: GfsError): void {
    if (this.#closedWith !== undefined) return;
    this.#closedWith = error;
    this.#sweeper.cancel();
    this.#onNotReady(error);
    this.#requests.closed();
    this.#calls.closed(error);
    for (const callback of this.#closeCallbacks.splice(0)) callback(error);
  }
}
