/**
 * Snapshot, append and chunk information on a mounted file: by ioctl through the native addon, or by
 * the extended attributes with setfattr(1) and getfattr(1) where there is no addon or the mount's
 * binding carries no ioctls.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, realpathSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Addon } from '../fuse-client/kernel/addon.js';
import { codeOf, Failure } from './failure.js';
import { isGfs, parseMountInfo } from './mounts.js';

/** What the kernel takes as the value of an extended attribute. */
const MAX_XATTR_BYTES = 64 * 1024;
const { O_APPEND, O_CREAT, O_RDONLY, O_WRONLY } = constants;

/** @throws Failure unless the path, or where it would be, is on a GFS mount */
export function requireGfs(path: string): void {
  const real = realOf(path);
  const mounts = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  let nearest: { length: number; gfs: boolean } = { length: -1, gfs: false };
  for (const mount of mounts) {
    const below =
      mount.mountPoint === '/' || real === mount.mountPoint || real.startsWith(`${mount.mountPoint}/`);
    if (below && mount.mountPoint.length >= nearest.length) {
      nearest = { length: mount.mountPoint.length, gfs: isGfs(mount) };
    }
  }
  if (!nearest.gfs)
    throw new Failure(`${path} is not on a mounted GFS`, 'What is mounted: findmnt -t fuse.gfs');
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw explain(error, path);
    try {
      return realpathSync(dirname(path));
    } catch (parentError) {
      throw explain(parentError, path);
    }
  }
}

const MEANINGS: Readonly<Record<string, string>> = {
  E2BIG: 'the record is too big: at most a quarter of the chunk size (gfs status)',
  EACCES: 'permission denied',
  EEXIST: 'it is there already; a snapshot replaces nothing',
  EINVAL: 'it is not possible there',
  EIO: 'no replica or no master answered, or an answer made no sense (the log of the mount tells more)',
  EISDIR: 'it is a directory',
  ENODATA: 'there was no append through this mount',
  ENOENT: 'there is no such file or directory',
  ENOSPC: 'no chunkserver has room',
  ENOTCONN: 'the process of the mount is dead; mount it again',
  EROFS: 'the mount, or the master for now, is read-only',
  ETIMEDOUT: 'nothing could be reached in time; it may or may not have happened',
  EXDEV: 'the two are not on the same mount',
};

/** A system's error in words. */
export function explain(error: unknown, path: string): Failure {
  if (error instanceof Failure) return error;
  const code = codeOf(error);
  const meaning = code === undefined ? undefined : MEANINGS[code];
  return new Failure(
    `${path}: ${meaning ?? (error as Error).message}${meaning === undefined ? '' : ` (${code})`}`,
  );
}

/** The addon, or nothing where it was not built. */
async function addon(): Promise<Addon | undefined> {
  const { loadAddon } = await import('../fuse-client/kernel/addon.js');
  try {
    return loadAddon();
  } catch {
    return undefined;
  }
}

function isUnsupported(error: unknown): boolean {
  return ['ENOTTY', 'ENOSYS'].includes(codeOf(error) ?? '');
}

export async function setXattr(path: string, name: string, value: Uint8Array): Promise<void> {
  const native = await addon();
  if (native !== undefined) return native.setxattr(Buffer.from(path), Buffer.from(name), value, 0);
  await tool('setfattr', ['-n', name, '-v', `0s${Buffer.from(value).toString('base64')}`, '--', path]);
}

export async function getXattr(path: string, name: string): Promise<Buffer> {
  const native = await addon();
  if (native !== undefined) return native.getxattr(Buffer.from(path), Buffer.from(name));
  return tool('getfattr', ['--absolute-names', '--only-values', '-n', name, '--', path]);
}

/** strerror(3) texts, since the tools print no numbers. */
const TEXTS: Readonly<Record<string, string>> = {
  'Argument list too long': 'E2BIG',
  'File exists': 'EEXIST',
  'Invalid argument': 'EINVAL',
  'Invalid cross-device link': 'EXDEV',
  'No data available': 'ENODATA',
  'No space left on device': 'ENOSPC',
  'No such file or directory': 'ENOENT',
  'Permission denied': 'EACCES',
};

function tool(program: string, words: readonly string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
    });
    const output: Buffer[] = [];
    let errors = '';
    child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => {
      errors += bytes.toString();
    });
    child.on('error', () => {
      reject(
        new Failure(
          `the native addon is not built and ${program} is not installed`,
          'Run: npm run build, or: apt-get install attr',
        ),
      );
    });
    child.on('close', (status) => {
      if (status === 0) resolve(Buffer.concat(output));
      else {
        const text = errors.trim().split(': ').at(-1) ?? '';
        reject(Object.assign(new Error(errors.trim()), { code: TEXTS[text] }));
      }
    });
  });
}

