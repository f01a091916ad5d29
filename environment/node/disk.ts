/**
 * Files by raw descriptors: FileHandle's objects and promises cost more than the system calls that
 * they wrap. See {@link Disk} for the contract.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import type { Disk, DiskFile, DiskSpace, OpenMode } from '../ports/index.js';
import { isPageAligned, PAGE_BYTES, pageAligned } from './aligned-memory.js';
import { QuickCalls } from './quick-calls.js';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECT, COPYFILE_FICLONE } = fs.constants;

const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: O_RDONLY,
  write: O_RDWR,
  create: O_RDWR | O_CREAT,
  'create-new': O_RDWR | O_CREAT | O_EXCL,
};
/** The data of all users is in these files: nobody but us reads them. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** IOV_MAX: buffers that one writev(2) takes. */
const MAX_GATHERED = 1024;
const SMALL_WRITE_BYTES = 32 * 1024;
const WRITTEN: Promise<void> = Promise.resolve();
const SMALL_READ_BYTES = 64 * 1024;
const quickReads = new QuickCalls(0.5);
/** Reads that may run side by side: from here on it is the device that is waited for, one after another. */
const quickReadsOfMany = new QuickCalls(0.06);
/** Flushes whose caller has nothing else to do: a millisecond is no longer than other turns of the loop. */
const quickFlushes = new QuickCalls(1, 64);
/** From here on a write past the page cache is quicker than one through it. */
const DIRECT_WRITE_BYTES = 256 * 1024;
/** flock(1) when somebody else has the lock. */
const FLOCK_HELD = 1;
const LOCK_FD_IN_CHILD = 3;

type Callback<T> = (error: NodeJS.ErrnoException | null, result: T) => void;

function promised<T>(start: (callback: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, result) => (error === null ? resolve(result) : reject(error)));
  });
}

/** For calls whose callback has no result. */
function done(start: (callback: (error: NodeJS.ErrnoException | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null || error === undefined ? resolve() : reject(error)));
  });
}

