/**
 * The asking half of a connection: calls that wait for credit, in order, and those that wait for their
 * response. A response gives its request's credit back, so a slow side slows its callers.
 */
import type { Clock } from '../environment/ports/index.js';
import { errorCodeOf, GfsError, toGfsError } from './errors.js';
import { encodeFrame, FrameKind, type IncomingFrame, type OutgoingPayload } from './frame.js';
import { MAX_WAITING_CALLS, URGENT_ALLOWANCE } from './limits.js';
import type { Payload } from './payload.js';
import {
  type CallOptions,
  type CallResult,
  type Hello,
  type Method,
  type RequestHeader,
  requestHeaderCodec,
  responseHeaderCodec,
} from './rpc.js';
import type { ValueOf } from './schema.js';

type ResponseHeader = ValueOf<typeof responseHeaderCodec>;

const DEFAULT_DEADLINE_MS = 30_000;
const NO_AUTHENTICATION = new Uint8Array(0);
/**
 * Nobody's method: whoever lives answers UNKNOWN_MESSAGE at once. So a side whose call had no answer finds
 * out whether the other is slow, or the connection dead without anyone having said so.
 */
export const PROBE_METHOD = 0;

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

/** What calls need of their connection. */
export interface CallLink {
  readonly remote: string;
  readonly clock: Clock;
  readonly term: () => number;
  write(frame: Uint8Array[], onSent?: () => void, now?: boolean): boolean;
}

export class OutgoingCalls {
  readonly #link: CallLink;
  /** The credit that the other side grants. */
  #credit: Pick<Hello, 'maxRequests' | 'maxRequestBytes'> | undefined;
  #nextId = 1;
  /** Sent, waiting for their response. */
  readonly #pending = new Map<number, PendingCall>();
  /** Waiting for credit, first come first served. */
  readonly #waiting = new Map<number, PendingCall>();
  /** The most that were pending at once since there was none. */
  #mostPending = 0;
  #outstandingBytes = 0;
  readonly #probes = new Set<number>();
  #closedWith: GfsError | undefined;

  constructor(link: CallLink) {
    this.#link = link;
  }

  /** Whether some wait for the other side to say something. */
  get areWaiting(): boolean {
    return this.#pending.size > 0;
  }

  /** The other side has said hello: what waits is sent. */
  grant(credit: Pick<Hello, 'maxRequests' | 'maxRequestBytes'>): void {
    this.#credit = credit;
    this.#sendWaiting();
  }

