import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** One line of /proc/self/mountinfo (proc(5)): reading it touches no mounted file system. */
export interface MountedFilesystem {
  /** Tells this mount from a later one in the same place. */
  readonly key: string;
  readonly directory: string;
  readonly type: string;
}

export async function mountTable(): Promise<MountedFilesystem[]> {
  const text = await readFile('/proc/self/mountinfo', 'latin1');
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const [id, , device, , place] = fields;
    const separator = fields.indexOf('-');
    if (place === undefined || separator < 0) return [];
    return [
      { key: `${id} ${device} ${place}`, directory: unescapeOctal(place), type: fields[separator + 1] ?? '' },
    ];
  });
}

/** The topmost file system that is mounted on exactly this directory. */
export async function mountedOn(directory: string): Promise<MountedFilesystem | undefined> {
  const bytes = Buffer.from(directory).toString('latin1');
  return (await mountTable()).findLast((mount) => mount.directory === bytes);
}

/**
 * Takes the mount out of the tree, whoever uses it (umount2 with MNT_DETACH). By command, because
 * this binding is for where nothing native can be built.
 */
export async function detach(directory: string): Promise<void> {
  if (process.getuid?.() === 0) await run('umount', ['-i', '-c', '-l', '--', directory]);
  else await run('fusermount3', ['-u', '-z', '--', directory]);
}

/** Whether it is what a crashed mount leaves behind: every access fails with ENOTCONN. */
export async function isStaleMount(directory: string): Promise<boolean> {
  try {
    await stat(directory);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTCONN';
  }
}

/** Space, tab, newline and backslash are written as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
