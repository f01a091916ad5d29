/**
 * Frames: what TCP carries between any two processes. See docs/formats/wire.md.
 *
 *     0  u16  magic "GF"
 *     2  u8   protocol version
 *     3  u8   kind
 *     4  u32  header bytes
 *     8  u32  payload bytes
 *    12  u32  CRC-32 of the header
 *    16  u32  CRC-32 of the payload
 *    20       header (msgpack), then payload (raw)
 */
import { Packr, RESERVE_START_SPACE } from 'msgpackr';
import { checksum, checksumOf } from './checksum.js';
import { GfsError } from './errors.js';
import { MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, PROTOCOL_VERSION } from './limits.js';
import type { BufferPool, Payload } from './payload.js';

export const FRAME_PREFIX_BYTES = 20;
const MAGIC = 0x4647;
/** Has the packer leave room for the prefix before the header, so that nothing is copied behind it. */
const BEHIND_PREFIX = RESERVE_START_SPACE | FRAME_PREFIX_BYTES;

export const FrameKind = { hello: 0, request: 1, response: 2, cancel: 3, goodbye: 4 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** Plain msgpack: no shared records, no extensions that a stranger could make us run. */
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, moreTypes: false });

/** As {@link encodeFrame} packs a header. */
export function packHeader(header: unknown): Uint8Array {
  return packr.pack(header);
}

export function unpackHeader(packed: Uint8Array): unknown {
  return packr.unpack(packed);
}

export interface OutgoingPayload {
  readonly buffers: readonly Uint8Array[];
  /** The CRC of all of them, when it is known already (data that is passed on). */
  readonly crc?: number;
}

/** The buffers of one frame, ready to be written in order. */
export function encodeFrame(kind: FrameKind, header: unknown, payload?: OutgoingPayload): Uint8Array[] {
  const head = packr.pack(header, BEHIND_PREFIX);
  const headerBytes = head.byteLength - FRAME_PREFIX_BYTES;
  if (headerBytes > MAX_HEADER_BYTES) throw new GfsError('TOO_BIG', `header of ${headerBytes} bytes`);
  const payloadBytes = payload === undefined ? 0 : bytesOf(payload.buffers);
  if (payloadBytes > MAX_PAYLOAD_BYTES) throw new GfsError('TOO_BIG', `payload of ${payloadBytes} bytes`);
  putU32(head, 0, MAGIC | (PROTOCOL_VERSION << 16) | (kind << 24));
  putU32(head, 4, headerBytes);
  putU32(head, 8, payloadBytes);
  putU32(head, 12, checksum(head.subarray(FRAME_PREFIX_BYTES)));
  putU32(head, 16, payloadBytes === 0 ? 0 : (payload?.crc ?? checksumOf(payload?.buffers ?? [])));
  return payload === undefined ? [head] : [head, ...payload.buffers];
}

function bytesOf(buffers: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.byteLength;
  return bytes;
}

export interface IncomingFrame {
  readonly kind: number;
  readonly header: unknown;
  /** The header as it came, until the callback returns: it may lie in memory that is reused. */
  readonly packed: Uint8Array;
  readonly payload: Payload | undefined;
  readonly payloadCrc: number;
}

/**
 * Cuts a byte stream into frames. Bounds every length before it allocates, so that garbage costs its
 * sender the connection and us nothing.
 */
