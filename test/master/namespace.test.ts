import t from 'tap';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MasterHost, TestClient } from './support.js';

async function started(changes = {}) {
  const world = new SimulatedWorld(1);
  const host = await new MasterHost(world, changes).start();
  return { world, host, client: await TestClient.start(world) };
}

const ROOT = m.ROOT_ID;

t.test('namespace: what is created is found by name, path, id and listing', async (t) => {
  const { client } = await started();
  const directory = await client.mkdir(ROOT, 'a');
  const file = await client.create(directory, 'b');
  t.equal((await client.call(m.Lookup, { parent: directory, name: 'b' })).attributes?.id, file);
  t.equal((await client.lookup('/a/b')).id, file);
  t.equal((await client.lookup('/')).id, ROOT);
  const { attributes } = await client.call(m.GetAttributes, { id: file });
  t.match(attributes, { mode: 0o100644, nlink: 1, size: 0, uid: 0, gid: 0 });
  t.strictSame(await client.names(directory), ['b']);
  t.equal(await codeOf(client.create(directory, 'b')), 'EXISTS');
  t.equal(await codeOf(client.lookup('/a/c')), 'NOT_FOUND');
  t.equal(await codeOf(client.lookup('/a/b/c')), 'NOT_DIRECTORY');
  t.equal(await codeOf(client.call(m.GetAttributes, { id: 999 })), 'STALE_NODE');
});

t.test('namespace: creating without O_EXCL finds what is there', async (t) => {
  const { client } = await started();
  const body = { parent: ROOT, name: 'f', mode: 0o100600, rdev: 0, exclusive: false };
  const first = await client.mutate(m.Create, body);
  const second = await client.mutate(m.Create, body);
  t.strictSame([first.created, second.created], [true, false]);
  t.equal(second.attributes.id, first.attributes.id);
  await client.mkdir(ROOT, 'd');
  t.equal(await codeOf(client.mutate(m.Create, { ...body, name: 'd' })), 'IS_DIRECTORY');
  t.equal(await codeOf(client.mutate(m.Create, { ...body, mode: 0o040755 })), 'EXISTS');
});

t.test('namespace: names that cannot be are refused, all other bytes are kept', async (t) => {
  const { client } = await started();
  for (const name of ['', '.', '..', 'a/b', 'a\0b'])
    t.equal(await codeOf(client.create(ROOT, name)), 'INVALID', JSON.stringify(name));
  const longest = '\xff'.repeat(255);
  await client.create(ROOT, longest);
  await client.create(ROOT, ' new\nline \x80');
  t.strictSame(await client.names(ROOT), [longest, ' new\nline \x80']);
});

t.test('namespace: owner, group and setgid of what is made', async (t) => {
  const { client } = await started();
  const shared = await client.mkdir(ROOT, 'shared');
  await client.mutate(m.SetAttributes, { id: shared, changes: { gid: 77, mode: 0o2775 } });
  client.uid = 1000;
  client.gids = [1000, 4];
  t.match(await client.make(ROOT, 'mine', 0o100644), { uid: 1000, gid: 1000 });
  t.match(await client.make(shared, 'ours', 0o100644), { uid: 1000, gid: 77, mode: 0o100644 });
  t.match(await client.make(shared, 'below', 0o040755), { gid: 77, mode: 0o042755 });
});

t.test('namespace: special files and symbolic links', async (t) => {
  const { client } = await started();
  t.match(await client.make(ROOT, 'fifo', 0o010600), { mode: 0o010600 });
  const device = await client.mutate(m.Create, {
    parent: ROOT,
    name: 'null',
    mode: 0o020666,
    rdev: 259,
    exclusive: true,
  });
  t.equal(device.attributes.rdev, 259);
  t.equal(await codeOf(client.make(ROOT, 'x', 0o120777)), 'INVALID');
  const { attributes } = await client.mutate(m.Symlink, { parent: ROOT, name: 'link', target: '../\xe4' });
  t.match(attributes, { mode: 0o120777, size: 4 });
  t.equal((await client.call(m.ReadLink, { id: attributes.id })).target, '../\xe4');
  t.equal(await codeOf(client.call(m.ReadLink, { id: ROOT })), 'INVALID');
  t.equal(await codeOf(client.mutate(m.Symlink, { parent: ROOT, name: 'link', target: 'x' })), 'EXISTS');
});

