/** What a request is: the definition of a method, the header that travels with it, the registry that serves it. */
import type { GfsError } from './errors.js';
import type { OutgoingPayload } from './frame.js';
import { MAX_GROUPS } from './limits.js';
import type { Payload } from './payload.js';
import { bytes, type Codec, list, oneOf, optional, struct, text, u32, u53, type ValueOf } from './schema.js';

/** One method of the protocol: its number on the wire, its name for people, its two shapes. */
export interface Method<Request, Reply> {
  readonly number: number;
  readonly name: string;
  readonly request: Codec<Request>;
  readonly reply: Codec<Reply>;
}

export function method<Request, Reply>(
  number: number,
  name: string,
  request: Codec<Request>,
  reply: Codec<Reply>,
): Method<Request, Reply> {
  return { number, name, request, reply };
}

export const ROLES = ['master', 'chunkserver', 'client', 'shadow'] as const;
export type Role = (typeof ROLES)[number];

/** The first frame of each side. */
export const helloCodec = struct({
  /** Feature bits: none yet; unknown ones are ignored. */
  features: u53,
  /** Empty when it is not known yet: a client, or a chunkserver with an empty disk. */
  clusterId: text(64),
  role: oneOf(...ROLES),
  /** The process' own id: a server id or a client id. */
  id: text(64),
  /** The newest term that this side knows; 0 for none. */
  term: u53,
  /** Credit: the requests and payload bytes that the other side may have outstanding here. */
  maxRequests: u32,
  maxRequestBytes: u53,
});
export type Hello = ValueOf<typeof helloCodec>;

/** Client work comes before clones, clones before scrubbing. */
export const PRIORITIES = ['client', 'clone', 'scrub'] as const;
export type Priority = (typeof PRIORITIES)[number];

export const requestHeaderCodec = struct({
  id: u53,
  method: u32,
  /** The session that the request belongs to, and its place in it; 0 for none. Mutations have both. */
  session: u53,
  sequence: u53,
  term: u53,
  /** Milliseconds that are left, from when the frame arrives; 0 for no deadline. */
  deadlineMs: u53,
  traceId: u53,
  priority: oneOf(...PRIORITIES),
  uid: u32,
  gids: list(u32, MAX_GROUPS),
  /** Room for authentication; empty for now. */
  authentication: bytes(4096),
});
export type RequestHeader = ValueOf<typeof requestHeaderCodec>;

export const responseHeaderCodec = struct({
  id: u53,
  /** 0, or a number of the error table. */
  error: u32,
  message: optional(text(1024)),
  term: u53,
});

export const goodbyeCodec = struct({ error: u32, message: text(1024) });

/** A request as its handler sees it. */
export interface IncomingRequest {
  readonly header: RequestHeader;
  /** The other side's hello. */
  readonly from: Hello;
  readonly remote: string;
  /** Raw bytes that came with it; the handler owns them. */
  readonly payload: Payload | undefined;
  readonly payloadCrc: number;
  /** Aborted when the caller cancels, its deadline passes, or its connection breaks. Made when it is first asked for. */
  readonly signal: AbortSignal;
  /** Why the signal is aborted, if it is: asking for this makes none. */
  readonly aborted: GfsError | undefined;
  /** Where it came in: for calling back, and for learning when the connection ends. */
  readonly peer: Caller;
}

export interface Outcome<Reply> {
  readonly body: Reply;
  readonly payload?: OutgoingPayload;
  /** Called once the payload's memory is no longer read. */
  readonly onSent?: () => void;
}

/** What calls need of an AbortSignal. A real one takes 13 us to make, listen to and leave. */
export interface Cancellation {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface CallOptions {
  readonly payload?: OutgoingPayload;
  /** Called once the payload's memory is no longer read. */
  readonly onSent?: () => void;
  /** From now; the call fails with DEADLINE_EXCEEDED. Default 30 s. */
  readonly deadlineMs?: number;
  readonly signal?: Cancellation | undefined;
  readonly session?: number;
  readonly sequence?: number;
  readonly traceId?: number;
  readonly priority?: Priority;
  /** Goes ahead of all that wait for credit: small and rare, such as a session's renewal. */
  readonly urgent?: boolean;
  /** Leaves before the caller goes on, rather than with what else is sent in the same turn. */
  readonly atOnce?: boolean;
  readonly uid?: number;
  readonly gids?: readonly number[];
}

export interface CallResult<Reply> {
  readonly body: Reply;
  /** Raw bytes that came with the reply; the caller owns them. */
  readonly payload: Payload | undefined;
}

/** Something that requests can be sent to. */
export interface Caller {
  readonly remote: string;
  readonly closed: boolean;
  /** @throws GfsError: the callee's, or DISCONNECTED, DEADLINE_EXCEEDED, CANCELLED, OVERLOADED */
  call<Request, Reply>(
    method: Method<Request, Reply>,
    body: Request,
    options?: CallOptions,
  ): Promise<CallResult<Reply>>;
  /** Calls back once, when the connection is over (at once if it is already). */
  onceClosed(callback: (error: Error | undefined) => void): void;
  close(): void;
}

type Handler<Request, Reply> = (
  body: Request,
  request: IncomingRequest,
) => Promise<Outcome<Reply>> | Outcome<Reply>;

/** The methods that a process answers. */
export class Service {
  // biome-ignore lint/suspicious/noExplicitAny: handlers of all methods, each checked by `on`
  readonly handlers = new Map<number, { method: Method<any, any>; handle: Handler<any, any> }>();

  on<Request, Reply>(method: Method<Request, Reply>, handle: Handler<Request, Reply>): this {
    if (this.handlers.has(method.number)) throw new Error(`method ${method.number} (${method.name}) twice`);
    this.handlers.set(method.number, { method, handle });
    return this;
  }
}
