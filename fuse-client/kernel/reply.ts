/** Replies: one is put together in one buffer, then leaves at once, so the buffer serves them all. */
import type { Attributes } from '../../protocol/messages/index.js';
import type { ByteString } from '../handler.js';
import { AttributesOut, HeaderOut } from './protocol.js';

const TWO_32 = 0x1_0000_0000;
const BLOCK_BYTES = 512;
/**
 * st_blksize: what cp and cat read and write at once. As NFS does, the largest request, so that one
 * write of theirs is one request.
 */
const PREFERRED_IO_BYTES = 1024 * 1024;
/** Longer than any mount lives. */
const MAX_TTL_SECONDS = 0x7fff_ffff;

/** READDIR may ask for more; it then gets this much: what a page of the master's holds, about. */
export const REPLY_BUFFER_BYTES = 256 * 1024 + HeaderOut.BYTES;

/** Offsets are into the reply's body, behind the header. */
export class ReplyWriter {
  readonly bytes: Buffer = Buffer.from(new ArrayBuffer(REPLY_BUFFER_BYTES));
  readonly #words = new Uint32Array(this.bytes.buffer);
  readonly #longs = new BigUint64Array(this.bytes.buffer);
  /** Of the body in {@link bytes}. */
  length = 0;
  /** What follows it, uncopied. */
  buffers: readonly Uint8Array[] | undefined;
  /** Gives {@link buffers} back, once the reply has left. */
  release: (() => void) | undefined;

  get capacity(): number {
    return REPLY_BUFFER_BYTES - HeaderOut.BYTES;
  }

  /** Starts an empty reply. */
  clear(): void {
    this.length = 0;
    this.buffers = undefined;
    this.release = undefined;
  }

  /** The header, last of all. @returns how much of {@link bytes} the reply is */
  finish(unique: number, error: number): number {
    let total = HeaderOut.BYTES + this.length;
    if (this.buffers !== undefined) for (const buffer of this.buffers) total += buffer.byteLength;
    this.#words[HeaderOut.length >> 2] = total;
    this.#words[HeaderOut.error >> 2] = -error >>> 0;
    this.u64(HeaderOut.unique - HeaderOut.BYTES, unique);
    return HeaderOut.BYTES + this.length;
  }

  /** Reserves the body's next `length` bytes as zeros. @returns their offset; a multiple of 8 if `length`s are */
  zeros(length: number): number {
    const offset = this.length;
    this.length += length;
    this.bytes.fill(0, HeaderOut.BYTES + offset, HeaderOut.BYTES + this.length);
    return offset;
  }

  /** The body's next `length` bytes, to be set one field at a time, all of them. @returns their offset */
  reserve(length: number): number {
    const offset = this.length;
    this.length += length;
    return offset;
  }

  u16(offset: number, value: number): void {
    this.bytes.writeUInt16LE(value, HeaderOut.BYTES + offset);
  }

  u32(offset: number, value: number): void {
    this.#words[(HeaderOut.BYTES + offset) >> 2] = value;
  }

  /** Also for negative numbers, as two's complement. */
  u64(offset: number, value: number): void {
    const word = (HeaderOut.BYTES + offset) >> 2;
    const low = value >>> 0;
    this.#words[word] = low;
    this.#words[word + 1] = (value - low) / TWO_32;
  }

  long(offset: number, value: bigint): void {
    this.#longs[(HeaderOut.BYTES + offset) >> 3] = value;
  }

  byteString(offset: number, value: ByteString): void {
    this.bytes.write(value, HeaderOut.BYTES + offset, 'latin1');
  }

  /** A time to live, as seconds and nanoseconds. */
  ttl(secondsAt: number, nanosecondsAt: number, ttlMs: number): void {
    const seconds = Math.min(Math.floor(ttlMs / 1000), MAX_TTL_SECONDS);
    this.u64(secondsAt, seconds);
    this.u32(nanosecondsAt, Math.floor((ttlMs - seconds * 1000) * 1e6) % 1e9);
  }

  attributes(at: number, attributes: Attributes): void {
    this.u64(at + AttributesOut.inode, attributes.id);
    this.u64(at + AttributesOut.size, attributes.size);
    this.u64(at + AttributesOut.blocks, Math.ceil(attributes.size / BLOCK_BYTES));
    this.u64(at + AttributesOut.atime, attributes.atimeSec);
    this.u64(at + AttributesOut.mtime, attributes.mtimeSec);
    this.u64(at + AttributesOut.ctime, attributes.ctimeSec);
    this.u32(at + AttributesOut.atimeNsec, attributes.atimeNsec);
    this.u32(at + AttributesOut.mtimeNsec, attributes.mtimeNsec);
    this.u32(at + AttributesOut.ctimeNsec, attributes.ctimeNsec);
    this.u32(at + AttributesOut.mode, attributes.mode);
    this.u32(at + AttributesOut.nlink, attributes.nlink);
    this.u32(at + AttributesOut.uid, attributes.uid);
    this.u32(at + AttributesOut.gid, attributes.gid);
    this.u32(at + AttributesOut.rdev, attributes.rdev);
    this.u32(at + AttributesOut.blockBytes, PREFERRED_IO_BYTES);
    this.u32(at + AttributesOut.flags, 0);
  }
}
