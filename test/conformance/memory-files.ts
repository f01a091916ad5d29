/** What the in-memory file system is made of: nodes, directories that keep their order, sparse contents. */
import type { WallTime } from '../../environment/ports/index.js';
import { FileType } from '../../fuse-client/handler.js';
import type { Attributes } from '../../protocol/messages/index.js';

const PAGE_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(PAGE_BYTES);

/** Bytes by page; a page that is not there is a hole. */
export class SparseBytes {
  readonly #pages = new Map<number, Buffer>();
  size = 0;

  /** Views of the pages themselves: valid until the next write. */
  read(offset: number, length: number): Buffer[] {
    const buffers: Buffer[] = [];
    const end = Math.min(offset + length, this.size);
    for (let at = offset; at < end; ) {
      const inPage = at % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - inPage, end - at);
      buffers.push((this.#pages.get(Math.floor(at / PAGE_BYTES)) ?? ZEROS).subarray(inPage, inPage + count));
      at += count;
    }
    return buffers;
  }

  write(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.byteLength; ) {
      const at = offset + done;
      const inPage = at % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - inPage, data.byteLength - done);
      this.#pageFor(Math.floor(at / PAGE_BYTES)).set(data.subarray(done, done + count), inPage);
      done += count;
    }
    this.size = Math.max(this.size, offset + data.byteLength);
  }

  truncate(size: number): void {
    if (size < this.size) this.zero(size, this.size - size);
    this.size = size;
  }

  /** Makes a hole of whole pages and zeros at its ends. */
  zero(offset: number, length: number): void {
    const end = Math.min(offset + length, this.size);
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / PAGE_BYTES);
      const inPage = at % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - inPage, end - at);
      const whole = inPage === 0 && (count === PAGE_BYTES || at + count === this.size);
      if (whole) this.#pages.delete(index);
      else this.#pages.get(index)?.fill(0, inPage, inPage + count);
      at += count;
    }
  }

  /** The next byte from `offset` on that is in a page (or in none), or undefined. */
  seek(offset: number, what: 'data' | 'hole'): number | undefined {
    for (let at = offset; at < this.size; at = (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES) {
      if (this.#pages.has(Math.floor(at / PAGE_BYTES)) === (what === 'data')) return at;
    }
    return what === 'hole' ? this.size : undefined;
  }

  #pageFor(index: number): Buffer {
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = Buffer.alloc(PAGE_BYTES);
      this.#pages.set(index, page);
    }
    return page;
  }
}

export interface Link {
  readonly name: string;
  /** Where readdir goes on after it: grows, and stays with the name while others come and go. */
  readonly cookie: number;
  readonly node: Node;
  removed: boolean;
}

/** Cookies of `.` and `..`; the names' own come after. */
export const DOT_COOKIE = 1;
export const DOT_DOT_COOKIE = 2;

export class Names {
  readonly #byName = new Map<string, Link>();
  #inOrder: Link[] = [];
  #nextCookie = DOT_DOT_COOKIE + 1;
  parent: Node;

  constructor(parent: Node) {
    this.parent = parent;
  }

  get count(): number {
    return this.#byName.size;
  }

  get(name: string): Node | undefined {
    return this.#byName.get(name)?.node;
  }

  /** Replaces what had the name. */
  set(name: string, node: Node): void {
    this.delete(name);
    const link = { name, cookie: this.#nextCookie++, node, removed: false };
    this.#byName.set(name, link);
    this.#inOrder.push(link);
  }

  delete(name: string): void {
    const link = this.#byName.get(name);
    if (link === undefined) return;
    link.removed = true;
    this.#byName.delete(name);
    if (this.#inOrder.length > 2 * this.#byName.size + 16) {
      this.#inOrder = this.#inOrder.filter((one) => !one.removed);
    }
  }

  /** Up to `limit` links from after the cookie. */
  after(cookie: number, limit: number): Link[] {
    let low = 0;
    let high = this.#inOrder.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#inOrder[middle]!.cookie <= cookie) low = middle + 1;
      else high = middle;
    }
    const links: Link[] = [];
    for (; low < this.#inOrder.length && links.length < limit; low++) {
      const link = this.#inOrder[low]!;
      if (!link.removed) links.push(link);
    }
    return links;
  }
}

export class Node {
  readonly id: number;
  mode: number;
  nlink = 1;
  uid: number;
  gid: number;
  rdev = 0;
  atime: WallTime;
  mtime: WallTime;
  ctime: WallTime;
  readonly bytes = new SparseBytes();
  readonly names: Names | undefined;
  readonly xattrs = new Map<string, Buffer>();
  target = '';
  /** Made without a name, and has none yet. */
  isUnnamed = false;
  /** The kernel's references, and the open handles. */
  references = 0;
  handles = 0;

  constructor(id: number, mode: number, uid: number, gid: number, now: WallTime, parent: Node | undefined) {
    this.id = id;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.atime = this.mtime = this.ctime = now;
    if (this.isDirectory) {
      this.names = new Names(parent ?? this);
      this.nlink = 2;
    }
  }

  get isDirectory(): boolean {
    return (this.mode & FileType.MASK) === FileType.DIRECTORY;
  }

  get attributes(): Attributes {
    const symlink = (this.mode & FileType.MASK) === FileType.SYMLINK;
    return {
      id: this.id,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      rdev: this.rdev,
      size: this.isDirectory ? 4096 : symlink ? this.target.length : this.bytes.size,
      atimeSec: this.atime.sec,
      atimeNsec: this.atime.nsec,
      mtimeSec: this.mtime.sec,
      mtimeNsec: this.mtime.nsec,
      ctimeSec: this.ctime.sec,
      ctimeNsec: this.ctime.nsec,
    };
  }
}
