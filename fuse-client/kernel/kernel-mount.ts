/** A mount that is served by this process: the device, the session on it, and the end of both. */
import { writeFile } from 'node:fs/promises';
import type { Environment, Logger } from '../../environment/ports/index.js';
import { ERRNO } from '../../protocol/errno.js';
import type { ByteString, Capability, FuseHandler, Inode, Mount, Stale } from '../handler.js';
import type { Addon, Device, Mounted } from './addon.js';
import { Interruptions } from './interruptions.js';
import { Invalidation } from './invalidation.js';
import { detachDirectory } from './mounting.js';
import { mountAt } from './mountpoint.js';
import { MAX_WRITE_BYTES, READ_AHEAD_BYTES, type SessionOptions } from './negotiation.js';
import { invalidateEntryMessage, invalidateInodeMessage, Notices } from './notices.js';
import { ReplyWriter } from './reply.js';
import { RequestView } from './request.js';
import { Session } from './session.js';

/** A WRITE with its header, and some room, as the kernel demands. */
const SLOT_BYTES = MAX_WRITE_BYTES + 4096;
/** Requests read in one turn of the event loop before the first is answered. Memory is touched only where used. */
const SLOTS = 16;

/** After a detach: how long those who have files open may go on; then, how long their last requests may take. */
const GRACE_MS = 2000;
const IDLE_TIMEOUT_MS = 5000;

export class KernelMount implements Mount {
  readonly capabilities: ReadonlySet<Capability>;
  readonly unmounted: Promise<void>;
  #onUnmounted!: () => void;

  readonly #directory: string;
  readonly #addon: Addon;
  readonly #environment: Environment;
  readonly #logger: Logger;
  readonly #device: Device;
  readonly #session: Session;
  readonly #notices: Notices;
  readonly #invalidation: Invalidation;
  /** `major:minor` of the mount, once it is known. */
  #deviceNumber: string | undefined;
  #over = false;
  #unmounting: Promise<void> | undefined;

  /** Serves what was mounted on `directory`, from now on. */
  constructor(
    addon: Addon,
    mounted: Mounted,
    directory: string,
    handler: FuseHandler,
    capabilities: ReadonlySet<Capability>,
    options: SessionOptions,
    environment: Environment,
  ) {
    this.capabilities = capabilities;
    this.#directory = directory;
    this.#addon = addon;
    this.#environment = environment;
    this.#logger = environment.logger;
    this.unmounted = new Promise((resolve) => {
      this.#onUnmounted = resolve;
    });

    const slots = Buffer.from(new ArrayBuffer(SLOTS * SLOT_BYTES));
    const lengths = new Uint32Array(SLOTS);
    const view = new RequestView(slots);
    const out = new ReplyWriter();
    this.#device = addon.serve(mounted.fd, slots, lengths, out.bytes, {
      onRequests: (count) => {
        for (let slot = 0; slot < count; slot++) {
          if (view.moveTo(slot * SLOT_BYTES, lengths[slot]!)) this.#session.dispatch(view);
          else this.#logger.error({ bytes: lengths[slot]! }, 'the kernel sent a request that is cut off');
        }
      },
      onNotified: (total) => this.#notices.onNotified(total),
      onEnd: (errno) => this.#onEnd(errno),
      onClosed: () => {
        if (mounted.helperSocket >= 0) addon.close(mounted.helperSocket);
        this.#onUnmounted();
      },
    });
    const interruptions = new Interruptions(environment.timers);
    this.#session = new Session(handler, this.#device, out, options, environment, (request, isPending) =>
      interruptions.onInterrupt(request, isPending),
    );
    this.#notices = new Notices((message) => this.#device.notify(message), this.#logger);
    this.#invalidation = new Invalidation(this.#session, this.#notices, environment.timers);
  }

  /** Resolves when the kernel has agreed to the session and requests are being served. */
  async started(): Promise<void> {
    const { minor, flags, flags2 } = await this.#session.negotiated;
    this.#logger.debug(
      { directory: this.#directory, minor, flags, flags2 },
      'the kernel agreed to the session',
    );
    this.#deviceNumber = (await mountAt(this.#directory))?.device;
    await this.#raiseReadAhead();
  }

  unmount(): Promise<void> {
    this.#unmounting ??= this.#unmount();
    return this.#unmounting;
  }

  /** Resolves when the kernel has done so. Not to be waited for by a request that holds the directory. */
  async invalidateEntry(parent: Inode, name: ByteString): Promise<void> {
    await this.#notices.send(invalidateEntryMessage(parent, name));
  }

  /** As {@link invalidateEntry}; of reads and writes of this inode. */
  async invalidateInode(inode: Inode, offset: number, length: number): Promise<void> {
    this.#session.changedElsewhere(inode);
    await this.#notices.send(invalidateInodeMessage(inode, offset, length));
  }

  invalidate(stale: Stale): Promise<void> {
    return this.#invalidation.forget(stale);
  }

  expireEntries(): void {
    this.#session.expireEntries();
  }

  async #unmount(): Promise<void> {
    if (!this.#over) {
      await this.#detach();
      await this.#within(GRACE_MS, this.unmounted);
      if (!this.#over) await this.#within(IDLE_TIMEOUT_MS, this.#session.idle());
    }
    this.#close();
    await this.unmounted;
  }

  /** Unless another mount has taken the place of this one. */
  async #detach(): Promise<void> {
    const mounted = await mountAt(this.#directory);
    if (mounted === undefined || this.#over) return;
    if (this.#deviceNumber !== undefined && mounted.device !== this.#deviceNumber) return;
    await detachDirectory(this.#addon, this.#directory);
  }

  async #within(limitMs: number, what: Promise<void>): Promise<void> {
    let onTimeout = () => {};
    const timeout = new Promise<void>((resolve) => {
      onTimeout = resolve;
    });
    const timer = this.#environment.timers.after(limitMs, () => onTimeout());
    await Promise.race([what, timeout]);
    timer.cancel();
  }

  #onEnd(errno: number): void {
    if (errno !== ERRNO.ENODEV)
      this.#logger.warn({ errno, directory: this.#directory }, 'the mount was aborted');
    this.#close();
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#session.close();
    this.#notices.close();
    this.#device.close();
  }

  /** INIT can only lower the kernel's 128 KiB: more is set in sysfs, by those who may. */
  async #raiseReadAhead(): Promise<void> {
    if (this.#deviceNumber === undefined) return;
    const path = `/sys/class/bdi/${this.#deviceNumber}/read_ahead_kb`;
    try {
      await writeFile(path, String(READ_AHEAD_BYTES / 1024));
    } catch (error) {
      this.#logger.debug({ err: error, path }, 'the readahead of the kernel stays as it is');
    }
  }
}
