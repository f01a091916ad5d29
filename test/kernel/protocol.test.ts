/** The kernel binding's protocol, with a kernel played by the test. */
import fc from 'fast-check';
import t from 'tap';
import type {
  AttributeUpdate,
  Context,
  DirectoryEntryReply,
  Entry,
  FileLock,
  FuseHandler,
} from '../../fuse-client/handler.js';
import * as p from '../../fuse-client/kernel/protocol.js';
import { InitFlag, InitFlag2, Opcode } from '../../fuse-client/kernel/protocol.js';
import { ERRNO } from '../../protocol/errno.js';
import { GfsError } from '../../protocol/errors.js';
import type { Cancellation } from '../../protocol/rpc.js';
import { attributesOf, FakeKernel, type Field, names } from './fake-kernel.js';

const ALL_FLAGS = 0xffff_ffff;

function initFields(major: number, minor: number, flags = ALL_FLAGS, flags2 = ALL_FLAGS): Field[] {
  const { InitIn } = p;
  return [
    [InitIn.major, 32, major],
    [InitIn.minor, 32, minor],
    [InitIn.maxReadahead, 32, 131_072],
    [InitIn.flags, 32, flags],
    [InitIn.flags2, 32, flags2],
  ];
}

async function initFlags(kernel: FakeKernel, offered = ALL_FLAGS): Promise<number> {
  const { body } = await kernel.ask(Opcode.INIT, 0, initFields(7, 45, offered), 64);
  return body.readUInt32LE(p.InitOut.flags);
}

await t.test('init: asks for large requests and for what the handler can do', async (t) => {
  const kernel = new FakeKernel({});
  const { error, body } = await kernel.ask(Opcode.INIT, 0, initFields(7, 45), 64);
  t.equal(error, 0);
  t.equal(body.length, p.InitOut.BYTES);
  t.strictSame([body.readUInt32LE(p.InitOut.major), body.readUInt32LE(p.InitOut.minor)], [7, 45]);
  t.equal(body.readUInt32LE(p.InitOut.maxWrite), 1024 * 1024);
  t.equal(body.readUInt16LE(p.InitOut.maxPages), 256);
  t.equal(body.readUInt32LE(p.InitOut.flags2), InitFlag2.DIRECT_IO_ALLOW_MMAP);
  const flags = body.readUInt32LE(p.InitOut.flags);
  for (const flag of [
    'ASYNC_READ',
    'PARALLEL_DIROPS',
    'DO_READDIRPLUS',
    'HANDLE_KILLPRIV_V2',
    'MAX_PAGES',
  ] as const) {
    t.ok(flags & InitFlag[flag], flag);
  }
  const optional =
    InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS | InitFlag.ATOMIC_O_TRUNC | InitFlag.WRITEBACK_CACHE;
  t.equal(flags & optional, 0, 'nothing that was not wanted');
  t.match(await kernel.session.negotiated, { minor: 45 });
});

await t.test('init: options ask for more, and nothing is taken that is not offered', async (t) => {
  const kernel = () => new FakeKernel({}, { locks: true, atomicTruncate: true, writebackCache: true });
  const optional =
    InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS | InitFlag.ATOMIC_O_TRUNC | InitFlag.WRITEBACK_CACHE;
  t.equal((await initFlags(kernel())) & optional, optional);
  t.ok((await initFlags(kernel())) & InitFlag.ASYNC_DIO);
  t.notOk((await initFlags(new FakeKernel({}, { asyncDirectIo: false }))) & InitFlag.ASYNC_DIO);
  t.equal(
    await initFlags(kernel(), InitFlag.ASYNC_READ | InitFlag.POSIX_LOCKS),
    InitFlag.ASYNC_READ | InitFlag.POSIX_LOCKS,
  );
});

await t.test('init: an old kernel is refused, a newer major version is asked to come again', async (t) => {
  const old = new FakeKernel({});
  const { error } = await old.ask(Opcode.INIT, 0, initFields(7, 30), 64);
  t.equal(error, ERRNO.EPROTO);
  await t.rejects(old.session.negotiated, /7\.31/);

  const newer = new FakeKernel({});
  const { body } = await newer.ask(Opcode.INIT, 0, initFields(8, 1), 64);
  t.equal(body.readUInt32LE(p.InitOut.major), 7);
  await newer.ask(Opcode.INIT, 0, initFields(7, 50), 64);
  t.match(await newer.session.negotiated, { minor: 45 });
});

