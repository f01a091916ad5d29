/** A store on a simulated disk beside a model of what it must hold, for crash tests. */
import type { Chunk } from '../../chunkserver/store/chunk.js';
import type { DirectoryContext } from '../../chunkserver/store/data-directory.js';
import { Store } from '../../chunkserver/store/store.js';
import { readVerified } from '../../chunkserver/store/verified-read.js';
import { PAGE_BYTES } from '../../protocol/checksum.js';
import { BufferPool } from '../../protocol/payload.js';
import type { FakeHost, FakeProcess, FakeRandom } from '../fakes/index.js';

export const ROOT = '/data';
const MAX_CHUNK_BYTES = 512 * 1024;

export function contextOf(process: FakeProcess, sync: 'disk' | 'memory' = 'disk'): DirectoryContext {
  const { disk, clock, timers, logger, bootId } = process.environment;
  const onFatal = (error: Error): void => process.fail(error);
  return { disk, clock, timers, logger, pool: new BufferPool(), bootId, sync, reservedBytes: 0, onFatal };
}

export function openStore(process: FakeProcess): Promise<Store> {
  return Store.open(contextOf(process), [ROOT], 'server-1');
}

export async function contentOf(chunk: Chunk): Promise<Buffer> {
  const read = await readVerified(chunk, 0, chunk.state.length);
  const bytes = Buffer.from(read.bytes);
  read.release();
  return bytes;
}

/** What one chunk must hold after each of its mutations. */
export class ChunkModel {
  readonly handle: number;
  /** By number of mutations. */
  readonly states: Buffer[] = [Buffer.alloc(0)];
  /** Mutations that were acknowledged. */
  acknowledged = 0;
  /** Mutations that were synced. */
  synced = 0;

  constructor(handle: number) {
    this.handle = handle;
  }

  get current(): Buffer {
    return this.states.at(-1) as Buffer;
  }

  push(state: Buffer): number {
    this.states.push(state);
    return this.states.length - 1;
  }

  /** After a crash: what is there is how it goes on. */
  restart(content: Buffer): void {
    this.states.splice(0, this.states.length, content);
    this.acknowledged = 0;
    this.synced = 0;
  }

  /** The process was killed: everything acknowledged is there, and mutations in order. */
  explainsKill(content: Buffer): boolean {
    return this.states.some((state, i) => i >= this.acknowledged && state.equals(content));
  }

  /** The host crashed: everything synced is there; of what came later the end of the chunk may be missing. */
  explainsHostCrash(content: Buffer): boolean {
    let shortest = Number.POSITIVE_INFINITY;
    return this.states.some((state, i) => {
      if (i < this.synced) return false;
      shortest = Math.min(shortest, state.byteLength);
      return content.byteLength >= shortest && content.equals(state.subarray(0, content.byteLength));
    });
  }
}

/** Does random things to a chunk, several at a time, and keeps the model in step. */
export class Mutator {
  readonly #random: FakeRandom;
  readonly #chunk: Chunk;
  readonly #model: ChunkModel;
  #serial: number;

  constructor(random: FakeRandom, chunk: Chunk, model: ChunkModel) {
    this.#random = random;
    this.#chunk = chunk;
    this.#model = model;
    this.#serial = Math.max(chunk.state.serial, chunk.state.version * 2 ** 24);
  }

  /** A few mutations at once, in order; resolves when all are acknowledged. */
  async step(): Promise<void> {
    const count = 1 + this.#random.below(4);
    await Promise.all(Array.from({ length: count }, () => this.#mutate()));
    const choice = this.#random.below(10);
    if (choice < 3) {
      const upTo = this.#model.acknowledged;
      await this.#chunk.sync();
      this.#model.synced = Math.max(this.#model.synced, upTo);
    }
    if (choice === 3) await this.#chunk.directory.checkpointNow();
    if (choice === 4) await contentOf(this.#chunk);
  }

  #mutate(): Promise<void> {
    const kind = this.#random.below(12);
    if (kind === 0) return this.#truncate();
    if (kind === 1) return this.#extend();
    return this.#write();
  }

  async #write(): Promise<void> {
    const { current } = this.#model;
    const sizes = [10, 3_000, 4_096, 65_536, 70_000, 131_072, 200_000];
    // Half of them are of whole pages, of which checksums are kept.
    const unit = this.#random.pick([1, PAGE_BYTES]);
    const length = unit * (1 + this.#random.below(Math.ceil(this.#random.pick(sizes) / unit)));
    const places = [
      current.byteLength,
      0,
      this.#random.below(current.byteLength + 1),
      current.byteLength + 5_000,
    ];
    const place = Math.min(this.#random.pick(places), MAX_CHUNK_BYTES - length);
    const offset = place - (place % unit);
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i += 512)
      bytes.fill(1 + this.#random.below(255), i, Math.min(length, i + 512));
    const state = Buffer.alloc(Math.max(current.byteLength, offset + length));
    current.copy(state);
    bytes.copy(state, offset);
    const index = this.#model.push(state);
    const serial = ++this.#serial;
    await this.#chunk.mutate({ kind: 'write', serial, offset, bytes, session: 1, sequence: serial });
    this.#acknowledge(index);
  }

  async #extend(): Promise<void> {
    const { current } = this.#model;
    const length = Math.min(MAX_CHUNK_BYTES, current.byteLength + this.#random.below(100_000));
    const state = Buffer.alloc(length);
    current.copy(state);
    const index = this.#model.push(state);
    await this.#chunk.mutate({
      kind: 'extend',
      serial: ++this.#serial,
      offset: length,
      session: 0,
      sequence: 0,
    });
    this.#acknowledge(index);
  }

  async #truncate(): Promise<void> {
    const { current } = this.#model;
    const length = this.#random.below(current.byteLength + 1);
    const index = this.#model.push(Buffer.from(current.subarray(0, length)));
    await this.#chunk.truncate(length, ++this.#serial);
    this.#acknowledge(index);
  }

  #acknowledge(index: number): void {
    this.#model.acknowledged = Math.max(this.#model.acknowledged, index);
  }
}

/** Mutates all chunks side by side until the process ends. */
export async function mutateAll(
  store: Store,
  models: readonly ChunkModel[],
  random: FakeRandom,
  steps: number,
): Promise<void> {
  await Promise.all(
    models.map(async (model) => {
      const chunk = store.find(model.handle) ?? (await store.create(model.handle, 1));
      const mutator = new Mutator(random, chunk, model);
      for (let i = 0; i < steps; i++) await mutator.step();
    }),
  );
}

export type { FakeHost };
