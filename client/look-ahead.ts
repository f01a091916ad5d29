/**
 * Which directories are worth reading ahead: who asks for one name of a directory after another, as `cat *`,
 * `stat *` or a compiler does, goes on to do so, and a page of the listing answers hundreds of such questions.
 */
import { LRUCache } from 'lru-cache';
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
  /** Of the last page, where the listing goes on behind it: its entries, and names that were at hand since. */
  ahead: number;
  used: number;
}

export interface PageRead {
  readonly entries: readonly { readonly cookie: number }[];
  readonly end: boolean;
}

export class LookAhead {
  readonly #directories = new LRUCache<number, Asked>({ max: MAX_DIRECTORIES });
  readonly #firstAfter: number;
  /** Where the last page was read. */
  #last: { readonly directory: number; readonly asked: Asked } | undefined;

  constructor({ namesBeforeAhead }: CacheLimits) {
    this.#firstAfter = namesBeforeAhead;
  }

  /** A name had to be asked for. @returns from where the listing is to be read now; undefined: not yet */
  asked(directory: number): number | undefined {
    let asked = this.#directories.get(directory);
    if (asked === undefined) {
      asked = {
        ...{ names: 0, nextAt: this.#firstAfter, cookie: 0, entries: 0 },
        ...{ isReading: false, ahead: 0, used: 0 },
      };
      this.#directories.set(directory, asked);
    }
    const isUsed = asked.ahead > 0 && 2 * asked.used >= asked.ahead;
    if ((++asked.names < asked.nextAt && !isUsed) || asked.isReading) return undefined;
    asked.isReading = true;
    return asked.cookie;
  }

  /** A name was at hand. */
  used(directory: number): void {
    if (this.#last?.directory === directory) this.#last.asked.used++;
  }

  /** @param page undefined when it could not be read, or is not promised */
  read(directory: number, page: PageRead | undefined): void {
    const asked = this.#directories.get(directory);
    if (asked === undefined) return;
    asked.isReading = false;
    asked.names = 0;
    asked.used = 0;
    this.#last = { directory, asked };
    const entries = page?.entries.length ?? 0;
    asked.entries += entries;
    asked.nextAt = page === undefined ? RARELY : Math.max(this.#firstAfter, entries / ENTRIES_A_NAME);
    asked.cookie = page?.entries.at(-1)?.cookie ?? 0;
    asked.ahead = page?.end === true ? 0 : entries;
    if (page?.end !== true) return;
    // Names that are asked for from now on are new, or were forgotten: then all of them were.
    asked.nextAt = Math.max(this.#firstAfter, asked.entries / ENTRIES_A_NAME);
    asked.cookie = 0;
    asked.entries = 0;
  }

  clear(): void {
    this.#directories.clear();
    this.#last = undefined;
  }
}

/** Steps that are waited for, at most, where reading ahead was of no use. */
const MAX_PATIENCE = 256;

export interface WindowLimits {
  /** Steps before anything is read ahead. */
  readonly after: number;
  /** So much the first time, and at most. */
  readonly first: number;
  readonly most: number;
}

/**
 * How much to read ahead for who goes step by step through a tree, as `find`, `grep -r` and `rm -r` do: twice as much
 * each time as long as half of it is used, as the kernel does within a file; else a quarter, and then nothing for a
 * while that grows.
 */
export class Window {
  readonly #limits: WindowLimits;
  #steps = 0;
  #size = 0;
  #patience: number;
  /** What was read ahead last and has not been used. */
  readonly #unused = new Set<number>();
  #brought = 0;
  /** Steps since then. */
  #since = 0;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
    this.#patience = limits.after;
  }

  /**
   * Something was not there and has to be asked for.
   * @param isStep whether it follows from what was asked for before
   * @returns how much is to be read with it; 0: it alone
   */
  asked(isStep: boolean): number {
    if (!isStep) {
      this.#steps = 0;
      this.#size = 0;
      return 0;
    }
    if (++this.#steps < this.#patience) return 0;
    const { after, first, most } = this.#limits;
    if (this.#size === 0) {
      this.#size = first;
    } else if (2 * this.#unused.size <= this.#brought) {
      this.#patience = after;
      this.#size = Math.min(2 * this.#size, most);
    } else if (2 * ++this.#since < this.#brought) {
      // Too early to judge: it may be on its way, and others of many readers come to use it.
      return 0;
    } else {
      this.#size = Math.floor(this.#size / 4);
      if (this.#size < first / 4) {
        this.#size = 0;
        this.#steps = 0;
        this.#patience = Math.min(2 * this.#patience, MAX_PATIENCE);
      }
    }
    return this.#size;
  }

  brought(ids: Iterable<number>): void {
    this.#unused.clear();
    for (const id of ids) this.#unused.add(id);
    this.#brought = this.#unused.size;
    this.#since = 0;
  }

  /** It was at hand when it was wanted. */
  used(id: number): void {
    this.#unused.delete(id);
  }

  clear(): void {
    this.#steps = 0;
    this.#size = 0;
    this.#unused.clear();
  }
}

const MAX_WALKS = 64;
/** Looked at in one go, whether they are worth asking for or not. */
const MAX_STEPS = 256;

interface Walk {
  readonly names: ReadonlyMap<string, number>;
  readonly nodes: IterableIterator<number>;
  passed: number;
}

/** Walks through directories, each from where the one before ended. */
export class Walks {
  readonly #walks = new LRUCache<number, Walk>({ max: MAX_WALKS });

  /**
   * @param names that are known of the directory, which may become more
   * @returns some of their nodes; when there are no more, from the beginning again the next time
   */
  *next(directory: number, names: ReadonlyMap<string, number> | undefined): Iterable<number> {
    if (names === undefined) return;
    let walk = this.#walks.get(directory);
    if (walk?.names !== names) {
      walk = { names, nodes: names.values(), passed: 0 };
      this.#walks.set(directory, walk);
    }
    const { passed } = walk;
    // Not to the end of the iterator: it would not see what is added.
    while (walk.passed < names.size && walk.passed - passed < MAX_STEPS) {
      const { value, done } = walk.nodes.next();
      if (done === true) break;
      walk.passed++;
      yield value;
    }
    if (walk.passed === passed) this.#walks.delete(directory);
  }

  clear(): void {
    this.#walks.clear();
  }
}