await t.test('errors: a GfsError is its errno, anything else EIO and logged', async (t) => {
  const thrown: unknown[] = [
    new GfsError('NOT_FOUND'),
    new GfsError('INTERNAL', 'unforeseen'),
    new TypeError('a bug'),
    'a string',
    undefined,
  ];
  const errors: number[] = [];
  const kernel = new FakeKernel({ lookup: () => Promise.reject(thrown.shift()) });
  for (let i = 0; i < 5; i++) errors.push((await kernel.ask(Opcode.LOOKUP, 1, [], 0, names('a'))).error);
  t.strictSame(errors, [ERRNO.ENOENT, ERRNO.EIO, ERRNO.EIO, ERRNO.EIO, ERRNO.EIO]);
  t.equal(kernel.logged.length, 4);
  const synchronous = new FakeKernel({
    lookup() {
      throw new GfsError('ACCESS_DENIED');
    },
  });
  t.equal((await synchronous.ask(Opcode.LOOKUP, 1, [], 0, names('a'))).error, ERRNO.EACCES);
});

await t.test('errors: ENOSYS is for operations that do not exist here, never for a handler', async (t) => {
  const failing = new Proxy({} as FuseHandler, { get: () => () => Promise.reject(new Error('a bug')) });
  const own = new Set<number>([
    Opcode.INIT,
    Opcode.DESTROY,
    Opcode.FORGET,
    Opcode.BATCH_FORGET,
    Opcode.INTERRUPT,
  ]);
  const unanswered = new Set<number>();
  const kernel = new FakeKernel(failing);
  for (const opcode of [...Object.values(Opcode), 48, 49, 54, 4096]) {
    if (own.has(opcode)) continue;
    const { error } = await kernel.ask(opcode, 1, [], 88, names('a', 'b'));
    if (error === ERRNO.ENOSYS) unanswered.add(opcode);
    else t.ok([ERRNO.EIO, ERRNO.EINVAL].includes(error as 5), `opcode ${opcode}: ${error}`);
  }
  const { ACCESS, BMAP, POLL, NOTIFY_REPLY, SYNCFS, STATX } = Opcode;
  t.strictSame(unanswered, new Set([ACCESS, BMAP, POLL, NOTIFY_REPLY, SYNCFS, STATX, 48, 49, 54, 4096]));
});

await t.test('errors: a request that is cut off or a name without its end is EIO', async (t) => {
  const kernel = new FakeKernel({ write: async () => 0 });
  t.equal((await kernel.ask(Opcode.GETATTR, 1, [], 8)).error, ERRNO.EIO);
  t.equal((await kernel.ask(Opcode.LOOKUP, 1, [], 0, Buffer.from('endless'))).error, ERRNO.EIO);
  t.equal(
    (await kernel.ask(Opcode.WRITE, 1, [[p.WriteIn.size, 32, 100]], p.WriteIn.BYTES, Buffer.alloc(10))).error,
    ERRNO.EIO,
  );
});

await t.test('replies: what the device refuses is logged, unless nobody waits for it any more', async (t) => {
  const kernel = new FakeKernel({ unlink: async () => {} });
  for (const [result, logged] of [
    [-ERRNO.ENOENT, 0],
    [-ERRNO.ENODEV, 0],
    [-ERRNO.EINVAL, 1],
  ] as const) {
    kernel.result = result;
    await kernel.ask(Opcode.UNLINK, 1, [], 0, names('a'));
    t.equal(kernel.logged.length, logged);
  }
});

await t.test('context: tells who asks', async (t) => {
  let context: Context | undefined;
  const kernel = new FakeKernel({
    async unlink(given) {
      context = given;
    },
  });
  await kernel.ask(Opcode.UNLINK, 1, [], 0, names('a'));
  t.match(context, { uid: 1001, gid: 1002, pid: 1003 });
});

