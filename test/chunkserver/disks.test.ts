/** A server with several disks, of which one fails. */
import t from 'tap';
import { Store } from '../../chunkserver/store/store.js';
import type { Disk, Environment } from '../../environment/ports/index.js';
import { ReadChunk, WriteChunk } from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { contentOf, contextOf } from './store-model.js';
import {
  pattern,
  quietEnvironment,
  startCluster,
  temporaryDirectory,
  until,
  withPayload,
} from './support.js';

t.setTimeout(600_000);

const ROOTS = ['/disk0', '/disk1', '/disk2'];
let seed = 1;

async function threeDisks() {
  const world = new SimulatedWorld(seed++);
  const host = world.host('a');
  const fatal: Error[] = [];
  const open = (name: string) => {
    const context = { ...contextOf(host.start(name)), onFatal: (error: Error) => fatal.push(error) };
    return world.until(Store.open(context, ROOTS, 'server-1'));
  };
  const store = await open('first');
  let lost = 0;
  store.onDiskLost = () => lost++;
  for (let handle = 1; handle <= 6; handle++) {
    const chunk = await world.until(store.create(handle, 1));
    // What is admitted counts as used at once, so that the next chunk goes to another disk.
    await world.until(chunk.directory.admission(1_000_000) ?? Promise.resolve());
    await world.until(write(chunk, 0, pattern(100_000, handle)));
  }
  const on = (root: string) => [...store.chunks()].filter(({ directory }) => directory.layout.root === root);
  return { world, host, store, fatal, on, open, lost: () => lost };
}

let serial = 2 ** 24;
const write = (chunk: ReturnType<Store['get']>, offset: number, bytes: Uint8Array) =>
  chunk.mutate({ kind: 'write', serial: ++serial, offset, bytes, session: 0, sequence: 0 });

t.test('disks: chunks are spread over them by the space that is left', async (t) => {
  const { on } = await threeDisks();
  t.strictSame(
    ROOTS.map((root) => on(root).length),
    [2, 2, 2],
  );
});

for (const [what, operation, code] of [
  ['cannot be flushed', 'sync', 'EIO'],
  ['turns read-only', 'write', 'EROFS'],
] as const) {
  t.test(`disks: one that ${what} is given up with its chunks, and the others go on`, async (t) => {
    const { world, host, store, on, fatal, lost } = await threeDisks();
    const gone = on('/disk1').map(({ handle }) => handle);
    const [first] = on('/disk1');
    host.disk.inject = (asked, path) =>
      asked === operation && path.startsWith('/disk1/') ? code : undefined;
    await t.rejects(world.until(write(first!, 0, pattern(10)).then(() => first!.sync())));
    t.equal(lost(), 1, 'the master is to be told');
    t.strictSame(fatal, []);
    t.equal(store.failedDiskCount, 1);
    t.equal(store.chunkCount, 4);
    for (const handle of gone) t.throws(() => store.get(handle), { code: 'NO_SUCH_CHUNK' });
    await t.rejects(world.until(write(first!, 0, pattern(10))), { code: 'NO_SUCH_CHUNK' });
    for (const chunk of store.chunks()) {
      await world.until(write(chunk, 0, pattern(10, 9)));
      await world.until(chunk.sync());
    }
    const fresh = await world.until(store.create(20, 1));
    t.not(fresh.directory.layout.root, '/disk1');
    const { totalBytes } = await world.until(store.space());
    host.disk.inject = (asked) => (asked === operation ? code : undefined);
    await Promise.allSettled(
      [...store.chunks()].map((chunk) => world.until(write(chunk, 0, pattern(10)).then(() => chunk.sync()))),
    );
    t.equal(fatal.length, 1, 'with the last disk the server ends');
    t.ok(totalBytes > 0);
  });
}

