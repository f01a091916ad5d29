/** The supplementary groups of a caller: the kernel sends only the primary one along. */
import { readFileSync } from 'node:fs';

/**
 * From /proc/PID/status, which needs nothing from any file system and answers at once.
 * @param pid of the calling thread; 0 when it is in another pid namespace, and then only `gid` is known
 * @returns `gid` first
 */
export function groupsOf(pid: number, gid: number): readonly number[] {
  if (pid === 0) return [gid];
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    // It has ended: nobody waits for the answer.
    return [gid];
  }
  const listed = /^Groups:\t(.*)$/m.exec(status)?.[1] ?? '';
  const groups = listed.split(' ').filter((group) => group !== '');
  return [...new Set([gid, ...groups.map(Number)])];
}