  call<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    options: CallOptions,
  ): Promise<CallResult<Reply>> {
    return new Promise<CallResult<Reply>>((resolve, reject) => {
      const failed = this.#reasonToRefuse(options);
      if (failed !== undefined) {
        options.onSent?.();
        reject(failed);
        return;
      }
      const id = this.#nextId++;
      const nowMs = this.#link.clock.monotonicMs();
      const call: PendingCall = {
        method: method as Method<unknown, unknown>,
        options,
        payloadBytes: totalBytes(options.payload),
        expiresAtMs: nowMs + (options.deadlineMs ?? DEFAULT_DEADLINE_MS),
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
      const isNext = this.#waiting.size === 0 && this.#isCovered(call);
      if (isNext || (options.urgent === true && this.#credit !== undefined)) this.#send(id, call, nowMs);
      else this.#waiting.set(id, call);
    });
  }

  /** Not a call: it needs no credit, and its answer is that anything arrives. @param withinMs for the other side */
  probe(withinMs: number): void {
    const id = this.#nextId++;
    this.#probes.add(id);
    const header = this.#header(id, PROBE_METHOD, withinMs, {});
    this.#link.write(encodeFrame(FrameKind.request, [requestHeaderCodec.encode(header), null]));
  }

  /**
   * Gives up the calls whose time is over.
   * @param heardMs when something arrived last
   * @returns whether one of them was sent after that: then the connection is worth a probe
   */
  sweep(nowMs: number, heardMs: number): boolean {
    let isDoubtful = false;
    for (const calls of [this.#pending, this.#waiting]) {
      for (const [id, call] of calls) {
        if (call.abandoned || call.expiresAtMs > nowMs) continue;
        if (calls === this.#pending && heardMs < call.sentAtMs) isDoubtful = true;
        this.#abandon(id, new GfsError('DEADLINE_EXCEEDED', `${call.method.name} to ${this.#link.remote}`));
      }
    }
    return isDoubtful;
  }

  /** @throws MALFORMED */
  onResponse(frame: IncomingFrame): void {
    const parts = frame.header;
    if (!Array.isArray(parts)) throw new GfsError('MALFORMED', 'response');
    const header = responseHeaderCodec.decode(parts[0], 'response');
    if (this.#probes.delete(header.id)) return;
    const call = this.#pending.get(header.id);
    if (call === undefined) throw new GfsError('MALFORMED', `response to ${header.id}, which was not asked`);
    this.#pending.delete(header.id);
    this.#outstandingBytes -= call.payloadBytes;
    detach(call);
    finish(call, header, parts[1], frame.payload);
    if (this.#waiting.size > 0) this.#sendWaiting();
  }

  /** What was sent may have happened; what waited has not, but the caller resends both alike. */
  closed(error: GfsError): void {
    this.#closedWith = error;
    for (const calls of [this.#pending, this.#waiting]) {
      for (const call of calls.values()) {
        detach(call);
        if (calls === this.#waiting) call.options.onSent?.();
        call.reject(error);
      }
      calls.clear();
    }
  }

  #reasonToRefuse(options: CallOptions): GfsError | undefined {
    if (this.#closedWith !== undefined) return this.#closedWith;
    if (options.signal?.aborted) return new GfsError('CANCELLED');
    const { remote } = this.#link;
    if (options.urgent === true && this.#credit !== undefined) {
      if (this.#pending.size < this.#credit.maxRequests + URGENT_ALLOWANCE) return undefined;
      return new GfsError('OVERLOADED', `${this.#pending.size} requests are under way to ${remote}`);
    }
    if (this.#waiting.size >= MAX_WAITING_CALLS)
      return new GfsError('OVERLOADED', `${this.#waiting.size} calls wait for ${remote}`);
    return undefined;
  }

  /** Sends calls in order while there is credit. A call larger than the whole credit goes alone. */
  #sendWaiting(): void {
    for (const [id, call] of this.#waiting) {
      if (!this.#isCovered(call)) return;
      this.#waiting.delete(id);
      this.#send(id, call, this.#link.clock.monotonicMs());
    }
  }

  /** There is credit for it now. */
  #isCovered({ payloadBytes }: PendingCall): boolean {
    const credit = this.#credit;
    if (credit === undefined || this.#pending.size >= credit.maxRequests) return false;
    return this.#outstandingBytes === 0 || this.#outstandingBytes + payloadBytes <= credit.maxRequestBytes;
  }

  #send(id: number, call: PendingCall, nowMs: number): void {
    const { options, method } = call;
    const remainingMs = Math.max(1, Math.round(call.expiresAtMs - nowMs));
    const endless = remainingMs === Number.POSITIVE_INFINITY;
    const header = this.#header(id, method.number, endless ? 0 : remainingMs, options);
    let frame: Uint8Array[];
    try {
      const packed = [requestHeaderCodec.encode(header), method.request.encode(call.body)];
      frame = encodeFrame(FrameKind.request, packed, options.payload);
    } catch (thrown) {
      detach(call);
      options.onSent?.();
      call.reject(toGfsError(thrown));
      return;
    }
    call.body = undefined;
    call.sentAtMs = nowMs;
    this.#pending.set(id, call);
    this.#outstandingBytes += call.payloadBytes;
    this.#link.write(frame, options.onSent, this.#isAlone() || options.atOnce);
  }

  /** Nothing waits for the other side but this call, as it was with the one before: no other will leave with it. */
  #isAlone(): boolean {
    const { size } = this.#pending;
    const wasAlone = this.#mostPending === 1;
    this.#mostPending = size === 1 ? 1 : Math.max(this.#mostPending, size);
    return size === 1 && wasAlone;
  }

  #header(id: number, method: number, deadlineMs: number, options: CallOptions): RequestHeader {
    return {
      id,
      method,
      session: options.session ?? 0,
      sequence: options.sequence ?? 0,
      term: this.#link.term(),
      deadlineMs,
      traceId: options.traceId ?? 0,
      priority: options.priority ?? 'client',
      uid: options.uid ?? 0,
      gids: (options.gids as number[] | undefined) ?? [],
      authentication: NO_AUTHENTICATION,
    };
  }

  /** Gives up on a call: its response, if it comes, is dropped; the other side is told to stop. */
  #abandon(id: number, error: GfsError): void {
    const waiting = this.#waiting.get(id);
    if (waiting !== undefined) {
      this.#waiting.delete(id);
      detach(waiting);
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
    detach(pending);
    pending.reject(error);
    this.#link.write(encodeFrame(FrameKind.cancel, [id]));
  }
}

function detach(call: PendingCall): void {
  if (call.onAbort !== undefined) call.options.signal?.removeEventListener('abort', call.onAbort);
}

function finish(
  call: PendingCall,
  header: ResponseHeader,
  reply: unknown,
  payload: Payload | undefined,
): void {
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

function totalBytes(payload: OutgoingPayload | undefined): number {
  if (payload === undefined) return 0;
  let bytes = 0;
  for (const buffer of payload.buffers) bytes += buffer.byteLength;
  return bytes;
}