t.test('namespace: hard links share a node until the last name is gone', async (t) => {
  const { client } = await started();
  const directory = await client.mkdir(ROOT, 'd');
  const file = await client.create(ROOT, 'a');
  t.match((await client.mutate(m.Link, { id: file, parent: directory, name: 'b' })).attributes, {
    id: file,
    nlink: 2,
  });
  await client.mutate(m.Link, { id: file, parent: ROOT, name: 'c' });
  await client.unlink(ROOT, 'a');
  t.match(await client.lookup('/d/b'), { id: file, nlink: 2 });
  await client.rename(directory, 'b', ROOT, 'moved');
  await client.unlink(ROOT, 'c');
  await client.unlink(ROOT, 'moved');
  t.match((await client.call(m.GetAttributes, { id: file })).attributes, { nlink: 0 }, 'an open file stays');
  t.equal(await codeOf(client.mutate(m.Link, { id: file, parent: ROOT, name: 'again' })), 'NOT_FOUND');
  t.equal(await codeOf(client.mutate(m.Link, { id: directory, parent: ROOT, name: 'dd' })), 'NOT_PERMITTED');
});

t.test('namespace: directories count their subdirectories, and go only when empty', async (t) => {
  const { client } = await started();
  const a = await client.mkdir(ROOT, 'a');
  const b = await client.mkdir(a, 'b');
  t.match((await client.lookup('/a')).nlink, 3);
  t.equal((await client.lookup('/')).nlink, 3);
  t.equal(await codeOf(client.rmdir(ROOT, 'a')), 'NOT_EMPTY');
  t.equal(await codeOf(client.unlink(ROOT, 'a')), 'IS_DIRECTORY');
  await client.create(a, 'f');
  t.equal(await codeOf(client.rmdir(a, 'f')), 'NOT_DIRECTORY');
  await client.rmdir(a, 'b');
  t.equal((await client.lookup('/a')).nlink, 2);
  t.equal(await codeOf(client.create(b, 'x')), 'NOT_FOUND', 'nothing is made in a removed directory');
  t.strictSame(await client.names(b), []);
});

t.test('rename: replaces, refuses and exchanges as rename(2) says', async (t) => {
  const { client } = await started();
  const a = await client.mkdir(ROOT, 'a');
  const b = await client.mkdir(a, 'b');
  const file = await client.create(ROOT, 'f');
  const other = await client.create(a, 'g');
  t.equal(await codeOf(client.rename(ROOT, 'a', b, 'x')), 'INVALID', 'into its own subtree');
  t.equal(await codeOf(client.rename(ROOT, 'a', a, 'x')), 'INVALID');
  t.equal(await codeOf(client.rename(ROOT, 'f', ROOT, 'a')), 'IS_DIRECTORY');
  t.equal(await codeOf(client.rename(ROOT, 'a', ROOT, 'f')), 'NOT_DIRECTORY');
  const empty = await client.mkdir(ROOT, 'empty');
  t.equal(await codeOf(client.rename(ROOT, 'empty', ROOT, 'a')), 'NOT_EMPTY');
  t.equal(await codeOf(client.rename(a, 'b', ROOT, 'a')), 'NOT_EMPTY', 'over its own parent');
  t.equal(await codeOf(client.rename(ROOT, 'f', a, 'g', 'noreplace')), 'EXISTS');
  t.equal(await codeOf(client.rename(ROOT, 'f', a, 'none', 'exchange')), 'NOT_FOUND');
  t.equal(await codeOf(client.rename(ROOT, 'none', a, 'x')), 'NOT_FOUND');
  await client.rename(ROOT, 'f', a, 'g');
  t.equal((await client.lookup('/a/g')).id, file);
  t.equal((await client.call(m.GetAttributes, { id: other })).attributes.nlink, 0);
  await client.rename(ROOT, 'empty', a, 'b');
  t.equal((await client.lookup('/a/b')).id, empty, 'a directory over an empty one');
  t.equal((await client.lookup('/')).nlink, 3);
  await client.create(ROOT, 'h');
  await client.rename(ROOT, 'h', a, 'b', 'exchange');
  t.equal((await client.lookup('/h')).id, empty);
  t.equal((await client.lookup('/a')).nlink, 2);
  t.equal(await codeOf(client.rename(ROOT, 'a', ROOT, 'h')), 'none', 'a full directory over an empty one');
  t.strictSame(await client.names(ROOT), ['h']);
});

