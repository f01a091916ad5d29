/**
 * The disk of a simulated host. A write is in the page cache once it is acknowledged, and survives the
 * host once it is flushed; so does a name in a directory. What is in between may or may not survive.
 */
import type { Disk, DiskFile, DiskSpace, OpenMode } from '../../environment/ports/index.js';
import { FileContent, PAGE_BYTES } from './disk-file.js';
import type { FakeProcess } from './host.js';
import type { FakeRandom } from './random.js';
import type { Scheduler } from './scheduler.js';

const UNLIMITED_BYTES = 2 ** 40;
const CALL_MS = [0.01, 0.2] as const;
const SYNC_MS = [0.2, 3] as const;
/** In every other stretch of so many bytes a file's pages are there at once. */
const QUICK_BYTES = 4096;

type Node = FileContent | Directory;
/** One step of a directory's history, all or nothing: a rename is a name that goes and one that comes. */
type Step = readonly (readonly [name: string, node: Node | undefined])[];

class Directory {
  readonly entries = new Map<string, Node>();
  #durable = new Map<string, Node>();
  #unflushed: Step[] = [];

  change(step: Step): void {
    this.#unflushed.push(step);
    applyStep(this.entries, step);
  }

  /** As {@link FileContent.beginSync}: what is in here now is durable once the returned function is called. */
  beginSync(): () => void {
    const covered = new Set(this.#unflushed);
    return () => {
      for (const step of this.#unflushed) if (covered.has(step)) applyStep(this.#durable, step);
      this.#unflushed = this.#unflushed.filter((step) => !covered.has(step));
    };
  }

  /** The host lost its memory: the steps survive in order, up to one of them. */
  crash(random: FakeRandom, losesAll: boolean): void {
    const survived = losesAll ? [] : this.#unflushed.slice(0, random.below(this.#unflushed.length + 1));
    for (const step of survived) applyStep(this.#durable, step);
    this.entries.clear();
    for (const [name, node] of this.#durable) this.entries.set(name, node);
    this.#unflushed = [];
    for (const node of this.entries.values()) node.crash(random, losesAll);
  }
}

function applyStep(entries: Map<string, Node>, step: Step): void {
  for (const [name, node] of step) {
    if (node === undefined) entries.delete(name);
    else entries.set(name, node);
  }
}

export type DiskOperation =
  | 'open'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'rename'
  | 'remove'
  | 'copy'
  | 'list';

/** An operation that was asked for and has not taken effect. */
interface Pending {
  cancelled: boolean;
}

export class FakeDisk {
  /** Bytes that fit; may be changed at any time. */
  limitBytes: number | undefined;
  /** Lets a test fail operations: a code to fail with, or undefined. */
  inject: ((operation: DiskOperation, path: string) => string | undefined) | undefined;
  /** A host crash keeps nothing that was not flushed, instead of this and that. */
  losesAll = false;
  /** Multiplies how long everything takes. */
  slowness = 1;
  readonly #scheduler: Scheduler;
  readonly #random: FakeRandom;
  #root = new Directory();
  readonly #locks = new Map<string, FakeProcess>();
  readonly #pending = new Map<FakeProcess, Set<Pending>>();
  #boot = 0;

  constructor(scheduler: Scheduler, random: FakeRandom, limitBytes?: number) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.limitBytes = limitBytes;
  }

  /** The disk as one process sees it. */
  forProcess(process: FakeProcess): Disk {
    process.onEnd((how) => {
      for (const [path, holder] of this.#locks) if (holder === process) this.#locks.delete(path);
      // What was under way when a process dies is done by the kernel, or was not begun.
      for (const pending of this.#pending.get(process) ?? []) {
        pending.cancelled = how === 'host' || this.#random.chance(0.5);
      }
      this.#pending.delete(process);
    });
    return new ProcessDisk(this, process);
  }

  crashHost(): void {
    this.#boot++;
    this.#root.crash(this.#random, this.losesAll);
  }

  /** The whole file as processes see it now, for checks; undefined when there is none. */
  contentOf(path: string): Uint8Array | undefined {
    const node = this.#find(path);
    if (!(node instanceof FileContent)) return undefined;
    const bytes = new Uint8Array(node.sizeBytes);
    node.read(bytes, 0);
    return bytes;
  }

  /** Names in a directory, sorted; for checks. */
  namesIn(path: string): string[] {
    const node = this.#find(path);
    return node instanceof Directory ? [...node.entries.keys()].sort() : [];
  }

  /** Changes one bit of a file, as a failing disk does. */
  flipBit(path: string, position: number): void {
    this.file(path).flipBit(position);
  }

  /** Somebody makes a new file system on it. No process that uses it may run. */
  wipe(): void {
    this.#boot++;
    this.#root = new Directory();
  }

  usedBytes(): number {
    const pagesOf = (directory: Directory): number => {
      let pages = 0;
      for (const node of directory.entries.values())
        pages += node instanceof Directory ? pagesOf(node) : node.pageCount;
      return pages;
    };
    return pagesOf(this.#root) * PAGE_BYTES;
  }

  space(): DiskSpace {
    const totalBytes = this.limitBytes ?? UNLIMITED_BYTES;
    return { totalBytes, availableBytes: Math.max(0, totalBytes - this.usedBytes()) };
  }

  get isHealthy(): boolean {
    return this.inject === undefined && this.slowness === 1;
  }

  /** Does `effect` a moment from now, on behalf of `process`. */
  perform<T>(process: FakeProcess, operation: DiskOperation, path: string, effect: () => T): Promise<T> {
    const [low, high] = operation === 'sync' ? SYNC_MS : CALL_MS;
    const pending: Pending = { cancelled: false };
    const boot = this.#boot;
    const set = this.#pending.get(process) ?? new Set<Pending>();
    this.#pending.set(process, set.add(pending));
    return new Promise((resolve, reject) => {
      this.#scheduler.after(this.#random.between(low, high) * this.slowness, () => {
        if (pending.cancelled || boot !== this.#boot) return;
        set.delete(pending);
        try {
          const code = this.inject?.(operation, path);
          if (code !== undefined) throw failure(code, `injected into ${operation} ${path}`);
          const result = effect();
          process.enter(() => resolve(result));
        } catch (thrown) {
          process.enter(() => reject(thrown));
        }
      });
    });
  }

  // The effects: they happen at once, in an event of their own.

  open(path: string, mode: OpenMode): FileContent {
    const { directory, name } = this.#parentOf(path);
    const node = directory.entries.get(name);
    if (node instanceof Directory) throw failure('EISDIR', path);
    if (node !== undefined) {
      if (mode === 'create-new') throw failure('EEXIST', path);
      return node;
    }
    if (mode === 'read' || mode === 'write') throw failure('ENOENT', path);
    const made = new FileContent();
    directory.change([[name, made]]);
    return made;
  }

  write(file: FileContent, buffers: readonly Uint8Array[], position: number): void {
    let at = position;
    for (const buffer of buffers) {
      if (buffer.byteLength === 0) continue;
      if (this.limitBytes !== undefined) {
        const neededBytes = file.newPages(at, buffer.byteLength) * PAGE_BYTES;
        if (this.usedBytes() + neededBytes > this.limitBytes) throw failure('ENOSPC', 'the disk is full');
      }
      file.write(buffer, at);
      at += buffer.byteLength;
    }
  }

  list(path: string): string[] {
    const node = this.#find(path);
    if (node === undefined) throw failure('ENOENT', path);
    if (!(node instanceof Directory)) throw failure('ENOTDIR', path);
    // In no particular order.
    const names = [...node.entries.keys()];
    for (let i = names.length - 1; i > 0; i--) {
      const j = this.#random.below(i + 1);
      [names[i], names[j]] = [names[j] as string, names[i] as string];
    }
    return names;
  }

  makeDirectory(path: string): void {
    let directory = this.#root;
    for (const name of componentsOf(path)) {
      let next = directory.entries.get(name);
      if (next instanceof FileContent) throw failure('EEXIST', path);
      if (next === undefined) {
        next = new Directory();
        directory.change([[name, next]]);
      }
      directory = next;
    }
  }

  rename(from: string, to: string): void {
    const source = this.#parentOf(from);
    const target = this.#parentOf(to);
    const node = source.directory.entries.get(source.name);
    if (node === undefined) throw failure('ENOENT', from);
    if (source.directory === target.directory) {
      if (source.name === target.name) return;
      source.directory.change([
        [target.name, node],
        [source.name, undefined],
      ]);
      return;
    }
    // Between directories the journal keeps both halves together; flushing them at once is one way to.
    target.directory.change([[target.name, node]]);
    source.directory.change([[source.name, undefined]]);
    target.directory.beginSync()();
    source.directory.beginSync()();
  }

  remove(path: string): void {
    const { directory, name } = this.#parentOf(path);
    const node = directory.entries.get(name);
    if (node === undefined) throw failure('ENOENT', path);
    if (node instanceof Directory) throw failure('EISDIR', path);
    directory.change([[name, undefined]]);
  }

  copy(from: string, to: string): void {
    const { directory, name } = this.#parentOf(to);
    directory.change([[name, this.file(from).copy()]]);
  }

  beginSyncDirectory(path: string): () => void {
    const node = this.#find(path);
    if (node === undefined) throw failure('ENOENT', path);
    if (!(node instanceof Directory)) throw failure('ENOTDIR', path);
    return node.beginSync();
  }

  lock(path: string, process: FakeProcess): () => void {
    this.open(path, 'create');
    if (this.#locks.has(path)) throw failure('EBUSY', `${path} is locked by another process`);
    // The kernel gives it to nobody who is no more, even where it was asked for before.
    if (process.alive) this.#locks.set(path, process);
    return () => this.#locks.delete(path);
  }

  file(path: string): FileContent {
    const node = this.#find(path);
    if (node === undefined) throw failure('ENOENT', path);
    if (node instanceof Directory) throw failure('EISDIR', path);
    return node;
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of componentsOf(path)) {
      if (!(node instanceof Directory)) return undefined;
      node = node.entries.get(name);
    }
    return node;
  }

  #parentOf(path: string): { directory: Directory; name: string } {
    const components = componentsOf(path);
    const name = components.pop();
    if (name === undefined) throw failure('EISDIR', path);
    const directory = this.#find(`/${components.join('/')}`);
    if (directory === undefined) throw failure('ENOENT', path);
    if (!(directory instanceof Directory)) throw failure('ENOTDIR', path);
    return { directory, name };
  }
}

function componentsOf(path: string): string[] {
  if (!path.startsWith('/')) throw new Error(`paths are absolute: ${path}`);
  return path.split('/').filter((component) => component !== '' && component !== '.');
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(`${code}: ${message}`), { code });
}

class ProcessDisk implements Disk {
  readonly #disk: FakeDisk;
  readonly #process: FakeProcess;

  constructor(disk: FakeDisk, process: FakeProcess) {
    this.#disk = disk;
    this.#process = process;
  }

  open(path: string, mode: OpenMode): Promise<DiskFile> {
    return this.#disk.perform(
      this.#process,
      'open',
      path,
      () => new ProcessDiskFile(this.#disk, this.#process, path, this.#disk.open(path, mode)),
    );
  }

  list(directory: string): Promise<string[]> {
    return this.#disk.perform(this.#process, 'list', directory, () => this.#disk.list(directory));
  }

  makeDirectory(path: string): Promise<void> {
    return this.#disk.perform(this.#process, 'open', path, () => this.#disk.makeDirectory(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#disk.perform(this.#process, 'rename', from, () => this.#disk.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#disk.perform(this.#process, 'remove', path, () => this.#disk.remove(path));
  }

  copy(from: string, to: string): Promise<void> {
    return this.#disk.perform(this.#process, 'copy', from, () => this.#disk.copy(from, to));
  }

  allocate(sizeBytes: number): Uint8Array {
    return new Uint8Array(sizeBytes);
  }

  async syncDirectory(path: string): Promise<void> {
    const finish = this.#disk.beginSyncDirectory(path);
    await this.#disk.perform(this.#process, 'sync', path, finish);
  }

  async space(): Promise<DiskSpace> {
    return this.#disk.space();
  }

  async lock(path: string): Promise<() => Promise<void>> {
    const release = await this.#disk.perform(this.#process, 'open', path, () =>
      this.#disk.lock(path, this.#process),
    );
    return async () => release();
  }
}

class ProcessDiskFile implements DiskFile {
  readonly #disk: FakeDisk;
  readonly #process: FakeProcess;
  readonly #path: string;
  readonly #content: FileContent;
  #poison: Error | undefined;
  #open = true;

