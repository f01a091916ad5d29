/** The native addon `fusedev`: its shape, and where to find it from the sources and from the compiled layout. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the addon calls. Each call happens on the event loop, with its microtasks run before it returns. */
export interface DeviceEvents {
  /** Slots 0 to `count` - 1 hold requests, until this and the microtasks that it leaves have ended. */
  onRequests(count: number): void;
  /** So many notifications, since the beginning and modulo 2^32, have been taken by the kernel. */
  onNotified(total: number): void;
  /** No more requests: `errno` is ENODEV when it was unmounted, ECONNABORTED when it was aborted. */
  onEnd(errno: number): void;
  /** After `close`: the descriptor is closed. */
  onClosed(): void;
}

export interface Device {
  /** Sends the first `length` bytes of the reply buffer. @returns 0 or a negative errno */
  reply(length: number): number;
  /** The same, followed by the buffers, in one writev(2) and uncopied. At most {@link MAX_REPLY_BUFFERS}. */
  replyWith(length: number, buffers: readonly Uint8Array[]): number;
  /** Queues a notification for the thread that may block. @returns 0, or -EAGAIN when the queue is full */
  notify(message: Uint8Array): number;
  /** Ends the notifier, then closes the device. Requests that come until `onClosed` must still be answered. */
  close(): void;
}

export const MAX_REPLY_BUFFERS = 1023;

export interface Mounted {
  readonly fd: number;
  /** The helper that unmounts when this is closed (`auto_unmount`), or -1. */
  readonly helperSocket: number;
}

/** Strings are bytes without a zero. Promises reject with Node's system errors (`code`, `errno`, `syscall`). */
export interface Addon {
  /** mount(2) of a freshly opened /dev/fuse, whose number is put before the options. */
  mount(
    source: Uint8Array,
    directory: Uint8Array,
    type: Uint8Array,
    flags: number,
    options: Uint8Array,
  ): Promise<Mounted>;
  /** Mounts through fusermount3, for those who may not mount(2). */
  mountByHelper(
    helper: Uint8Array,
    directory: Uint8Array,
    options: Uint8Array,
    helperStays: boolean,
  ): Promise<Mounted>;
  /** umount2(2). */
  unmount(directory: Uint8Array, flags: number): Promise<void>;
  /** Closes a descriptor that is not being served. */
  close(fd: number): void;
  /** Serves a descriptor, which it takes over. `slots` is cut into as many parts as `lengths` has elements. */
  serve(fd: number, slots: Uint8Array, lengths: Uint32Array, reply: Uint8Array, events: DeviceEvents): Device;
  /** ioctl(2); the kernel reads and fills `buffer`, at least as long as the command says. */
  ioctl(fd: number, command: number, buffer: Uint8Array): Promise<number>;
  getxattr(path: Uint8Array, name: Uint8Array): Promise<Buffer>;
  /** `flags`: 0, or XATTR_CREATE (1), or XATTR_REPLACE (2). */
  setxattr(path: Uint8Array, name: Uint8Array, value: Uint8Array, flags: number): Promise<void>;
}

const BUILT = join('fuse-client', 'native', 'build', 'Release', 'fusedev.node');

/** The built addon in this directory or the nearest above it. */
function findAddon(from: string): string | undefined {
  for (let directory = from; ; directory = dirname(directory)) {
    const candidate = join(directory, BUILT);
    if (existsSync(candidate)) return candidate;
    if (directory === dirname(directory)) return undefined;
  }
}

let loaded: Addon | undefined;

/** @throws an Error that says what to do when the addon was not built or cannot be loaded */
export function loadAddon(): Addon {
  if (loaded !== undefined) return loaded;
  const path = findAddon(dirname(fileURLToPath(import.meta.url)));
  if (path === undefined) {
    throw new Error(
      `The native addon is missing (${BUILT}). Build it with a C compiler and the headers of Node: ` +
        `"cd fuse-client/native && npx node-gyp rebuild", or mount with "-o binding=fuse-native".`,
    );
  }
  try {
    loaded = createRequire(import.meta.url)(path) as Addon;
    return loaded;
  } catch (error) {
    throw new Error(
      `The native addon ${path} cannot be loaded. Build it again for this Node (${process.version}): ` +
        `"cd fuse-client/native && npx node-gyp rebuild".`,
      { cause: error },
    );
  }
}
