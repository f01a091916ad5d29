/**
 * What all clients change together: a few blocks of one file, a few names in one directory. Nobody can say
 * beforehand what must be there; that there was an order of it all that explains every answer, the
 * checker finds out at the end.
 */
import type { GfsClient } from '../../client/index.js';
import { KIB } from '../../protocol/limits.js';
import { Create, Link, Rename, ROOT_ID, Unlink } from '../../protocol/messages/index.js';
import type { FakeRandom } from '../fakes/index.js';
import { Actor, type ClientContext } from './actor.js';
import { Violation } from './ledger.js';
import { checkHistory, Recorder, type Verdict } from './linearizability.js';
import { ReplicaOrder } from './replica-order.js';
import {
  type BlockCall,
  blockSpecification,
  directorySpecification,
  type NameCall,
  volatileBlockSpecification,
  withoutReadsUnderWay,
  withUnknownNodes,
} from './specifications.js';

export const SHARED_BLOCK_BYTES = 4 * KIB;
const NAMES = ['a', 'b', 'c'] as const;
/** Longer histories are not begun: the search for an order has to end. */
const MAX_OPERATIONS = 240;

interface SharedBlock {
  readonly offset: number;
  readonly index: number;
  readonly offsetInChunk: number;
  readonly recorder: Recorder<BlockCall>;
}

export class Shared {
  #moment = 0;
  #nextValue = 1;
  readonly #blocks: SharedBlock[] = [];
  readonly #names = new Recorder<NameCall>(() => this.now());
  #fileId = 0;
  #directoryId = 0;
  #powerCuts = 0;
  /** What each replica by itself shows. */
  readonly order = new ReplicaOrder(() => this.now(), SHARED_BLOCK_BYTES, writerOf);
  /** Histories whose verdict the search did not reach. */
  undecided = 0;

  now(): number {
    return ++this.#moment;
  }

  get fileId(): number {
    return this.#fileId;
  }

  get directoryId(): number {
    return this.#directoryId;
  }

  get blocks(): readonly SharedBlock[] {
    return this.#blocks;
  }

  get names(): Recorder<NameCall> {
    return this.#names;
  }

  get isFull(): boolean {
    return this.#names.history.length >= MAX_OPERATIONS;
  }

  nextValue(): number {
    return this.#nextValue++;
  }

