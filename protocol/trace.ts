/**
 * The trace of requests (paper §5.3): what a process was asked and what it answered, as it was on the
 * wire, without file data; beside it when, and by whom. See docs/formats/rpc-trace.md. What is written
 * is a few copies of bytes: nothing is encoded again while it is served.
 */
import { packHeader, unpackHeader } from './frame.js';
import { MAX_TRACED_BYTES } from './limits.js';
import type { Hello } from './rpc.js';

/** The method by which a trace is read; it is not traced itself. */
export const TRACE_METHOD = 148;

export const TraceKind = {
  /** A process has begun to trace, or goes on in another file: `{ format, role, id, startedAt }`. */
  start: 0,
  /** A connection, before its first request: `{ number, role, id, remote }`. */
  peer: 1,
  request: 2,
  response: 3,
  /** The connection is over. */
  gone: 4,
} as const;
export type TraceKind = (typeof TraceKind)[keyof typeof TraceKind];

/** u32 bytes that follow it, u8 kind, u8 flags, u16 zero, u32 number of the peer, f64 time. */
export const TRACE_HEAD_BYTES = 20;
/** Only the header of the message is there: it was too long. */
export const TRACE_CUT = 1;

export interface TracedPeer {
  readonly number: number;
  readonly role: string;
  readonly id: string;
  readonly remote: string;
}

/** What a {@link Peer} tells, and nothing that could hold it up. */
export interface PeerTrace {
  request(packed: Uint8Array, header: unknown): void;
  response(packed: Uint8Array, header: unknown): void;
  gone(): void;
}

export interface TraceSink {
  /** A connection whose other side has said who it is. */
  peer(hello: Hello, remote: string): PeerTrace;
}

/** Writes one record at `at`. @returns its end */
export function writeTraceRecord(
  into: Buffer,
  at: number,
  kind: TraceKind,
  peer: number,
  timeMs: number,
  body: Uint8Array,
  flags = 0,
): number {
  into.writeUInt32LE(TRACE_HEAD_BYTES - 4 + body.byteLength, at);
  into.writeUInt8(kind, at + 4);
  into.writeUInt8(flags, at + 5);
  into.writeUInt16LE(0, at + 6);
  into.writeUInt32LE(peer, at + 8);
  into.writeDoubleLE(timeMs, at + 12);
  into.set(body, at + TRACE_HEAD_BYTES);
  return at + TRACE_HEAD_BYTES + body.byteLength;
}

/** A message as it is traced: whole, or its header alone. */
export function tracedMessage(packed: Uint8Array, header: unknown): { body: Uint8Array; flags: number } {
  if (packed.byteLength <= MAX_TRACED_BYTES) return { body: packed, flags: 0 };
  return { body: packHeader([header, null]), flags: TRACE_CUT };
}

export interface TraceRecord {
  readonly kind: TraceKind;
  readonly isCut: boolean;
  readonly peer: number;
  /** Milliseconds since 1970, with fractions. */
  readonly timeMs: number;
  /** Of a request or a response what stood in the frame, unpacked: `[header, body]`. Else a JSON object. */
  readonly body: unknown;
}

/** The records in `bytes`; what is not whole at its end is left. Ends at the first that makes no sense. */
export function* readTraceRecords(bytes: Buffer): Generator<TraceRecord> {
  for (let at = 0; at + TRACE_HEAD_BYTES <= bytes.byteLength; ) {
    const length = bytes.readUInt32LE(at);
    const end = at + 4 + length;
    if (length < TRACE_HEAD_BYTES - 4 || end > bytes.byteLength) return;
    const kind = bytes.readUInt8(at + 4) as TraceKind;
    const packed = bytes.subarray(at + TRACE_HEAD_BYTES, end);
    let body: unknown;
    try {
      body =
        kind === TraceKind.request || kind === TraceKind.response ? unpackHeader(packed) : jsonOf(packed);
    } catch {
      return;
    }
    const isCut = (bytes.readUInt8(at + 5) & TRACE_CUT) !== 0;
    yield { kind, isCut, peer: bytes.readUInt32LE(at + 8), timeMs: bytes.readDoubleLE(at + 12), body };
    at = end;
  }
}

function jsonOf(packed: Buffer): unknown {
  return packed.byteLength === 0 ? {} : JSON.parse(packed.toString());
}
