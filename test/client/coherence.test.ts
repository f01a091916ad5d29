/** Caching by promise, with real masters and clients in a simulated world. */
import t from 'tap';
import { type Broken, clientDefaults, GfsClient } from '../../client/index.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { MASTER_PORT, MasterHost } from '../master/support.js';

const ROOT = m.ROOT_ID;
t.setTimeout(600_000);

let seed = 7000;

/** A client that keeps what it is promised, and counts what it asks. */
class CachingClient {
  readonly world: SimulatedWorld;
  readonly name: string;
  readonly gfs: GfsClient;
  readonly broken: Broken[] = [];
  lost = 0;
  asked = 0;
  /** Where the nodes of each were met. */
  readonly directories: number[][] = [];
  /** What its kernel takes to forget; for ever when undefined. */
  forgetMs: number | undefined = 0;

  private constructor(world: SimulatedWorld, name: string, gfs: GfsClient) {
    this.world = world;
    this.name = name;
    this.gfs = gfs;
    const { master } = gfs;
    const query = master.query.bind(master);
    master.query = ((...words: Parameters<typeof query>) => {
      this.asked++;
      return query(...words);
    }) as typeof master.query;
    gfs.metadata.listen({
      onBroken: (broken, directories) => {
        this.broken.push(broken);
        this.directories.push([...directories]);
        return this.forgetMs === 0 ? undefined : this.#forget(this.forgetMs);
      },
      onLost: () => {
        this.lost++;
      },
    });
  }

  static async start(world: SimulatedWorld, name: string): Promise<CachingClient> {
    const options = { ...clientDefaults, masters: [{ host: 'master', port: MASTER_PORT }], caches: true };
    const gfs = await world.until(GfsClient.connect(world.process(name).environment, options));
    return new CachingClient(world, name, gfs);
  }

  #forget(afterMs: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      if (afterMs !== undefined) this.world.scheduler.after(afterMs, () => resolve());
    });
  }

  make(parent: number, name: string, mode = 0o100644): Promise<m.Attributes> {
    const request = { parent, name, mode, rdev: 0, exclusive: true };
    return this.world.until(this.gfs.master.mutate(m.Create, request)).then(({ attributes }) => attributes);
  }

  mkdir(parent: number, name: string): Promise<m.Attributes> {
    return this.make(parent, name, 0o040755);
  }

  chmod(id: number, mode: number): Promise<m.Attributes> {
    return this.world.until(this.gfs.setAttributes(id, { mode }, {}));
  }

  unlink(parent: number, name: string): Promise<unknown> {
    return this.world.until(this.gfs.master.mutate(m.Unlink, { parent, name, directory: false }));
  }

  rename(parent: number, name: string, newParent: number, newName: string): Promise<unknown> {
    const request = { parent, name, newParent, newName, mode: 'replace' as const };
    return this.world.until(this.gfs.master.mutate(m.Rename, request));
  }

  lookup(parent: number, name: string): Promise<m.Attributes | undefined> {
    return this.world.until(this.gfs.metadata.lookup(parent, name, {}));
  }

  async stat(id: number): Promise<m.Attributes> {
    return this.world.until(this.gfs.metadata.attributes(id, {}));
  }

  async names(id: number): Promise<string[]> {
    const names: string[] = [];
    for (let cookie = 0; ; ) {
      const { entries, end } = await this.world.until(this.gfs.metadata.directory(id, cookie, {}));
      names.push(...entries.map(({ name }) => name));
      if (end) return names;
      cookie = entries.at(-1)?.cookie ?? 0;
    }
  }

  /** How many questions `run` put to the master. */
  async questions(run: () => Promise<unknown>): Promise<number> {
    const before = this.asked;
    await run();
    return this.asked - before;
  }
}

async function started(names: readonly string[], changes = {}) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const clients: CachingClient[] = [];
  for (const name of names) clients.push(await CachingClient.start(world, name));
  t.teardown(() => Promise.all(clients.map(({ gfs }) => world.until(gfs.shutdown()).catch(() => undefined))));
  return { world, host, clients };
}

