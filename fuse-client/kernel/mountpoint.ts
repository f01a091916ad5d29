/** Where to mount: what is mounted already, and whether a directory can be used. */
import { readFile, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Timers } from '../../environment/ports/index.js';

/** A line of /proc/self/mountinfo. */
export interface MountedHere {
  /** `major:minor`, as stat(2) and sysfs have it: tells two mounts on one directory apart. */
  readonly device: string;
  readonly directory: string;
  readonly type: string;
  readonly source: string;
}

/** How long a mounted file system may take to answer a stat before it counts as hung. */
const ANSWER_TIMEOUT_MS = 2000;
/** Dead mounts may lie on one another. */
const MAX_STACKED_MOUNTS = 16;

/** `\040` and the like, and UTF-8 under it. */
function decodeField(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString();
}

export function parseMountinfo(text: string): MountedHere[] {
  const mounts: MountedHere[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const [, , device, , directory] = before?.split(' ') ?? [];
    const [type, source] = after?.split(' ') ?? [];
    if (device === undefined || directory === undefined || type === undefined || source === undefined)
      continue;
    mounts.push({ device, directory: decodeField(directory), type, source: decodeField(source) });
  }
  return mounts;
}

/** What one sees at this directory: the last mount on it. Never touches the file system itself. */
export async function mountAt(directory: string): Promise<MountedHere | undefined> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'latin1'));
  return mounts.filter((mount) => mount.directory === directory).at(-1);
}

/**
 * Finds the directory to mount on and makes sure that it can be. A FUSE mount whose process died
 * (ENOTCONN) is detached first.
 *
 * @returns its path without symbolic links @throws an Error that says what to do
 */
export async function prepareMountPoint(
  directory: string,
  detach: (directory: string) => Promise<void>,
  timers: Timers,
): Promise<string> {
  const path = await resolveDirectory(directory, timers);
  for (let i = 0; i < MAX_STACKED_MOUNTS; i++) {
    const mounted = await mountAt(path);
    const state = await answerWithin(timers, stateOf(path));
    if (state === 'dead') {
      await detach(path);
      continue;
    }
    if (state === 'timeout') {
      throw new Error(
        `${path} is a mount (${mounted?.source ?? 'of an unknown source'}) that does not answer. ` +
          `Free it with "gfs umount --force ${path}", then mount again.`,
      );
    }
    if (state === 'no directory') throw new Error(`${path} is not a directory: mount on an empty directory.`);
    if (mounted?.type.startsWith('fuse')) {
      throw new Error(
        `${path} is mounted already (${mounted.source}, ${mounted.type}). ` +
          `Unmount it first with "gfs umount ${path}", or mount elsewhere.`,
      );
    }
    return path;
  }
  throw new Error(`${path}: dead mounts keep coming back. See "grep ${path} /proc/self/mountinfo".`);
}

/**
 * Whether the directory can be used. Asks for its free space as well: its attributes may be in the
 * kernel's cache and outlive the process that served it, but statfs(2) always asks that process.
 */
async function stateOf(path: string): Promise<'usable' | 'no directory' | 'dead'> {
  try {
    await statfs(path);
    return (await stat(path)).isDirectory() ? 'usable' : 'no directory';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTCONN') return 'dead';
    // Another user's FUSE mount: it is there, and that is all one may know.
    if (code === 'EACCES') return 'usable';
    throw error;
  }
}

/** The path without symbolic links, also when a dead mount lies on it. */
async function resolveDirectory(directory: string, timers: Timers): Promise<string> {
  const absolute = resolve(directory);
  try {
    const path = await answerWithin(timers, realpath(absolute));
    return path === 'timeout' ? absolute : path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTCONN') return join(await realpath(dirname(absolute)), basename(absolute));
    if (code === 'ENOENT') {
      throw new Error(`${absolute} does not exist: make it with "mkdir -p ${absolute}", then mount again.`);
    }
    if (code === 'ENOTDIR') throw new Error(`${absolute} is not a directory: mount on an empty directory.`);
    throw error;
  }
}

/** A hung mount holds whoever asks it, for ever maybe: give up waiting. */
async function answerWithin<T>(timers: Timers, answer: Promise<T>): Promise<T | 'timeout'> {
  let onTimeout: (value: 'timeout') => void = () => {};
  const timeout = new Promise<'timeout'>((resolve) => {
    onTimeout = resolve;
  });
  const timer = timers.after(ANSWER_TIMEOUT_MS, () => onTimeout('timeout'));
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    timer.cancel();
  }
}