t.test(
  'disks: a spot that cannot be read is damage to one chunk, the third is the end of the disk',
  async (t) => {
    const { world, host, store, on, lost } = await threeDisks();
    for (const directory of store.directories) await world.until(directory.checkpointNow());
    const chunk = on('/disk2')[0]!;
    host.disk.inject = (operation, path) =>
      operation === 'read' && path.startsWith('/disk2/') && path.endsWith('.chunk') ? 'EIO' : undefined;
    for (let count = 0; count < 2; count++) {
      await t.rejects(world.until(contentOf(chunk)), { code: 'CHUNK_CORRUPT' });
      t.equal(lost(), 0);
    }
    await t.rejects(world.until(contentOf(chunk)), { code: 'CHUNK_CORRUPT' });
    t.equal(lost(), 1);
  },
);

t.test(
  'disks: one that cannot be read at the start is left out; when it is back its old replicas go',
  async (t) => {
    const { world, host, store, on, open } = await threeDisks();
    const [old] = on('/disk0');
    const { handle } = old!;
    await world.until(store.close());
    host.disk.inject = (_, path) => (path.startsWith('/disk0') ? 'EIO' : undefined);
    const without = await open('second');
    t.equal(without.failedDiskCount, 1);
    t.equal(without.chunkCount, 4);
    const again = await world.until(without.create(handle, 5));
    await world.until(write(again, 0, pattern(500, 7)));
    await world.until(without.close());
    host.disk.inject = undefined;
    const whole = await open('third');
    t.equal(whole.failedDiskCount, 0);
    t.equal(whole.chunkCount, 6);
    t.equal(whole.get(handle).state.version, 5);
    t.ok((await world.until(contentOf(whole.get(handle)))).equals(pattern(500, 7)));
    host.disk.inject = () => 'EIO';
    await t.rejects(open('fourth'), { code: 'EIO' }, 'with none it does not start');
  },
);

/** A disk that fails below one directory once it is told to. */
function failing(disk: Disk, isBad: (path: string) => boolean): Disk {
  const error = () => Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
  return new Proxy(disk, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as (...words: unknown[]) => Promise<unknown>;
      return async (...words: unknown[]) => {
        if (isBad(String(words[0]))) throw error();
        const result = await method.apply(target, words);
        if (name !== 'open') return result;
        const path = String(words[0]);
        return new Proxy(result as object, {
          get: (file, operation) => {
            const own = Reflect.get(file, operation) as ((...more: unknown[]) => unknown) | undefined;
            if (own === undefined || operation === 'close') return own?.bind(file);
            return (...more: unknown[]) => (isBad(path) ? Promise.reject(error()) : own.apply(file, more));
          },
        });
      };
    },
  });
}

t.test('disks: the master hears at once which chunks a server has lost with a disk', async (t) => {
  const root = temporaryDirectory((end) => t.teardown(end));
  let bad = '';
  const environment: Environment = quietEnvironment();
  const { allocate } = environment.disk;
  const disk = failing(environment.disk, (path) => bad !== '' && path.startsWith(bad));
  disk.allocate = allocate.bind(environment.disk);
  const cluster = await startCluster(1, root);
  t.teardown(() => cluster.stop());
  await cluster.restart(0, { ...environment, disk }, [`${root}/disk0`, `${root}/more`]);
  const { master, ids } = cluster;
  const client = cluster.clients[0]!;
  for (const handle of [1, 2, 3, 4]) {
    await master.grant(handle, 1, ids);
    const bytes = pattern(100_000, handle);
    const body = { handle, version: 1, offset: 0, length: bytes.byteLength };
    await client.call(WriteChunk, body, withPayload(bytes));
  }
  master.reported.clear();
  bad = `${root}/more`;
  const tries = [1, 2, 3, 4].map((handle) => {
    const body = { handle, version: 1, offset: 0, length: 100_000 };
    return client.call(WriteChunk, body, withPayload(pattern(100_000)));
  });
  const failed = (await Promise.allSettled(tries)).filter(({ status }) => status === 'rejected');
  t.equal(failed.length, 2);
  for (const outcome of failed) t.match(outcome, { reason: { code: 'NO_SUCH_CHUNK' } });
  await until(() => master.reported.has(ids[0]!));
  t.equal(master.reports.get(ids[0]!)?.length, 2);
  for (const { handle } of master.reports.get(ids[0]!) ?? []) {
    await client.call(ReadChunk, { handle, version: 1, offset: 0, length: 10 });
  }
});