t.test('rename: two names of one file stay as they are', async (t) => {
  const { client } = await started();
  const file = await client.create(ROOT, 'a');
  await client.mutate(m.Link, { id: file, parent: ROOT, name: 'b' });
  await client.rename(ROOT, 'a', ROOT, 'b');
  await client.rename(ROOT, 'a', ROOT, 'a');
  t.strictSame(await client.names(ROOT), ['a', 'b']);
});

t.test('times: parents and nodes change as POSIX says', async (t) => {
  const { world, client } = await started();
  const directory = await client.mkdir(ROOT, 'd');
  const file = await client.create(directory, 'f');
  const times = async (id: number): Promise<string[]> => {
    const { attributes: a } = await client.call(m.GetAttributes, { id });
    return [`${a.atimeSec}.${a.atimeNsec}`, `${a.mtimeSec}.${a.mtimeNsec}`, `${a.ctimeSec}.${a.ctimeNsec}`];
  };
  const changed = async (id: number, act: () => Promise<unknown>): Promise<string> => {
    const before = await times(id);
    await world.runFor(5);
    await act();
    const after = await times(id);
    return ['a', 'm', 'c'].filter((_, at) => before[at] !== after[at]).join('');
  };
  t.equal(await changed(directory, () => client.create(directory, 'g')), 'mc');
  t.equal(await changed(directory, () => client.unlink(directory, 'g')), 'mc');
  t.equal(await changed(directory, () => client.rename(directory, 'f', directory, 'h')), 'mc');
  t.equal(await changed(file, () => client.rename(directory, 'h', ROOT, 'f')), 'c');
  t.equal(await changed(file, () => client.mutate(m.Link, { id: file, parent: ROOT, name: 'l' })), 'c');
  t.equal(await changed(file, () => client.unlink(ROOT, 'l')), 'c');
  t.equal(
    await changed(file, () => client.mutate(m.SetAttributes, { id: file, changes: { mode: 0o600 } })),
    'c',
  );
  t.equal(
    await changed(file, () => client.mutate(m.SetAttributes, { id: file, changes: { size: 9 } })),
    'mc',
  );
  t.equal(await changed(file, () => client.mutate(m.ExtendFile, { id: file, size: 5 })), 'mc');
  const changes = { atimeSec: -1, atimeNsec: 999_999_999, mtimeSec: 2 ** 34, mtimeNsec: 0 };
  t.match((await client.mutate(m.SetAttributes, { id: file, changes })).attributes, changes);
  const wrong = { id: file, changes: { atimeSec: 0, atimeNsec: 1e9 } };
  t.equal(await codeOf(client.mutate(m.SetAttributes, wrong)), 'INVALID');
});

t.test('attributes: chmod, chown and truncation as Linux has them', async (t) => {
  const { client } = await started();
  const file = (await client.make(ROOT, 'f', 0o106755)).id;
  const set = async (changes: m.AttributeChanges) =>
    (await client.mutate(m.SetAttributes, { id: file, changes })).attributes;
  t.equal((await set({ uid: 5 })).mode, 0o100755, 'chown takes setuid and setgid away');
  t.equal((await set({ mode: 0o106644 })).mode, 0o106644);
  t.equal(
    (await set({ gid: 5 })).mode,
    0o102644,
    'setgid without group execute is mandatory locking: it stays',
  );
  t.equal((await set({ size: 2 ** 53 - 1 })).size, 2 ** 53 - 1);
  t.equal((await set({ size: 0 })).size, 0);
  t.equal((await client.mutate(m.ExtendFile, { id: file, size: 10 })).attributes.size, 10);
  t.equal(
    (await client.mutate(m.ExtendFile, { id: file, size: 3 })).attributes.size,
    10,
    'it never shortens',
  );
  t.equal(await codeOf(client.mutate(m.SetAttributes, { id: ROOT, changes: { size: 0 } })), 'IS_DIRECTORY');
});

