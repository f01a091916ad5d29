/**
 * One connection between two processes. Both sides may ask and answer. Each grants the other credit
 * in its hello: requests and payload bytes that may be outstanding; a response gives its request's
 * credit back. So neither side can make the other's memory grow, and a slow one slows its callers.
 */
import type { Clock, Logger, Socket, Timer, Timers } from '../environment/ports/index.js';
import { type ErrorCode, errorCodeOf, errorNumber, GfsError, toGfsError } from './errors.js';
import {
  encodeFrame,
  FRAME_PREFIX_BYTES,
  FrameKind,
  FrameReader,
  type IncomingFrame,
  type OutgoingPayload,
} from './frame.js';
import { DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_REQUESTS, MAX_WAITING_CALLS } from './limits.js';
import type { BufferPool, Payload } from './payload.js';
import {
  type Caller,
  type CallOptions,
  type CallResult,
  goodbyeCodec,
  type Hello,
  helloCodec,
  type IncomingRequest,
  type Method,
  type Outcome,
  type RequestHeader,
  type Role,
  requestHeaderCodec,
  responseHeaderCodec,
  type Service,
} from './rpc.js';
import type { ValueOf } from './schema.js';
import { type PeerTrace, TRACE_METHOD, type TraceSink } from './trace.js';

type ResponseHeader = ValueOf<typeof responseHeaderCodec>;

const HELLO_TIMEOUT_MS = 5_000;
const DEFAULT_DEADLINE_MS = 30_000;
const SWEEP_INTERVAL_MS = 100;
/** Urgent requests that may be outstanding above the credit: those that keep sessions alive. */
const URGENT_ALLOWANCE = 8;
const NO_AUTHENTICATION = new Uint8Array(0);
/**
 * Nobody's method: whoever lives answers UNKNOWN_MESSAGE at once. So a side whose call had no answer finds
 * out whether the other is slow, or the connection dead without anyone having said so.
 */
const PROBE_METHOD = 0;
const PROBE_TIMEOUT_MS = 2_000;

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
   * waits for the disk answers, what hangs does not. Undefined: calls wait for their own deadlines.
   */
  readonly silenceMs?: number;
}

interface PendingCall {
  readonly method: Method<unknown, unknown>;
  readonly options: CallOptions;
  readonly payloadBytes: number;
  readonly expiresAtMs: number;
  sentAtMs: number;
  /** It was given up: what is left is to see its response and take its credit back. */
  abandoned: boolean;
  readonly resolve: (result: CallResult<unknown>) => void;
  readonly reject: (error: GfsError) => void;
  /** Set while it waits for credit. */
  body: unknown;
  onAbort: (() => void) | undefined;
}

interface Serving {
  readonly payloadBytes: number;
  /** Made when the handler first asks for its signal. */
  controller: AbortController | undefined;
  aborted: GfsError | undefined;
  expiresAtMs: number;
}

export class Peer implements Caller {
  readonly remote: string;
  readonly #socket: Socket;
  readonly #options: PeerOptions;
  readonly #reader: FrameReader;
  #hello: Hello | undefined;
  #trace: PeerTrace | undefined;
  readonly #ready: Promise<Hello>;
  #onReady!: (hello: Hello) => void;
  #onNotReady!: (error: GfsError) => void;
  #nextId = 1;
  /** Sent, waiting for their response. */
  readonly #pending = new Map<number, PendingCall>();
  /** Waiting for credit, first come first served. */
  readonly #waiting = new Map<number, PendingCall>();
  #outstandingBytes = 0;
  readonly #serving = new Map<number, Serving>();
  #servingBytes = 0;
  /** The socket's queue is full: requests are parked, bounded by the credit that we granted. */
  #congested = false;
  readonly #parked: (() => void)[] = [];
  readonly #sweeper: Timer;
  readonly #startedAtMs: number;
  /** When something arrived last. */
  #heardMs: number;
  /** When the probe was sent that has not been answered. */
  #probedMs: number | undefined;
  readonly #probes = new Set<number>();
  #closedWith: GfsError | undefined;
  readonly #closeCallbacks: ((error: Error | undefined) => void)[] = [];
  /**
   * Sweeps in a row that found calls waiting and nothing said since the sweep before. Counted rather than
   * timed, so that a pause of our own does not pass for the other side's silence.
   */
  #silentSweeps = 0;

