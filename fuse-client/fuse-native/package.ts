/** What is used of the npm package fuse-native (2.2.6), which has no types, and how it is loaded. */
import { createRequire } from 'node:module';
import { isMainThread } from 'node:worker_threads';

/** Answers the library: a negative errno, or 0, or a count, and then what the operation returns. */
export type Signal = (result: number, ...values: unknown[]) => void;

export interface PackageStat {
  readonly mode: number;
  readonly ino: number;
}

/**
 * The package's public operations: paths, and callbacks that take a negative errno or 0. Only those
 * that it carries right; the others are replaced in {@link PackageDriver}.
 */
export interface PackageOperations {
  statfs(path: string, done: (result: number, value?: Record<string, number>) => void): void;
  readdir(path: string, done: (result: number, names?: string[], stats?: PackageStat[]) => void): void;
  readlink(path: string, done: (result: number, target?: string) => void): void;
  mknod(path: string, mode: number, dev: number, done: Done): void;
  mkdir(path: string, mode: number, done: Done): void;
  symlink(target: string, path: string, done: Done): void;
  link(path: string, newPath: string, done: Done): void;
  rename(path: string, newPath: string, done: Done): void;
  unlink(path: string, done: Done): void;
  rmdir(path: string, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  chown(path: string, uid: number, gid: number, done: Done): void;
  truncate(path: string, size: number, done: Done): void;
  ftruncate(path: string, fd: number, size: number, done: Done): void;
  create(path: string, mode: number, done: (result: number, fd?: number) => void): void;
  open(path: string, flags: number, done: (result: number, fd?: number) => void): void;
  read(path: string, fd: number, buffer: Buffer, length: number, offset: number, done: Done): void;
  write(path: string, fd: number, buffer: Buffer, length: number, offset: number, done: Done): void;
  flush(path: string, fd: number, done: Done): void;
  fsync(path: string, dataOnly: number, fd: number, done: Done): void;
  fsyncdir(path: string, dataOnly: number, fd: number, done: Done): void;
  release(path: string, fd: number, done: Done): void;
  setxattr(path: string, name: string, value: Buffer, position: number, flags: number, done: Done): void;
  removexattr(path: string, name: string, done: Done): void;
}

/** `result` is a count for read and write. */
export type Done = (result: number) => void;

/**
 * The operations that the package carries wrongly through its public interface (its index.js says
 * how), as it calls them inside.
 */
export interface PackageInternals {
  _op_getattr(signal: Signal, path: string): void;
  /** The public one is never called with the descriptor. */
  _op_fgetattr(signal: Signal, path: string, fd: number): void;
  /** The public one gets the access time twice. */
  _op_utimens(signal: Signal, path: string, atimeLow: number, atimeHigh: number): void;
  /** The public ones do not say how large the caller's buffer is. `buffer` is the caller's memory. */
  _op_getxattr(signal: Signal, path: string, name: string, buffer: Buffer): void;
  _op_listxattr(signal: Signal, path: string, buffer: Buffer): void;
}

export interface PackageDriver extends PackageInternals {
  /** By operation; each is called with the memory of the library thread that waits for the answer. */
  _handlers: ((thread: Buffer, ...rest: unknown[]) => void)[];
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
}

export interface Package {
  new (
    directory: string,
    operations: PackageOperations & Record<keyof PackageImplemented, true>,
    options: Readonly<Record<string, unknown>>,
  ): PackageDriver;
  /** What the driver's `unmount` calls. */
  unmount(directory: string, done: (error: Error | null) => void): void;
}

/** The package asks only whether these are there: the driver's own are called. */
export interface PackageImplemented {
  fgetattr: unknown;
  getattr: unknown;
  utimens: unknown;
  getxattr: unknown;
  listxattr: unknown;
}

/** @throws an Error that says what to install */
export function loadPackage(): Package {
  if (!isMainThread) throw new Error('the fuse-native binding works in the main thread only');
  try {
    return createRequire(import.meta.url)('fuse-native') as Package;
  } catch (thrown) {
    throw new Error(`the fuse-native binding cannot be used: ${adviceFor(thrown as Error)}`, {
      cause: thrown,
    });
  }
}

function adviceFor(error: Error & { code?: string }): string {
  if (/libfuse\.so\.2/.test(error.message)) {
    return 'libfuse 2 is missing; install Debian\'s "libfuse2" (apt-get install libfuse2)';
  }
  if (error.code === 'MODULE_NOT_FOUND') {
    return 'the optional package "fuse-native" is not installed; install libfuse2 first, then run npm install';
  }
  return error.message;
}
