/**
 * Every replica that chunkservers have told of, packed: pages of 256 handles in a row, with three places
 * of ten bytes for each handle. Handles are given out in order, so pages fill; a fourth replica, which is
 * rare, goes to a map beside them. There is no list of a server's chunks: who needs one walks the pages,
 * in slices.
 */
import type { Chunkserver, Replica } from './replicas.js';

const PAGE_HANDLES = 256;
const PLACES = 3;
const PAGE_PLACES = PAGE_HANDLES * PLACES;
/** Pages looked at in one slice of a walk. */
const SLICE_PAGES = 64;
const SUSPECT = 0x4000_0000;
const DAMAGED = 0x8000_0000;
const VERSION_MASK = 0x3fff_ffff;
const MAX_LENGTH = 0xffff_ffff;
const MAX_INDEX = 0xffff;

class Page {
  /** Replicas in it: with none it goes. */
  used = 0;
  /** Of each place the server's index, 0 where it is free. */
  readonly servers = new Uint16Array(PAGE_PLACES);
  /** Version, and the two marks above it. */
  readonly words = new Uint32Array(PAGE_PLACES);
  readonly lengths = new Uint32Array(PAGE_PLACES);
}

export class ReplicaTable {
  readonly #pages = new Map<number, Page>();
  /** Replicas for which a handle had no place left. */
  readonly #more = new Map<number, Replica[]>();
  /** By index; 0 is nobody. */
  readonly #servers: (Chunkserver | undefined)[] = [undefined];
  /** Indices of servers that are gone, and that nothing in the pages names any more. */
  readonly #freeIndices: number[] = [];
  /** The walk that takes out what the dead had. */
  #forgetting: { readonly dead: Set<number>; readonly pages: Iterator<[number, Page]> } | undefined;

  /** A server that is gone takes no entry: its index may be another's soon. */
  put(replica: Replica): void {
    const { chunkserver, handle } = replica;
    if (!chunkserver.alive) return;
    const index = this.#indexOf(chunkserver);
    const key = Math.floor(handle / PAGE_HANDLES);
    const page = this.#pages.get(key) ?? new Page();
    const first = (handle % PAGE_HANDLES) * PLACES;
    let free = -1;
    for (let place = first; place < first + PLACES; place++) {
      const server = page.servers[place] as number;
      if (server === index) return write(page, place, index, replica);
      if (server === 0 && free < 0) free = place;
      if (server !== 0 && this.#isFormer(server, chunkserver)) {
        // It is back, and tells anew what it had.
        (this.#servers[server] as Chunkserver).replicaCount--;
        chunkserver.replicaCount++;
        return write(page, place, index, replica);
      }
    }
    const others = this.#more.get(handle) ?? [];
    const at = others.findIndex((other) => other.chunkserver === chunkserver);
    if (at >= 0) {
      others[at] = replica;
      return;
    }
    chunkserver.replicaCount++;
    if (free < 0) {
      this.#more.set(handle, [...others, replica]);
      return;
    }
    if (page.used++ === 0) this.#pages.set(key, page);
    write(page, free, index, replica);
  }

  /** Whether a place is that of an earlier registration of the same server. */
  #isFormer(index: number, { server }: Chunkserver): boolean {
    const other = this.#servers[index];
    return other !== undefined && !other.alive && other.server.serverId === server.serverId;
  }

  find(chunkserver: Chunkserver, handle: number): Replica | undefined {
    const page = this.#pages.get(Math.floor(handle / PAGE_HANDLES));
    const index = chunkserver.tableIndex;
    if (page === undefined || index === 0) return undefined;
    const first = (handle % PAGE_HANDLES) * PLACES;
    for (let place = first; place < first + PLACES; place++) {
      if (page.servers[place] === index) return this.#read(page, place, handle);
    }
    return this.#more.get(handle)?.find((other) => other.chunkserver === chunkserver);
  }

