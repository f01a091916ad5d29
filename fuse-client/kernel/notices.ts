/** Notifications to the kernel that it knows old news, and when it has taken them. */
import type { Logger } from '../../environment/ports/index.js';
import { ERRNO } from '../../protocol/errno.js';
import type { ByteString, Inode } from '../handler.js';
import { HeaderOut, InvalidateEntryOut, InvalidateInodeOut, Notification } from './protocol.js';

/** A notification answers no request (unique 0); its code stands where a reply has its error. */
function message(code: number, bodyBytes: number): Buffer {
  const bytes = Buffer.alloc(HeaderOut.BYTES + bodyBytes);
  bytes.writeUInt32LE(bytes.length, HeaderOut.length);
  bytes.writeInt32LE(code, HeaderOut.error);
  return bytes;
}

/** The cached attributes, and pages in the range; `length` 0 is to the end, a negative offset attributes alone. */
export function invalidateInodeMessage(inode: Inode, offset: number, length: number): Buffer {
  const bytes = message(Notification.INVAL_INODE, InvalidateInodeOut.BYTES);
  bytes.writeBigUInt64LE(BigInt(inode), HeaderOut.BYTES + InvalidateInodeOut.inode);
  bytes.writeBigInt64LE(BigInt(offset), HeaderOut.BYTES + InvalidateInodeOut.offset);
  bytes.writeBigInt64LE(BigInt(length), HeaderOut.BYTES + InvalidateInodeOut.length);
  return bytes;
}

/** The cached name, and that it is not there. */
export function invalidateEntryMessage(parent: Inode, name: ByteString): Buffer {
  const bytes = message(Notification.INVAL_ENTRY, InvalidateEntryOut.BYTES + name.length + 1);
  bytes.writeBigUInt64LE(BigInt(parent), HeaderOut.BYTES + InvalidateEntryOut.parent);
  bytes.writeUInt32LE(name.length, HeaderOut.BYTES + InvalidateEntryOut.nameLength);
  bytes.write(name, HeaderOut.BYTES + InvalidateEntryOut.BYTES, 'latin1');
  return bytes;
}

/** Hands notifications to the device, whose own thread writes them in order, and tells when each is done. */
export class Notices {
  readonly #notify: (message: Uint8Array) => number;
  readonly #logger: Logger;
  /** In the order of the device's queue, which bounds it. */
  readonly #waiting: (() => void)[] = [];
  #done = 0;

  constructor(notify: (message: Uint8Array) => number, logger: Logger) {
    this.#notify = notify;
    this.#logger = logger;
  }

  /** Resolves when the kernel has taken it, or never will: the queue is full, or the mount is over. */
  async send(bytes: Uint8Array): Promise<void> {
    const result = this.#notify(bytes);
    if (result === -ERRNO.EAGAIN) {
      this.#logger.warn(
        {},
        'too many notifications wait for the kernel: it keeps old news until their time is up',
      );
    }
    if (result !== 0) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** @param total of all since the beginning, modulo 2^32, as a signed number */
  onNotified(total: number): void {
    const more = (total - this.#done) >>> 0;
    this.#done = total;
    for (const resolve of this.#waiting.splice(0, more)) resolve();
  }

  /** The mount is over: nobody needs to wait. */
  close(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
