/** Random operations on the namespace, against a model that knows nothing of locks, logs or ids. */
import fc from 'fast-check';
import t from 'tap';
import { digestState, dumpState } from '../../master/dump.js';
import type { LoggedState } from '../../master/state.js';
import type { ErrorCode } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MasterHost, TestClient, throughImage } from './support.js';

interface ModelFile {
  links: number;
  size: number;
}
type ModelDirectory = Map<string, ModelNode>;
type ModelNode = ModelFile | ModelDirectory;

const isDirectory = (node: ModelNode | undefined): node is ModelDirectory => node instanceof Map;

/** A file system in the fewest words. Paths are lists of names. */
class Model {
  readonly root: ModelDirectory = new Map();
  /** Files without a name, in the order in which they lost it. */
  readonly trash: ModelFile[] = [];

  find(path: readonly string[]): ModelNode | undefined {
    let node: ModelNode | undefined = this.root;
    for (const name of path) node = isDirectory(node) ? node.get(name) : undefined;
    return node;
  }

  parent(path: readonly string[]): ModelDirectory | undefined {
    const parent = this.find(path.slice(0, -1));
    return isDirectory(parent) ? parent : undefined;
  }

  make(path: string[], node: ModelNode): ErrorCode | 'none' {
    const parent = this.parent(path) as ModelDirectory;
    const name = path.at(-1) as string;
    if (parent.has(name)) return 'EXISTS';
    parent.set(name, node);
    return 'none';
  }

  link(from: string[], to: string[]): ErrorCode | 'none' {
    const node = this.find(from) as ModelNode;
    if (isDirectory(node)) return 'NOT_PERMITTED';
    const code = this.make(to, node);
    if (code === 'none') node.links++;
    return code;
  }

  remove(path: string[], directory: boolean): ErrorCode | 'none' {
    const node = this.find(path);
    if (node === undefined) return 'NOT_FOUND';
    if (!isDirectory(node)) {
      if (directory) return 'NOT_DIRECTORY';
      this.#loseName(node);
    } else {
      if (!directory) return 'IS_DIRECTORY';
      if (node.size > 0) return 'NOT_EMPTY';
    }
    this.parent(path)?.delete(path.at(-1) as string);
    return 'none';
  }

  rename(from: string[], to: string[], mode: string): ErrorCode | 'none' {
    const source = this.find(from);
    if (source === undefined) return 'NOT_FOUND';
    const target = this.find(to);
    const below = (inner: string[], outer: string[]): boolean =>
      outer.every((name, at) => inner[at] === name);
    if (isDirectory(source) && below(to.slice(0, -1), from)) return 'INVALID';
    if (mode === 'noreplace' && target !== undefined) return 'EXISTS';
    if (mode === 'exchange') {
      if (target === undefined) return 'NOT_FOUND';
      if (isDirectory(target) && below(from.slice(0, -1), to)) return 'INVALID';
    } else if (target !== undefined && target !== source) {
      if (isDirectory(source)) {
        if (!isDirectory(target)) return 'NOT_DIRECTORY';
        if (target.size > 0) return 'NOT_EMPTY';
      } else if (isDirectory(target)) {
        return below(from.slice(0, -1), to) ? 'NOT_EMPTY' : 'IS_DIRECTORY';
      }
    }
    if (target === source) return 'none';
    const fromParent = this.parent(from) as ModelDirectory;
    const toParent = this.parent(to) as ModelDirectory;
    if (mode === 'exchange') {
      fromParent.set(from.at(-1) as string, target as ModelNode);
    } else {
      if (target !== undefined && !isDirectory(target)) this.#loseName(target);
      fromParent.delete(from.at(-1) as string);
    }
    toParent.set(to.at(-1) as string, source);
    return 'none';
  }