t.test('xattrs: set, get, list, remove, with their errors', async (t) => {
  const { client } = await started();
  const id = await client.create(ROOT, 'f');
  const value = Buffer.from([0, 255, 1]);
  const set = (mode: 'either' | 'create' | 'replace') =>
    client.mutate(m.SetXattr, { id, name: 'user.a', value, mode });
  t.equal(await codeOf(set('replace')), 'NO_ATTRIBUTE');
  await set('create');
  t.equal(await codeOf(set('create')), 'EXISTS');
  const told = async () => (await client.call(m.GetAttributes, { id })).attributes;
  const before = await told();
  await set('replace');
  await set('either');
  t.same(await told(), before, 'with the value that it has, nothing changes');
  await client.mutate(m.SetXattr, { id, name: 'user.a', value: Buffer.from([0, 255, 2]), mode: 'either' });
  const { ctimeSec, ctimeNsec } = await told();
  t.ok(ctimeSec > before.ctimeSec || ctimeNsec > before.ctimeNsec, 'with another, the ctime');
  value[2] = 2;
  t.strictSame(Buffer.from((await client.call(m.GetXattr, { id, name: 'user.a' })).value), value);
  t.strictSame((await client.call(m.ListXattrs, { id })).names, ['user.a']);
  await client.mutate(m.RemoveXattr, { id, name: 'user.a' });
  t.equal(await codeOf(client.call(m.GetXattr, { id, name: 'user.a' })), 'NO_ATTRIBUTE');
  t.equal(await codeOf(client.mutate(m.RemoveXattr, { id, name: 'user.a' })), 'NO_ATTRIBUTE');
});

t.test(
  'listing: every entry that stays is met once, whatever comes and goes between the pages',
  async (t) => {
    const { client } = await started();
    const directory = await client.mkdir(ROOT, 'd');
    for (let at = 0; at < 200; at++) await client.create(directory, `stays ${at}`);
    const seen: string[] = [];
    let cookie = 0;
    for (let page = 0; ; page++) {
      const { entries, end, parent } = await client.call(m.ReadDirectory, {
        id: directory,
        cookie,
        limit: 7,
      });
      t.equal(parent, ROOT);
      seen.push(...entries.map(({ name }) => name));
      if (end) break;
      cookie = entries.at(-1)?.cookie ?? cookie;
      await client.create(directory, `comes ${page}`);
      if (page > 0) await client.unlink(directory, `comes ${page - 1}`);
      // A program that renames what it lists does not meet it again.
      const first = entries[0]?.name as string;
      if (first.startsWith('stays')) await client.rename(directory, first, directory, `renamed ${first}`);
      if (page > 100) break;
    }
    const stayed = seen.filter((name) => name.startsWith('stays'));
    t.equal(stayed.length, 200);
    t.equal(new Set(stayed).size, 200);
    t.notOk(seen.some((name) => name.startsWith('renamed')));
  },
);

t.test('namespace: conflicting mutations at once have one winner', async (t) => {
  for (const parentLock of ['shared', 'exclusive'] as const) {
    const { world, client } = await started({ parentLock });
    const directory = await client.mkdir(ROOT, 'd');
    const make = (sequence: number) =>
      codeOf(
        client.send(
          m.Create,
          { parent: directory, name: 'x', mode: 0o100644, rdev: 0, exclusive: true },
          { sequence },
        ),
      );
    const codes = await world.until(Promise.all([2, 3, 4, 5].map(make)));
    t.strictSame(codes.sort(), ['EXISTS', 'EXISTS', 'EXISTS', 'none'], parentLock);
    client.sequence = 5;
    await client.unlink(directory, 'x');
    const both = await world.until(
      Promise.all([
        codeOf(client.send(m.Unlink, { parent: ROOT, name: 'd', directory: true }, { sequence: 7 })),
        codeOf(
          client.send(
            m.Create,
            { parent: directory, name: 'y', mode: 0o100644, rdev: 0, exclusive: true },
            { sequence: 8 },
          ),
        ),
      ]),
    );
    t.ok(both.join() === 'none,NOT_FOUND' || both.join() === 'NOT_EMPTY,none', both.join());
  }
});