await t.test('interrupt: aborts the signal of its request alone, made before or after', async (t) => {
  const signals: Cancellation[] = [];
  const heard: string[] = [];
  const kernel = new FakeKernel({
    async readlink(context, inode) {
      if (inode === 1) {
        const signal = context.signal;
        const left = () => heard.push('left');
        signal.addEventListener('abort', left);
        signal.addEventListener('abort', () => heard.push('stayed'));
        signal.removeEventListener('abort', left);
        signals.push(signal);
      }
      await new Promise((resolve) => setImmediate(resolve));
      if (context.signal.aborted) throw new GfsError('CANCELLED');
      return 'target';
    },
  });
  const interrupted = kernel.send(Opcode.READLINK, 1);
  const later = kernel.send(Opcode.READLINK, 2);
  const other = kernel.send(Opcode.READLINK, 1);
  kernel.send(Opcode.INTERRUPT, 0, [[0, 64, interrupted]], 8);
  kernel.send(Opcode.INTERRUPT, 0, [[0, 64, later]], 8);
  t.strictSame(
    signals.map((signal) => signal.aborted),
    [true, false],
  );
  t.strictSame(heard, ['stayed'], 'who listens hears of it once, who listens no more does not');
  t.equal((await kernel.replyTo(interrupted)).error, ERRNO.EINTR);
  t.equal((await kernel.replyTo(later)).error, ERRNO.EINTR, 'a signal that is asked for after the interrupt');
  t.equal((await kernel.replyTo(other)).error, 0);
  kernel.send(Opcode.INTERRUPT, 0, [[0, 64, other]], 8);
  t.equal(kernel.replies.length, 3, 'an interrupt has no reply, nor one that comes too late');
});

await t.test('interrupt: an AbortError of an interrupted request is EINTR', async (t) => {
  const kernel = new FakeKernel({
    readlink: (context) =>
      new Promise((_, reject) => {
        const aborted = Object.assign(new Error('aborted'), { name: 'AbortError' });
        context.signal.addEventListener('abort', () => reject(aborted));
      }),
  });
  const unique = kernel.send(Opcode.READLINK, 1);
  kernel.send(Opcode.INTERRUPT, 0, [[0, 64, unique]], 8);
  t.equal((await kernel.replyTo(unique)).error, ERRNO.EINTR);
});

await t.test('forget: counts are handed on, without a reply, one by one and in batches', async (t) => {
  const forgotten: [number, number][] = [];
  const kernel = new FakeKernel({ forget: (inode, count) => void forgotten.push([inode, count]) });
  kernel.send(Opcode.FORGET, 7, [[0, 64, 3]], 8);
  const batch: Field[] = [
    [0, 32, 2],
    [8, 64, 8],
    [16, 64, 1],
    [24, 64, 2 ** 40],
    [32, 64, 9],
  ];
  kernel.send(Opcode.BATCH_FORGET, 0, batch, 40);
  t.strictSame(forgotten, [
    [7, 3],
    [8, 1],
    [2 ** 40, 9],
  ]);
  t.equal(kernel.replies.length, 0);
});

await t.test('attributes: every value crosses whole, before 1970 too', async (t) => {
  const seconds = fc.integer({ min: -(2 ** 40), max: 2 ** 40 });
  const nanoseconds = fc.integer({ min: 0, max: 999_999_999 });
  const u32 = fc.integer({ min: 0, max: ALL_FLAGS });
  const attributes = fc.record({
    id: fc.maxSafeNat(),
    size: fc.maxSafeNat(),
    mode: u32,
    uid: u32,
    mtimeSec: seconds,
    mtimeNsec: nanoseconds,
    atimeSec: seconds,
  });
  const property = fc.asyncProperty(attributes, fc.integer({ min: 0, max: 1e9 }), async (changes, ttlMs) => {
    const wanted = attributesOf(changes.id, changes);
    const kernel = new FakeKernel({ getattr: async () => ({ attributes: wanted, attributeTtlMs: ttlMs }) });
    const { body } = await kernel.ask(Opcode.GETATTR, 1, [], p.GetattrIn.BYTES);
    const at = p.AttributeOut.attributes;
    t.equal(body.length, p.AttributeOut.BYTES);
    t.equal(body.readBigUInt64LE(at + p.AttributesOut.inode), BigInt(wanted.id));
    t.equal(body.readBigUInt64LE(at + p.AttributesOut.size), BigInt(wanted.size));
    t.equal(body.readBigInt64LE(at + p.AttributesOut.mtime), BigInt(wanted.mtimeSec));
    t.equal(body.readBigInt64LE(at + p.AttributesOut.atime), BigInt(wanted.atimeSec));
    t.equal(body.readUInt32LE(at + p.AttributesOut.mtimeNsec), wanted.mtimeNsec);
    t.equal(body.readUInt32LE(at + p.AttributesOut.mode), wanted.mode);
    const ttl =
      Number(body.readBigUInt64LE(p.AttributeOut.ttl)) * 1000 +
      body.readUInt32LE(p.AttributeOut.ttlNsec) / 1e6;
    t.equal(ttl, ttlMs);
  });
  await fc.assert(property, { numRuns: 50 });
});

