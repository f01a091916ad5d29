/** Many clients at once, and a master that dies among them: whatever was acknowledged happened, once. */
import fc from 'fast-check';
import t from 'tap';
import { digestState } from '../../master/dump.js';
import type { LoggedState, Node } from '../../master/state.js';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { MasterHost, TestClient } from './support.js';

const CLIENTS = 3;
const NAMES = ['a', 'b', 'c', 'd'];

interface Step {
  readonly kind:
    | 'create'
    | 'mkdir'
    | 'unlink'
    | 'rmdir'
    | 'rename'
    | 'exchange'
    | 'link'
    | 'setattr'
    | 'snapshot';
  /** Which of the nodes that are known, and which names. */
  readonly first: number;
  readonly second: number;
  readonly name: number;
  readonly newName: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom<Step['kind']>(
    'create',
    'mkdir',
    'mkdir',
    'unlink',
    'rmdir',
    'rename',
    'rename',
    'exchange',
    'link',
    'setattr',
    'snapshot',
  ),
  first: fc.nat(),
  second: fc.nat(),
  name: fc.nat(NAMES.length - 1),
  newName: fc.nat(NAMES.length - 1),
});

/** What one client does: one step after the other, each until it is answered, over as many masters as it takes. */
class User {
  readonly #client: TestClient;
  readonly #known: number[];
  readonly #live: () => boolean;
  #sequence = 0;

  constructor(client: TestClient, known: number[], live: () => boolean) {
    this.#client = client;
    this.#known = known;
    this.#live = live;
  }

  async run(steps: readonly Step[]): Promise<void> {
    for (const what of steps) {
      const sequence = ++this.#sequence;
      while (this.#live()) {
        try {
          await this.#do(what, sequence);
          break;
        } catch (error) {
          if (!(error instanceof GfsError)) throw error;
          if (error.reaction === 'never') break;
          await this.#again();
        }
      }
    }
  }

  async #again(): Promise<void> {
    const { timers } = this.#client.process.environment;
    await new Promise<void>((resolve) => void timers.after(50, resolve));
    if (this.#client.peer.closed) await this.#client.reconnect().catch(() => undefined);
  }

  async #do(what: Step, sequence: number): Promise<void> {
    const parent = this.#node(what.first);
    const newParent = this.#node(what.second);
    const [name, newName] = [NAMES[what.name] as string, NAMES[what.newName] as string];
    const options = { sequence, deadlineMs: 5_000 };
    const client = this.#client;
    const make = (mode: number) =>
      client.send(m.Create, { parent, name, mode, rdev: 0, exclusive: true }, options);
    const rename = (mode: 'replace' | 'exchange') =>
      client.send(m.Rename, { parent, name, newParent, newName, mode }, options);
    switch (what.kind) {
      case 'create':
        this.#known.push((await make(0o100644)).attributes.id);
        break;
      case 'mkdir':
        this.#known.push((await make(0o040755)).attributes.id);
        break;
      case 'unlink':
      case 'rmdir':
        await client.send(m.Unlink, { parent, name, directory: what.kind === 'rmdir' }, options);
        break;
      case 'rename':
        await rename('replace');
        break;
      case 'exchange':
        await rename('exchange');
        break;
      case 'link':
        await client.send(m.Link, { id: parent, parent: newParent, name }, options);
        break;
      case 'setattr':
        await client.send(
          m.SetAttributes,
          { id: parent, changes: { mode: 0o755, uid: what.second % 10 } },
          options,
        );
        break;
      case 'snapshot':
        await client.send(m.Snapshot, { id: parent, parent: newParent, name }, options);
    }
  }

  #node(choice: number): number {
    return this.#known[choice % this.#known.length] as number;
  }
}

/** What is true of every file system. */
function checkTree(state: LoggedState): void {
  const fail = (what: string): never => {
    throw new Error(what);
  };
  const names = new Map<number, number>();
  const subdirectories = new Map<number, number>();
  const seen = new Set<number>();
  const open: Node[] = [state.nodes.get(m.ROOT_ID) as Node];
  for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
    if (seen.has(directory.id)) fail(`directory ${directory.id} is met twice`);
    seen.add(directory.id);
    let last = 0;
    for (const { name, node: id, cookie } of directory.entries ?? []) {
      const node = state.nodes.get(id) ?? fail(`entry ${name} leads to nothing`);
      if (cookie <= last) fail(`the cookies of directory ${directory.id} are not in order`);
      last = cookie;
      names.set(id, (names.get(id) ?? 0) + 1);
      if (!node.isDirectory) continue;
      if (node.parent !== directory.id || node.name !== name)
        fail(`directory ${id} does not know where it is`);
      subdirectories.set(directory.id, (subdirectories.get(directory.id) ?? 0) + 1);
      open.push(node);
    }
  }
  for (const node of state.nodes.values()) {
    const expected = node.isDirectory
      ? seen.has(node.id)
        ? 2 + (subdirectories.get(node.id) ?? 0)
        : 0
      : (names.get(node.id) ?? 0);
    if (node.nlink !== expected) fail(`node ${node.id} has ${node.nlink} links, it should have ${expected}`);
    if ((node.nlink === 0) !== state.deleted.has(node.id)) fail(`node ${node.id} and the deleted table`);
    const own = node.isDirectory || node.nlink === 0 ? 1 : 1 + (node.otherLinks?.length ?? 0);
    if (!node.isDirectory && node.nlink > 0 && own !== node.nlink) fail(`node ${node.id} forgot a name`);
  }
}

t.test(
  'concurrency: any mix of mutations, with the master killed in between, leaves a whole tree',
  async (t) => {
    let seed = 7000;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), {
          minLength: CLIENTS,
          maxLength: CLIENTS,
        }),
        fc.array(fc.record({ afterMs: fc.integer({ min: 1, max: 60 }), power: fc.boolean() }), {
          maxLength: 3,
        }),
        fc.constantFrom('shared' as const, 'exclusive' as const),
        async (programs, crashes, parentLock) => {
          const world = new SimulatedWorld(seed++);
          const host = await new MasterHost(world, { parentLock, logSegmentBytes: 3_000 }).start();
          const known = [m.ROOT_ID, m.ROOT_ID];
          let live = true;
          const users: Promise<void>[] = [];
          for (const [at, program] of programs.entries()) {
            const client = await TestClient.start(world, `client${at}`);
            users.push(new User(client, known, () => live).run(program));
          }
          const all = Promise.all(users);
          for (const { afterMs, power } of crashes) {
            await world.runFor(afterMs);
            if (power) await host.powerCycle();
            else await host.restart();
            checkTree(host.master.state);
          }
          await world.until(all);
          live = false;
          checkTree(host.master.state);
          const digest = digestState(host.master.state);
          await host.restart();
          if (digestState(host.master.state) !== digest) throw new Error('the replayed state differs');
          if (world.failures.length > 0) throw world.failures[0]?.thrown;
        },
      ),
      { numRuns: 40 },
    );
    t.pass();
  },
);