  constructor(socket: Socket, options: PeerOptions) {
    this.remote = socket.remote;
    this.#socket = socket;
    this.#options = options;
    this.#reader = new FrameReader(options.pool);
    this.#startedAtMs = options.clock.monotonicMs();
    this.#heardMs = this.#startedAtMs;
    this.#ready = new Promise<Hello>((resolve, reject) => {
      this.#onReady = resolve;
      this.#onNotReady = reject;
    });
    this.#ready.catch(() => undefined);
    this.#sweeper = options.timers.every(SWEEP_INTERVAL_MS, () => this.#sweep());
    socket.start({
      onData: (chunk) => this.#onData(chunk),
      onDrain: () => this.#onDrain(),
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
    return new Promise<CallResult<Reply>>((resolve, reject) => {
      const failed = this.#reasonToRefuse(options);
      if (failed !== undefined) {
        options.onSent?.();
        reject(failed);
        return;
      }
      const id = this.#nextId++;
      const call: PendingCall = {
        method: method as Method<unknown, unknown>,
        options,
        payloadBytes: totalBytes(options.payload),
        expiresAtMs: this.#options.clock.monotonicMs() + (options.deadlineMs ?? DEFAULT_DEADLINE_MS),
        resolve: resolve as (result: CallResult<unknown>) => void,
        reject,
        body,
        sentAtMs: 0,
        abandoned: false,
        onAbort: undefined,
      };
      if (options.signal !== undefined) {
        call.onAbort = () => this.#abandon(id, new GfsError('CANCELLED', `${method.name} was cancelled`));
        options.signal.addEventListener('abort', call.onAbort, { once: true });
      }
      if (options.urgent === true && this.#hello !== undefined) {
        this.#send(id, call);
        return;
      }
      this.#waiting.set(id, call);
      if (this.#waiting.size === 1) this.#sendWaiting();
    });
  }

  #reasonToRefuse(options: CallOptions): GfsError | undefined {
    if (this.#closedWith !== undefined) return this.#closedWith;
    if (options.signal?.aborted) return new GfsError('CANCELLED');
    if (options.urgent === true && this.#hello !== undefined) {
      if (this.#pending.size < this.#hello.maxRequests + URGENT_ALLOWANCE) return undefined;
      return new GfsError('OVERLOADED', `${this.#pending.size} requests are under way to ${this.remote}`);
    }
    if (this.#waiting.size >= MAX_WAITING_CALLS) {
      return new GfsError('OVERLOADED', `${this.#waiting.size} calls wait for ${this.remote}`);
    }
    return undefined;
  }

  /** Sends calls in order while there is credit. A call larger than the whole credit goes alone. */
  #sendWaiting(): void {
    const hello = this.#hello;
    if (hello === undefined) return;
    for (const [id, call] of this.#waiting) {
      if (this.#pending.size >= hello.maxRequests) return;
      const wouldBe = this.#outstandingBytes + call.payloadBytes;
      if (this.#outstandingBytes > 0 && wouldBe > hello.maxRequestBytes) return;
      this.#waiting.delete(id);
      this.#send(id, call);
    }
  }

  #send(id: number, call: PendingCall): void {
    const { options, method } = call;
    const remainingMs = Math.max(1, Math.round(call.expiresAtMs - this.#options.clock.monotonicMs()));
    const endless = remainingMs === Number.POSITIVE_INFINITY;
    const header: RequestHeader = {
      id,
      method: method.number,
      session: options.session ?? 0,
      sequence: options.sequence ?? 0,
      term: this.#options.term(),
      deadlineMs: endless ? 0 : remainingMs,
      traceId: options.traceId ?? 0,
      priority: options.priority ?? 'client',
      uid: options.uid ?? 0,
      gids: (options.gids as number[] | undefined) ?? [],
      authentication: NO_AUTHENTICATION,
    };
    let frame: Uint8Array[];
    try {
      const packed = [requestHeaderCodec.encode(header), method.request.encode(call.body)];
      frame = encodeFrame(FrameKind.request, packed, options.payload);
    } catch (thrown) {
      this.#settle(call);
      options.onSent?.();
      call.reject(toGfsError(thrown));
      return;
    }
    call.body = undefined;
    call.sentAtMs = this.#options.clock.monotonicMs();
    this.#pending.set(id, call);
    this.#outstandingBytes += call.payloadBytes;
    this.#socket.write(frame, options.onSent);
  }

  #settle(call: PendingCall): void {
    if (call.onAbort !== undefined) call.options.signal?.removeEventListener('abort', call.onAbort);
  }

  /** Gives up on a call: its response, if it comes, is dropped; the other side is told to stop. */
  #abandon(id: number, error: GfsError): void {
    const waiting = this.#waiting.get(id);
    if (waiting !== undefined) {
      this.#waiting.delete(id);
      this.#settle(waiting);
      waiting.options.onSent?.();
      waiting.reject(error);
      // It may have been what held up those behind it.
      this.#sendWaiting();
      return;
    }
    const pending = this.#pending.get(id);
    if (pending === undefined || pending.abandoned) return;
    // Its credit stays taken until the response comes: the other side may still be at work on it.
    pending.abandoned = true;
    this.#settle(pending);
    pending.reject(error);
    this.#socket.write(encodeFrame(FrameKind.cancel, [id]));
  }

  #sweep(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const { helloTimeoutMs = HELLO_TIMEOUT_MS } = this.#options;
    if (this.#hello === undefined && nowMs - this.#startedAtMs > helloTimeoutMs) {
      this.#goodbye(new GfsError('UNREACHABLE', `no hello within ${helloTimeoutMs} ms`));
      return;
    }
    if (this.#isSilent(nowMs)) {
      this.#shutDown(new GfsError('UNREACHABLE', `${this.remote} gives no sign of life`));
      // It would not take what is queued either.
      this.#socket.destroy();
      return;
    }
    if (this.#isDead(nowMs)) {
      this.#shutDown(
        new GfsError('DISCONNECTED', `the connection to ${this.remote} carries nothing any more`),
      );
      this.#socket.destroy();
      return;
    }
    for (const calls of [this.#pending, this.#waiting]) {
      for (const [id, call] of calls) {
        if (call.abandoned || call.expiresAtMs > nowMs) continue;
        if (calls === this.#pending && this.#heardMs < call.sentAtMs) this.#probe(nowMs);
        this.#abandon(id, new GfsError('DEADLINE_EXCEEDED', `${call.method.name} to ${this.remote}`));
      }
    }
    for (const [id, serving] of this.#serving) {
      if (serving.expiresAtMs <= nowMs) this.#abortServing(id, 'DEADLINE_EXCEEDED');
    }
  }

  /** Not a call: it needs no credit, and its answer is that anything arrives. */
  #probe(nowMs: number): void {
    if (this.#probedMs !== undefined) return;
    this.#probedMs = nowMs;
    const header: RequestHeader = {
      id: this.#nextId++,
      method: PROBE_METHOD,
      session: 0,
      sequence: 0,
      term: this.#options.term(),
      deadlineMs: PROBE_TIMEOUT_MS,
      traceId: 0,
      priority: 'client',
      uid: 0,
      gids: [],
      authentication: NO_AUTHENTICATION,
    };
    this.#probes.add(header.id);
    this.#socket.write(encodeFrame(FrameKind.request, [requestHeaderCodec.encode(header), null]));
  }

  #isDead(nowMs: number): boolean {
    if (this.#probedMs === undefined) return false;
    if (this.#heardMs >= this.#probedMs) this.#probedMs = undefined;
    return this.#probedMs !== undefined && nowMs - this.#probedMs > PROBE_TIMEOUT_MS;
  }

  /** Whether the other side has been silent for too long; on the way there it is asked for a sign of life. */
  #isSilent(nowMs: number): boolean {
    const { silenceMs } = this.#options;
    if (silenceMs === undefined || this.#pending.size === 0) {
      this.#silentSweeps = 0;
      return false;
    }
    this.#silentSweeps++;
    const limit = Math.ceil(silenceMs / SWEEP_INTERVAL_MS);
    if (this.#silentSweeps === Math.ceil(limit / 2)) this.#probe(nowMs);
    return this.#silentSweeps > limit;
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
    if (frame.kind === FrameKind.request) return this.#onRequest(frame, this.#hello);
    if (frame.kind === FrameKind.response) return this.#onResponse(frame);
    if (frame.kind === FrameKind.cancel) return this.#onCancel(frame.header);
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
    this.#trace = this.#options.trace?.peer(hello, this.remote);
    this.#onReady(hello);
    this.#sendWaiting();
  }

  #onRequest(frame: IncomingFrame, hello: Hello): void {
    const parts = frame.header;
    if (!Array.isArray(parts)) throw new GfsError('MALFORMED', 'request');
    const header = requestHeaderCodec.decode(parts[0], 'request');
    const payloadBytes = frame.payload?.bytes.byteLength ?? 0;
    if (header.method !== TRACE_METHOD && header.method !== PROBE_METHOD)
      this.#trace?.request(frame.packed, parts[0]);
    if (this.#serving.has(header.id)) throw new GfsError('MALFORMED', `request ${header.id} twice`);
    this.#checkCredit(payloadBytes);
    const entry = this.#options.service.handlers.get(header.method);
    if (entry === undefined) {
      frame.payload?.release();
      this.#respondError(header.id, new GfsError('UNKNOWN_MESSAGE', `method ${header.method}`));
      return;
    }
    let body: unknown;
    try {
      body = entry.method.request.decode(parts[1], entry.method.name);
    } catch (thrown) {
      frame.payload?.release();
      this.#respondError(header.id, toGfsError(thrown));
      return;
    }
    const nowMs = this.#options.clock.monotonicMs();
    const serving: Serving = {
      payloadBytes,
      controller: undefined,
      aborted: undefined,
      expiresAtMs: header.deadlineMs === 0 ? Number.POSITIVE_INFINITY : nowMs + header.deadlineMs,
    };
    this.#serving.set(header.id, serving);
    this.#servingBytes += payloadBytes;
    const request: IncomingRequest = {
      header,
      from: hello,
      remote: this.remote,
      payload: frame.payload,
      payloadCrc: frame.payloadCrc,
      peer: this,
      get signal(): AbortSignal {
        if (serving.controller === undefined) {
          serving.controller = new AbortController();
          if (serving.aborted !== undefined) serving.controller.abort(serving.aborted);
        }
        return serving.controller.signal;
      },
    };
    // A peer that does not read its replies is not served. Reading goes on: pausing the socket would also
    // hold up the responses to our own calls, and two full peers would wait for each other for ever.
    const serve = () => void this.#serve(header.id, entry, body, request);
    if (!this.#congested) return serve();
    this.#parked.push(() => {
      if (serving.aborted === undefined) return serve();
      frame.payload?.release();
      this.#respondError(header.id, serving.aborted);
    });
  }

  #onDrain(): void {
    this.#congested = false;
    while (!this.#congested) {
      const serve = this.#parked.shift();
      if (serve === undefined) return;
      serve();
    }
  }

  #checkCredit(payloadBytes: number): void {
    const maxRequests = this.#options.maxRequests ?? DEFAULT_MAX_REQUESTS;
    const maxBytes = this.#options.maxRequestBytes ?? DEFAULT_MAX_REQUEST_BYTES;
    const overBytes = this.#servingBytes > 0 && this.#servingBytes + payloadBytes > maxBytes;
    if (this.#serving.size >= maxRequests + URGENT_ALLOWANCE || overBytes) {
      throw new GfsError('OVERLOADED', 'more requests than the credit granted');
    }
  }

  async #serve(
    id: number,
    // biome-ignore lint/suspicious/noExplicitAny: any registered method
    entry: { method: Method<any, any>; handle: (body: any, request: IncomingRequest) => any },
    body: unknown,
    request: IncomingRequest,
  ): Promise<void> {
    // biome-ignore lint/suspicious/noExplicitAny: as above
    let outcome: Outcome<any> | undefined;
    try {
      outcome = await entry.handle(body, request);
      const header = { id, error: 0, term: this.#options.term() };
      const encoded = responseHeaderCodec.encode(header);
      const packed = [encoded, entry.method.reply.encode(outcome?.body)];
      const frame = encodeFrame(FrameKind.response, packed, outcome?.payload);
      if (entry.method.number !== TRACE_METHOD) this.#traceResponse(frame, encoded);
      this.#respond(id, frame, outcome?.onSent);
    } catch (thrown) {
      // A broken invariant is not an answer: as an unhandled rejection it ends the process.
      if ((thrown as Error | null)?.name === 'InvariantError') throw thrown;
      outcome?.onSent?.();
      const error = toGfsError(thrown);
      if (error.code === 'INTERNAL') {
        this.#options.logger.error({ err: thrown, method: entry.method.name }, 'request failed unexpectedly');
      }
      this.#respondError(id, error);
    }
  }

  #respondError(id: number, error: GfsError): void {
    const header = {
      id,
      error: errorNumber(error.code),
      message: error.message.slice(0, 1024),
      term: this.#options.term(),
    };
    const encoded = responseHeaderCodec.encode(header);
    const frame = encodeFrame(FrameKind.response, [encoded, null]);
    this.#traceResponse(frame, encoded);
    this.#respond(id, frame);
  }

  /** Without the file data, which is in the frame's other buffers. */
  #traceResponse([head]: readonly Uint8Array[], header: unknown): void {
    this.#trace?.response((head as Uint8Array).subarray(FRAME_PREFIX_BYTES), header);
  }

  /** The one door through which every response leaves. */
  #respond(id: number, frame: Uint8Array[], onSent?: () => void): void {
    const serving = this.#serving.get(id);
    if (serving !== undefined) {
      this.#serving.delete(id);
      this.#servingBytes -= serving.payloadBytes;
    }
    if (this.#closedWith !== undefined) {
      onSent?.();
      return;
    }
    if (!this.#socket.write(frame, onSent)) this.#congested = true;
  }

  #onResponse(frame: IncomingFrame): void {
    const parts = frame.header;
    if (!Array.isArray(parts)) throw new GfsError('MALFORMED', 'response');
    const header = responseHeaderCodec.decode(parts[0], 'response');
    if (this.#probes.delete(header.id)) return;
    const call = this.#pending.get(header.id);
    if (call === undefined) throw new GfsError('MALFORMED', `response to ${header.id}, which was not asked`);
    this.#pending.delete(header.id);
    this.#outstandingBytes -= call.payloadBytes;
    this.#settle(call);
    this.#finish(call, header, parts[1], frame.payload);
    this.#sendWaiting();
  }

  #finish(call: PendingCall, header: ResponseHeader, reply: unknown, payload: Payload | undefined): void {
    try {
      if (header.error !== 0) throw new GfsError(errorCodeOf(header.error), header.message);
      const body = call.method.reply.decode(reply, call.method.name);
      if (call.abandoned) payload?.release();
      else call.resolve({ body, payload });
    } catch (thrown) {
      payload?.release();
      call.reject(toGfsError(thrown));
    }
  }

  #onCancel(header: unknown): void {
    const id = Array.isArray(header) ? header[0] : undefined;
    if (!Number.isSafeInteger(id)) throw new GfsError('MALFORMED', 'cancel');
    this.#abortServing(id, 'CANCELLED');
  }

  /** Tells the handler to stop. It still answers: its response gives the credit back. */
  #abortServing(id: number, code: ErrorCode): void {
    const serving = this.#serving.get(id);
    if (serving === undefined || serving.aborted !== undefined) return;
    serving.aborted = new GfsError(code);
    serving.expiresAtMs = Number.POSITIVE_INFINITY;
    serving.controller?.abort(serving.aborted);
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
    this.#trace?.gone();
    this.#sweeper.cancel();
    this.#parked.length = 0;
    this.#onNotReady(error);
    for (const id of this.#serving.keys()) this.#abortServing(id, 'DISCONNECTED');
    // What was sent may have happened; what waited has not, but the caller resends both alike.
    for (const calls of [this.#pending, this.#waiting]) {
      for (const call of calls.values()) {
        this.#settle(call);
        if (calls === this.#waiting) call.options.onSent?.();
        call.reject(error);
      }
      calls.clear();
    }
    for (const callback of this.#closeCallbacks.splice(0)) callback(error);
  }
}

function totalBytes(payload: OutgoingPayload | undefined): number {
  let bytes = 0;
  for (const buffer of payload?.buffers ?? []) bytes += buffer.byteLength;
  return bytes;
}
