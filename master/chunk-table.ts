/** All chunks, packed: 40 bytes each. What callers get is a {@link ChunkState}, a short-lived view of a row. */
import { GfsError } from '../protocol/errors.js';
import { assert } from './assert.js';
import { RowIndex } from './tables/row-index.js';
import { Rows } from './tables/rows.js';

/** Words of a row (docs/formats/checkpoint.md); words 0 and 1 are the handle. */
const Word = { VERSION: 2, REFERENCES: 4, HOLDER: 5, DURATION: 6, GOAL_AND_REPLICAS: 7, NEXT: 8 } as const;
export const CHUNK_WORDS = 10;
const MAX_U32 = 0xffff_ffff;
const MAX_U16 = 0xffff;

export interface NewChunk {
  readonly handle: number;
  readonly version: number;
  readonly references: number;
  readonly goal: number;
  readonly replicas: number;
  readonly holder: string;
  readonly durationMs: number;
}

/**
 * A chunk as the master logs it. Where it is, is soft. A view: compare handles, and look it up again
 * after a wait; one that outlives its chunk throws NO_SUCH_CHUNK.
 */
export class ChunkState {
  readonly #table: ChunkTable;
  readonly #row: number;
  readonly handle: number;

  constructor(table: ChunkTable, row: number, handle: number) {
    this.#table = table;
    this.#row = row;
    this.handle = handle;
  }

  get version(): number {
    return this.#table.rows.f64(this.#at, Word.VERSION);
  }

  set version(version: number) {
    this.#table.rows.setF64(this.#at, Word.VERSION, version);
  }

  /** The files that it belongs to; above 1 the next write copies it (paper §3.4). */
  get references(): number {
    return this.#table.rows.u32(this.#at, Word.REFERENCES);
  }

  set references(count: number) {
    assert(count >= 0 && count <= MAX_U32, `chunk ${this.handle} with ${count} references`);
    this.#table.rows.setU32(this.#at, Word.REFERENCES, count);
  }

  get goal(): number {
    return this.#table.rows.u32(this.#at, Word.GOAL_AND_REPLICAS) >>> 16;
  }

  set goal(goal: number) {
    this.#setGoalAndReplicas(goal, this.replicas);
  }

  /** How many replicas have the version: after a start the next lease waits a while for all of them. */
  get replicas(): number {
    return this.#table.rows.u32(this.#at, Word.GOAL_AND_REPLICAS) & MAX_U16;
  }

  set replicas(count: number) {
    this.#setGoalAndReplicas(this.goal, count);
  }

  /** The last lease at `version`, empty when it was granted without. Whether it has run out is not logged. */
  get holder(): string {
    return this.#table.holders[this.#table.rows.u32(this.#at, Word.HOLDER)] as string;
  }

  set holder(serverId: string) {
    this.#table.rows.setU32(this.#at, Word.HOLDER, this.#table.holderNumber(serverId));
  }

  get durationMs(): number {
    return this.#table.rows.u32(this.#at, Word.DURATION);
  }

  set durationMs(durationMs: number) {
    assert(durationMs <= MAX_U32, `chunk ${this.handle}: a lease of ${durationMs} ms`);
    this.#table.rows.setU32(this.#at, Word.DURATION, durationMs);
  }

  #setGoalAndReplicas(goal: number, replicas: number): void {
    assert(
      goal <= MAX_U16 && replicas <= MAX_U16,
      `chunk ${this.handle}: goal ${goal}, ${replicas} replicas`,
    );
    this.#table.rows.setU32(this.#at, Word.GOAL_AND_REPLICAS, ((goal << 16) | replicas) >>> 0);
  }

  /** The row, which is still this chunk's. */
  get #at(): number {
    if (this.#table.rows.key(this.#row) !== this.handle)
      throw new GfsError('NO_SUCH_CHUNK', `chunk ${this.handle} is gone`);
    return this.#row;
  }
}

export class ChunkTable {
  readonly rows = new Rows(CHUNK_WORDS);
  /** Servers that ever held a lease, by the number in a row; grows with the cluster's servers, never shrinks. */
  readonly holders: string[] = [''];
  readonly #holderNumbers = new Map<string, number>([['', 0]]);
  readonly #index = new RowIndex(this.rows, Word.NEXT, (row) => this.rows.key(row) >>> 0);

  get size(): number {
    return this.rows.size;
  }

  get memoryBytes(): number {
    return this.rows.memoryBytes + this.#index.memoryBytes;
  }

  /** After rows and holders were loaded. */
  restore(): void {
    this.rows.restore();
    this.#index.rebuild();
  }

  has(handle: number): boolean {
    return this.#rowOf(handle) !== 0;
  }

  get(handle: number): ChunkState | undefined {
    const row = this.#rowOf(handle);
    return row === 0 ? undefined : new ChunkState(this, row, handle);
  }

  /** In no particular order. What comes or goes meanwhile may be missed, nothing comes twice. */
  *values(): IterableIterator<ChunkState> {
    for (let row = 1; row < this.rows.end; row++) {
      const handle = this.rows.key(row);
      if (handle !== 0) yield new ChunkState(this, row, handle);
    }
  }

  /** INVARIANT: the handle is new. */
  add(fields: NewChunk): ChunkState {
    const { handle } = fields;
    assert(!this.has(handle), `chunk ${handle} twice`);
    const row = this.rows.add(handle);
    this.#index.insert(row, handle >>> 0);
    const chunk = new ChunkState(this, row, handle);
    chunk.version = fields.version;
    chunk.references = fields.references;
    chunk.goal = fields.goal;
    chunk.replicas = fields.replicas;
    chunk.holder = fields.holder;
    chunk.durationMs = fields.durationMs;
    return chunk;
  }

  delete(handle: number): void {
    const row = this.#rowOf(handle);
    assert(row !== 0, `chunk ${handle} is not there`);
    this.#index.remove(row, handle >>> 0);
    this.rows.free(row);
  }

  holderNumber(serverId: string): number {
    let number = this.#holderNumbers.get(serverId);
    if (number === undefined) {
      number = this.holders.push(serverId) - 1;
      this.#holderNumbers.set(serverId, number);
    }
    return number;
  }

  #rowOf(handle: number): number {
    const { rows } = this;
    let row = this.#index.first(handle >>> 0);
    while (row !== 0 && rows.key(row) !== handle) row = this.#index.next(row);
    return row;
  }
}