t.test('promises: what was asked once is answered without a message', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  for (let i = 0; i < 600; i++) await a.make(directory.id, `f${i}`);
  t.equal((await b.names(directory.id)).length, 600);
  const asked = await b.questions(async () => {
    t.equal((await b.names(directory.id)).length, 600);
    for (let i = 0; i < 600; i++) {
      const found = await b.lookup(directory.id, `f${i}`);
      await b.stat(found?.id as number);
    }
    t.equal(await b.lookup(directory.id, 'none'), undefined, 'a whole listing tells what is not there');
  });
  t.equal(asked, 0);
  const own = await a.questions(async () => {
    await a.stat(directory.id);
    t.equal((await a.lookup(directory.id, 'f7'))?.size, 0);
    t.equal(await a.lookup(directory.id, 'none'), undefined);
  });
  t.equal(own, 0, 'and who made a directory knows all of it');
});

t.test(
  'promises: a change waits for whom a time of access made forget, for which nobody waits',
  async (t) => {
    const { world, clients } = await started(['a', 'b']);
    const [a, b] = clients as [CachingClient, CachingClient];
    const file = await a.make(ROOT, 'f');
    await b.lookup(ROOT, 'f');
    b.forgetMs = 300;
    const before = world.scheduler.nowMs;
    const { sec, nsec } = a.gfs.master.time.now();
    const items = [{ id: file.id, sec: sec + 1, nsec }];
    await world.until(a.gfs.master.mutate(m.NoteAccess, { items }));
    t.ok(world.scheduler.nowMs - before < 300);
    await a.chmod(file.id, 0o600);
    t.ok(world.scheduler.nowMs - before >= 300);
  },
);

t.test('promises: a change is answered when everybody else has forgotten', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const file = await a.make(ROOT, 'f');
  t.equal((await b.lookup(ROOT, 'f'))?.mode, 0o100644);
  t.equal(await b.lookup(ROOT, 'g'), undefined);
  b.forgetMs = 300;
  const before = world.scheduler.nowMs;
  await a.chmod(file.id, 0o600);
  t.ok(world.scheduler.nowMs - before >= 300, 'it waited for the other kernel');
  t.same(b.directories.at(-1), [ROOT], 'which may be taking in what was found there');
  t.equal((await b.lookup(ROOT, 'f'))?.mode, 0o100600);
  await a.make(ROOT, 'g');
  t.not(await b.lookup(ROOT, 'g'), undefined, 'a name that was not there');
  await a.rename(ROOT, 'f', ROOT, 'g');
  t.equal(await b.lookup(ROOT, 'f'), undefined);
  t.equal((await b.lookup(ROOT, 'g'))?.id, file.id);
  await a.unlink(ROOT, 'g');
  t.equal(await b.lookup(ROOT, 'g'), undefined);
  t.same(await b.names(ROOT), []);
});

t.test('promises: who removes a name that it never looked up is told when there is another', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  await a.make(ROOT, 'f');
  await b.unlink(ROOT, 'f');
  const again = await a.make(ROOT, 'f');
  t.equal((await b.lookup(ROOT, 'f'))?.id, again.id);
});

t.test('promises: a change of attributes leaves the promise of data', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const { id } = await a.make(ROOT, 'f');
  await b.lookup(ROOT, 'f');
  await a.chmod(id, 0o600);
  b.broken.length = 0;
  await world.until(a.gfs.setAttributes(id, { size: 10 }, {}));
  t.same(
    b.broken.map(({ attributes, data, cut }) => ({ attributes, data, cut })),
    [{ attributes: [], data: [id], cut: [id] }],
    'it may keep pages and locations, and is told when they are old',
  );
  b.broken.length = 0;
  await world.until(a.gfs.setAttributes(id, { size: 5 }, {}));
  t.same(b.broken, [], 'once');
});

t.test('promises: who is asked for a length may not defer the next meanwhile', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const { id } = await a.make(ROOT, 'f');
  const extend = (size: number) => world.until(a.gfs.master.mutate(m.ExtendFile, { id, size, defer: true }));
  t.equal((await extend(1)).deferred, true);
  let during: boolean | undefined;
  const file = await world.until(a.gfs.open(id, {}));
  file.report = async () => {
    during = (await a.gfs.master.mutate(m.ExtendFile, { id, size: 2, defer: true })).deferred;
  };
  t.equal((await b.stat(id)).size, 2);
  t.equal(during, false);
  b.broken.length = 0;
  t.equal((await extend(3)).deferred, true, 'and may again afterwards');
  t.same(
    b.broken.map(({ data }) => data),
    [[id]],
    'once the other was told',
  );
});