await t.test('setattr: only what is marked changes; a size beyond 2^53 is EFBIG', async (t) => {
  const { SetattrIn, SetattrValid } = p;
  const updates: AttributeUpdate[] = [];
  const kernel = new FakeKernel({
    async setattr(_context, inode, update) {
      updates.push(update);
      return { attributes: attributesOf(inode), attributeTtlMs: 0 };
    },
  });
  const values: Field[] = [
    [SetattrIn.mode, 32, 0o100640],
    [SetattrIn.uid, 32, 5],
    [SetattrIn.size, 64, 2 ** 40],
    [SetattrIn.handle, 64, 77],
    [SetattrIn.atime, 64, -5],
    [SetattrIn.atimeNsec, 32, 999_999_999],
  ];
  const ask = (valid: number, more: Field[] = []) =>
    kernel.ask(Opcode.SETATTR, 3, [...values, [SetattrIn.valid, 32, valid], ...more], SetattrIn.BYTES);
  await ask(SetattrValid.MODE | SetattrValid.UID);
  await ask(SetattrValid.SIZE | SetattrValid.HANDLE);
  await ask(SetattrValid.ATIME);
  await ask(SetattrValid.ATIME | SetattrValid.ATIME_NOW | SetattrValid.MTIME_NOW | SetattrValid.MTIME);
  await ask(0);
  t.strictSame(updates, [
    { mode: 0o640, uid: 5 },
    { size: 2 ** 40, handle: 77 },
    { atime: { sec: -5, nsec: 999_999_999 } },
    { atime: 'now', mtime: 'now' },
    {},
  ]);
  const { error } = await ask(SetattrValid.SIZE, [[SetattrIn.size, 64, 2n ** 53n]]);
  t.equal(error, ERRNO.EFBIG);
});

await t.test('setattr: set-user-ID falls with a change of owner, in the name of root', async (t) => {
  const { SetattrIn, SetattrValid } = p;
  const calls: [number, AttributeUpdate][] = [];
  let mode = 0o106755;
  const kernel = new FakeKernel({
    async setattr(context, inode, update) {
      calls.push([context.uid, update]);
      if (update.mode !== undefined) mode = 0o100000 | update.mode;
      return { attributes: attributesOf(inode, { mode }), attributeTtlMs: 0 };
    },
  });
  const chown: Field[] = [
    [SetattrIn.valid, 32, SetattrValid.UID | SetattrValid.KILL_PRIVILEGES],
    [SetattrIn.uid, 32, 9],
  ];
  const { body } = await kernel.ask(Opcode.SETATTR, 3, chown, SetattrIn.BYTES);
  t.strictSame(calls, [
    [1001, { uid: 9 }],
    [0, { mode: 0o755 }],
  ]);
  t.equal(
    body.readUInt32LE(p.AttributeOut.attributes + p.AttributesOut.mode),
    0o100755,
    'and the reply says so',
  );
  await kernel.ask(Opcode.SETATTR, 3, chown, SetattrIn.BYTES);
  t.equal(calls.length, 3, 'nothing to drop the second time');
});

await t.test('setattr: set-group-ID stays where its owner is in the group that the file had', async (t) => {
  const { SetattrIn, SetattrValid } = p;
  for (const [had, gets, falls] of [
    [5, 1002, true],
    [1002, 5, false],
  ] as const) {
    let node = { mode: 0o102604, gid: had as number };
    const kernel = new FakeKernel({
      async getattr(_context, inode) {
        return { attributes: attributesOf(inode, node), attributeTtlMs: 0 };
      },
      async setattr(_context, inode, { mode, gid }) {
        node = { mode: mode === undefined ? node.mode : 0o100000 | mode, gid: gid ?? node.gid };
        return { attributes: attributesOf(inode, node), attributeTtlMs: 0 };
      },
    });
    const chown: Field[] = [
      [SetattrIn.valid, 32, SetattrValid.GID | SetattrValid.KILL_PRIVILEGES],
      [SetattrIn.gid, 32, gets],
    ];
    await kernel.ask(Opcode.SETATTR, 3, chown, SetattrIn.BYTES);
    t.equal(node.mode, falls ? 0o100604 : 0o102604);
  }
});

