/** `gfs install-helper`: has mount(8) and fstab find us. */
import { existsSync, lstatSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { codeOf, Failure } from '../failure.js';

/** mount(8) takes the type as the end of the helper's name. */
const NAMES = ['mount.fuse.gfs', 'mount.gfs'];

export interface InstallHelperFlags {
  readonly directory: string;
  readonly remove?: boolean;
}

export async function installHelper({ directory, remove }: InstallHelperFlags): Promise<void> {
  const helper = helperPath();
  for (const name of NAMES) {
    const path = join(directory, name);
    try {
      replaceLink(path, remove === true ? undefined : helper);
    } catch (error) {
      if (error instanceof Failure) throw error;
      const hint = codeOf(error) === 'EACCES' ? 'Run it as root, or give --directory.' : undefined;
      throw new Failure(`cannot change ${path}: ${(error as Error).message}`, hint);
    }
    process.stdout.write(remove === true ? `removed ${path}\n` : `${path} -> ${helper}\n`);
  }
  if (remove !== true) {
    process.stdout.write(
      'Now: mount -t fuse.gfs HOST:5000:/ DIR, and in /etc/fstab:\nHOST:5000:/  DIR  fuse.gfs  defaults,_netdev  0  0\n',
    );
  }
}

/** A link that we have made, or nothing, is replaced: what somebody else has put there stays. */
function replaceLink(path: string, target: string | undefined): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && !(there.isSymbolicLink() && /mount\.fuse\.gfs$/.test(readlinkSync(path))))
    throw new Failure(`${path} is there and is not ours`, 'Look what it is, and remove it first.');
  rmSync(path, { force: true });
  if (target !== undefined) symlinkSync(target, path);
}

/** `scripts/mount.fuse.gfs` of this installation, from the source and from wherever it was compiled to. */
function helperPath(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'scripts/mount.fuse.gfs'))) {
    if (directory === '/') throw new Failure('scripts/mount.fuse.gfs is missing from this installation');
    directory = dirname(directory);
  }
  return join(directory, 'scripts/mount.fuse.gfs');
}
