/** The path-based half of the fuse-native binding over a handler in memory: no package, no mount. */
import fc from 'fast-check';
import t from 'tap';
import type { Clock } from '../../environment/ports/index.js';
import { moduleCodec, plainCodec } from '../../fuse-client/fuse-native/codec.js';
import { packageOptions } from '../../fuse-client/fuse-native/options.js';
import { PathFiles } from '../../fuse-client/fuse-native/path-files.js';
import { Requests } from '../../fuse-client/fuse-native/requests.js';
import { type Context, type Entry, FileType, OpenFlags } from '../../fuse-client/handler.js';
import { GfsError } from '../../protocol/errors.js';
import { MemoryHandler } from '../conformance/memory-handler.js';
import { FakeLogger, LogBook } from '../fakes/index.js';

const context: Context = { uid: 0, gid: 0, pid: 1, signal: new AbortController().signal };
const HIDDEN = '.fuse_hidden0000000200000001';

class ManualClock implements Clock {
  nowMs = 0;
  monotonicMs(): number {
    return this.nowMs;
  }
  wallTime(): { sec: number; nsec: number } {
    return { sec: 0, nsec: 0 };
  }
}

/** Counts what a binding does with references: each entry gives one, `forget` takes them back. */
class CountingHandler extends MemoryHandler {
  readonly references = new Map<number, number>();
  lookups = 0;
  /** Awaited by every lookup after it has looked. */
  pause: Promise<void> = Promise.resolve();

  override async lookup(...args: Parameters<MemoryHandler['lookup']>): Promise<Entry> {
    this.lookups++;
    const entry = this.#count(await super.lookup(...args));
    await this.pause;
    return entry;
  }

  override async mkdir(...args: Parameters<MemoryHandler['mkdir']>): Promise<Entry> {
    return this.#count(await super.mkdir(...args));
  }

  override async link(...args: Parameters<MemoryHandler['link']>): Promise<Entry> {
    return this.#count(await super.link(...args));
  }

  override async create(...args: Parameters<MemoryHandler['create']>) {
    const reply = await super.create(...args);
    this.#count(reply.entry);
    return reply;
  }

  override forget(inode: number, count: number): void {
    const left = (this.references.get(inode) ?? 0) - count;
    if (left < 0) throw new Error(`inode ${inode} was given back more often than it was given`);
    if (left === 0) this.references.delete(inode);
    else this.references.set(inode, left);
    super.forget(inode, count);
  }

  #count(entry: Entry): Entry {
    const { id } = entry.attributes;
    this.references.set(id, (this.references.get(id) ?? 0) + 1);
    return entry;
  }
}

function setUp({ ttlMs = 1000, maxNames = 100 } = {}) {
  const clock = new ManualClock();
  const handler = new CountingHandler(clock, { entryTtlMs: ttlMs, attributeTtlMs: ttlMs });
  return { clock, handler, files: new PathFiles(handler, clock, maxNames) };
}

async function makeFile(files: PathFiles, path: string): Promise<number> {
  const { handle } = await files.create(context, path, 0o644, OpenFlags.CREAT | OpenFlags.RDWR);
  await files.release(context, handle);
  return (await files.getattr(context, path)).id;
}

t.test('names: a path that is believed costs no lookup, one that is not costs one again', async (t) => {
  const { clock, handler, files } = setUp();
  await files.mkdir(context, '/d', 0o755);
  await makeFile(files, '/d/f');
  const before = handler.lookups;
  await files.setattr(context, '/d/f', { mode: 0o600 });
  t.equal(handler.lookups, before, 'both names are known');
  clock.nowMs = 1001;
  await files.setattr(context, '/d/f', { mode: 0o600 });
  t.equal(handler.lookups, before + 2, 'their time is over');
});

t.test('names: nothing is believed when the handler says 0', async (t) => {
  const { handler, files } = setUp({ ttlMs: 0 });
  await files.mkdir(context, '/d', 0o755);
  await files.mkdir(context, '/d/e', 0o755);
  await files.listxattr(context, '/d/e');
  await files.listxattr(context, '/d/e');
  t.equal(handler.lookups, 5, 'one for /d in mkdir, two for each path after');
  t.equal(handler.references.size, 0, 'and nothing is held');
});

