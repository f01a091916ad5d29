/** A file, directory or other node. Its id is stable and never reused, so that handles outlive names. */
import { ACCESS_ACL, DEFAULT_ACL } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { Attributes } from '../protocol/messages/index.js';
import type { Directory } from './directory.js';
import { FileChunks } from './file-chunks.js';
import { isDirectory, isRegular } from './mode.js';
import { NodeWord } from './node-row.js';
import type { NodeTable } from './node-table.js';
import type { Link } from './state.js';

const DIRECTORY_SIZE = 4096;
const HIGH_16 = 2 ** 32;

/**
 * A view of one row: cheap to make, not to be kept. Two views of one node are two objects: compare ids.
 * One that outlives its node (kept across a wait) throws STALE_NODE, whatever the row has become.
 */
export class Node {
  readonly #table: NodeTable;
  readonly #row: number;
  readonly id: number;

  constructor(table: NodeTable, row: number, id: number) {
    this.#table = table;
    this.#row = row;
    this.id = id;
  }

  get mode(): number {
    return this.#u32(NodeWord.MODE) & 0xffff;
  }

  set mode(mode: number) {
    this.#setU32(NodeWord.MODE, ((this.#u32(NodeWord.MODE) & ~0xffff) | mode) >>> 0);
  }

  /** 0 once it is deleted. */
  get nlink(): number {
    return this.#u32(NodeWord.NLINK);
  }

  set nlink(count: number) {
    this.#setU32(NodeWord.NLINK, count);
  }

  get uid(): number {
    return this.#u32(NodeWord.UID);
  }

  set uid(uid: number) {
    this.#setU32(NodeWord.UID, uid);
  }

  get gid(): number {
    return this.#u32(NodeWord.GID);
  }

  set gid(gid: number) {
    this.#setU32(NodeWord.GID, gid);
  }

  get rdev(): number {
    return this.#table.rdevs.get(this.#at) ?? 0;
  }

  get size(): number {
    return this.#table.rows.f64(this.#at, NodeWord.SIZE);
  }

  set size(bytes: number) {
    this.#table.rows.setF64(this.#at, NodeWord.SIZE, bytes);
  }