  /** Of servers that are dead too, until they are forgotten. */
  all(handle: number): Replica[] {
    const page = this.#pages.get(Math.floor(handle / PAGE_HANDLES));
    if (page === undefined) return [];
    const first = (handle % PAGE_HANDLES) * PLACES;
    const all: Replica[] = [];
    for (let place = first; place < first + PLACES; place++) {
      if (page.servers[place] !== 0) all.push(this.#read(page, place, handle));
    }
    const more = this.#more.get(handle);
    return more === undefined ? all : [...all, ...more];
  }

  remove(chunkserver: Chunkserver, handle: number): void {
    const key = Math.floor(handle / PAGE_HANDLES);
    const page = this.#pages.get(key);
    if (page === undefined || chunkserver.tableIndex === 0) return;
    const first = (handle % PAGE_HANDLES) * PLACES;
    for (let place = first; place < first + PLACES; place++) {
      if (page.servers[place] !== chunkserver.tableIndex) continue;
      this.#clear(key, page, place);
      return;
    }
    const others = this.#more.get(handle) ?? [];
    const left = others.filter((other) => other.chunkserver !== chunkserver);
    if (left.length === others.length) return;
    chunkserver.replicaCount--;
    if (left.length === 0) this.#more.delete(handle);
    else this.#more.set(handle, left);
  }

  *handlesOn(chunkserver: Chunkserver): IterableIterator<number | undefined> {
    let left = SLICE_PAGES;
    for (const [key, { servers }] of this.#pages) {
      for (let place = 0; place < PAGE_PLACES; place++) {
        if (servers[place] === chunkserver.tableIndex && chunkserver.tableIndex !== 0)
          yield key * PAGE_HANDLES + Math.floor(place / PLACES);
      }
      if (--left > 0) continue;
      left = SLICE_PAGES;
      yield undefined;
    }
    for (const [handle, others] of this.#more)
      if (others.some((other) => other.chunkserver === chunkserver)) yield handle;
  }

  /** One slice of taking out what servers had that are gone. @returns whether there is more to do */
  forgetDead(): boolean {
    this.#forgetting ??= { dead: this.#deadIndices(), pages: this.#pages.entries() };
    const { dead, pages } = this.#forgetting;
    for (let left = SLICE_PAGES; left > 0; left--) {
      const next = pages.next();
      if (next.done === true) {
        this.#endForgetting(dead);
        return this.#deadIndices().size > 0;
      }
      const [key, page] = next.value;
      for (let place = 0; place < PAGE_PLACES; place++) {
        if (dead.has(page.servers[place] as number)) this.#clear(key, page, place);
      }
    }
    return true;
  }

  #endForgetting(dead: ReadonlySet<number>): void {
    this.#forgetting = undefined;
    for (const [handle, others] of this.#more) {
      for (const { chunkserver } of others)
        if (dead.has(chunkserver.tableIndex)) this.remove(chunkserver, handle);
    }
    for (const index of dead) {
      const chunkserver = this.#servers[index];
      if (chunkserver !== undefined) chunkserver.tableIndex = 0;
      this.#servers[index] = undefined;
      this.#freeIndices.push(index);
    }
  }

  #deadIndices(): Set<number> {
    const dead = new Set<number>();
    for (const [index, chunkserver] of this.#servers.entries())
      if (chunkserver?.gone === true) dead.add(index);
    return dead;
  }

  #indexOf(chunkserver: Chunkserver): number {
    if (chunkserver.tableIndex !== 0) return chunkserver.tableIndex;
    const index = this.#freeIndices.pop() ?? this.#servers.length;
    if (index > MAX_INDEX) throw new Error('more chunkservers at once than the replica table can tell apart');
    this.#servers[index] = chunkserver;
    chunkserver.tableIndex = index;
    return index;
  }

  /** A replica that had no place moves into the one that is free now. */
  #clear(key: number, page: Page, place: number): void {
    const chunkserver = this.#servers[page.servers[place] as number];
    if (chunkserver !== undefined) chunkserver.replicaCount--;
    page.servers[place] = 0;
    const handle = key * PAGE_HANDLES + Math.floor(place / PLACES);
    const moved = this.#takeMore(handle);
    if (moved !== undefined) write(page, place, moved.chunkserver.tableIndex, moved);
    else if (--page.used === 0) this.#pages.delete(key);
  }

  /** One of those that had no place; not one that a walk under way would have to take out again. */
  #takeMore(handle: number): Replica | undefined {
    const others = this.#more.get(handle);
    if (others === undefined) return undefined;
    const [moved, ...left] = others.filter(({ chunkserver }) => !chunkserver.gone);
    if (left.length === 0) this.#more.delete(handle);
    else this.#more.set(handle, left);
    return moved;
  }

  #read(page: Page, place: number, handle: number): Replica {
    const word = page.words[place] as number;
    return {
      chunkserver: this.#servers[page.servers[place] as number] as Chunkserver,
      handle,
      version: word & VERSION_MASK,
      lengthBytes: page.lengths[place] as number,
      suspect: (word & SUSPECT) !== 0,
      damaged: (word & DAMAGED) !== 0,
    };
  }
}

function write(page: Page, place: number, index: number, replica: Replica): void {
  const { version, lengthBytes, suspect, damaged } = replica;
  page.servers[place] = index;
  page.lengths[place] = Math.min(lengthBytes, MAX_LENGTH);
  page.words[place] =
    (Math.min(version, VERSION_MASK) | (suspect ? SUSPECT : 0) | (damaged ? DAMAGED : 0)) >>> 0;
}