t.test('namespace: two directories renamed into each other never make a circle', async (t) => {
  const { world, client } = await started();
  const a = await client.mkdir(ROOT, 'a');
  const b = await client.mkdir(ROOT, 'b');
  const move = (name: string, newParent: number, sequence: number) =>
    codeOf(
      client.send(m.Rename, { parent: ROOT, name, newParent, newName: 'x', mode: 'replace' }, { sequence }),
    );
  const codes = await world.until(Promise.all([move('a', b, 10), move('b', a, 11)]));
  t.strictSame(codes.filter((code) => code === 'none').length, 1);
  t.equal((await client.names(ROOT)).length, 1);
});

t.test('namespace: a mutation that waits for a rename goes where the directory is now', async (t) => {
  const { world, client } = await started();
  const a = await client.mkdir(ROOT, 'a');
  await world.until(
    Promise.all([
      client.send(
        m.Rename,
        { parent: ROOT, name: 'a', newParent: ROOT, newName: 'b', mode: 'replace' },
        { sequence: 10 },
      ),
      client.send(
        m.Create,
        { parent: a, name: 'f', mode: 0o100644, rdev: 0, exclusive: true },
        { sequence: 11 },
      ),
    ]),
  );
  t.equal((await client.lookup('/b/f')).mode, 0o100644);
});

t.test('namespace: deleting waits for the locks held beneath, whoever came first wins', async (t) => {
  const { world, client } = await started();
  for (const [first, second] of [
    ['create', 'rmdir'],
    ['rmdir', 'create'],
  ]) {
    const name = `${first} first`;
    const directory = await client.mkdir(ROOT, name);
    const base = client.sequence;
    const file = { parent: directory, name: 'f', mode: 0o100644, rdev: 0, exclusive: true };
    const send = {
      create: (sequence: number) => codeOf(client.send(m.Create, file, { sequence })),
      rmdir: (sequence: number) =>
        codeOf(client.send(m.Unlink, { parent: ROOT, name, directory: true }, { sequence })),
    };
    // The second is there while the first waits for its flush, with its locks.
    const both = [send[first as 'create'](base + 1), send[second as 'create'](base + 2)];
    const codes = await world.until(Promise.all(both));
    t.strictSame(codes, first === 'create' ? ['none', 'NOT_EMPTY'] : ['none', 'NOT_FOUND'], name);
    client.sequence = base + 2;
  }
});

t.test('snapshot: source and target trees are locked for writing until it is durable', async (t) => {
  const { world, client } = await started();
  const source = await client.mkdir(ROOT, 'source');
  const inner = await client.mkdir(source, 'inner');
  const base = client.sequence;
  const make = (parent: number, name: string, sequence: number) =>
    client.send(m.Create, { parent, name, mode: 0o100644, rdev: 0, exclusive: true }, { sequence });
  const finished: string[] = [];
  const noted = <T>(what: string, work: Promise<T>) => work.finally(() => finished.push(what));
  const outcomes = await world.until(
    Promise.all([
      noted('before', make(inner, 'before', base + 1)),
      noted(
        'snapshot',
        client.send(m.Snapshot, { id: source, parent: ROOT, name: 'copy' }, { sequence: base + 2 }),
      ),
      noted('after', make(inner, 'after', base + 3)),
      codeOf(noted('target', make(ROOT, 'copy', base + 4))),
      noted('elsewhere', make(ROOT, 'elsewhere', base + 5)),
    ]),
  );
  t.equal(outcomes[3], 'EXISTS', 'the name of the copy is locked too');
  const at = (what: string) => finished.indexOf(what);
  t.ok(at('before') < at('snapshot') && at('snapshot') < at('after'), finished.join());
  t.ok(at('elsewhere') < at('after'), 'other names do not wait for it');
  client.sequence = base + 5;
  const copied = (await client.lookup('/copy/inner')).id;
  t.strictSame(await client.names(copied), ['before']);
  t.strictSame((await client.names(inner)).sort(), ['after', 'before']);
});
