/** Plays the kernel to a session: puts requests together byte by byte, and takes the replies apart. */
import type { LogFields, Logger, Metrics } from '../../environment/ports/index.js';
import type { FuseHandler } from '../../fuse-client/handler.js';
import type { SessionOptions } from '../../fuse-client/kernel/negotiation.js';
import { HeaderIn, HeaderOut } from '../../fuse-client/kernel/protocol.js';
import { ReplyWriter } from '../../fuse-client/kernel/reply.js';
import { RequestView } from '../../fuse-client/kernel/request.js';
import { Session } from '../../fuse-client/kernel/session.js';
import type { Attributes } from '../../protocol/messages/index.js';

export const plainOptions: SessionOptions = {
  locks: false,
  atomicTruncate: false,
  writebackCache: false,
  autoInvalidateData: true,
  acls: false,
  asyncDirectIo: true,
};

/** What a test does not implement must not be called. */
export function handlerOf(methods: Partial<FuseHandler>): FuseHandler {
  return new Proxy(methods as FuseHandler, {
    get(target, name) {
      const method = Reflect.get(target, name) as unknown;
      if (method === undefined && typeof name === 'string')
        throw new Error(`the handler was asked for ${name}`);
      return method;
    },
  });
}

export interface Reply {
  readonly unique: number;
  readonly error: number;
  readonly body: Buffer;
  /** What was sent behind the head, as the handler gave it. */
  readonly buffers: readonly Uint8Array[];
}

/** A field of a request's argument: its offset, its width in bits, its value. */
export type Field = readonly [offset: number, bits: 16 | 32 | 64, value: number | bigint];

const SLOT_BYTES = 64 * 1024;
const metrics = { counter: () => ({ add: () => {} }) } as unknown as Metrics;

export class FakeKernel {
  readonly session: Session;
  readonly replies: Reply[] = [];
  readonly logged: { fields: LogFields; message: string }[] = [];
  /** What the device says to the next replies. */
  result = 0;
  readonly #slot = Buffer.from(new ArrayBuffer(SLOT_BYTES));
  readonly #view = new RequestView(this.#slot);
  #unique = 2;

  constructor(methods: Partial<FuseHandler>, options: Partial<SessionOptions> = {}) {
    const out = new ReplyWriter();
    const receive = (length: number, buffers: readonly Uint8Array[]): number => {
      const bytes = Buffer.concat([out.bytes.subarray(0, length), ...buffers]);
      if (bytes.readUInt32LE(HeaderOut.length) !== bytes.length)
        throw new Error('a reply of another length than it says');
      this.replies.push({
        unique: Number(bytes.readBigUInt64LE(HeaderOut.unique)),
        error: -bytes.readInt32LE(HeaderOut.error),
        body: bytes.subarray(HeaderOut.BYTES),
        buffers,
      });
      return this.result;
    };
    const transport = { reply: (length: number) => receive(length, []), replyWith: receive };
    const log = (fields: LogFields, message: string) => void this.logged.push({ fields, message });
    const logger: Logger = { debug: () => {}, info: log, warn: log, error: log, child: () => logger };
    this.session = new Session(
      handlerOf(methods),
      transport,
      out,
      { ...plainOptions, ...options },
      { logger, metrics },
    );
  }

  /** Sends a request, then overwrites it, as the slot's next one would. @returns its unique number */
  send(
    opcode: number,
    inode: number,
    fields: readonly Field[] = [],
    argumentBytes = 0,
    tail: Uint8Array = Buffer.of(),
  ): number {
    const unique = this.#unique;
    this.#unique += 2;
    const length = HeaderIn.BYTES + argumentBytes + tail.byteLength;
    this.#slot.fill(0);
    this.#slot.writeUInt32LE(length, HeaderIn.length);
    this.#slot.writeUInt32LE(opcode, HeaderIn.opcode);
    this.#slot.writeBigUInt64LE(BigInt(unique), HeaderIn.unique);
    this.#slot.writeBigUInt64LE(BigInt(inode), HeaderIn.inode);
    this.#slot.writeUInt32LE(1001, HeaderIn.uid);
    this.#slot.writeUInt32LE(1002, HeaderIn.gid);
    this.#slot.writeUInt32LE(1003, HeaderIn.pid);
    for (const [offset, bits, value] of fields) {
      const at = HeaderIn.BYTES + offset;
      if (bits === 16) this.#slot.writeUInt16LE(Number(value), at);
      else if (bits === 32) this.#slot.writeUInt32LE(Number(value), at);
      else this.#slot.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
    }
    this.#slot.set(tail, HeaderIn.BYTES + argumentBytes);
    if (!this.#view.moveTo(0, length)) throw new Error('the view refused a whole request');
    this.session.dispatch(this.#view);
    this.#slot.fill(0xee);
    return unique;
  }

  /** Sends a request and waits for its reply. */
  async ask(
    opcode: number,
    inode: number,
    fields?: readonly Field[],
    argumentBytes?: number,
    tail?: Uint8Array,
  ): Promise<Reply> {
    const unique = this.send(opcode, inode, fields, argumentBytes, tail);
    return await this.replyTo(unique);
  }

  async replyTo(unique: number): Promise<Reply> {
    for (let turn = 0; turn < 100; turn++) {
      const reply = this.replies.find((one) => one.unique === unique);
      if (reply !== undefined) return reply;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`request ${unique} was not answered`);
  }
}

/** Names as they stand in a request: each with a zero behind it. */
export function names(...all: string[]): Buffer {
  return Buffer.from(all.map((name) => `${name}\0`).join(''), 'latin1');
}

export function attributesOf(id: number, changes: Partial<Attributes> = {}): Attributes {
  return {
    id,
    mode: 0o100644,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: 0,
    atimeSec: 0,
    atimeNsec: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    ctimeSec: 0,
    ctimeNsec: 0,
    ...changes,
  };
}
