/**
 * Deleted nodes in the order of their deletion, packed: about 60 bytes each, for a busy cluster keeps
 * three days of them. It has what a Map of {@link DeletedNode} would have. Their paths are a directory,
 * which many share, and a name.
 */
import type { DeletedNode } from './state.js';
import { NameArena } from './tables/name-arena.js';
import { RowIndex } from './tables/row-index.js';
import { RowOrder } from './tables/row-order.js';
import { Rows } from './tables/rows.js';

/** Words of a row (docs/formats/checkpoint.md); words 0 and 1 are the id. */
const Word = { SERIAL: 2, SECONDS: 4, NANOSECONDS: 6, DIRECTORY: 7, NAME: 8, NEXT: 9 } as const;
const ROW_WORDS = 10;
/** Rows that an iteration looks ahead. */
const PAGE_ROWS = 64;

/** Of a file that was made without a name, in this directory (O_TMPFILE). No name of an entry is empty. */
export function unnamedIn(directory: string): string {
  return `${directory}/`;
}

/** Whether it never had a name: then only those who have it open want it. */
export function isUnnamed({ path }: Pick<DeletedNode, 'path'>): boolean {
  return path.endsWith('/');
}

interface SharedPath {
  readonly path: string;
  /** Rows that have it. */
  count: number;
}

export class DeletedTable {
  readonly rows = new Rows(ROW_WORDS);
  readonly names = new NameArena();
  readonly #index = new RowIndex(this.rows, Word.NEXT, (row) => this.rows.key(row) >>> 0);
  #order = this.#newOrder();
  /** Paths of directories, by the number in a row; 0 is the root's. */
  readonly #paths = new Map<number, SharedPath>();
  readonly #pathNumbers = new Map<string, number>();
  #lastPath = 0;
  #lastSerial = 0;

  /** What the packed part takes. */
  get memoryBytes(): number {
    return this.rows.memoryBytes + this.#index.memoryBytes + this.names.memoryBytes;
  }

  get size(): number {
    return this.rows.size;
  }

  has(id: number): boolean {
    return this.#rowOf(id) !== 0;
  }

  get(id: number): DeletedNode | undefined {
    const row = this.#rowOf(id);
    return row === 0 ? undefined : this.#at(row);
  }

  /** INVARIANT: it is not in the table; its path begins with a slash. */
  add({ id, timeSec, timeNsec, path }: DeletedNode): void {
    const slash = path.lastIndexOf('/');
    const row = this.rows.add(id);
    this.#index.insert(row, id >>> 0);
    this.rows.setF64(row, Word.SERIAL, ++this.#lastSerial);
    this.rows.setF64(row, Word.SECONDS, timeSec);
    this.rows.setU32(row, Word.NANOSECONDS, timeNsec);
    this.rows.setU32(row, Word.DIRECTORY, this.#share(path.slice(0, slash)));
    this.rows.setU32(row, Word.NAME, this.names.add(path.slice(slash + 1)));
    this.#order.push(row);
  }

  /** @returns whether it was there */
  delete(id: number): boolean {
    const row = this.#rowOf(id);
    if (row === 0) return false;
    this.#order.remove(row);
    this.#index.remove(row, id >>> 0);
    this.names.free(this.rows.u32(row, Word.NAME));
    this.#unshare(this.rows.u32(row, Word.DIRECTORY));
    this.rows.free(row);
    return true;
  }

  /**
   * Oldest first. Goes on whatever comes and goes meanwhile, as an iteration of a Map does.
   * @param afterId only those deleted after this one; all of them when it is not here
   */
  *values(afterId = 0): IterableIterator<DeletedNode> {
    for (let after = this.#serial(this.#rowOf(afterId)); ; ) {
      const page = this.#order.page(after, PAGE_ROWS);
      if (page.length === 0) return;
      const serials = page.map((row) => this.#serial(row));
      for (const [at, row] of page.entries()) {
        after = serials[at] as number;
        // It may be gone, and its row another's.
        if (this.#serial(row) === after) yield this.#at(row);
      }
    }
  }

  // For the image of the state (state-image.ts).

  /** The paths of directories that rows name. */
  *paths(): Iterable<[number, string]> {
    for (const [number, { path }] of this.#paths) yield [number, path];
  }

  loadPath(number: number, path: string): void {
    this.#paths.set(number, { path, count: 0 });
    this.#pathNumbers.set(path, number);
    this.#lastPath = Math.max(this.#lastPath, number);
  }

  /** After rows, names and paths were loaded. */
  restore(): void {
    this.rows.restore();
    this.#index.rebuild();
    const bySerial: number[] = [];
    for (let row = 1; row < this.rows.end; row++) {
      if (this.rows.key(row) === 0) continue;
      bySerial.push(row);
      const shared = this.#paths.get(this.rows.u32(row, Word.DIRECTORY));
      if (shared !== undefined) shared.count++;
    }
    bySerial.sort((a, b) => this.#serial(a) - this.#serial(b));
    this.#order = this.#newOrder();
    for (const row of bySerial) this.#order.push(row);
    this.#lastSerial = bySerial.length === 0 ? 0 : this.#serial(bySerial.at(-1) as number);
  }

  #newOrder(): RowOrder {
    return new RowOrder((row) => this.#serial(row));
  }

  #serial(row: number): number {
    return this.rows.f64(row, Word.SERIAL);
  }

  #at(row: number): DeletedNode {
    const directory = this.#paths.get(this.rows.u32(row, Word.DIRECTORY))?.path ?? '';
    return {
      id: this.rows.key(row),
      timeSec: this.rows.f64(row, Word.SECONDS),
      timeNsec: this.rows.u32(row, Word.NANOSECONDS),
      path: `${directory}/${this.names.get(this.rows.u32(row, Word.NAME))}`,
    };
  }

  #share(path: string): number {
    if (path === '') return 0;
    let number = this.#pathNumbers.get(path);
    if (number === undefined) {
      number = ++this.#lastPath;
      this.#pathNumbers.set(path, number);
      this.#paths.set(number, { path, count: 0 });
    }
    (this.#paths.get(number) as SharedPath).count++;
    return number;
  }

  #unshare(number: number): void {
    const shared = this.#paths.get(number);
    if (shared === undefined || --shared.count > 0) return;
    this.#paths.delete(number);
    this.#pathNumbers.delete(shared.path);
  }

  #rowOf(id: number): number {
    let row = this.#index.first(id >>> 0);
    while (row !== 0 && this.rows.key(row) !== id) row = this.#index.next(row);
    return row;
  }
}