  #loseName(file: ModelFile): void {
    if (--file.links === 0) this.trash.push(file);
  }

  undelete(at: number, to: string[]): ErrorCode | 'none' {
    const file = this.trash[at] as ModelFile;
    const code = this.make(to, file);
    if (code !== 'none') return code;
    this.trash.splice(at, 1);
    file.links = 1;
    return 'none';
  }

  snapshot(from: string[], to: string[]): ErrorCode | 'none' {
    const source = this.find(from) as ModelNode;
    if (this.parent(to)?.has(to.at(-1) as string)) return 'EXISTS';
    if (isDirectory(source) && from.every((name, at) => to[at] === name)) return 'INVALID';
    return this.make(to, this.#copy(source, new Map()));
  }

  #copy(node: ModelNode, copies: Map<ModelFile, ModelFile>): ModelNode {
    if (isDirectory(node))
      return new Map([...node].map(([name, child]) => [name, this.#copy(child, copies)]));
    const before = copies.get(node);
    if (before !== undefined) {
      before.links++;
      return before;
    }
    const copy = { ...node, links: 1 };
    copies.set(node, copy);
    return copy;
  }

  /** Every path with what is visible of it, sorted. */
  listing(directory = this.root, prefix = ''): string[] {
    return [...directory]
      .flatMap(([name, node]) =>
        isDirectory(node)
          ? [
              `${prefix}/${name} d ${2 + [...node.values()].filter(isDirectory).length}`,
              ...this.listing(node, `${prefix}/${name}`),
            ]
          : [`${prefix}/${name} f ${node.links} ${node.size}`],
      )
      .sort();
  }
}

async function listingOf(client: TestClient, id: number = m.ROOT_ID, prefix = ''): Promise<string[]> {
  const { entries } = await client.call(m.ReadDirectory, { id, cookie: 0, limit: 1024 });
  const out: string[] = [];
  for (const { name, attributes } of entries) {
    const directory = (attributes.mode & 0o170000) === 0o040000;
    out.push(
      `${prefix}/${name} ${directory ? `d ${attributes.nlink}` : `f ${attributes.nlink} ${attributes.size}`}`,
    );
    if (directory) out.push(...(await listingOf(client, attributes.id, `${prefix}/${name}`)));
  }
  return out.sort();
}

const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 });
const operation = fc.oneof(
  fc.record({ kind: fc.constantFrom('mkdir' as const, 'create' as const), path }),
  fc.record({ kind: fc.constantFrom('link' as const, 'snapshot' as const), path, to: path }),
  fc.record({ kind: fc.constantFrom('unlink' as const, 'rmdir' as const), path }),
  fc.record({
    kind: fc.constant('rename' as const),
    path,
    to: path,
    mode: fc.constantFrom('replace' as const, 'noreplace' as const, 'exchange' as const),
  }),
  fc.record({ kind: fc.constantFrom('truncate' as const, 'extend' as const), path, size: fc.nat(5_000_000) }),
  fc.record({ kind: fc.constant('restart' as const), power: fc.boolean() }),
  fc.record({ kind: fc.constant('undelete' as const), at: fc.nat(), path }),
  fc.record({ kind: fc.constant('purge' as const), at: fc.nat() }),
  fc.record({
    kind: fc.constant('retain' as const),
    path,
    retentionMs: fc.option(fc.constantFrom(86_400_000, 604_800_000), { nil: undefined }),
  }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** Does one operation on both, and compares how they answer. */
async function step(host: MasterHost, client: TestClient, model: Model, what: Operation): Promise<void> {
  if (what.kind === 'restart') {
    const before = dumpState(host.master.state);
    if (what.power) await host.powerCycle();
    else await host.restart();
    t.strictSame(dumpState(host.master.state), before, 'replaying the log gives the live state');
    await client.register(client.session);
    return;
  }
  if (what.kind === 'purge' || what.kind === 'undelete') return ofTrash(client, model, what);
  const parent = model.parent(what.path);
  const to = 'to' in what ? what.to : undefined;
  // Where a parent is missing there is no id to ask with.
  if (parent === undefined || (to !== undefined && model.parent(to) === undefined)) return;
  const exists = model.find(what.path);
  const idOf = async (names: readonly string[]): Promise<number> =>
    (await client.lookup(`/${names.join('/')}`)).id;
  const parentId = await idOf(what.path.slice(0, -1));
  const name = what.path.at(-1) as string;
  const toParent = to === undefined ? 0 : await idOf(to.slice(0, -1));
  const toName = to?.at(-1) ?? '';
  switch (what.kind) {
    case 'mkdir':
      same(await codeOf(client.mkdir(parentId, name)), model.make(what.path, new Map()), what);
      break;
    case 'create':
      same(await codeOf(client.create(parentId, name)), model.make(what.path, { links: 1, size: 0 }), what);
      break;
    case 'unlink':
      same(await codeOf(client.unlink(parentId, name)), model.remove(what.path, false), what);
      break;
    case 'rmdir':
      same(await codeOf(client.rmdir(parentId, name)), model.remove(what.path, true), what);
      break;
    case 'rename':
      same(
        await codeOf(client.rename(parentId, name, toParent, toName, what.mode)),
        model.rename(what.path, what.to, what.mode),
        what,
      );
      break;
    case 'link':
      if (exists === undefined) return;
      same(
        await codeOf(client.mutate(m.Link, { id: await idOf(what.path), parent: toParent, name: toName })),
        model.link(what.path, what.to),
        what,
      );
      break;
    case 'snapshot':
      if (exists === undefined) return;
      same(
        await codeOf(
          client.mutate(m.Snapshot, { id: await idOf(what.path), parent: toParent, name: toName }),
        ),
        model.snapshot(what.path, what.to),
        what,
      );
      break;
    case 'retain': {
      if (exists === undefined) return;
      const { retentionMs } = what;
      // Only that replaying gives the same, and that nothing else changes.
      const body = { id: await idOf(what.path), ...(retentionMs === undefined ? {} : { retentionMs }) };
      await client.mutate(m.SetRetention, body);
      break;
    }
    default: {
      if (exists === undefined || isDirectory(exists)) return;
      const id = await idOf(what.path);
      if (what.kind === 'truncate') {
        await client.mutate(m.SetAttributes, { id, changes: { size: what.size } });
        exists.size = what.size;
      } else {
        await client.mutate(m.ExtendFile, { id, size: what.size });
        exists.size = Math.max(exists.size, what.size);
      }
    }
  }
}

async function ofTrash(
  client: TestClient,
  model: Model,
  what: Extract<Operation, { kind: 'undelete' | 'purge' }>,
): Promise<void> {
  const { files } = await client.call(m.ListDeleted, { after: 0, limit: 512 });
  const kept = files.map(({ attributes }) => attributes.id);
  if (kept.length !== model.trash.length)
    throw new Error(`${kept.length} are kept, not ${model.trash.length}`);
  if (kept.length === 0) return;
  const at = what.at % kept.length;
  const id = kept[at] as number;
  if (what.kind === 'purge') {
    await client.mutate(m.Purge, { ids: [id] });
    model.trash.splice(at, 1);
    return;
  }
  if (model.parent(what.path) === undefined) return;
  const parent = (await client.lookup(`/${what.path.slice(0, -1).join('/')}`)).id;
  const name = what.path.at(-1) as string;
  same(await codeOf(client.mutate(m.Undelete, { id, parent, name })), model.undelete(at, what.path), what);
}

function same(got: ErrorCode | 'none', wanted: ErrorCode | 'none', what: Operation): void {
  if (got !== wanted) throw new Error(`${JSON.stringify(what)}: ${got}, the model says ${wanted}`);
}

t.test(
  'namespace: any sequence of operations does what a simple model does, also across restarts',
  async (t) => {
    let seed = 1;
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { minLength: 20, maxLength: 150, size: 'max' }),
        async (operations) => {
          const world = new SimulatedWorld(seed++);
          const host = await new MasterHost(world, {
            logSegmentBytes: 1_000,
            checkpointBytes: 2_000,
          }).start();
          const client = await TestClient.start(world);
          const model = new Model();
          for (const what of operations) await step(host, client, model, what);
          const [got, wanted] = [await listingOf(client), model.listing()];
          if (got.join('\n') !== wanted.join('\n'))
            throw new Error(`${got.join('\n')}\n\nthe model has\n\n${wanted.join('\n')}`);
          const digest = digestState(host.master.state);
          await host.restart();
          if (digestState(host.master.state) !== digest) throw new Error('the replayed state differs');
          if (digestState(throughImage(host.master.state)) !== digest) throw new Error('its image differs');
          checkCounts(host.master.state);
        },
      ),
      { numRuns: 60 },
    );
    t.pass();
  },
);

/** What must hold whatever happened. */
function checkCounts(state: LoggedState): void {
  const nodes = [...state.nodes.values()];
  const directories = nodes.filter((node) => node.isDirectory && node.nlink > 0).length;
  const files = nodes.filter((node) => !node.isDirectory && node.nlink > 0).length;
  if (state.directoryCount !== directories || state.fileCount !== files)
    throw new Error('the counts are wrong');
  const deleted = nodes.filter(({ nlink }) => nlink === 0).map(({ id }) => id);
  if (deleted.some((id) => !state.deleted.has(id)) || deleted.length !== state.deleted.size) {
    throw new Error('the deleted table is wrong');
  }
}