  /** Counts what changed the file's data, up to 2^48. */
  get dataVersion(): number {
    return (this.#u32(NodeWord.MODE) >>> 16) * HIGH_16 + this.#u32(NodeWord.DATA_VERSION);
  }

  set dataVersion(version: number) {
    this.#setU32(NodeWord.DATA_VERSION, version >>> 0);
    const high = Math.floor(version / HIGH_16) & 0xffff;
    this.#setU32(NodeWord.MODE, ((high << 16) | this.mode) >>> 0);
  }

  get atimeSec(): number {
    return this.#table.seconds(this.#at, NodeWord.ATIME);
  }

  get atimeNsec(): number {
    return this.#table.nanoseconds(this.#at, NodeWord.ATIME);
  }

  setAtime(sec: number, nsec: number): void {
    this.#table.setTime(this.#at, NodeWord.ATIME, sec, nsec);
  }

  get mtimeSec(): number {
    return this.#table.seconds(this.#at, NodeWord.MTIME);
  }

  get mtimeNsec(): number {
    return this.#table.nanoseconds(this.#at, NodeWord.MTIME);
  }

  setMtime(sec: number, nsec: number): void {
    this.#table.setTime(this.#at, NodeWord.MTIME, sec, nsec);
  }

  get ctimeSec(): number {
    return this.#table.seconds(this.#at, NodeWord.CTIME);
  }

  get ctimeNsec(): number {
    return this.#table.nanoseconds(this.#at, NodeWord.CTIME);
  }

  setCtime(sec: number, nsec: number): void {
    this.#table.setTime(this.#at, NodeWord.CTIME, sec, nsec);
  }

  /** The row of the first of its names, 0 when it has none. */
  get firstEntry(): number {
    return this.#u32(NodeWord.ENTRY);
  }

  set firstEntry(row: number) {
    this.#setU32(NodeWord.ENTRY, row);
  }

  /** The directory that the first of its names is in; 0 when it has none. */
  get parent(): number {
    const { firstEntry } = this;
    return firstEntry === 0 ? 0 : this.#table.entries.directory(firstEntry);
  }

  /** The first of its names, '' when it has none. */
  get name(): string {
    const { firstEntry } = this;
    return firstEntry === 0 ? '' : this.#table.entries.name(firstEntry);
  }

  /** Its other names, of a file with hard links. */
  get otherLinks(): Link[] | undefined {
    return this.#table.otherLinks.get(this.#at);
  }

  set otherLinks(links: Link[] | undefined) {
    setOrDelete(this.#table.otherLinks, this.#at, links);
  }

  /** Of a directory. */
  get entries(): Directory | undefined {
    return this.isDirectory ? this.#table.directories.get(this.#row) : undefined;
  }

  /** Of a regular file that has chunks. */
  get chunks(): FileChunks | undefined {
    const chunks = this.chunkList;
    return chunks.isEmpty ? undefined : chunks;
  }

  /** As {@link chunks}, also of a file without. */
  get chunkList(): FileChunks {
    return new FileChunks(this.#table, this.#at);
  }

  /** Of a symbolic link. */
  get target(): string | undefined {
    return this.#table.targets.get(this.#at);
  }

  set target(target: string | undefined) {
    setOrDelete(this.#table.targets, this.#at, target);
  }

  get xattrs(): Map<string, Uint8Array> | undefined {
    return this.#table.xattrs.get(this.#at);
  }

  set xattrs(xattrs: Map<string, Uint8Array> | undefined) {
    setOrDelete(this.#table.xattrs, this.#at, xattrs);
  }

  get isDirectory(): boolean {
    return isDirectory(this.mode);
  }

  get isRegular(): boolean {
    return isRegular(this.mode);
  }

  /** All at once, as every answer needs them: the row is looked at once, and the object has one shape. */
  attributes(): Attributes {
    const row = this.#at;
    const table = this.#table;
    const { rows } = table;
    const modeWord = rows.u32(row, NodeWord.MODE);
    const mode = modeWord & 0xffff;
    const attributes: Attributes = {
      id: this.id,
      mode,
      nlink: rows.u32(row, NodeWord.NLINK),
      uid: rows.u32(row, NodeWord.UID),
      gid: rows.u32(row, NodeWord.GID),
      rdev: table.rdevs.get(row) ?? 0,
      size: isDirectory(mode) ? DIRECTORY_SIZE : rows.f64(row, NodeWord.SIZE),
      atimeSec: table.seconds(row, NodeWord.ATIME),
      atimeNsec: table.nanoseconds(row, NodeWord.ATIME),
      mtimeSec: table.seconds(row, NodeWord.MTIME),
      mtimeNsec: table.nanoseconds(row, NodeWord.MTIME),
      ctimeSec: table.seconds(row, NodeWord.CTIME),
      ctimeNsec: table.nanoseconds(row, NodeWord.CTIME),
      dataVersion: (modeWord >>> 16) * HIGH_16 + rows.u32(row, NodeWord.DATA_VERSION),
    };
    const xattrs = table.xattrs.get(row);
    if (xattrs === undefined) return attributes;
    return { ...attributes, hasXattrs: true, ...(hasAcl(xattrs) ? { hasAcl: true } : {}) };
  }

  /** The row, which is still this node's. */
  get #at(): number {
    if (this.#table.rows.key(this.#row) !== this.id) throw new GfsError('STALE_NODE', `node ${this.id}`);
    return this.#row;
  }

  #u32(word: number): number {
    return this.#table.rows.u32(this.#at, word);
  }

  #setU32(word: number, value: number): void {
    this.#table.rows.setU32(this.#at, word, value);
  }
}

function hasAcl(xattrs: ReadonlyMap<string, Uint8Array>): boolean {
  return xattrs.has(ACCESS_ACL) || xattrs.has(DEFAULT_ACL);
}

function setOrDelete<V>(map: Map<number, V>, key: number, value: V | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