await t.test(
  'write: the payload is there until the handler first waits; other people drop set-user-ID once',
  async (t) => {
    const { WriteIn } = p;
    const seen: string[] = [];
    const modes: number[] = [];
    let asked = 0;
    const kernel = new FakeKernel({
      async write(_context, _inode, handle, offset, data, flags) {
        seen.push(`${handle} ${offset} ${Buffer.from(data).toString()} ${flags}`);
        return data.byteLength;
      },
      async getattr(_context, inode) {
        asked++;
        return { attributes: attributesOf(inode, { mode: 0o104755 }), attributeTtlMs: 0 };
      },
      async setattr(_context, inode, update) {
        modes.push(update.mode!);
        return { attributes: attributesOf(inode), attributeTtlMs: 0 };
      },
    });
    const write = (writeFlags: number, size = 4) =>
      kernel.ask(
        Opcode.WRITE,
        3,
        [
          [WriteIn.handle, 64, 5],
          [WriteIn.offset, 64, 2 ** 41],
          [WriteIn.size, 32, size],
          [WriteIn.writeFlags, 32, writeFlags],
          [WriteIn.flags, 32, 0o2001],
        ],
        WriteIn.BYTES,
        Buffer.from('data'),
      );
    const { error, body } = await write(0);
    t.strictSame([error, body.length, body.readUInt32LE(0)], [0, 8, 4]);
    t.strictSame(seen, [`5 ${2 ** 41} data ${0o2001}`]);
    t.equal(asked, 0);
    await write(p.WRITE_KILL_PRIVILEGES);
    await write(p.WRITE_KILL_PRIVILEGES);
    t.strictSame([asked, modes], [1, [0o755]]);
    kernel.session.changedElsewhere(3);
    await write(p.WRITE_KILL_PRIVILEGES);
    t.equal(asked, 2, 'asked again after a change on another mount');
  },
);

await t.test('write: a handler that says it wrote more than there was is wrong', async (t) => {
  const kernel = new FakeKernel({ write: async () => 5 });
  const { error } = await kernel.ask(
    Opcode.WRITE,
    3,
    [[p.WriteIn.size, 32, 4]],
    p.WriteIn.BYTES,
    Buffer.from('data'),
  );
  t.equal(error, ERRNO.EIO);
});

await t.test('read: buffers leave uncopied and are released once', async (t) => {
  let released = 0;
  const parts = [Buffer.from('ab'), Buffer.from('cde')];
  const kernel = new FakeKernel({
    read: async (_context, _inode, _handle, offset) => ({
      buffers: offset === 0 ? parts : Array.from({ length: 2000 }, () => Buffer.from('x')),
      release: () => released++,
    }),
  });
  const read = (offset: number, size: number) =>
    kernel.ask(
      Opcode.READ,
      3,
      [
        [p.ReadIn.offset, 64, offset],
        [p.ReadIn.size, 32, size],
      ],
      p.ReadIn.BYTES,
    );
  const { body, buffers } = await read(0, 5);
  t.equal(body.toString(), 'abcde');
  t.equal(buffers[0], parts[0], 'the very same');
  t.equal(released, 1);
  t.equal((await read(1, 2000)).buffers.length, 1, 'more than the kernel takes at once are joined');
  t.equal(released, 2);
  t.equal((await read(0, 4)).error, ERRNO.EIO, 'more than was asked for');
  t.equal(released, 3);
});