/**
 * Appends one record (paper §3.3), and makes the file when it is missing.
 * @returns where it went
 */
export async function appendRecord(path: string, record: Uint8Array): Promise<number> {
  const fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT, 0o666);
  try {
    const native = await addon();
    if (native !== undefined) return await appendByIoctl(native, fd, record);
  } catch (error) {
    if (!isUnsupported(error)) throw error;
  } finally {
    closeSync(fd);
  }
  if (record.byteLength > MAX_XATTR_BYTES) {
    throw new Failure(
      `${path}: a record of ${record.byteLength} bytes needs ioctls, which this mount does not carry`,
      `At most ${MAX_XATTR_BYTES} bytes go through the extended attribute.`,
    );
  }
  await setXattr(path, 'user.gfs.append', record);
  return Number((await getXattr(path, 'user.gfs.append.offset')).toString());
}

async function appendByIoctl(native: Addon, fd: number, record: Uint8Array): Promise<number> {
  const { decodeOffset, encodeRecordAppend, Ioctl, RECORD_APPEND_MAX_BYTES } = await import(
    '../fuse-client/ioctl.js'
  );
  if (record.byteLength <= RECORD_APPEND_MAX_BYTES) {
    const argument = encodeRecordAppend(record);
    await native.ioctl(fd, Ioctl.RECORD_APPEND, argument);
    return decodeOffset(argument);
  }
  await native.ioctl(fd, Ioctl.APPEND_BEGIN, new Uint8Array(0));
  for (let sent = 0; sent < record.byteLength; ) sent += writeSync(fd, record, sent);
  const offset = new Uint8Array(8);
  await native.ioctl(fd, Ioctl.APPEND_COMMIT, offset);
  return decodeOffset(offset);
}

export interface ReplicaDescription {
  readonly server: string;
  readonly host: string;
  readonly port: number;
  readonly rack?: string;
  readonly location?: { readonly x: number; readonly y: number };
  readonly version?: number;
  readonly state?: string;
  readonly distance?: number;
  readonly score?: number;
}

export interface ChunkDescription {
  readonly index: number;
  /** Null where the file has a hole, of one chunk or of `chunks`. */
  readonly handle: number | null;
  readonly chunks?: number;
  readonly version?: number;
  readonly length: number;
  readonly goal?: number;
  /** Who holds the lease, while one runs. */
  readonly primary?: string;
  readonly replicas?: readonly ReplicaDescription[];
}

export interface FileDescription {
  readonly size: number;
  readonly chunkBytes: number;
  readonly chunks: readonly ChunkDescription[];
}

interface Page {
  readonly json: string;
  /** The chunk to go on from; 0 at the end. */
  readonly next: number;
}

/** Every chunk of a file, page by page. */
export async function describeFile(path: string): Promise<FileDescription> {
  const fd = openSync(path, O_RDONLY);
  try {
    const first = await chunkPage(fd, path, 0);
    const description = JSON.parse(first.json) as FileDescription;
    const chunks = [...description.chunks];
    let next = first.next;
    while (next !== 0) {
      const page = await chunkPage(fd, path, next);
      chunks.push(...(JSON.parse(page.json) as FileDescription).chunks);
      next = page.next;
    }
    return { size: description.size, chunkBytes: description.chunkBytes, chunks };
  } finally {
    closeSync(fd);
  }
}

async function chunkPage(fd: number, path: string, first: number): Promise<Page> {
  const native = await addon();
  const { decodeChunkInfoReply, encodeChunkInfo, Ioctl } = await import('../fuse-client/ioctl.js');
  try {
    if (native !== undefined) {
      const argument = encodeChunkInfo(first);
      await native.ioctl(fd, Ioctl.CHUNK_INFO, argument);
      return decodeChunkInfoReply(argument);
    }
  } catch (error) {
    if (!isUnsupported(error)) throw error;
  }
  const json = (await getXattr(path, 'user.gfs.chunks')).toString();
  const { next = 0 } = JSON.parse(json) as { next?: number };
  if (first !== 0 || next !== 0) {
    throw new Failure(
      `${path}: it has more chunks than the extended attribute can tell`,
      'Mount it with -o binding=kernel.',
    );
  }
  return { json, next: 0 };
}