export class FrameReader {
  readonly #pool: BufferPool;
  readonly #prefix = Buffer.allocUnsafe(FRAME_PREFIX_BYTES);
  #prefixFilled = 0;
  #header: Buffer | undefined;
  #headerFilled = 0;
  #payload: Payload | undefined;
  #payloadFilled = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /**
   * Takes what has arrived and calls back for every frame that it completes. `chunk` is only
   * borrowed: what is kept is copied.
   * @throws MALFORMED, WRONG_PROTOCOL_VERSION: the stream is lost, close the connection
   */
  push(chunk: Uint8Array, onFrame: (frame: IncomingFrame) => void): void {
    let at = 0;
    while (at < chunk.byteLength || this.#isComplete()) {
      const whole = this.#prefixFilled === 0 ? wholeFrameBytes(chunk, at) : 0;
      if (whole > 0) {
        checkPrefix(chunk, at);
        const packed = chunk.subarray(at + FRAME_PREFIX_BYTES, at + whole);
        onFrame(frameOf(chunk, at, packed, undefined));
        at += whole;
        continue;
      }
      if (this.#prefixFilled < FRAME_PREFIX_BYTES) {
        at += this.#fillPrefix(chunk, at);
        if (this.#prefixFilled < FRAME_PREFIX_BYTES) return;
        this.#startFrame();
      }
      at += this.#fillBody(chunk, at);
      if (this.#isComplete()) onFrame(this.#finishFrame());
      else return;
    }
  }

  #isComplete(): boolean {
    return (
      this.#header !== undefined &&
      this.#headerFilled === this.#header.byteLength &&
      (this.#payload === undefined || this.#payloadFilled === this.#payload.bytes.byteLength)
    );
  }

  #fillPrefix(chunk: Uint8Array, at: number): number {
    const count = Math.min(FRAME_PREFIX_BYTES - this.#prefixFilled, chunk.byteLength - at);
    this.#prefix.set(chunk.subarray(at, at + count), this.#prefixFilled);
    this.#prefixFilled += count;
    return count;
  }

  #startFrame(): void {
    checkPrefix(this.#prefix, 0);
    const headerBytes = u32At(this.#prefix, 4);
    const payloadBytes = u32At(this.#prefix, 8);
    this.#header = Buffer.allocUnsafe(headerBytes);
    this.#headerFilled = 0;
    this.#payload = payloadBytes === 0 ? undefined : this.#pool.take(payloadBytes);
    this.#payloadFilled = 0;
  }

  #fillBody(chunk: Uint8Array, from: number): number {
    let at = from;
    const header = this.#header as Buffer;
    if (this.#headerFilled < header.byteLength) {
      const count = Math.min(header.byteLength - this.#headerFilled, chunk.byteLength - at);
      header.set(chunk.subarray(at, at + count), this.#headerFilled);
      this.#headerFilled += count;
      at += count;
    }
    if (this.#payload !== undefined && at < chunk.byteLength) {
      const count = Math.min(this.#payload.bytes.byteLength - this.#payloadFilled, chunk.byteLength - at);
      this.#payload.bytes.set(chunk.subarray(at, at + count), this.#payloadFilled);
      this.#payloadFilled += count;
      at += count;
    }
    return at - from;
  }

  #finishFrame(): IncomingFrame {
    const packed = this.#header as Buffer;
    const payload = this.#payload;
    this.#prefixFilled = 0;
    this.#header = undefined;
    this.#payload = undefined;
    return frameOf(this.#prefix, 0, packed, payload);
  }
}

/**
 * @param packed and `payload` are all that the prefix announces, which lies in `bytes` from `at` on
 * @throws MALFORMED
 */
function frameOf(
  bytes: Uint8Array,
  at: number,
  packed: Uint8Array,
  payload: Payload | undefined,
): IncomingFrame {
  if (checksum(packed) !== u32At(bytes, at + 12)) throw new GfsError('MALFORMED', 'header checksum');
  const payloadCrc = u32At(bytes, at + 16);
  if (payload !== undefined && payload.checksum() !== payloadCrc)
    throw new GfsError('MALFORMED', 'payload checksum');
  let header: unknown;
  try {
    header = packr.unpack(packed);
  } catch (cause) {
    throw new GfsError('MALFORMED', 'header is not msgpack', { cause });
  }
  return { kind: bytes[at + 3] as number, header, packed, payload, payloadCrc };
}

/** Of a frame without a payload that lies in the chunk as a whole, from `at` on; else 0. */
function wholeFrameBytes(chunk: Uint8Array, at: number): number {
  if (chunk.byteLength - at < FRAME_PREFIX_BYTES) return 0;
  const bytes = FRAME_PREFIX_BYTES + u32At(chunk, at + 4);
  return u32At(chunk, at + 8) === 0 && at + bytes <= chunk.byteLength ? bytes : 0;
}

function u32At(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16);
  return (low | ((bytes[at + 3] as number) << 24)) >>> 0;
}

function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** @throws MALFORMED, WRONG_PROTOCOL_VERSION */
function checkPrefix(prefix: Uint8Array, at: number): void {
  const start = u32At(prefix, at);
  if ((start & 0xffff) !== MAGIC) throw new GfsError('MALFORMED', 'not a GFS frame');
  const version = (start >>> 16) & 0xff;
  if (version !== PROTOCOL_VERSION) {
    const message = `protocol version ${version}, this side speaks ${PROTOCOL_VERSION}`;
    throw new GfsError('WRONG_PROTOCOL_VERSION', message);
  }
  const headerBytes = u32At(prefix, at + 4);
  const payloadBytes = u32At(prefix, at + 8);
  if (headerBytes > MAX_HEADER_BYTES) throw new GfsError('MALFORMED', `header of ${headerBytes} bytes`);
  if (payloadBytes > MAX_PAYLOAD_BYTES) throw new GfsError('MALFORMED', `payload of ${payloadBytes} bytes`);
}
