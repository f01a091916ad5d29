/** Mutations of several clients at once, against the same mutations one after another, in every order. */
import fc from 'fast-check';
import t from 'tap';
import type { LoggedState } from '../../master/state.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MasterHost, TestClient } from './support.js';

t.setTimeout(600_000);

type ParentLock = 'shared' | 'exclusive';

/** What every run starts with. Few directories and names, so that mutations meet. */
const DIRECTORIES = ['', '/a', '/c'];
const FILES = ['/f', '/a/f'];
const NAMES = ['a', 'c', 'f'];
/** Flushes of the log take so many times as long: all have arrived before the first is applied. */
const SLOWNESS = 20;

const place = { parent: fc.constantFrom(...DIRECTORIES), name: fc.constantFrom(...NAMES) };
const node = fc.constantFrom(...DIRECTORIES.slice(1), ...FILES);
/** Directories and files are named as they were at the start: whatever has become of them since. */
const mutation = fc.oneof(
  fc.record({ kind: fc.constantFrom('create' as const, 'mkdir' as const), ...place }),
  fc.record({ kind: fc.constantFrom('unlink' as const, 'rmdir' as const), ...place }),
  fc.record({ kind: fc.constant('link' as const), node, ...place }),
  fc.record({ kind: fc.constant('setattr' as const), node, uid: fc.integer({ min: 1, max: 3 }) }),
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('rename' as const),
      from: fc.record(place),
      to: fc.record(place),
      mode: fc.constantFrom('replace' as const, 'noreplace' as const, 'exchange' as const),
    }),
  },
);
type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

/** A fresh master with the tree, and two clients. */
class Run {
  readonly #host: MasterHost;
  readonly #clients: readonly TestClient[];
  /** Path at the start → node. */
  readonly #ids: ReadonlyMap<string, number>;

  private constructor(host: MasterHost, clients: readonly TestClient[], ids: ReadonlyMap<string, number>) {
    this.#host = host;
    this.#clients = clients;
    this.#ids = ids;
  }

  static async start(seed: number, parentLock: ParentLock): Promise<Run> {
    const world = new SimulatedWorld(seed);
    const host = await new MasterHost(world, { parentLock }).start();
    const clients = [await TestClient.start(world, 'client0'), await TestClient.start(world, 'client1')];
    const ids = new Map<string, number>([['', m.ROOT_ID]]);
    for (const [paths, mode] of [
      [DIRECTORIES.slice(1), 0o040755],
      [FILES, 0o100644],
    ] as const) {
      for (const path of paths) {
        const slash = path.lastIndexOf('/');
        const parent = ids.get(path.slice(0, slash)) as number;
        ids.set(path, (await (clients[0] as TestClient).make(parent, path.slice(slash + 1), mode)).id);
      }
    }
    return new Run(host, clients, ids);
  }

  /** All at once. @returns what each came to, and the tree */
  atOnce(mutations: readonly Mutation[]): Promise<string> {
    this.#host.world.host('master').disk.slowness = SLOWNESS;
    return this.#finish(Promise.all(mutations.map((each, at) => this.#do(each, at))), mutations);
  }

  /** One after another. */
  inOrder(mutations: readonly Mutation[], order: readonly number[]): Promise<string> {
    const oneByOne = async (): Promise<string[]> => {
      const outcomes: string[] = [];
      for (const at of order) outcomes[at] = await this.#do(mutations[at] as Mutation, at);
      return outcomes;
    };
    return this.#finish(oneByOne(), mutations);
  }

  async #finish(outcomes: Promise<string[]>, mutations: readonly Mutation[]): Promise<string> {
    const { world, master, process } = this.#host;
    const codes = await world.until(outcomes);
    const lines = codes.map((code, at) => `${code}: ${JSON.stringify(mutations[at])}`);
    lines.push(...treeOf(master.state));
    process.crash();
    if (world.failures.length > 0) throw world.failures[0]?.thrown;
    return lines.join('\n');
  }

  /** The clients take turns. */
  #do(what: Mutation, at: number): Promise<string> {
    const client = this.#clients[at % this.#clients.length] as TestClient;
    const options = { sequence: ++client.sequence };
    const id = (path: string): number => this.#ids.get(path) as number;
    if (what.kind === 'setattr') {
      const body = { id: id(what.node), changes: { uid: what.uid } };
      return codeOf(client.send(m.SetAttributes, body, options));
    }
    if (what.kind === 'rename') {
      const { from, to, mode } = what;
      const target = { newParent: id(to.parent), newName: to.name, mode };
      return codeOf(client.send(m.Rename, { parent: id(from.parent), name: from.name, ...target }, options));
    }
    const [parent, name] = [id(what.parent), what.name];
    switch (what.kind) {
      case 'create':
      case 'mkdir': {
        const mode = what.kind === 'mkdir' ? 0o040755 : 0o100644;
        return codeOf(client.send(m.Create, { parent, name, mode, rdev: 0, exclusive: true }, options));
      }
      case 'unlink':
      case 'rmdir':
        return codeOf(client.send(m.Unlink, { parent, name, directory: what.kind === 'rmdir' }, options));
      case 'link':
        return codeOf(client.send(m.Link, { id: id(what.node), parent, name }, options));
    }
  }
}

/** Every path with the type, owner and link count of what it leads to, and the first path that leads there too. */
function treeOf(state: LoggedState): string[] {
  const lines: string[] = [];
  const first = new Map<number, string>();
  const walk = (directory: number, path: string): void => {
    const entries = [...(state.nodes.get(directory)?.entries ?? [])];
    for (const { name, node: id } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const found = state.nodes.get(id);
      if (found === undefined) throw new Error(`${path}/${name} leads to nothing`);
      const { mode, uid, nlink } = found;
      const same = first.get(id) ?? 'new';
      lines.push(`${path}/${name} ${mode.toString(8)} ${uid} ${nlink} ${same}`);
      if (found.isDirectory && same !== 'new') throw new Error(`${path}/${name} is a second name of ${same}`);
      first.set(id, `${path}/${name}`);
      if (found.isDirectory) walk(id, `${path}/${name}`);
    }
  };
  walk(m.ROOT_ID, '');
  return [
    ...lines,
    `${state.fileCount} files, ${state.directoryCount} directories, ${state.deleted.size} deleted`,
  ];
}

function* orders(left: readonly number[]): Generator<number[]> {
  if (left.length === 0) yield [];
  for (const next of left)
    for (const rest of orders(left.filter((each) => each !== next))) yield [next, ...rest];
}

t.test('locks: any mutations at once come to what some serial order of them gives', async (t) => {
  let seed = 9000;
  await fc.assert(
    fc.asyncProperty(
      fc.array(mutation, { minLength: 2, maxLength: 4 }),
      fc.constantFrom<ParentLock>('shared', 'exclusive'),
      async (mutations, parentLock) => {
        const got = await (await Run.start(seed++, parentLock)).atOnce(mutations);
        for (const order of orders([...mutations.keys()])) {
          if ((await (await Run.start(seed, parentLock)).inOrder(mutations, order)) === got) return;
        }
        throw new Error(`no order of them comes to\n${got}`);
      },
    ),
    { numRuns: 200 },
  );
  t.pass();
});
