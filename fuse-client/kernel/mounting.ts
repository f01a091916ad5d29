/** Mounts and unmounts: by mount(2) for root, through fusermount3 for everybody else. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { getegid, geteuid } from 'node:process';
import type { MountOptions } from '../handler.js';
import type { Addon, Mounted } from './addon.js';
import { FILE_SYSTEM_TYPE, helperOptions, kernelOptions, parseOptions } from './options.js';

const HELPERS = [
  '/usr/bin/fusermount3',
  '/bin/fusermount3',
  '/usr/local/bin/fusermount3',
  '/usr/bin/fusermount',
];

/** umount2(2): out of sight at once, gone when nobody uses it any more. */
const MNT_DETACH = 2;

/** @throws an Error that says what to do */
export async function mountDirectory(
  addon: Addon,
  directory: string,
  options: MountOptions,
): Promise<Mounted> {
  const parsed = parseOptions(options);
  const uid = geteuid?.() ?? 0;
  if (uid === 0 && !parsed.autoUnmount) {
    try {
      return await addon.mount(
        Buffer.from(options.source),
        Buffer.from(directory),
        Buffer.from(FILE_SYSTEM_TYPE),
        parsed.flags,
        Buffer.from(kernelOptions(parsed, uid, getegid?.() ?? 0)),
      );
    } catch (error) {
      throw explain(error as NodeJS.ErrnoException, directory);
    }
  }
  const helper = findHelper();
  try {
    const helperArguments = Buffer.from(helperOptions(parsed, options.source));
    return await addon.mountByHelper(
      Buffer.from(helper),
      Buffer.from(directory),
      helperArguments,
      parsed.autoUnmount,
    );
  } catch (error) {
    throw new Error(`Cannot mount on ${directory}: ${(error as Error).message}`, { cause: error });
  }
}

/** Detaches what is mounted there (umount2 with MNT_DETACH); it lives on for those who have files open. */
export async function detachDirectory(addon: Addon, directory: string): Promise<void> {
  if ((geteuid?.() ?? 0) === 0) return await addon.unmount(Buffer.from(directory), MNT_DETACH);
  await new Promise<void>((resolve, reject) => {
    execFile(findHelper(), ['-u', '-z', '--', directory], (error, _stdout, stderr) => {
      if (error === null) resolve();
      else
        reject(new Error(`Cannot unmount ${directory}: ${stderr.trim() || error.message}`, { cause: error }));
    });
  });
}

function findHelper(): string {
  const helper = HELPERS.find((path) => existsSync(path));
  if (helper !== undefined) return helper;
  throw new Error('fusermount3 is missing, without which only root can mount: install the package fuse3.');
}

function explain(error: NodeJS.ErrnoException, directory: string): Error {
  const advice =
    error.syscall === 'open /dev/fuse' && (error.code === 'ENOENT' || error.code === 'ENODEV')
      ? ' The kernel has no FUSE: load it with "modprobe fuse".'
      : error.code === 'EPERM' || error.code === 'EACCES'
        ? ' This process may not mount: a container needs /dev/fuse and the capability SYS_ADMIN.'
        : '';
  return new Error(`Cannot mount on ${directory}: ${error.message}.${advice}`, { cause: error });
}