await t.test('readdirplus: what fits counts as a reference, what does not is given back', async (t) => {
  const forgotten: number[] = [];
  let asked = 0;
  const entryOf = (id: number): Entry => ({
    attributes: attributesOf(id),
    entryTtlMs: 1500,
    attributeTtlMs: 0,
  });
  const entries: DirectoryEntryReply[] = [
    { name: '.', cookie: 1, inode: 1, mode: 0o040000, entry: entryOf(1) },
    { name: '..', cookie: 2, inode: 1, mode: 0o040000 },
    ...Array.from({ length: 50 }, (_, i) => ({
      name: `name-${i}`,
      cookie: 10 + i,
      inode: 100 + i,
      mode: 0o100000,
      entry: entryOf(100 + i),
    })),
  ];
  const kernel = new FakeKernel({
    async readdir(_context, _inode, _handle, _cookie, _plus, limit) {
      asked = limit;
      return entries;
    },
    forget: (inode, count) => void forgotten.push(...Array<number>(count).fill(inode)),
  });
  const { body } = await kernel.ask(Opcode.READDIRPLUS, 1, [[p.ReadIn.size, 32, 4096]], p.ReadIn.BYTES);
  t.ok(body.length <= 4096);
  const found: { name: string; inode: number; nodeId: number; cookie: number }[] = [];
  for (let at = 0; at < body.length; ) {
    const entry = at + p.EntryOut.BYTES;
    const length = body.readUInt32LE(entry + p.DirectoryEntryOut.nameLength);
    const name = entry + p.DirectoryEntryOut.BYTES;
    found.push({
      name: body.toString('latin1', name, name + length),
      inode: Number(body.readBigUInt64LE(entry + p.DirectoryEntryOut.inode)),
      nodeId: Number(body.readBigUInt64LE(at + p.EntryOut.inode)),
      cookie: Number(body.readBigUInt64LE(entry + p.DirectoryEntryOut.cookie)),
    });
    at = (name + length + 7) & ~7;
  }
  t.ok(asked >= found.length && asked < 40, 'the handler is told about how many fit');
  t.strictSame(found.slice(0, 3), [
    { name: '.', inode: 1, nodeId: 0, cookie: 1 },
    { name: '..', inode: 1, nodeId: 0, cookie: 2 },
    { name: 'name-0', inode: 100, nodeId: 100, cookie: 10 },
  ]);
  const handedOut = found.slice(2).map(({ nodeId }) => nodeId);
  const givenBack = forgotten.filter((inode) => inode >= 100);
  t.strictSame(
    [...handedOut, ...givenBack],
    entries.slice(2).map(({ inode }) => inode),
    'each one is one or the other',
  );
  t.strictSame(
    forgotten.filter((inode) => inode < 100),
    [1],
    'the kernel passes over the dots',
  );
});

await t.test('readdir: entries are packed without attributes, and nothing is given back', async (t) => {
  const kernel = new FakeKernel({
    readdir: async () => [{ name: 'four', cookie: 2 ** 45, inode: 2 ** 52, mode: 0o120000 }],
  });
  const { body } = await kernel.ask(Opcode.READDIR, 1, [[p.ReadIn.size, 32, 4096]], p.ReadIn.BYTES);
  t.equal(body.length, 32);
  t.equal(body.readBigUInt64LE(p.DirectoryEntryOut.inode), 2n ** 52n);
  t.equal(body.readBigUInt64LE(p.DirectoryEntryOut.cookie), 2n ** 45n);
  t.equal(body.readUInt32LE(p.DirectoryEntryOut.type), 0o12);
});

await t.test(
  'xattrs: sizes are told, too little room is ERANGE, lists end each name with a zero',
  async (t) => {
    const kernel = new FakeKernel({
      getxattr: async () => Buffer.from('value'),
      listxattr: async () => ['user.a', 'user.bb'],
    });
    const get = (size: number) =>
      kernel.ask(Opcode.GETXATTR, 1, [[0, 32, size]], p.GetxattrIn.BYTES, names('user.a'));
    const list = (size: number) => kernel.ask(Opcode.LISTXATTR, 1, [[0, 32, size]], p.GetxattrIn.BYTES);
    t.equal((await get(0)).body.readUInt32LE(0), 5);
    t.equal((await get(5)).body.toString(), 'value');
    t.equal((await get(4)).error, ERRNO.ERANGE);
    t.equal((await list(0)).body.readUInt32LE(0), 15);
    t.equal((await list(100)).body.toString(), 'user.a\0user.bb\0');
    t.equal((await list(14)).error, ERRNO.ERANGE);
  },
);

await t.test('xattrs: values are copies, and flags are CREATE or REPLACE', async (t) => {
  const set: [string, string, string][] = [];
  const kernel = new FakeKernel({
    async setxattr(_context, _inode, name, value, mode) {
      await new Promise((resolve) => setImmediate(resolve));
      set.push([name, Buffer.from(value).toString(), mode]);
    },
  });
  const ask = (flags: number) =>
    kernel.ask(
      Opcode.SETXATTR,
      1,
      [
        [p.SetxattrIn.size, 32, 5],
        [p.SetxattrIn.flags, 32, flags],
      ],
      p.SetxattrIn.BYTES,
      Buffer.concat([names('user.a'), Buffer.from('value')]),
    );
  for (const flags of [0, 1, 2]) await ask(flags);
  t.strictSame(
    set,
    ['either', 'create', 'replace'].map((mode) => ['user.a', 'value', mode]),
  );
  t.equal((await ask(3)).error, ERRNO.EINVAL);
});