t.test('names: a lookup that a rename overtakes is not believed', async (t) => {
  const { handler, files } = setUp();
  await makeFile(files, '/a');
  const b = await makeFile(files, '/b');
  let go = () => {};
  handler.pause = new Promise((resolve) => {
    go = resolve;
  });
  const late = files.getattr(context, '/a');
  await files.rename(context, '/b', '/a');
  go();
  t.not((await late).id, b, 'it saw the file that was there before');
  const before = handler.lookups;
  await files.listxattr(context, '/a');
  t.equal(handler.lookups, before + 1, 'so the name is looked up again');
  t.equal((await files.getattr(context, '/a')).id, b);
});

t.test('names: the cache is bounded, and gives back what it drops', async (t) => {
  const { handler, files } = setUp({ maxNames: 10 });
  for (let i = 0; i < 50; i++) await makeFile(files, `/f${i}`);
  t.equal(handler.references.size, 10);
  await files.close(context);
  t.equal(handler.references.size, 0);
});

t.test('names: any history of makes, moves and removes finds what is there', async (t) => {
  const path = fc
    .array(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 3, size: 'max' })
    .map((names) => `/${names.join('/')}`);
  const step = fc.oneof(
    fc.record({ kind: fc.constantFrom('make', 'mkdir', 'mkdir', 'unlink', 'rmdir', 'see'), path }),
    fc.record({ kind: fc.constant('rename'), path, to: path }),
    fc.record({ kind: fc.constant('link'), path, to: path }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40, size: 'max' }),
      fc.integer({ min: 1, max: 5 }),
      async (steps, maxNames) => {
        const { handler, files } = setUp({ maxNames, ttlMs: 1e9 });
        // The same without a memory of names is the oracle: it asks for each name of each path.
        const oracle = new PathFiles(handler, new ManualClock(), 1);
        const forgetful = async (p: string) => {
          const inode = (await oracle.getattr(context, p).catch(() => undefined))?.id;
          await oracle.close(context);
          return inode;
        };
        for (const one of steps) {
          const to = 'to' in one ? one.to : '';
          const act = {
            make: async () => void (await makeFile(files, one.path)),
            mkdir: () => files.mkdir(context, one.path, 0o755),
            unlink: () => files.unlink(context, one.path),
            rmdir: () => files.rmdir(context, one.path),
            rename: () => files.rename(context, one.path, to),
            link: () => files.link(context, one.path, to),
            see: async () => void (await files.listxattr(context, one.path)),
          }[one.kind as 'make'];
          await act().catch((error: unknown) => {
            if (!(error instanceof GfsError)) throw error;
          });
          for (const p of [one.path, `${one.path}/a`, to, `${to}/a`].filter((text) => text !== '')) {
            const found = (await files.getattr(context, p).catch(() => undefined))?.id;
            if (found !== (await forgetful(p))) return false;
          }
        }
        await files.close(context);
        return handler.references.size === 0;
      },
    ),
    { numRuns: 100 },
  );
  t.pass('100 histories');
});

t.test(
  'hidden: what libfuse renames while it is open is unlinked at once, and lives under its hidden name',
  async (t) => {
    const { handler, files } = setUp();
    await files.mkdir(context, '/d', 0o755);
    const { handle } = await files.create(context, '/d/f', 0o644, OpenFlags.CREAT | OpenFlags.RDWR);
    await files.rename(context, '/d/f', `/d/${HIDDEN}`);

    const names = (await files.readdir(context, '/d')).map(({ name }) => name);
    t.strictSame(names.sort(), ['.', '..'], 'nobody sees it');
    t.equal((await files.getattr(context, `/d/${HIDDEN}`)).nlink, 0);
    t.equal(await files.write(context, handle, Buffer.from('still'), 0), 5);
    await files.setattr(context, `/d/${HIDDEN}`, { mode: 0o600 });
    t.equal((await files.fgetattr(context, handle)).mode, FileType.REGULAR | 0o600);
    await t.rejects(files.rmdir(context, '/d'), { code: 'NOT_EMPTY' }, 'libfuse needs its path');
    await files.mkdir(context, '/e', 0o755);
    await t.rejects(files.rename(context, '/e', '/d'), { code: 'NOT_EMPTY' });

    await files.release(context, handle);
    await files.unlink(context, `/d/${HIDDEN}`);
    await t.rejects(files.getattr(context, `/d/${HIDDEN}`), { code: 'NOT_FOUND' });
    await files.rmdir(context, '/d');
    await files.close(context);
    t.equal(handler.references.size, 0);
  },
);

