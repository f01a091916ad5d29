/**
 * One connection with the kernel: takes its requests, has the handler answer them, and sends every
 * reply through one door. It knows nothing of descriptors and mounts: a {@link Transport} carries the
 * bytes, so tests play the kernel.
 */
import type { Counter, Logger, Metrics } from '../../environment/ports/index.js';
import { ERRNO } from '../../protocol/errno.js';
import { GfsError } from '../../protocol/errors.js';
import type { FuseHandler, Inode } from '../handler.js';
import { MAX_REPLY_BUFFERS } from './addon.js';
import { type Negotiated, negotiate, type SessionOptions } from './negotiation.js';
import { type Operation, operations } from './operations.js';
import { Privileges } from './privileges.js';
import { BatchForgetIn, ForgetIn, InterruptIn, Notification, Opcode, opcodeName } from './protocol.js';
import type { ReplyWriter } from './reply.js';
import type { Request, RequestView } from './request.js';

/** Sends a reply: the first `length` bytes of the session's {@link ReplyWriter}, then the buffers. Returns 0 or -errno. */
export interface Transport {
  reply(length: number): number;
  replyWith(length: number, buffers: readonly Uint8Array[]): number;
}

/** What the kernel asks with a directory's lock in its hand. */
const NAME_OPERATIONS = new Set<number>([
  ...[Opcode.LOOKUP, Opcode.CREATE, Opcode.MKNOD, Opcode.MKDIR, Opcode.SYMLINK, Opcode.LINK, Opcode.UNLINK],
  ...[Opcode.RMDIR, Opcode.RENAME, Opcode.RENAME2, Opcode.READDIR, Opcode.READDIRPLUS, Opcode.OPEN],
]);

/** Of these, those that may hold another directory than the inode that they are about. */
const ELSEWHERE = new Set<number>([Opcode.RENAME, Opcode.RENAME2, Opcode.OPEN]);

/** A signal came for the caller: whether, and when, the request ends by it. */
export type OnInterrupt = (request: Request, isPending: () => boolean) => void;

interface Counters {
  readonly requests: Counter;
  readonly errors: Counter;
}

export class Session {
  /** Resolves when the kernel and we agree, and requests may come. */
  readonly negotiated: Promise<Negotiated>;
  #onNegotiated!: (negotiated: Negotiated) => void;
  #onRefused!: (error: Error) => void;

  readonly #handler: FuseHandler;
  readonly #privileges: Privileges;
  readonly #served: { readonly handler: FuseHandler; readonly privileges: Privileges; flags: number };
  readonly #options: SessionOptions;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #counters: (Counters | undefined)[] = [];
  readonly #transport: Transport;
  readonly #out: ReplyWriter;

  /** Bounded by the kernel: a request is one system call that waits, or one of max_background. */
  readonly #pending = new Map<number, Request>();
  readonly #whenIdle: (() => void)[] = [];
  #open = true;
  readonly #onInterrupt: OnInterrupt;
  #canExpire = true;

  constructor(
    handler: FuseHandler,
    transport: Transport,
    out: ReplyWriter,
    options: SessionOptions,
    environment: { readonly logger: Logger; readonly metrics: Metrics },
    onInterrupt: OnInterrupt = (request) => request.interrupt(),
  ) {
    this.#onInterrupt = onInterrupt;
    this.#handler = handler;
    this.#privileges = new Privileges(handler);
    this.#served = { handler, privileges: this.#privileges, flags: 0 };
    this.#transport = transport;
    this.#out = out;
    this.#options = options;
    this.#logger = environment.logger;
    this.#metrics = environment.metrics;
    this.negotiated = new Promise((resolve, reject) => {
      this.#onNegotiated = resolve;
      this.#onRefused = reject;
    });
    // Whoever mounts waits for it; when nobody does any more, a refusal is no news.
    this.negotiated.catch(() => {});
  }

