/** A directory that is about to become a mount point: made, tidied of a dead mount, or refused with a reason. */
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { codeOf, Failure } from './failure.js';
import { canonical, detach, isGfs, mountAt, probeMount } from './mounts.js';

const PROBE_TIMEOUT_MS = 3000;

export interface MountPointWishes {
  /** Makes the directory where it is missing. */
  readonly create: boolean;
  readonly allowNonEmpty: boolean;
  readonly tell: (line: string) => void;
}

/** @returns its canonical path @throws Failure that names what stands in the way and what to do */
export async function prepareMountPoint(directory: string, wishes: MountPointWishes): Promise<string> {
  const path = canonical(directory);
  await clearMounted(path, wishes);
  if (wishes.create) {
    try {
      mkdirSync(path, { recursive: true });
    } catch (error) {
      // A file is there: the check below says so.
      if (codeOf(error) !== 'EEXIST')
        throw new Failure(
          `cannot make the mount point ${path}: ${(error as Error).message}`,
          hintFor(codeOf(error)),
        );
    }
  }
  checkDirectory(path);
  if (!wishes.allowNonEmpty && !isEmpty(path)) {
    throw new Failure(
      `the mount point ${path} is not empty: a mount would hide what is in it`,
      'Give an empty directory, or mount over it all the same with -o nonempty.',
    );
  }
  return path;
}

async function clearMounted(path: string, { tell }: MountPointWishes): Promise<void> {
  // More than one dead mount can lie on top of each other.
  for (let mount = mountAt(path); mount !== undefined && mount.mountPoint !== '/'; mount = mountAt(path)) {
    const health = await probeMount(path, PROBE_TIMEOUT_MS);
    const what = isGfs(mount)
      ? `a GFS mount (${mount.source})`
      : `a mount of ${mount.source} (${mount.type})`;
    if (health !== 'stale') {
      const state = health === 'hung' ? ', which does not answer' : '';
      const command = health === 'hung' ? `gfs umount --force ${path}` : `gfs umount ${path}`;
      throw new Failure(
        `${path} has ${what} already${state}`,
        `Unmount it first (${command}), or give another directory.`,
      );
    }
    tell(`${path} has ${what} whose process is dead: unmounting it`);
    const { status, error } = await detach(path, true);
    if (status !== 0)
      throw new Failure(`cannot unmount the dead mount at ${path}: ${error}`, `As root: umount -l ${path}`);
  }
}

function checkDirectory(path: string): void {
  try {
    if (!statSync(path).isDirectory()) {
      throw new Failure(`the mount point ${path} is not a directory`, 'Give an empty directory.');
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (codeOf(error) === 'ENOENT') {
      throw new Failure(`the mount point ${path} does not exist`, `Make it first: mkdir -p ${path}`);
    }
    throw new Failure(
      `cannot use ${path} as a mount point: ${(error as Error).message}`,
      hintFor(codeOf(error)),
    );
  }
}

function isEmpty(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch (error) {
    throw new Failure(
      `cannot look into the mount point ${path}: ${(error as Error).message}`,
      hintFor(codeOf(error)),
    );
  }
}

function hintFor(code: string | undefined): string {
  if (code === 'EACCES' || code === 'EPERM')
    return 'Run it as a user who may, or give a directory of your own.';
  return 'Give another directory.';
}
