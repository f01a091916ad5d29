/** Requests: the bytes of one as it lies in its slot, and what is kept of it until its reply. */
import { GfsError } from '../../protocol/errors.js';
import type { Cancellation } from '../../protocol/rpc.js';
import type { ByteString, Context, Inode } from '../handler.js';
import { groupsOf } from './groups.js';
import { HeaderIn } from './protocol.js';

const TWO_32 = 0x1_0000_0000;
/** The upper half of the first number that is not a safe integer. */
const UNSAFE_HIGH = 0x20_0000;

/**
 * Reads the request in one slot. There is one view for all slots: it is valid until it is moved on,
 * so everything needed later is taken out before a handler first awaits.
 */
export class RequestView {
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  #start = 0;
  #end = 0;
  #cursor = 0;

  /** @param slots all slots; starts at a multiple of 8 */
  constructor(slots: Buffer) {
    this.#bytes = slots;
    this.#words = new Uint32Array(slots.buffer, slots.byteOffset, slots.length >> 2);
    this.#longs = new BigUint64Array(slots.buffer, slots.byteOffset, slots.length >> 3);
  }

  /** Moves to the request of `length` bytes at `start`, a multiple of 8. @returns false when it is cut off */
  moveTo(start: number, length: number): boolean {
    this.#start = start + HeaderIn.BYTES;
    this.#end = start + length;
    this.#cursor = this.#start;
    return length >= HeaderIn.BYTES && this.#header(HeaderIn.length) === length;
  }

  get opcode(): number {
    return this.#header(HeaderIn.opcode);
  }

  get inode(): Inode {
    return this.u64(HeaderIn.inode - HeaderIn.BYTES);
  }

  /** The request's argument, without the header. */
  get argumentBytes(): number {
    return this.#end - this.#start;
  }

  /** What outlives the slot. */
  toRequest(): Request {
    return new Request(
      this.#header(HeaderIn.opcode),
      this.u64(HeaderIn.unique - HeaderIn.BYTES),
      this.inode,
      this.#header(HeaderIn.uid),
      this.#header(HeaderIn.gid),
      this.#header(HeaderIn.pid),
    );
  }

  /** Offsets here and below are into the argument. */
  u32(offset: number): number {
    return this.#words[(this.#start + offset) >> 2]!;
  }

  /** @throws FILE_TOO_BIG: ids and handles of ours are safe integers, so only an offset or a size can be too large */
  u64(offset: number): number {
    const word = (this.#start + offset) >> 2;
    const high = this.#words[word + 1]!;
    if (high >= UNSAFE_HIGH) throw new GfsError('FILE_TOO_BIG', 'beyond 2^53 bytes');
    return high * TWO_32 + this.#words[word]!;
  }

  /** As {@link u64}, but what is larger becomes the largest safe integer. */
  u64AtMost(offset: number): number {
    const word = (this.#start + offset) >> 2;
    const high = this.#words[word + 1]!;
    return high >= UNSAFE_HIGH ? Number.MAX_SAFE_INTEGER : high * TWO_32 + this.#words[word]!;
  }

  /** Signed: seconds before 1970. */
  i64(offset: number): number {
    const word = (this.#start + offset) >> 2;
    return (this.#words[word + 1]! | 0) * TWO_32 + this.#words[word]!;
  }

  /** All 64 bits: lock owners and ranges. */
  long(offset: number): bigint {
    return this.#longs[(this.#start + offset) >> 3]!;
  }

  /** The name after a structure of `offset` bytes; {@link nextName} reads what follows it. */
  name(offset: number): ByteString {
    this.#cursor = this.#start + offset;
    return this.nextName();
  }

  nextName(): ByteString {
    const zero = this.#bytes.indexOf(0, this.#cursor);
    if (zero < 0 || zero >= this.#end) throw new GfsError('MALFORMED', 'a name without its end');
    const name = this.#bytes.toString('latin1', this.#cursor, zero);
    this.#cursor = zero + 1;
    return name;
  }

  /** The slot's own memory: copy what outlives it. */
  bytes(offset: number, length: number): Buffer {
    const start = this.#start + offset;
    if (start + length > this.#end) throw new GfsError('MALFORMED', 'shorter than it says');
    return this.#bytes.subarray(start, start + length);
  }

  /** Bytes from where the last name ended, copied. */
  copyAfterName(length: number): Buffer {
    return Buffer.from(this.bytes(this.#cursor - this.#start, length));
  }

  #header(offset: number): number {
    return this.#words[(this.#start - HeaderIn.BYTES + offset) >> 2]!;
  }
}

/** Of most requests nobody hears whether they are interrupted. Nothing is added to it. */
const NOBODY: (() => void)[] = [];

/** A request between its arrival and its reply; the handler's {@link Context}, and its signal. */
export class Request implements Context, Cancellation {
  readonly opcode: number;
  /** The kernel's number for it. It counts up from a small one and stays below 2^53. */
  readonly unique: number;
  readonly inode: Inode;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** The most bytes that the reply may carry, for those that say so (READ, READDIR, GETXATTR, …). */
  limit = 0;
  /** Its reply has been sent. */
  isAnswered = false;
  #onInterrupted: (() => void)[] = NOBODY;
  #interrupted = false;

  constructor(opcode: number, unique: number, inode: Inode, uid: number, gid: number, pid: number) {
    this.opcode = opcode;
    this.unique = unique;
    this.inode = inode;
    this.uid = uid;
    this.gid = gid;
    this.pid = pid;
  }

  get groups(): readonly number[] {
    return groupsOf(this.pid, this.gid);
  }

  get signal(): Cancellation {
    return this;
  }

  get aborted(): boolean {
    return this.#interrupted;
  }

  get interrupted(): boolean {
    return this.#interrupted;
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (this.#onInterrupted === NOBODY) this.#onInterrupted = [];
    this.#onInterrupted.push(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const at = this.#onInterrupted.indexOf(listener);
    if (at >= 0) this.#onInterrupted.splice(at, 1);
  }

  /** Once: whoever listens has heard of it then. */
  interrupt(): void {
    this.#interrupted = true;
    const listeners = this.#onInterrupted;
    this.#onInterrupted = NOBODY;
    for (const listener of listeners) listener();
  }
}