t.test(
  'promises: one who may tell lengths late is asked when that makes room, and waits for nobody',
  async (t) => {
    const { world, clients } = await started(['a', 'b'], { maxPromises: 2 });
    const [a, b] = clients as [CachingClient, CachingClient];
    const { id } = await a.make(ROOT, 'f');
    const others = [await b.make(ROOT, 'g'), await b.make(ROOT, 'h'), await b.make(ROOT, 'i')];
    const tell = (size: number) => a.gfs.master.mutate(m.ExtendFile, { id, size, defer: true });
    t.equal((await world.until(tell(1))).deferred, true);
    const file = await world.until(a.gfs.open(id, {}));
    let reports = 0;
    file.report = async () => {
      reports++;
      await tell(2);
    };
    const startMs = world.scheduler.nowMs;
    const looked = others.map((other) => b.gfs.master.query(m.GetAttributes, { id: other.id }));
    const { attributes } = await world.until(b.gfs.master.query(m.GetAttributes, { id }));
    await world.until(Promise.all(looked));
    t.equal(attributes.size, 2);
    t.ok(reports > 0);
    const tookMs = world.scheduler.nowMs - startMs;
    t.ok(tookMs < 1_000, `${tookMs} ms of the world's time`);
  },
);

t.test('promises: nobody waits for one who holds none', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  b.forgetMs = undefined;
  const file = await a.make(ROOT, 'f');
  await a.chmod(file.id, 0o600);
  t.equal(b.broken.length, 0);
});

t.test(
  'promises: a mount that is cut off holds others up until its session is dead, then knows nothing',
  async (t) => {
    const { world, clients } = await started(['a', 'b']);
    const [a, b] = clients as [CachingClient, CachingClient];
    const file = await a.make(ROOT, 'f');
    await b.stat(file.id);
    world.network.cut('master', 'b');
    const cutAtMs = world.scheduler.nowMs;
    await a.chmod(file.id, 0o600);
    const tookMs = world.scheduler.nowMs - cutAtMs;
    t.ok(tookMs > 1_000 && tookMs < 2_600, `the change took ${tookMs} ms`);
    t.equal(b.gfs.metadata.attributesTtlMs(file.id), 0, 'old news is believed no longer');
    t.equal(b.gfs.metadata.known(file.id), undefined);
    world.network.healAll();
    t.equal((await b.stat(file.id)).mode, 0o100600);
  },
);

t.test('promises: a mount that is killed holds nobody up', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const file = await a.make(ROOT, 'f');
  await b.stat(file.id);
  b.forgetMs = undefined;
  for (const process of [...world.host('b').processes]) process.crash();
  const before = world.scheduler.nowMs;
  await a.chmod(file.id, 0o600);
  t.ok(world.scheduler.nowMs - before < 500);
});

t.test('promises: a mount that lives and does not forget is cut off', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const file = await a.make(ROOT, 'f');
  await b.stat(file.id);
  b.forgetMs = undefined;
  await a.chmod(file.id, 0o600);
  t.ok(b.lost >= 1);
  b.forgetMs = 0;
  await world.runFor(1_000);
  t.equal((await b.stat(file.id)).mode, 0o100600);
});

t.test(
  'promises: after a restart of the master nothing changes while somebody may believe the old life',
  async (t) => {
    const { world, host, clients } = await started(['a', 'b']);
    const [a, b] = clients as [CachingClient, CachingClient];
    const file = await a.make(ROOT, 'f');
    await b.stat(file.id);
    // It neither hears of the end of the master nor comes back.
    world.network.cut('master', 'b');
    host.process.crash();
    const deadAtMs = world.scheduler.nowMs;
    await host.start();
    t.not(b.gfs.metadata.known(file.id), undefined, 'it still believes');
    await a.chmod(file.id, 0o600);
    t.ok(world.scheduler.nowMs - deadAtMs >= 1_900, 'the change waited');
    t.equal(b.gfs.metadata.known(file.id), undefined);
    world.network.healAll();
    t.equal((await b.stat(file.id)).mode, 0o100600);
  },
);

