/** Mounts of this host: what is mounted where, whether it still answers, and how one is taken away. */
import { spawn } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from './failure.js';

const DETACH_TIMEOUT_MS = 10_000;

export interface Mount {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Names the connection below /sys/fs/fuse/connections. */
  readonly minor: number;
}

/** mountinfo writes space, tab, newline and backslash in octal. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** proc(5), /proc/PID/mountinfo: fields, optional ones up to a `-`, then type, source, options. */
export function parseMountInfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const fields = before?.split(' ') ?? [];
    const [type, source] = after?.split(' ') ?? [];
    if (fields.length < 6 || type === undefined || source === undefined) continue;
    mounts.push({
      mountPoint: unescapeOctal(fields[4] as string),
      type,
      source: unescapeOctal(source),
      minor: Number(fields[2]?.split(':')[1]),
    });
  }
  return mounts;
}

/** What is mounted exactly there; the topmost, where there are several. Never touches the file system itself. */
export function mountAt(path: string): Mount | undefined {
  const point = canonical(path);
  const mounts = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  return mounts.findLast((mount) => mount.mountPoint === point);
}

/** The path with the links of its parents resolved; the mount point itself is not asked, it may hang. */
export function canonical(path: string): string {
  const full = resolve(path);
  if (full === '/') return full;
  try {
    return join(realpathSync(dirname(full)), basename(full));
  } catch {
    return full;
  }
}

export function isGfs(mount: Mount): boolean {
  return mount.type === 'fuse.gfs' || (mount.type.startsWith('fuse') && mount.source.startsWith('gfs'));
}

/** How a program is run and what came of it. */
export interface RunResult {
  readonly status: number | null;
  readonly error: string;
}

/** Runs a program to its end, or kills it. Standard error is kept. */
export function run(program: string, words: readonly string[], timeoutMs: number): Promise<RunResult> {
  return new Promise((done) => {
    const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    let error = '';
    child.stderr.on('data', (bytes: Buffer) => {
      error += bytes.toString();
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // A process inside a hung mount cannot even be killed: it is left behind.
      child.unref();
      done({ status: null, error: 'it does not answer' });
    }, timeoutMs);
    child.on('error', (cause) => {
      clearTimeout(timer);
      done({ status: codeOf(cause) === 'ENOENT' ? 127 : 126, error: cause.message });
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      done({ status, error: error.trim() });
    });
  });
}

export type MountHealth = 'answers' | 'stale' | 'hung';

/**
 * Asks a mount for its space, which the kernel never answers from its cache, from another process: a
 * hung mount would take ours along.
 */
export async function probeMount(mountPoint: string, timeoutMs: number): Promise<MountHealth> {
  const { status, error } = await run('stat', ['--file-system', '--format=%T', '--', mountPoint], timeoutMs);
  if (status === 0) return 'answers';
  // ENOTCONN: the process behind it is dead. ECONNABORTED: its connection was aborted.
  if (/not connected|connection abort/i.test(error)) return 'stale';
  return status === null ? 'hung' : 'answers';
}

/**
 * Takes the mount away from the tree at once; who has files open in it keeps them.
 * @param abort fails every request that waits in it, so that nobody is stuck: for a mount that does not answer
 */
export async function detach(mountPoint: string, abort: boolean): Promise<RunResult> {
  const force = abort ? ['--force'] : [];
  const words = ['--lazy', ...force, '--no-canonicalize', '--', mountPoint];
  const byUmount = await run('umount', words, DETACH_TIMEOUT_MS);
  if (byUmount.status === 0) return byUmount;
  const byFusermount = await run('fusermount3', ['-u', '-z', '--', mountPoint], DETACH_TIMEOUT_MS);
  return byFusermount.status === 0 ? byFusermount : byUmount;
}

/** An orderly unmount: fails with "busy" while somebody uses it. */
export async function unmount(mountPoint: string, timeoutMs: number): Promise<RunResult> {
  const byUmount = await run('umount', ['--no-canonicalize', '--', mountPoint], timeoutMs);
  if (byUmount.status === 0 || /busy/.test(byUmount.error)) return byUmount;
  const byFusermount = await run('fusermount3', ['-u', '--', mountPoint], timeoutMs);
  return byFusermount.status === 0 ? byFusermount : byUmount;
}

/** Waits until `isIt` holds for what is mounted there. */
export async function waitForMount(
  mountPoint: string,
  isIt: (mount: Mount | undefined) => boolean,
  timeoutMs: number,
): Promise<boolean> {
  const endMs = performance.now() + timeoutMs;
  while (!isIt(mountAt(mountPoint))) {
    if (performance.now() >= endMs) return false;
    await delay(20);
  }
  return true;
}