t.test('hidden: a file that is not open can have such a name', async (t) => {
  const { files } = setUp();
  const id = await makeFile(files, '/f');
  await files.rename(context, '/f', `/${HIDDEN}`);
  t.match(await files.readdir(context, '/'), [{}, {}, { name: HIDDEN }]);
  t.equal((await files.getattr(context, `/${HIDDEN}`)).id, id);
});

t.test('handles: an open file is held, a handle that is not open is EBADF', async (t) => {
  const { handler, files } = setUp({ ttlMs: 0 });
  const { handle } = await files.create(context, '/f', 0o644, OpenFlags.CREAT | OpenFlags.RDWR);
  t.equal(handler.references.size, 1);
  await files.unlink(context, '/f');
  t.equal(await files.write(context, handle, Buffer.from('abc'), 0), 3);
  await files.release(context, handle);
  t.equal(handler.references.size, 0);
  await t.rejects(files.write(context, handle, Buffer.from('abc'), 0), { code: 'BAD_HANDLE' });
  await t.rejects(files.release(context, handle), { code: 'BAD_HANDLE' });
});

t.test('requests: whatever a handler throws is an errno, and nothing reaches the library', async (t) => {
  const book = new LogBook();
  const logger = new FakeLogger(book, 'test', () => 0);
  const requests = new Requests(plainCodec({ uid: 1, gid: 2, pid: 3 }), logger);
  const answer = (path: string, body: (context: Context, path: string) => Promise<unknown>) =>
    new Promise((resolve) => requests.run(path, body, resolve, resolve));

  t.equal(await answer('/x', async () => 7), 7);
  t.strictSame(await answer('/é', async (_, path) => path), '/\xc3\xa9', 'a path is its bytes');
  t.match(await answer('/x', async (c) => c), { uid: 1, gid: 2, pid: 3 });
  t.equal(await answer('/x', () => Promise.reject(new GfsError('NOT_EMPTY'))), -39);
  t.notOk(book.has('a request failed unexpectedly'));
  const thrower = () => {
    throw new TypeError('a mistake');
  };
  t.equal(await answer('/x', thrower), -5, 'a mistake is EIO');
  t.ok(book.has('a request failed unexpectedly'), 'and is told');
  t.equal(await answer('/\ufffd', async () => 0), -22, 'a mangled name is refused');
});

t.test('requests: at the end those under way are told, and waited for', async (t) => {
  const requests = new Requests(moduleCodec, new FakeLogger(new LogBook(), 'test', () => 0));
  let result = 0;
  const interrupted = (c: Context) =>
    new Promise<never>((_, reject) => {
      c.signal.addEventListener('abort', () => reject(new GfsError('CANCELLED')));
    });
  requests.run(
    '7,8,9/x',
    interrupted,
    () => undefined,
    (errno) => {
      result = errno;
    },
  );
  const settled = requests.settled();
  requests.abort();
  await settled;
  t.equal(result, -4, 'EINTR');
});

t.test('codec: with the module every byte passes, and who asked', async (t) => {
  t.strictSame(moduleCodec.path('1000,100,4242/a/caf\xe9,b'), {
    caller: { uid: 1000, gid: 100, pid: 4242 },
    path: '/a/caf\xe9,b',
  });
  const plain = plainCodec({ uid: 0, gid: 0, pid: 0 });
  const utf8 = fc.string({ unit: 'grapheme' }).filter((name) => !name.includes('\ufffd'));
  fc.assert(fc.property(utf8, (name) => plain.text(plain.bytes(name)) === name));
});

t.test(
  'options: what the package has no option for goes in behind the name, which cannot add any',
  async (t) => {
    const options = {
      directory: '/mnt/gfs',
      source: 'host:1,other\\:2',
      readOnly: true,
      allowOther: true,
      defaultPermissions: true,
      extra: ['noatime'],
    };
    const { fsname, ...others } = packageOptions('/mnt/gfs', options, true);
    t.match(fsname, /^host:1\\,other\\\\:2,big_writes,max_write=131072,.*,ro,noatime$/);
    t.strictSame(others, {
      subtype: 'gfs',
      allowOther: true,
      defaultPermissions: true,
      entryTimeout: '0',
      attrTimeout: '0',
      timeout: false,
      modules: 'gfs',
    });
    t.notOk('modules' in packageOptions('/mnt/gfs', options, false));
    t.throws(
      () => packageOptions('/mnt/gfs', { ...options, source: 'x'.repeat(1000) }, false),
      'cut without a word',
    );
    t.throws(() => packageOptions(`/${'x'.repeat(1100)}`, options, false));
  },
);