t.test('promises: after a restart nobody waits once all are back', async (t) => {
  const { world, host, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const file = await a.make(ROOT, 'f');
  await b.stat(file.id);
  await host.restart();
  const before = world.scheduler.nowMs;
  await a.chmod(file.id, 0o600);
  t.ok(world.scheduler.nowMs - before < 1_000);
  t.equal((await b.stat(file.id)).mode, 0o100600);
});

t.test('promises: at the bound the oldest is taken back, and stays right', async (t) => {
  const { host, clients } = await started(['a', 'b'], { maxPromises: 1024 });
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  const files: m.Attributes[] = [];
  for (let i = 0; i < 1_200; i++) files.push(await a.make(directory.id, `f${i}`));
  for (const { id } of files) await b.stat(id);
  t.ok(b.broken.length > 0, 'promises were taken back');
  const isKnown = (file: m.Attributes) => b.gfs.metadata.known(file.id) !== undefined;
  t.notOk(isKnown(files[0] as m.Attributes), 'the oldest is gone');
  t.ok(isKnown(files.at(-1) as m.Attributes), 'the newest is there');
  t.ok(files.filter(isKnown).length <= 1024);
  for (const at of [0, 700, 1_199]) {
    const { id } = files[at] as m.Attributes;
    await a.chmod(id, 0o600);
    t.equal((await b.stat(id)).mode, 0o100600);
  }
  t.ok(host.master.state.nodes.size > 1_200);
});

t.test('promises: one who does not look is not told of every name for ever', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  await b.names(ROOT);
  for (let i = 0; i < 200; i++) await a.make(ROOT, `f${i}`);
  t.ok(b.broken.length < 80, `${b.broken.length} messages`);
  t.equal((await b.names(ROOT)).length, 200);
});

t.test(
  'promises: a directory that several mounts keep changing gets no promise of its attributes',
  async (t) => {
    const { world, clients } = await started(['a', 'b', 'c']);
    const [a, b, c] = clients as [CachingClient, CachingClient, CachingClient];
    for (let i = 0; i < 4; i++) {
      await a.make(ROOT, `a${i}`);
      await b.make(ROOT, `b${i}`);
    }
    await c.stat(ROOT);
    t.equal(await c.questions(() => c.stat(ROOT)), 1);
    await world.runFor(1_500);
    await c.stat(ROOT);
    t.equal(await c.questions(() => c.stat(ROOT)), 0, 'once they leave it alone it does');
  },
);

t.test('promises: an interrupted change is not forgotten by its author', async (t) => {
  const { world, clients } = await started(['a']);
  const [a] = clients as [CachingClient];
  const file = await a.make(ROOT, 'f');
  for (let round = 0; round < 40; round++) {
    const interrupt = new AbortController();
    const mode = 0o600 + (round % 8);
    const changing = a.gfs
      .setAttributes(file.id, { mode }, { signal: interrupt.signal })
      .catch(() => undefined);
    await world.runFor(world.random.between(0, 6));
    interrupt.abort();
    await world.until(changing);
    // Whatever became of it: what is believed is what the master has.
    await world.until(a.gfs.metadata.attributes(file.id, {}));
    await world.runFor(200);
    const { attributes } = await world.until(a.gfs.master.query(m.GetAttributes, { id: file.id }));
    t.equal((await a.stat(file.id)).mode, attributes.mode);
  }
});

t.test('look-ahead: after some names of a directory the others are known, and stay true', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  const files: m.Attributes[] = [];
  for (let at = 0; at < 200; at++) files.push(await a.make(directory.id, `f${at}`));
  const sparing = await b.questions(async () => {
    for (const at of [7, 100]) t.equal((await b.lookup(directory.id, `f${at}`))?.id, files[at]?.id);
  });
  t.equal(sparing, 2, 'who asks for two names is told two');
  const asked = await b.questions(async () => {
    for (const [at, file] of files.entries())
      t.equal((await b.lookup(directory.id, `f${at}`))?.id, file.id, `f${at}`);
  });
  t.ok(asked < 20, `${asked} questions for 200 names`);
  await a.chmod((files[150] as m.Attributes).id, 0o600);
  t.equal((await b.lookup(directory.id, 'f150'))?.mode, 0o100600);
  await a.rename(directory.id, 'f10', directory.id, 'renamed');
  t.equal(await b.lookup(directory.id, 'f10'), undefined);
  t.equal((await b.lookup(directory.id, 'renamed'))?.id, files[10]?.id);
  await a.unlink(directory.id, 'f11');
  t.equal(await b.lookup(directory.id, 'f11'), undefined);
  const fresh = await a.make(directory.id, 'fresh');
  t.equal((await b.lookup(directory.id, 'fresh'))?.id, fresh.id);
});

