/**
 * The answering half of a connection: requests of the other side, within the credit that it was granted,
 * each answered once.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { type ErrorCode, errorNumber, GfsError, toGfsError } from './errors.js';
import { encodeFrame, FRAME_PREFIX_BYTES, FrameKind, type IncomingFrame } from './frame.js';
import { URGENT_ALLOWANCE } from './limits.js';
import { PROBE_METHOD } from './outgoing-calls.js';
import type { Payload } from './payload.js';
import {
  type Caller,
  type Hello,
  type IncomingRequest,
  type Method,
  type Outcome,
  type RequestHeader,
  requestHeaderCodec,
  responseHeaderCodec,
  type Service,
} from './rpc.js';
import { type PeerTrace, TRACE_METHOD } from './trace.js';

/** A request under way, as its handler sees it and as it is kept. */
class Serving implements IncomingRequest {
  readonly header: RequestHeader;
  readonly from: Hello;
  readonly remote: string;
  readonly payload: Payload | undefined;
  readonly payloadCrc: number;
  readonly peer: Caller;
  readonly payloadBytes: number;
  expiresAtMs: number;
  aborted: GfsError | undefined;
  /** Made when the handler first asks for its signal. */
  #controller: AbortController | undefined;

  constructor(header: RequestHeader, from: Hello, link: ServingLink, frame: IncomingFrame) {
    this.header = header;
    this.from = from;
    this.remote = link.remote;
    this.payload = frame.payload;
    this.payloadCrc = frame.payloadCrc;
    this.peer = link.peer;
    this.payloadBytes = frame.payload?.bytes.byteLength ?? 0;
    const { deadlineMs } = header;
    this.expiresAtMs = deadlineMs === 0 ? Number.POSITIVE_INFINITY : link.clock.monotonicMs() + deadlineMs;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.aborted !== undefined) this.#controller.abort(this.aborted);
    }
    return this.#controller.signal;
  }

  abort(error: GfsError): void {
    this.aborted = error;
    this.expiresAtMs = Number.POSITIVE_INFINITY;
    this.#controller?.abort(error);
  }
}

/** What serving needs of its connection. */
export interface ServingLink {
  readonly peer: Caller;
  readonly remote: string;
  readonly service: Service;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly term: () => number;
  /** The credit that the other side was granted. */
  readonly maxRequests: number;
  readonly maxRequestBytes: number;
  /** @returns whether the socket takes more at once */
  write(frame: Uint8Array[], onSent?: () => void, now?: boolean): boolean;
}

export class IncomingRequests {
  readonly #link: ServingLink;
  readonly #serving = new Map<number, Serving>();
  #servingBytes = 0;
  /** The socket's queue is full: requests are parked, bounded by the credit that we granted. */
  #congested = false;
  readonly #parked: (() => void)[] = [];
  #closed = false;
  /** Hears of every request and its response. */
  trace: PeerTrace | undefined;

  constructor(link: ServingLink) {
    this.#link = link;
  }

  /** @throws MALFORMED, OVERLOADED (more than the credit) */
  onRequest(frame: IncomingFrame, hello: Hello): void {
    const parts = frame.header;
    if (!Array.isArray(parts)) throw new GfsError('MALFORMED', 'request');
    const header = requestHeaderCodec.decode(parts[0], 'request');
    const payloadBytes = frame.payload?.bytes.byteLength ?? 0;
    if (header.method !== TRACE_METHOD && header.method !== PROBE_METHOD)
      this.trace?.request(frame.packed, parts[0]);
    if (this.#serving.has(header.id)) throw new GfsError('MALFORMED', `request ${header.id} twice`);
    this.#checkCredit(payloadBytes);
    const entry = this.#link.service.handlers.get(header.method);
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
    const serving = new Serving(header, hello, this.#link, frame);
    this.#serving.set(header.id, serving);
    this.#servingBytes += payloadBytes;
    // A peer that does not read its replies is not served. Reading goes on: pausing the socket would also
    // hold up the responses to our own calls, and two full peers would wait for each other for ever.
    if (!this.#congested) {
      void this.#serve(header.id, entry, body, serving);
      return;
    }
    this.#parked.push(() => {
      if (serving.aborted === undefined) return void this.#serve(header.id, entry, body, serving);
      frame.payload?.release();
      this.#respondError(header.id, serving.aborted);
    });
  }

  /** @throws MALFORMED */
  onCancel(header: unknown): void {
    const id = Array.isArray(header) ? header[0] : undefined;
    if (!Number.isSafeInteger(id)) throw new GfsError('MALFORMED', 'cancel');
    this.#abort(id, 'CANCELLED');
  }

  onDrain(): void {
    this.#congested = false;
    while (!this.#congested) {
      const serve = this.#parked.shift();
      if (serve === undefined) return;
      serve();
    }
  }

  /** Tells the handlers whose time is over to stop. */
  sweep(nowMs: number): void {
    for (const [id, serving] of this.#serving)
      if (serving.expiresAtMs <= nowMs) this.#abort(id, 'DEADLINE_EXCEEDED');
  }

  closed(): void {
    this.#closed = true;
    this.trace?.gone();
    this.#parked.length = 0;
    for (const id of this.#serving.keys()) this.#abort(id, 'DISCONNECTED');
  }

  #checkCredit(payloadBytes: number): void {
    const { maxRequests, maxRequestBytes } = this.#link;
    const overBytes = this.#servingBytes > 0 && this.#servingBytes + payloadBytes > maxRequestBytes;
    if (this.#serving.size >= maxRequests + URGENT_ALLOWANCE || overBytes)
      throw new GfsError('OVERLOADED', 'more requests than the credit granted');
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
      const header = { id, error: 0, term: this.#link.term() };
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
      if (error.code === 'INTERNAL')
        this.#link.logger.error({ err: thrown, method: entry.method.name }, 'request failed unexpectedly');
      this.#respondError(id, error);
    }
  }

  #respondError(id: number, error: GfsError): void {
    const header = {
      id,
      error: errorNumber(error.code),
      message: error.message.slice(0, 1024),
      term: this.#link.term(),
    };
    const encoded = responseHeaderCodec.encode(header);
    const frame = encodeFrame(FrameKind.response, [encoded, null]);
    this.#traceResponse(frame, encoded);
    this.#respond(id, frame);
  }

  /** Without the file data, which is in the frame's other buffers. */
  #traceResponse([head]: readonly Uint8Array[], header: unknown): void {
    this.trace?.response((head as Uint8Array).subarray(FRAME_PREFIX_BYTES), header);
  }

  /** The one door through which every response leaves. */
  #respond(id: number, frame: Uint8Array[], onSent?: () => void): void {
    const serving = this.#serving.get(id);
    if (serving !== undefined) {
      this.#serving.delete(id);
      this.#servingBytes -= serving.payloadBytes;
    }
    if (this.#closed) {
      onSent?.();
      return;
    }
    // The answer to all that was asked has nothing to leave together with.
    const isLast = this.#serving.size === 0;
    if (!this.#link.write(frame, onSent, isLast)) this.#congested = true;
  }

  /** Tells the handler to stop. It still answers: its response gives the credit back. */
  #abort(id: number, code: ErrorCode): void {
    const serving = this.#serving.get(id);
    if (serving === undefined || serving.aborted !== undefined) return;
    serving.abort(new GfsError(code));
  }
}