await t.test('names: two in one request, of any bytes', async (t) => {
  const calls: unknown[] = [];
  const kernel = new FakeKernel({
    async rename(_context, ...rest) {
      calls.push(rest);
    },
    async symlink(_context, ...rest) {
      calls.push(rest);
      return { attributes: attributesOf(9), entryTtlMs: 0, attributeTtlMs: 0 };
    },
  });
  await kernel.ask(Opcode.RENAME, 1, [[0, 64, 2]], p.RenameIn.BYTES, names('a\xff\n', 'b'));
  const rename2 = (flags: number) =>
    kernel.ask(
      Opcode.RENAME2,
      1,
      [
        [0, 64, 2],
        [8, 32, flags],
      ],
      p.Rename2In.BYTES,
      names('a', 'b'),
    );
  await rename2(1);
  await rename2(2);
  await kernel.ask(Opcode.SYMLINK, 1, [], 0, names('link', 'target'));
  t.strictSame(calls, [
    [1, 'a\xff\n', 2, 'b', 'replace'],
    [1, 'a', 2, 'b', 'noreplace'],
    [1, 'a', 2, 'b', 'exchange'],
    [1, 'link', 'target'],
  ]);
  for (const flags of [3, 4]) t.equal((await rename2(flags)).error, ERRNO.EINVAL);
});

await t.test('open: flags tell the kernel how to cache', async (t) => {
  const reply = { handle: 2 ** 50, directIo: false, keepCache: false };
  const kernel = new FakeKernel({
    open: async (_context, inode) => ({ ...reply, directIo: inode === 1, keepCache: inode === 2 }),
    opendir: async (_context, inode) => ({ ...reply, directIo: inode === 1, keepCache: inode === 2 }),
  });
  const flags = async (opcode: number, inode: number) => {
    const { body } = await kernel.ask(opcode, inode, [], p.OpenIn.BYTES);
    t.equal(body.readBigUInt64LE(p.OpenOut.handle), 2n ** 50n);
    return body.readUInt32LE(p.OpenOut.flags);
  };
  const { DIRECT_IO, KEEP_CACHE, CACHE_DIRECTORY, PARALLEL_DIRECT_WRITES } = p.OpenFlag;
  t.equal(await flags(Opcode.OPEN, 1), DIRECT_IO | PARALLEL_DIRECT_WRITES);
  t.equal(await flags(Opcode.OPEN, 2), KEEP_CACHE);
  t.equal(await flags(Opcode.OPEN, 3), 0);
  t.equal(await flags(Opcode.OPENDIR, 1), 0);
  t.equal(await flags(Opcode.OPENDIR, 2), CACHE_DIRECTORY | KEEP_CACHE);
  t.equal(await flags(Opcode.OPENDIR, 3), CACHE_DIRECTORY);
});

await t.test('copy_file_range: both opcodes, with the width of reply that each has', async (t) => {
  const { CopyFileRangeIn } = p;
  const lengths: number[] = [];
  const kernel = new FakeKernel({
    async copyFileRange(_context, from, to, length) {
      t.match(from, { inode: 3, handle: 4, offset: 5 });
      t.match(to, { inode: 6, handle: 7, offset: 8 });
      lengths.push(length);
      return 2 ** 31;
    },
    // Set-user-ID of the target falls with it, where it has that.
    getattr: async (_context, inode) => {
      t.equal(inode, 6);
      return { attributes: attributesOf(6), attributeTtlMs: 0 };
    },
  });
  const ask = (opcode: number, length: bigint, flags = 0) =>
    kernel.ask(
      opcode,
      3,
      [
        [CopyFileRangeIn.handle, 64, 4],
        [CopyFileRangeIn.offset, 64, 5],
        [CopyFileRangeIn.toInode, 64, 6],
        [CopyFileRangeIn.toHandle, 64, 7],
        [CopyFileRangeIn.toOffset, 64, 8],
        [CopyFileRangeIn.length, 64, length],
        [CopyFileRangeIn.flags, 64, flags],
      ],
      CopyFileRangeIn.BYTES,
    );
  t.equal((await ask(Opcode.COPY_FILE_RANGE, 2n ** 32n)).body.readUInt32LE(0), 2 ** 31);
  t.equal((await ask(Opcode.COPY_FILE_RANGE_64, 2n ** 63n - 1n)).body.readBigUInt64LE(0), 2n ** 31n);
  t.strictSame(lengths, [2 ** 32, Number.MAX_SAFE_INTEGER]);
  t.equal((await ask(Opcode.COPY_FILE_RANGE, 1n, 1)).error, ERRNO.EINVAL);
});