  constructor(disk: FakeDisk, process: FakeProcess, path: string, content: FileContent) {
    this.#disk = disk;
    this.#process = process;
    this.#path = path;
    this.#content = content;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#perform('read', () => this.#content.read(buffer, position));
  }

  readNow(buffer: Uint8Array, position: number): number | undefined {
    return this.#isQuick(position) ? this.#content.read(buffer, position) : undefined;
  }

  writeNow(buffers: readonly Uint8Array[], position: number): boolean {
    if (this.#poison !== undefined || !this.#isQuick(position)) return false;
    this.#disk.write(this.#content, buffers, position);
    return true;
  }

  /** Sometimes, and not while calls fail or take long: both ways are ways that users go. */
  #isQuick(position: number): boolean {
    return this.#open && this.#disk.isHealthy && Math.floor(position / QUICK_BYTES) % 2 === 0;
  }

  /** The bytes are taken when the write takes effect: who changes them before that has a bug that shows here. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    return this.#perform('write', () => {
      if (this.#poison !== undefined) throw this.#poison;
      this.#disk.write(this.#content, buffers, position);
    });
  }

  /** Flushes what was written before the call, and nothing that is written while it lasts. */
  async sync(): Promise<void> {
    if (this.#poison !== undefined) throw this.#poison;
    const finish = this.#content.beginSync();
    try {
      await this.#perform('sync', finish);
    } catch (thrown) {
      this.#poison = thrown as Error;
      throw thrown;
    }
  }

  async sizeBytes(): Promise<number> {
    return this.#perform('read', () => this.#content.sizeBytes);
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#perform('truncate', () => this.#content.truncate(sizeBytes));
  }

  async close(): Promise<void> {
    if (!this.#open) throw failure('EBADF', this.#path);
    this.#open = false;
  }

  async #perform<T>(operation: DiskOperation, effect: () => T): Promise<T> {
    if (!this.#open) throw failure('EBADF', this.#path);
    return this.#disk.perform(this.#process, operation, this.#path, effect);
  }
}