  /** Takes one request. All of it that is needed later has been read, or handed to the handler, on return. */
  dispatch(view: RequestView): void {
    switch (view.opcode) {
      case Opcode.FORGET:
        return this.#forget(view.inode, view.u64(ForgetIn.count));
      case Opcode.BATCH_FORGET:
        return this.#batchForget(view);
      case Opcode.INTERRUPT:
        // Requests are read in order, so one that is not there has been answered meanwhile.
        this.#interrupt(this.#pending.get(view.u64(InterruptIn.unique)));
        return;
      case Opcode.INIT:
        return this.#init(view);
      case Opcode.DESTROY:
        return this.#send(view.toRequest(), 0);
      default:
        return this.#start(view);
    }
  }

  /** The inode may have changed on another mount. */
  changedElsewhere(inode: Inode): void {
    this.#privileges.forget(inode);
  }

  /** Whether a request is under way for which the kernel holds a directory. Few are ever under way. */
  get waitsForNames(): boolean {
    for (const { opcode } of this.#pending.values()) if (NAME_OPERATIONS.has(opcode)) return true;
    return false;
  }

  /** {@link waitsForNames}, for all that is known in this directory: of some requests only the file is. */
  waitsForNamesIn(directory: Inode): boolean {
    for (const { opcode, inode } of this.#pending.values())
      if (NAME_OPERATIONS.has(opcode) && (inode === directory || ELSEWHERE.has(opcode))) return true;
    return false;
  }

  /** Whether pages of this inode are being read. */
  isReading(inode: Inode): boolean {
    for (const { opcode, inode: its } of this.#pending.values()) {
      if (its === inode && opcode === Opcode.READ) return true;
    }
    return false;
  }

  /**
   * Has the kernel look every name up again before it believes it. It does not block, unlike other notifications.
   * @returns false where the kernel does not know how (before Linux 6.16)
   */
  expireEntries(): boolean {
    if (!this.#canExpire || !this.#open) return false;
    this.#out.clear();
    // It answers no request, and its code stands where a reply has its error.
    const result = this.#transport.reply(this.#out.finish(0, -Notification.INCREMENT_EPOCH));
    this.#canExpire = result !== -ERRNO.EINVAL;
    return result === 0;
  }

  /** Resolves when no request waits for the handler. */
  async idle(): Promise<void> {
    if (this.#pending.size === 0) return;
    await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }

  /**
   * The connection is over: what is under way is interrupted and answered ENODEV, and so is whatever
   * still comes. (A notification that is being written may wait for these answers.)
   */
  close(): void {
    this.#open = false;
    for (const request of [...this.#pending.values()]) {
      request.interrupt();
      this.#fail(request, ERRNO.ENODEV);
    }
    this.#onRefused(new Error('The mount ended before the kernel had agreed to it.'));
  }

  #interrupt(request: Request | undefined): void {
    if (request === undefined) return;
    this.#onInterrupt(request, () => this.#pending.get(request.unique) === request);
  }

  #start(view: RequestView): void {
    const request = view.toRequest();
    const operation = operations[request.opcode];
    if (operation === undefined) return this.#fail(request, ERRNO.ENOSYS);
    if (!this.#open) return this.#fail(request, ERRNO.ENODEV);
    this.#countersOf(request.opcode).requests.add();
    let answer: unknown;
    try {
      if (view.argumentBytes < operation.argumentBytes) throw new GfsError('MALFORMED', 'cut off');
      answer = operation.start(this.#served, request, view);
    } catch (error) {
      return this.#refuse(request, error);
    }
    // What is at hand leaves at once: the caller runs while the rest of this turn is done.
    if (!(answer instanceof Promise)) return this.#answer(request, operation, answer);
    this.#pending.set(request.unique, request);
    answer.then(
      (value) => this.#answer(request, operation, value),
      (error: unknown) => this.#refuse(request, error),
    );
  }

  #answer(request: Request, operation: Operation, value: unknown): void {
    this.#out.clear();
    try {
      operation.write(this.#out, value, request, this.#served);
    } catch (error) {
      return this.#refuse(request, error);
    }
    this.#send(request, 0);
  }

  /** A handler's error, or one in writing its answer, becomes an errno. */
  #refuse(request: Request, error: unknown): void {
    this.#countersOf(request.opcode).errors.add();
    if (error instanceof GfsError) {
      if (error.code === 'INTERNAL') this.#logUnforeseen(request, error);
      return this.#fail(request, error.errnoNumber);
    }
    if (request.interrupted && (error as Error | undefined)?.name === 'AbortError') {
      return this.#fail(request, ERRNO.EINTR);
    }
    this.#logUnforeseen(request, error);
    this.#fail(request, ERRNO.EIO);
  }

  #logUnforeseen(request: Request, error: unknown): void {
    const { opcode, inode, pid } = request;
    this.#logger.error(
      { err: error, operation: opcodeName(opcode), inode, pid },
      'a request failed unexpectedly',
    );
  }

  #fail(request: Request, errno: number): void {
    this.#out.release?.();
    this.#out.clear();
    this.#send(request, errno);
  }

  /** The door through which every reply leaves. */
  #send(request: Request, errno: number): void {
    const out = this.#out;
    const { buffers, release } = out;
    // What close() has answered is answered no more.
    if (!request.isAnswered) {
      request.isAnswered = true;
      this.#pending.delete(request.unique);
      const length = out.finish(request.unique, errno);
      const result = buffers === undefined ? this.#transport.reply(length) : this.#sendWith(length, buffers);
      if (result !== 0) this.#onUnsent(request, result);
    }
    out.clear();
    release?.();
    if (this.#pending.size === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  #sendWith(length: number, buffers: readonly Uint8Array[]): number {
    const few = buffers.length <= MAX_REPLY_BUFFERS ? buffers : [Buffer.concat(buffers)];
    return this.#transport.replyWith(length, few);
  }

  #onUnsent(request: Request, result: number): void {
    // ENOENT: the caller was killed and waits no more. ENODEV: unmounted meanwhile.
    if (result === -ERRNO.ENOENT || result === -ERRNO.ENODEV || !this.#open) return;
    const operation = opcodeName(request.opcode);
    this.#logger.error({ operation, inode: request.inode, errno: -result }, 'the kernel refused a reply');
  }

  #init(view: RequestView): void {
    const request = view.toRequest();
    this.#out.clear();
    try {
      const negotiated = negotiate(view, this.#out, this.#options);
      if (negotiated !== undefined) this.#served.flags = negotiated.flags;
      this.#send(request, 0);
      if (negotiated !== undefined) this.#onNegotiated(negotiated);
    } catch (error) {
      this.#onRefused(error as Error);
      this.#fail(request, ERRNO.EPROTO);
    }
  }

  #batchForget(view: RequestView): void {
    const count = view.u32(BatchForgetIn.count);
    for (let i = 0, at: number = BatchForgetIn.items; i < count; i++, at += BatchForgetIn.ITEM_BYTES) {
      this.#forget(view.u64(at), view.u64(at + 8));
    }
  }

  #forget(inode: Inode, count: number): void {
    try {
      this.#handler.forget(inode, count);
    } catch (error) {
      this.#logger.error({ err: error, inode }, 'forgetting an inode failed');
    }
  }

  #countersOf(opcode: number): Counters {
    const known = this.#counters[opcode];
    if (known !== undefined) return known;
    const labels = { operation: opcodeName(opcode) };
    const counters = {
      requests: this.#metrics.counter('gfs_client_fuse_requests_total', 'Requests of the kernel.', labels),
      errors: this.#metrics.counter(
        'gfs_client_fuse_errors_total',
        'Requests answered with an errno.',
        labels,
      ),
    };
    this.#counters[opcode] = counters;
    return counters;
  }
}