await t.test('ioctl: results of either sign, output of at most what is wanted, directories', async (t) => {
  const { IoctlIn } = p;
  const kernel = new FakeKernel({
    async ioctl(_context, _inode, handle, command, input, outputBytes, isDirectory) {
      t.equal(command, 0xc004_4701);
      await new Promise((resolve) => setImmediate(resolve));
      t.equal(Buffer.from(input).toString(), 'in');
      if (handle === 1) return { result: isDirectory ? 7 : -7, output: Buffer.alloc(outputBytes, 'o') };
      if (handle === 2) return { result: 0, output: Buffer.alloc(outputBytes + 1) };
      throw new GfsError('NOT_AN_IOCTL');
    },
  });
  const ask = (handle: number, flags = 0) =>
    kernel.ask(
      Opcode.IOCTL,
      3,
      [
        [IoctlIn.handle, 64, handle],
        [IoctlIn.flags, 32, flags],
        [IoctlIn.command, 32, 0xc004_4701],
        [IoctlIn.inputSize, 32, 2],
        [IoctlIn.outputSize, 32, 3],
      ],
      IoctlIn.BYTES,
      Buffer.from('in'),
    );
  const { body } = await ask(1);
  t.equal(body.readInt32LE(p.IoctlOut.result), -7);
  t.equal(body.subarray(p.IoctlOut.BYTES).toString(), 'ooo');
  t.equal((await ask(1, p.IOCTL_ON_DIRECTORY)).body.readInt32LE(0), 7);
  t.equal((await ask(2)).error, ERRNO.EIO);
  t.equal((await ask(3)).error, ERRNO.ENOTTY);
});

await t.test('locks: owners and ranges of 64 bits', async (t) => {
  const { LockIn, LockOut } = p;
  const asked: [FileLock, boolean][] = [];
  const kernel = new FakeKernel({
    getlk: async (_context, _inode, _handle, lock) => ({
      ...lock,
      type: 'read',
      pid: 99,
      end: 2n ** 63n - 1n,
    }),
    async setlk(_context, _inode, _handle, lock, wait) {
      asked.push([lock, wait]);
    },
  });
  const owner = 0xfedc_ba98_7654_3210n;
  const ask = (opcode: number, type: number, flags: number) =>
    kernel.ask(
      opcode,
      3,
      [
        [LockIn.owner, 64, owner],
        [LockIn.start, 64, 10n],
        [LockIn.end, 64, 2n ** 62n],
        [LockIn.type, 32, type],
        [LockIn.pid, 32, 55],
        [LockIn.flags, 32, flags],
      ],
      LockIn.BYTES,
    );
  const { body } = await ask(Opcode.GETLK, p.LockType.WRITE, 0);
  t.equal(body.readBigUInt64LE(LockOut.end), 2n ** 63n - 1n);
  t.strictSame([body.readUInt32LE(LockOut.type), body.readUInt32LE(LockOut.pid)], [p.LockType.READ, 99]);
  await ask(Opcode.SETLK, p.LockType.UNLOCK, 0);
  await ask(Opcode.SETLKW, p.LockType.WRITE, p.LOCK_IS_FLOCK);
  const lock = { start: 10n, end: 2n ** 62n, pid: 55, owner };
  t.strictSame(asked, [
    [{ ...lock, type: 'unlock', flock: false }, false],
    [{ ...lock, type: 'write', flock: true }, true],
  ]);
});

await t.test('close: what is under way is interrupted and answered, late answers are dropped', async (t) => {
  let finish: (value: string) => void = () => {};
  let context: Context | undefined;
  const kernel = new FakeKernel({
    readlink: (given) => {
      context = given;
      return new Promise((resolve) => {
        finish = resolve;
      });
    },
  });
  const unique = kernel.send(Opcode.READLINK, 1);
  const idle = kernel.session.idle();
  kernel.session.close();
  await idle;
  t.equal((await kernel.replyTo(unique)).error, ERRNO.ENODEV);
  t.ok(context?.signal.aborted);
  finish('late');
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(kernel.replies.length, 1);
  t.equal((await kernel.ask(Opcode.READLINK, 1)).error, ERRNO.ENODEV, 'new ones are refused');
});