class NodeDiskFile implements DiskFile {
  /** -1 once it is being closed: another file may have that number then. */
  #fd: number;
  #closed: Promise<void> | undefined;
  #poison: Error | undefined;
  /** The same file for writes past the page cache; opened for the first of them, -1 where it cannot be had. */
  #direct: Promise<number> | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  async read(buffer: Uint8Array, position: number, isOneOfMany = false): Promise<number> {
    const count = this.readNow(buffer, position, isOneOfMany);
    if (count !== undefined) return count;
    let filled = 0;
    while (filled < buffer.byteLength) {
      const count = await promised<number>((callback) =>
        fs.read(this.#fd, buffer, filled, buffer.byteLength - filled, position + filled, callback),
      );
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  readNow(buffer: Uint8Array, position: number, isOneOfMany = false): number | undefined {
    const quick = isOneOfMany ? quickReadsOfMany : quickReads;
    if (buffer.byteLength > SMALL_READ_BYTES || !quick.areDue) return undefined;
    const startMs = performance.now();
    let filled = 0;
    while (filled < buffer.byteLength) {
      const count = fs.readSync(this.#fd, buffer, filled, buffer.byteLength - filled, position + filled);
      if (count === 0) break;
      filled += count;
    }
    quick.note(performance.now() - startMs);
    return filled;
  }

  write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    const only = buffers.length === 1 ? (buffers[0] as Uint8Array) : undefined;
    if (only === undefined || only.byteLength > SMALL_WRITE_BYTES) return this.#writeAll(buffers, position);
    try {
      if (this.#poison !== undefined) throw this.#poison;
      const written = fs.writeSync(this.#fd, only, 0, only.byteLength, position);
      if (written === only.byteLength) return WRITTEN;
      return this.#writeAll([only.subarray(written)], position + written);
    } catch (thrown) {
      return Promise.reject(thrown);
    }
  }

  async #writeAll(buffers: readonly Uint8Array[], position: number): Promise<void> {
    if (this.#poison !== undefined) throw this.#poison;
    let left = buffers.filter((buffer) => buffer.byteLength > 0);
    let at = position;
    while (left.length > 0) {
      const written = await this.#writeSome(left, at);
      at += written;
      left = without(left, written);
    }
  }

  writeNow(buffers: readonly Uint8Array[], position: number): boolean {
    if (this.#poison !== undefined || !isSmall(buffers)) return false;
    let left = buffers;
    let at = position;
    for (;;) {
      const written = fs.writevSync(this.#fd, left, at);
      at += written;
      left = without(left, written);
      if (left.length === 0) return true;
    }
  }

  async #writeSome(buffers: readonly Uint8Array[], position: number): Promise<number> {
    const head = buffers[0] as Uint8Array;
    const aligned = alignedBytes(buffers, position);
    if (aligned >= DIRECT_WRITE_BYTES) {
      const written = await this.#writeDirect(buffers, aligned, position);
      if (written > 0) return written;
    }
    if (isSmall(buffers)) return fs.writevSync(this.#fd, buffers, position);
    return promised<number>((callback) => {
      if (buffers.length === 1) fs.write(this.#fd, head, 0, head.byteLength, position, callback);
      else fs.writev(this.#fd, buffers.slice(0, MAX_GATHERED), position, callback);
    });
  }

  /**
   * O_DIRECT (open(2)): the device takes the bytes from our memory, and the processor copies nothing.
   * @returns 0 where the file system cannot
   */
  async #writeDirect(buffers: readonly Uint8Array[], bytes: number, position: number): Promise<number> {
    this.#direct ??= promised<number>((callback) =>
      fs.open(`/proc/self/fd/${this.#fd}`, O_RDWR | O_DIRECT, callback),
    ).catch(() => -1);
    const fd = await this.#direct;
    if (fd === -1) return 0;
    try {
      return await promised<number>((callback) => {
        fs.writev(fd, first(buffers, bytes).slice(0, MAX_GATHERED), position, callback);
      });
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EINVAL') throw thrown;
      return 0;
    }
  }

  async sync(isAlone = false): Promise<void> {
    if (this.#poison !== undefined) throw this.#poison;
    try {
      if (isAlone && quickFlushes.areDue) this.#syncNow();
      else await done((callback) => fs.fdatasync(this.#fd, callback));
    } catch (thrown) {
      // The kernel forgets a failed write-back: a second fdatasync would succeed with the data lost.
      this.#poison = thrown as Error;
      throw thrown;
    }
  }

  #syncNow(): void {
    const startMs = performance.now();
    fs.fdatasyncSync(this.#fd);
    quickFlushes.note(performance.now() - startMs);
  }

  async sizeBytes(): Promise<number> {
    const stats = await promised<fs.Stats>((callback) => fs.fstat(this.#fd, callback));
    return stats.size;
  }

  truncate(sizeBytes: number): Promise<void> {
    return done((callback) => fs.ftruncate(this.#fd, sizeBytes, callback));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close(this.#fd);
    return this.#closed;
  }

  async #close(fd: number): Promise<void> {
    this.#fd = -1;
    const direct = (await this.#direct) ?? -1;
    if (direct !== -1) await done((callback) => fs.close(direct, callback));
    await done((callback) => fs.close(fd, callback));
  }
}

/** Copying this much to the page cache is quicker than waking a thread that does it, and being woken by it. */
function isSmall(buffers: readonly Uint8Array[]): boolean {
  if (buffers.length > MAX_GATHERED) return false;
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.byteLength;
  return bytes <= SMALL_WRITE_BYTES;
}

/** How many of the first bytes of `buffers` the device can take as they lie in memory. */
function alignedBytes(buffers: readonly Uint8Array[], position: number): number {
  if (position % PAGE_BYTES !== 0) return 0;
  let bytes = 0;
  for (const buffer of buffers) {
    if (!isPageAligned(buffer)) break;
    const whole = buffer.byteLength - (buffer.byteLength % PAGE_BYTES);
    bytes += whole;
    if (whole < buffer.byteLength) break;
  }
  return bytes;
}

/** The first `count` bytes of `buffers`. */
function first(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const some: Uint8Array[] = [];
  let left = count;
  for (const buffer of buffers) {
    if (left === 0) break;
    some.push(buffer.byteLength <= left ? buffer : buffer.subarray(0, left));
    left -= Math.min(left, buffer.byteLength);
  }
  return some;
}

/** What is left of `buffers` when their first `count` bytes are gone. */
function without(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  let index = 0;
  while (index < buffers.length && skip >= (buffers[index] as Uint8Array).byteLength) {
    skip -= (buffers[index] as Uint8Array).byteLength;
    index++;
  }
  const rest = buffers.slice(index);
  if (skip > 0) rest[0] = (rest[0] as Uint8Array).subarray(skip);
  return rest;
}

export class NodeDisk implements Disk {
  allocate(sizeBytes: number): Uint8Array {
    return pageAligned(sizeBytes);
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new NodeDiskFile(
      await promised<number>((callback) => fs.open(path, FLAGS[mode], FILE_MODE, callback)),
    );
  }

  list(directory: string): Promise<string[]> {
    return promised<string[]>((callback) => fs.readdir(directory, callback));
  }

  async makeDirectory(path: string): Promise<void> {
    await promised<string | undefined>((callback) =>
      fs.mkdir(path, { recursive: true, mode: DIRECTORY_MODE }, callback),
    );
  }

  rename(from: string, to: string): Promise<void> {
    return done((callback) => fs.rename(from, to, callback));
  }

  remove(path: string): Promise<void> {
    return done((callback) => fs.unlink(path, callback));
  }

  /** Through a temporary name (`to` + `.copying`): a copy that a crash cut short never bears the name asked for. */
  async copy(from: string, to: string): Promise<void> {
    const temporary = `${to}.copying`;
    try {
      await done((callback) => fs.copyFile(from, temporary, COPYFILE_FICLONE, callback));
      await this.rename(temporary, to);
    } catch (thrown) {
      await this.remove(temporary).catch(() => undefined);
      throw thrown;
    }
  }

  async syncDirectory(path: string): Promise<void> {
    const fd = await promised<number>((callback) => fs.open(path, O_RDONLY, callback));
    try {
      await done((callback) => fs.fsync(fd, callback));
    } finally {
      await done((callback) => fs.close(fd, callback));
    }
  }

  async space(directory: string): Promise<DiskSpace> {
    const stats = await promised<fs.StatsFs>((callback) => fs.statfs(directory, callback));
    return { totalBytes: stats.blocks * stats.bsize, availableBytes: stats.bavail * stats.bsize };
  }

  /**
   * Node has no flock(2). A lock belongs to the open file description, which a child shares: so
   * flock(1) takes it on our descriptor and ends, and it lasts until we close that or die. Descriptors
   * are close-on-exec, so no child of ours keeps it.
   */
  async lock(path: string): Promise<() => Promise<void>> {
    const fd = await promised<number>((callback) => fs.open(path, O_RDWR | O_CREAT, FILE_MODE, callback));
    const release = () => done((callback) => fs.close(fd, callback));
    try {
      await flock(fd, path);
    } catch (thrown) {
      await release();
      throw thrown;
    }
    return release;
  }
}

function flock(fd: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['--nonblock', String(LOCK_FD_IN_CHILD)], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    child.once('error', (cause) => {
      reject(new Error('cannot run flock(1), which Debian has in util-linux', { cause }));
    });
    child.once('exit', (status) => {
      if (status === 0) resolve();
      else if (status === FLOCK_HELD) reject(errorWithCode('EBUSY', `${path} is locked by another process`));
      else reject(new Error(`flock(1) ended with ${status} on ${path}`));
    });
  });
}

function errorWithCode(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code });
}