t.test('look-ahead: who uses what was read ahead has the next page soon', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  for (let at = 0; at < 2_500; at++) await a.make(directory.id, `f${at}`);
  const asked = await b.questions(async () => {
    for (let at = 0; at < 2_500; at++) await b.lookup(directory.id, `f${at}`);
  });
  t.ok(asked <= 20, `${asked} questions for 2,500 names`);
});

t.test('look-ahead: files of a directory that are read one after another', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  for (let at = 0; at < 300; at++) await a.make(directory.id, `f${at}`);
  t.same(
    b.gfs.metadata.readNext(1, () => true),
    [],
    'nothing is known of that one',
  );
  const wanted = new Set<number>();
  let rounds = 0;
  for (let at = 0; at < 300; at++) {
    const { id } = (await b.lookup(directory.id, `f${at}`)) as m.Attributes;
    if (wanted.has(id)) continue;
    const next = b.gfs.metadata.readNext(id, (file) => !wanted.has(file.id));
    if (next.length > 0) rounds++;
    t.ok(next.length <= 64 && !next.includes(id));
    for (const each of [id, ...next]) wanted.add(each);
  }
  t.equal(wanted.size, 300);
  t.ok(rounds > 0 && rounds <= 12, `${rounds} rounds`);
});

t.test('look-ahead: what is read ahead is bounded by what is asked for', async (t) => {
  const { world, clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const directory = await a.mkdir(ROOT, 'd');
  for (let at = 0; at < 2_100; at++) await a.make(directory.id, `f${at}`);
  let pages = 0;
  const { master } = b.gfs;
  const query = master.query.bind(master);
  master.query = ((...words: Parameters<typeof query>) => {
    if (words[0].name === m.ReadDirectory.name) pages++;
    return query(...words);
  }) as typeof master.query;
  for (let at = 0; at < 30; at++) await b.lookup(directory.id, `f${2_099 - at}`);
  await world.runFor(100);
  t.equal(pages, 1, 'a page for a thousand names that nobody asked for, and no more');
});

/** Lists everything below a directory, as find(1) does. */
async function walk(client: CachingClient, directory: number, path = ''): Promise<string[]> {
  const { entries } = await client.world.until(client.gfs.metadata.directory(directory, 0, {}));
  const paths: string[] = [];
  for (const { name, attributes } of entries) {
    paths.push(`${path}/${name}`);
    if ((attributes.mode & 0o170000) === 0o040000)
      paths.push(...(await walk(client, attributes.id, `${path}/${name}`)));
  }
  return paths;
}

t.test('look-ahead: who walks through a tree hears of it in few messages, and of what changes', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const top = await a.mkdir(ROOT, 'top');
  const made: string[] = [];
  const directories: { id: number; path: string }[] = [];
  for (let at = 0; at < 30; at++) {
    const outer = await a.mkdir(top.id, `d${at}`);
    made.push(`/d${at}`, `/d${at}/f`);
    await a.make(outer.id, 'f');
    for (let deep = 0; deep < 4; deep++) {
      const path = `/d${at}/e${deep}`;
      const { id } = await a.mkdir(outer.id, `e${deep}`);
      directories.push({ id, path });
      made.push(path, `${path}/f`);
      await a.make(id, 'f');
    }
  }
  const asked = await b.questions(async () => t.same((await walk(b, top.id)).sort(), made.sort()));
  t.ok(asked <= 15, `${asked} questions for ${directories.length} directories`);
  t.equal(await b.questions(() => walk(b, top.id)), 0);
  for (const { id, path } of directories.filter((_, at) => at % 7 === 0)) {
    await a.unlink(id, 'f');
    made.splice(made.indexOf(`${path}/f`), 1);
    await a.make(id, 'g');
    made.push(`${path}/g`);
  }
  t.same((await walk(b, top.id)).sort(), made.sort());
});

