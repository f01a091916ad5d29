/**
 * A file system in memory that can be told to misbehave, served by the kernel binding in a process of
 * its own or in a worker: `node obstinate.js DIRECTORY [OPTION…]`. The test tells it what to do by messages.
 *
 * Names say what happens: reading `hang…` waits until it is interrupted, reading `stuck…` for ever, and
 * creating `slow…` until the test says `go`.
 */
import { parentPort } from 'node:worker_threads';
import { nodeEnvironment } from '../../environment/node/index.js';
import type { Context, CreateReply, Entry, ReadReply } from '../../fuse-client/handler.js';
import { kernelBinding } from '../../fuse-client/kernel/index.js';
import type { KernelMount } from '../../fuse-client/kernel/kernel-mount.js';
import { GfsError } from '../../protocol/errors.js';
import { MemoryHandler } from '../conformance/memory-handler.js';

const ROOT = 1;
const channel = parentPort ?? process;
const tell = (message: object): void => {
  if (parentPort === null) process.send!(message);
  else parentPort.postMessage(message);
};
/** So long that only a notification makes the kernel look again. */
const TTL_MS = 1e9;

class ObstinateHandler extends MemoryHandler {
  readonly #names = new Map<number, string>();
  largestWriteBytes = 0;
  reads = 0;
  /** Set by `slow…`: ends the wait. */
  go: () => void = () => {};

  override async lookup(context: Context, parent: number, name: string): Promise<Entry> {
    const entry = await super.lookup(context, parent, name);
    this.#names.set(entry.attributes.id, name);
    return entry;
  }

  override async create(
    context: Context,
    parent: number,
    name: string,
    mode: number,
    flags: number,
  ): Promise<CreateReply> {
    if (name.startsWith('slow')) {
      tell({ reached: name });
      await new Promise<void>((resolve) => {
        this.go = resolve;
      });
    }
    const reply = await super.create(context, parent, name, mode, flags);
    this.#names.set(reply.entry.attributes.id, name);
    return reply;
  }

  override async read(
    context: Context,
    inode: number,
    handle: number,
    offset: number,
    length: number,
  ): Promise<ReadReply> {
    const name = this.#names.get(inode) ?? '';
    this.reads++;
    if (name.startsWith('stuck') || name.startsWith('hang')) tell({ reached: name });
    if (name.startsWith('stuck')) return await new Promise(() => {});
    if (name.startsWith('hang')) {
      await new Promise<void>((_resolve, reject) => {
        context.signal.addEventListener('abort', () => reject(new GfsError('CANCELLED')));
      });
    }
    return await super.read(context, inode, handle, offset, length);
  }

  override async write(
    context: Context,
    inode: number,
    handle: number,
    offset: number,
    data: Uint8Array,
    flags: number,
  ): Promise<number> {
    this.largestWriteBytes = Math.max(this.largestWriteBytes, data.byteLength);
    return await super.write(context, inode, handle, offset, data, flags);
  }

  /** Changes a file as another mount would: the kernel here is not asked. */
  async changeElsewhere(name: string, content: string): Promise<number> {
    const context: Context = { uid: 0, gid: 0, pid: 0, signal: new AbortController().signal };
    const { attributes } = await super.lookup(context, ROOT, name);
    const { handle } = await super.open(context, attributes.id, 1);
    await super.setattr(context, attributes.id, { size: 0 });
    await super.write(context, attributes.id, handle, 0, Buffer.from(content), 1);
    await super.release(context, attributes.id, handle, 0n, false);
    this.forget(attributes.id, 1);
    return attributes.id;
  }
}

const [directory, ...extra] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: obstinate DIRECTORY [OPTION…]');
const environment = nodeEnvironment({ role: 'obstinate', logLevel: 'warn', pretty: true });
const handler = new ObstinateHandler(environment.clock, { entryTtlMs: TTL_MS, attributeTtlMs: TTL_MS });
const uid = process.geteuid?.() ?? 0;
const self: Context = { uid, gid: uid, pid: 0, signal: new AbortController().signal };
await handler.setattr(self, ROOT, { uid, gid: uid });
const mount = (await kernelBinding(environment).mount(handler, {
  directory,
  source: 'obstinate, of course',
  readOnly: false,
  allowOther: uid === 0,
  defaultPermissions: true,
  extra,
})) as KernelMount;

const orders: Record<string, (...args: never[]) => unknown> = {
  go: () => handler.go(),
  statistics: () => ({ largestWriteBytes: handler.largestWriteBytes, reads: handler.reads }),
  change: (name: string, content: string) => handler.changeElsewhere(name, content),
  removeElsewhere: (name: string) => handler.unlink(self, ROOT, name),
  invalidateEntry: (name: string) => mount.invalidateEntry(ROOT, name),
  invalidateInode: (inode: number) => mount.invalidateInode(inode, 0, 0),
  exit: () => process.exit(7),
};
channel.on('message', async ({ id, order, args }: { id: number; order: string; args: never[] }) => {
  tell({ id, result: await orders[order]!(...args) });
});
process.on('SIGTERM', () => void mount.unmount());
process.stdout.write('mounted\n');
await mount.unmounted;
process.exit(0);