  /** Makes the file with its blocks, at both ends of a chunk and over a checksum's, and the directory. */
  async make(client: GfsClient): Promise<void> {
    const make = async (name: string, mode: number) => {
      const body = { parent: ROOT_ID, name, mode, rdev: 0, exclusive: true };
      return (await client.master.mutate(Create, body)).attributes.id;
    };
    this.#fileId = await make('shared', 0o100666);
    this.#directoryId = await make('shared-names', 0o040777);
    const file = await client.open(this.#fileId, {}, true);
    const offsets = [0, 62 * KIB, client.chunkBytes - SHARED_BLOCK_BYTES, client.chunkBytes];
    for (const offset of offsets) {
      await file.write(offset, blockOf(0));
      const index = Math.floor(offset / client.chunkBytes);
      const offsetInChunk = offset - index * client.chunkBytes;
      this.order.watch(offsetInChunk);
      const recorder = new Recorder<BlockCall>(() => this.now());
      this.#blocks.push({ offset, index, offsetInChunk, recorder });
    }
    await file.sync({});
    await client.close(file);
    this.order.fileId = this.#fileId;
  }

  hostCrashed(): void {
    this.#powerCuts++;
    for (const { recorder } of this.#blocks) recorder.seen(this.now(), { kind: 'powerCut' });
  }

  /** @throws Violation when no order explains what was seen */
  check(): void {
    const blocks = this.#powerCuts > 0 ? volatileBlockSpecification : blockSpecification;
    for (const { offset, recorder } of this.#blocks) {
      const history = withoutReadsUnderWay(recorder.history);
      const verdict =
        blocks === blockSpecification
          ? checkHistory(history, blockSpecification)
          : checkHistory(history, volatileBlockSpecification);
      this.#judge(`the block at ${offset} of the shared file`, verdict, history);
    }
    for (const { offset, offsetInChunk, index, recorder } of this.#blocks) {
      const block = { offset: offsetInChunk, index, history: recorder.history };
      for (const { server, verdict, history } of this.order.check(block, this.#powerCuts > 0))
        this.#judge(`the block at ${offset} of the shared file on ${server}`, verdict, history);
    }
    const names = withUnknownNodes(this.#names.history);
    this.#judge('the shared names', checkHistory(names, directorySpecification), names);
  }

  #judge(what: string, verdict: Verdict, history: readonly object[]): void {
    if (verdict === 'undecided') this.undecided++;
    if (verdict !== 'not linearisable') return;
    const told = history.map((operation) => JSON.stringify(operation)).join('\n');
    throw new Violation(`${what}: no order explains\n${told}`);
  }
}

function blockOf(value: number): Buffer {
  const block = Buffer.alloc(SHARED_BLOCK_BYTES);
  for (let at = 0; at < SHARED_BLOCK_BYTES; at += 4) block.writeUInt32LE(value, at);
  return block;
}

/** @throws Violation when it is of more than one write */
function writerOf(block: Buffer): number {
  const value = block.byteLength < 4 ? 0 : block.readUInt32LE(0);
  if (block.byteLength === SHARED_BLOCK_BYTES && blockOf(value).equals(block)) return value;
  throw new Violation(`a read of ${block.byteLength} bytes, of ${value} and others, is neither old nor new`);
}

/** One client's share in it: one operation after another. */
export class SharedWorker {
  readonly #actor: Actor;
  readonly #shared: Shared;
  /** Nodes that this worker made. */
  readonly #made: number[] = [];

  constructor(context: ClientContext, name: string, random: FakeRandom, shared: Shared) {
    this.#actor = new Actor(context, name, random);
    this.#shared = shared;
  }

  async run(): Promise<void> {
    const { random, ledger } = this.#actor;
    const steps = [
      () => this.readBlock(random.pick(this.#shared.blocks)),
      () => this.readBlock(random.pick(this.#shared.blocks)),
      () => this.#writeBlock(),
      () => this.#create(),
      () => this.#create(),
      () => this.#unlink(),
      () => this.#rename(),
      () => this.#link(),
      () => this.lookup(random.pick(NAMES)),
      () => this.list(),
    ];
    while (!ledger.stopping) {
      await this.#actor.pause(60);
      if (this.#shared.isFull) continue;
      await random.pick(steps)();
    }
  }

  /** Sees everything once: for the end, when nothing may fail. */
  async seeAll(): Promise<void> {
    for (const block of this.#shared.blocks) await this.readBlock(block);
    await this.list();
  }

  async readBlock({ offset, recorder }: SharedBlock): Promise<void> {
    const { client, attempt } = this.#actor;
    const invokedAt = this.#shared.now();
    const value = await attempt(`read block at ${offset}`, async () => {
      const file = await client.open(this.#shared.fileId, {});
      try {
        const { buffers, release } = await file.read(offset, SHARED_BLOCK_BYTES, {});
        const block = Buffer.concat(buffers);
        release();
        return writerOf(block);
      } finally {
        await client.close(file);
      }
    });
    if (value !== undefined) recorder.seen(invokedAt, { kind: 'read', value });
  }

  async #writeBlock(): Promise<void> {
    const { client, attempt, random } = this.#actor;
    const { offset, recorder } = random.pick(this.#shared.blocks);
    const file = await attempt('open the shared file', () => client.open(this.#shared.fileId, {}));
    if (file === undefined) return;
    const value = this.#shared.nextValue();
    const written = recorder.begin({ kind: 'write', value });
    const write = async () => {
      await file.write(offset, blockOf(value));
      await file.flush({});
      return true;
    };
    if ((await attempt(`write ${value} at ${offset}`, write)) !== undefined) {
      written({ kind: 'write', value });
      const synced = recorder.begin({ kind: 'sync', value });
      const sync = () => file.sync({}).then(() => true);
      if ((await attempt(`sync ${value}`, sync)) !== undefined) synced({ kind: 'sync', value });
    }
    await client.close(file);
  }

  async #create(): Promise<void> {
    const { client, random } = this.#actor;
    const name = random.pick(NAMES);
    const body = { parent: this.#shared.directoryId, name, mode: 0o100644, rdev: 0, exclusive: true };
    const done = this.#shared.names.begin({ kind: 'create', name, node: -1 });
    const create = () => client.master.mutate(Create, body);
    const reply = await this.#actor.attemptOr(`create shared ${name}`, ['EXISTS'], create);
    if (reply === undefined) return;
    const node = reply === 'EXISTS' ? undefined : reply.attributes.id;
    done({ kind: 'create', name, node });
    if (node !== undefined) this.#made.push(node);
  }

  async #unlink(): Promise<void> {
    const { client, random } = this.#actor;
    const name = random.pick(NAMES);
    const body = { parent: this.#shared.directoryId, name, directory: false };
    const done = this.#shared.names.begin({ kind: 'unlink', name, node: 'any' });
    const unlink = () => client.master.mutate(Unlink, body);
    const reply = await this.#actor.attemptOr(`unlink shared ${name}`, ['NOT_FOUND'], unlink);
    if (reply !== undefined)
      done({ kind: 'unlink', name, node: reply === 'NOT_FOUND' ? undefined : reply.id });
  }

  async #rename(): Promise<void> {
    const { client, random } = this.#actor;
    const from = random.pick(NAMES);
    const to = random.pick(NAMES.filter((name) => name !== from));
    const mode = random.pick(['replace', 'noreplace', 'exchange'] as const);
    const call = { kind: 'rename', from, to, mode } as const;
    const parent = this.#shared.directoryId;
    const body = { parent, name: from, newParent: parent, newName: to, mode };
    const done = this.#shared.names.begin({ ...call, result: 'done' });
    const rename = () => client.master.mutate(Rename, body);
    const what = `rename shared ${from} to ${to} (${mode})`;
    const reply = await this.#actor.attemptOr(what, ['NOT_FOUND', 'EXISTS'], rename);
    if (reply === undefined) return;
    if (reply === 'EXISTS') done({ ...call, result: 'exists' });
    else done({ ...call, result: reply === 'NOT_FOUND' ? 'no source or target' : 'done' });
  }

  async #link(): Promise<void> {
    const { client, random } = this.#actor;
    if (this.#made.length === 0) return;
    const node = random.pick(this.#made.slice(-4));
    const name = random.pick(NAMES);
    const call = { kind: 'link', name, node } as const;
    const body = { id: node, parent: this.#shared.directoryId, name };
    const done = this.#shared.names.begin({ ...call, result: 'done' });
    const link = () => client.master.mutate(Link, body);
    const answers = ['EXISTS', 'NOT_FOUND', 'STALE_NODE'] as const;
    const reply = await this.#actor.attemptOr(`link shared ${name} to ${node}`, answers, link);
    if (reply === undefined) return;
    if (reply === 'EXISTS') done({ ...call, result: 'exists' });
    else done({ ...call, result: typeof reply === 'string' ? 'gone' : 'done' });
  }

  async lookup(name: string): Promise<void> {
    const { client, attempt } = this.#actor;
    const invokedAt = this.#shared.now();
    const look = async () => ({ found: await client.metadata.lookup(this.#shared.directoryId, name, {}) });
    const reply = await attempt(`look up shared ${name}`, look);
    if (reply !== undefined) {
      this.#shared.names.seen(invokedAt, { kind: 'lookup', name, node: reply.found?.id });
    }
  }

  async list(): Promise<void> {
    const { client, attempt } = this.#actor;
    const invokedAt = this.#shared.now();
    const list = () => client.metadata.directory(this.#shared.directoryId, 0, {});
    const reply = await attempt('list the shared names', list);
    if (reply === undefined) return;
    const entries = reply.entries.map(({ name, attributes }) => [name, attributes.id] as const);
    this.#shared.names.seen(invokedAt, { kind: 'list', entries });
  }
}