t.test('look-ahead: who removes a tree as it walks through it asks for few listings', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const top = await a.mkdir(ROOT, 'top');
  for (let at = 0; at < 40; at++) {
    const { id } = await a.mkdir(top.id, `d${at}`);
    for (let deep = 0; deep < 3; deep++) await a.make((await a.mkdir(id, `e${deep}`)).id, 'f');
  }
  const remove = async (parent: number): Promise<void> => {
    const { entries } = await b.world.until(b.gfs.metadata.directory(parent, 0, {}));
    for (const { name, attributes } of entries) {
      const directory = (attributes.mode & 0o170000) === 0o040000;
      if (directory) await remove(attributes.id);
      await b.world.until(b.gfs.master.mutate(m.Unlink, { parent, name, directory }));
    }
  };
  const asked = await b.questions(() => remove(top.id));
  t.ok(asked <= 20, `${asked} questions for 160 directories`);
  t.same(await a.names(top.id), []);
});

t.test('look-ahead: listings that are not used are read ahead no more', async (t) => {
  const { clients } = await started(['a', 'b']);
  const [a, b] = clients as [CachingClient, CachingClient];
  const top = await a.mkdir(ROOT, 'top');
  const tops: number[] = [];
  for (let at = 0; at < 8; at++) {
    const { id } = await a.mkdir(top.id, `d${at}`);
    tops.push(id);
    for (let name = 0; name < 20; name++) await a.mkdir(id, `e${name}`);
  }
  const limits: number[] = [];
  const { master } = b.gfs;
  const query = master.query.bind(master);
  master.query = ((...words: Parameters<typeof query>) => {
    if (words[0].name === m.ReadTree.name) limits.push((words[1] as { limit: number }).limit);
    return query(...words);
  }) as typeof master.query;
  await b.names(top.id);
  for (const id of tops.toReversed()) await b.names(id);
  t.ok(limits.length > 0 && limits.every((limit) => limit <= 64), String(limits));
});

t.test('promises: whoever looks after a change was acknowledged sees it, by seed', async (t) => {
  for (let round = 0; round < 8; round++) {
    const { world, host, clients } = await started(['a', 'b', 'c']);
    const random = world.random.fork('ops');
    const directory = await (clients[0] as CachingClient).mkdir(ROOT, 'd');
    /** The newest acknowledged generation of each name: a file's mode counts them. */
    const acknowledged = new Map<string, number>();
    const names = ['x', 'y', 'z'];
    let violations = 0;
    const writers = names.map(async (name) => {
      for (let generation = 1; generation <= 40; generation++) {
        const { gfs } = random.pick(clients);
        const temporary = `${name}.${generation}`;
        const request = { parent: directory.id, name: temporary, mode: 0o100000 + generation, rdev: 0 };
        await gfs.master.mutate(m.Create, { ...request, exclusive: true });
        await gfs.master.mutate(m.Rename, {
          ...{ parent: directory.id, name: temporary, newParent: directory.id, newName: name },
          mode: 'replace',
        });
        acknowledged.set(name, generation);
      }
    });
    let writing = true;
    const readers = clients.flatMap(({ gfs }) =>
      names.map(async (name) => {
        while (writing) {
          const least = acknowledged.get(name) ?? 0;
          const seen = await gfs.metadata.lookup(directory.id, name, {});
          if ((seen === undefined ? 0 : seen.mode & 0o7777) < least) violations++;
          await new Promise<void>((resolve) => void world.scheduler.after(random.between(0, 3), resolve));
        }
      }),
    );
    const restarting =
      round % 3 === 2
        ? (async () => {
            await new Promise<void>((resolve) => void world.scheduler.after(150, resolve));
            for (const { name } of clients) {
              world.network.cut('master', name);
              world.scheduler.after(random.between(10, 1_500), () => world.network.heal('master', name));
              await new Promise<void>((resolve) => void world.scheduler.after(200, resolve));
            }
          })()
        : undefined;
    await world.until(Promise.all([...writers, restarting]), 120_000);
    writing = false;
    await world.until(Promise.all(readers), 60_000);
    t.equal(violations, 0, `seed ${world.seed}`);
    t.ok(host.master.state.nodes.size > 0);
  }
});
