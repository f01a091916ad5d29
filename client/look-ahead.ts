/**
 * Which directories are worth reading ahead: who asks for one name of a directory after another, as `cat *`,
 * `stat *` or a compiler does, goes on to do so, and a page of the listing answers hundreds of such questions.
 */
import { LRUCache } from 'lru-cache';
import { MAX_DIRECTORY_PAGE } from '../protocol/limits.js';
import type { CacheLimits } from './cache-limits.js';

const MAX_DIRECTORIES = 1_024;
/** Entries that are read ahead for each name that was asked for since the page before: what is not used is bounded. */
const ENTRIES_A_NAME = 16;
/** Of a directory whose names the master does not promise. */
const RARELY = 1_024;

interface Asked {
  /** Names asked for since the last page. */
  names: number;
  /** With so many the next page is read. */
  nextAt: number;
  /** Where it begins. */
  cookie: number;
  /** Entries since the beginning of the listing. */
  entries: number;
  isReading: boolean;
}

export interface PageRead {
  readonly entries: readonly { readonly cookie: number }[];
  readonly end: boolean;
}

export class LookAhead {
  readonly #directories = new LRUCache<number, Asked>({ max: MAX_DIRECTORIES });
  readonly #firstAfter: number;

  constructor({ namesBeforeAhead }: CacheLimits) {
    this.#firstAfter = namesBeforeAhead;
  }

  /** A name had to be asked for. @returns from where the listing is to be read now; undefined: not yet */
  asked(directory: number): number | undefined {
    let asked = this.#directories.get(directory);
    if (asked === undefined) {
      asked = { names: 0, nextAt: this.#firstAfter, cookie: 0, entries: 0, isReading: false };
      this.#directories.set(directory, asked);
    }
    if (++asked.names < asked.nextAt || asked.isReading) return undefined;
    asked.isReading = true;
    return asked.cookie;
  }

  /** @param page undefined when it could not be read, or is not promised */
  read(directory: number, page: PageRead | undefined): void {
    const asked = this.#directories.get(directory);
    if (asked === undefined) return;
    asked.isReading = false;
    asked.names = 0;
    const entries = page?.entries.length ?? 0;
    asked.entries += entries;
    asked.nextAt = page === undefined ? RARELY : Math.max(this.#firstAfter, entries / ENTRIES_A_NAME);
    asked.cookie = page?.entries.at(-1)?.cookie ?? 0;
    if (page?.end !== true) return;
    // Names that are asked for from now on are new, or were forgotten: then all of them were.
    asked.nextAt = Math.max(this.#firstAfter, asked.entries / ENTRIES_A_NAME);
    asked.cookie = 0;
    asked.entries = 0;
  }

  clear(): void {
    this.#directories.clear();
  }
}

/** Entries of the first listings that are read ahead, and the most. */
const FIRST_LISTINGS = 64;
const MAX_LISTINGS = MAX_DIRECTORY_PAGE;

/**
 * Whoever lists directories of a directory that was listed before, as `find`, `grep -r` and `rm -r` do, goes on to
 * list the others. Reads ahead as the kernel does in a file: twice as much each time, less where it was of no use.
 */
export class Listings {
  readonly #after: number;
  #steps = 0;
  #limit = 0;
  /** What was read ahead last and has not been used. */
  readonly #unused = new Set<number>();
  #brought = 0;

  constructor({ listingsBeforeAhead }: CacheLimits) {
    this.#after = listingsBeforeAhead;
  }

  /**
   * A listing has to be asked for.
   * @param isStep of a directory in one that was listed before
   * @returns how many entries of it and of those that may be listed next are to be read; 0: it alone
   */
  asked(isStep: boolean): number {
    if (!isStep) {
      this.#steps = 0;
      this.#limit = 0;
      return 0;
    }
    if (++this.#steps < this.#after) return 0;
    const wasUseful = 2 * this.#unused.size <= this.#brought;
    this.#limit = Math.max(
      FIRST_LISTINGS,
      Math.min(wasUseful ? 2 * this.#limit : this.#limit / 4, MAX_LISTINGS),
    );
    return this.#limit;
  }

  brought(directories: readonly { readonly id: number }[]): void {
    this.#unused.clear();
    for (const { id } of directories) this.#unused.add(id);
    this.#brought = this.#unused.size;
  }

  /** A listing was at hand. */
  used(directory: number): void {
    this.#unused.delete(directory);
  }

  clear(): void {
    this.#steps = 0;
    this.#limit = 0;
    this.#unused.clear();
  }
}

const MAX_WALKS = 64;
/** Looked at in one go, whether they are worth asking for or not. */
const MAX_STEPS = 256;

interface Walk {
  asked: number;
  nodes: IterableIterator<number> | undefined;
}

/** The same for where files are: whoever reads some files of a directory is likely to read the others. */
export class Neighbours {
  readonly #walks = new LRUCache<number, Walk>({ max: MAX_WALKS });
  readonly #after: number;

  /** @param after so many */
  constructor(after: number) {
    this.#after = after;
  }

  /**
   * A file's place had to be asked for.
   * @param nodes begins a walk through its directory
   * @returns the nodes to go on with, none yet for the first few files
   */
  asked(directory: number, nodes: () => IterableIterator<number> | undefined): Iterable<number> {
    let walk = this.#walks.get(directory);
    if (walk === undefined) {
      walk = { asked: 0, nodes: undefined };
      this.#walks.set(directory, walk);
    }
    if (++walk.asked < this.#after) return [];
    walk.asked = 0;
    walk.nodes ??= nodes();
    return some(walk);
  }

  clear(): void {
    this.#walks.clear();
  }
}

/** From the beginning again after the end. */
function* some(walk: Walk): Iterable<number> {
  for (let steps = 0; steps < MAX_STEPS; steps++) {
    const next = walk.nodes?.next();
    if (next === undefined || next.done === true) {
      walk.nodes = undefined;
      return;
    }
    yield next.value;
  }
}
