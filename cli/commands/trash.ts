/** `gfs trash list|restore|purge`, `gfs undelete`, `gfs retention`: deleted files. */
import { basename, join } from 'node:path/posix';
import type { MasterSession } from '../../client/index.js';
import { parseDuration, showDuration } from '../../protocol/duration.js';
import { GfsError } from '../../protocol/errors.js';
import { MAX_DELETED_PAGE } from '../../protocol/limits.js';
import {
  Create,
  type DeletedFile,
  GetDeleted,
  ListDeleted,
  LookupPath,
  Purge,
  ROOT_ID,
  Undelete,
} from '../../protocol/messages/index.js';
import { codeOf, EXIT_FAILED, Failure, UsageFailure } from '../failure.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { bytes, duration, print, printJson, table } from '../output.js';
import { type Place, shownPath, textOf } from '../place.js';
import { explain, getXattr, requireGfs, setXattr } from '../powers.js';
import { inspected } from './inspect.js';

const DIRECTORY_TYPE = 0o040000;
const TYPE_MASK = 0o170000;
const DIRECTORY_MODE = 0o040755;

export interface TrashFlags extends MasterFlags {
  readonly json?: boolean;
}

/** @param directory shows only what was below it */
export async function list(directory: string | undefined, flags: TrashFlags): Promise<void> {
  const where = directory === undefined ? undefined : inspected(directory, flags);
  await withMaster(flags, where?.masters ?? [], async (master) => {
    const under = where === undefined ? {} : { under: where.clusterPath };
    const rows: DeletedFile[] = [];
    for await (const file of deletedFiles(master, under)) rows.push(file);
    if (flags.json === true) return printJson(rows.map(jsonOf));
    if (rows.length === 0) return print('No deleted file is kept.');
    const head = ['ID', 'DELETED', 'KEPT FOR', 'SIZE', 'OWNER', 'PATH'];
    print(table(head, rows.map(rowOf), [0, 3, 4]));
  });
}

function rowOf(file: DeletedFile): string[] {
  const { attributes, path } = file;
  const leftMs = expiryMs(file) - Date.now();
  return [
    String(attributes.id),
    `${dateOf(file).slice(0, 19).replace('T', ' ')}Z`,
    leftMs > 0 ? duration(leftMs) : 'over',
    bytes(attributes.size),
    String(attributes.uid),
    textOf(path),
  ];
}

function jsonOf(file: DeletedFile): object {
  const { attributes, path, retentionMs } = file;
  const { id, size, uid, gid, mode } = attributes;
  const expires = new Date(expiryMs(file)).toISOString();
  const permissions = (mode & 0o7777).toString(8).padStart(4, '0');
  return {
    ...{ id, path: textOf(path), deleted: dateOf(file), expires, retentionMs },
    ...{ size, uid, gid, mode: permissions },
  };
}

function dateOf({ deletedSec, deletedNsec }: DeletedFile): string {
  return new Date(deletedSec * 1000 + Math.floor(deletedNsec / 1e6)).toISOString();
}

function expiryMs({ deletedSec, retentionMs }: DeletedFile): number {
  return deletedSec * 1000 + retentionMs;
}

async function* deletedFiles(
  master: MasterSession,
  filter: { readonly under?: string; readonly path?: string },
): AsyncGenerator<DeletedFile> {
  for (let after = 0; ; ) {
    const page = await master.query(ListDeleted, { after, limit: MAX_DELETED_PAGE, ...filter }, caller());
    yield* page.files;
    if (page.end) return;
    after = page.next;
  }
}

export interface UndeleteFlags extends TrashFlags {
  readonly to?: string;
  readonly parents?: boolean;
}

/** @param names paths that the files had, or ids of `gfs trash list` */
export async function undelete(names: readonly string[], flags: UndeleteFlags): Promise<void> {
  const to = flags.to === undefined ? undefined : inspected(flags.to, flags);
  const named = names.map((name) => ({ name, place: isId(name) ? undefined : inspected(name, flags) }));
  const masters = [to, ...named.map(({ place }) => place)].find((place) => place !== undefined)?.masters;
  const restored: object[] = [];
  await withMaster(flags, masters ?? [], async (master) => {
    if (to !== undefined && named.length > 1 && !(await isDirectory(master, to.clusterPath))) {
      throw new UsageFailure(`--to ${flags.to}: several files go into a directory, which that is not`);
    }
    for (const { name, place } of named) {
      try {
        const file = await findDeleted(master, name, place);
        const path = shownPath(to ?? place, await restoreOne(master, file, to, flags));
        restored.push({ id: file.attributes.id, path });
        if (flags.json !== true) print(`${name}: it is back as ${path}`);
      } catch (error) {
        report(error, name);
      }
    }
  });
  if (flags.json === true) printJson(restored);
}

/** Goes on with the next one, and fails in the end. */
function report(error: unknown, name: string): void {
  if (!(error instanceof Failure) && !(error instanceof GfsError)) throw error;
  const message = error instanceof Failure ? error.message : `${name}: ${error.message} (${error.errno})`;
  process.stderr.write(`gfs: ${message}\n`);
  process.exitCode = EXIT_FAILED;
}

function isId(name: string): boolean {
  return /^\d+$/.test(name);
}

/** The newest deleted file that had this path, or the one with this id. @throws Failure */
async function findDeleted(
  master: MasterSession,
  name: string,
  place: Place | undefined,
): Promise<DeletedFile> {
  if (place === undefined) {
    try {
      return await master.query(GetDeleted, { id: Number(name) }, caller());
    } catch (error) {
      throw refusalOf(error, name);
    }
  }
  const found: DeletedFile[] = [];
  for await (const file of deletedFiles(master, { path: place.clusterPath })) found.push(file);
  const newest = found.at(-1);
  if (newest === undefined) {
    throw new Failure(`${name}: no deleted file of yours had this path`, 'Which are kept: gfs trash list');
  }
  if (found.length > 1) {
    process.stderr.write(
      `gfs: ${name}: ${found.length} deleted files had this path; taking the newest, ${newest.attributes.id} (others: gfs trash list)\n`,
    );
  }
  return newest;
}

function refusalOf(error: unknown, name: string): unknown {
  if (!(error instanceof GfsError)) return error;
  if (error.code === 'NOT_FOUND')
    return new Failure(`${name}: no such deleted file`, 'Which are kept: gfs trash list');
  if (error.code === 'ACCESS_DENIED') return new Failure(`${name}: it is somebody else's (EACCES)`);
  return error;
}

async function restoreOne(
  master: MasterSession,
  file: DeletedFile,
  to: Place | undefined,
  { parents }: UndeleteFlags,
): Promise<string> {
  const { id } = file.attributes;
  const own = basename(file.path);
  const wanted = to?.clusterPath ?? file.path;
  const intoDirectory = to !== undefined && (await isDirectory(master, wanted));
  const name = intoDirectory ? own : basename(wanted);
  const directory = intoDirectory ? wanted : wanted.slice(0, wanted.lastIndexOf('/')) || '/';
  const shown = textOf(join(directory, name));
  try {
    const parent = await directoryAt(master, directory, parents === true);
    return (await master.mutate(Undelete, { id, parent, name }, caller())).path;
  } catch (error) {
    if (!(error instanceof GfsError)) throw error;
    if (error.code === 'EXISTS')
      throw new Failure(
        `cannot bring ${id} back: ${shown} is taken (EEXIST)`,
        `Under another name: gfs undelete ${id} --to PATH`,
      );
    if (error.code === 'NOT_FOUND' || error.code === 'NOT_DIRECTORY')
      throw new Failure(
        `cannot bring ${id} back: there is no directory ${textOf(directory)} (ENOENT)`,
        `Make it again: gfs undelete --parents ${id}; or elsewhere: gfs undelete ${id} --to PATH`,
      );
    if (error.code === 'ACCESS_DENIED')
      throw new Failure(`cannot bring ${id} back to ${textOf(directory)}: permission denied (EACCES)`);
    throw error;
  }
}

/** @throws NOT_FOUND, NOT_DIRECTORY, unless it may be made */
async function directoryAt(master: MasterSession, path: string, make: boolean): Promise<number> {
  let parent = ROOT_ID;
  let at = '';
  for (const name of path.split('/').filter((each) => each !== '')) {
    at = `${at}/${name}`;
    try {
      parent = (await master.query(LookupPath, { path: at }, caller())).attributes.id;
    } catch (error) {
      if (!make || !(error instanceof GfsError) || error.code !== 'NOT_FOUND') throw error;
      const body = { parent, name, mode: DIRECTORY_MODE, rdev: 0, exclusive: true };
      parent = (await master.mutate(Create, body, caller())).attributes.id;
    }
  }
  return parent;
}

async function isDirectory(master: MasterSession, path: string): Promise<boolean> {
  try {
    const { attributes } = await master.query(LookupPath, { path }, caller());
    return (attributes.mode & TYPE_MASK) === DIRECTORY_TYPE;
  } catch (error) {
    if (error instanceof GfsError && error.errno === 'ENOENT') return false;
    throw error;
  }
}

export interface PurgeFlags extends TrashFlags {
  readonly all?: boolean;
  readonly olderThan?: string;
  readonly under?: string;
}

export async function purge(names: readonly string[], flags: PurgeFlags): Promise<void> {
  const olderThanMs = flags.olderThan === undefined ? undefined : parseDuration(flags.olderThan);
  if (flags.olderThan !== undefined && olderThanMs === undefined)
    throw new UsageFailure(`--older-than ${flags.olderThan}: not a time`, 'As in: --older-than 12h');
  const isSelection = flags.all === true || olderThanMs !== undefined || flags.under !== undefined;
  if (isSelection === names.length > 0) {
    throw new UsageFailure(
      'name deleted files by id or path, or select them',
      'As in: gfs trash purge 1234; gfs trash purge --older-than 1d; gfs trash purge --all',
    );
  }
  const under = flags.under === undefined ? undefined : inspected(flags.under, flags);
  const named = names.map((name) => ({ name, place: isId(name) ? undefined : inspected(name, flags) }));
  const masters = [under, ...named.map(({ place }) => place)].find((place) => place !== undefined)?.masters;
  await withMaster(flags, masters ?? [], async (master) => {
    const ids: number[] = [];
    for (const { name, place } of named) {
      try {
        ids.push((await findDeleted(master, name, place)).attributes.id);
      } catch (error) {
        report(error, name);
      }
    }
    if (isSelection) {
      const filter = under === undefined ? {} : { under: under.clusterPath };
      const beforeMs = Date.now() - (olderThanMs ?? 0);
      for await (const file of deletedFiles(master, filter)) {
        if (olderThanMs === undefined || file.deletedSec * 1000 <= beforeMs) ids.push(file.attributes.id);
      }
    }
    let count = 0;
    for (let at = 0; at < ids.length; at += MAX_DELETED_PAGE) {
      const page = { ids: ids.slice(at, at + MAX_DELETED_PAGE) };
      count += (await master.mutate(Purge, page, caller())).count;
    }
    if (flags.json === true) printJson({ purged: count });
    else print(`${count} deleted ${count === 1 ? 'file' : 'files'} given up`);
  });
}

export interface RetentionFlags {
  readonly json?: boolean;
}

/** Shows or sets how long a file, or what is made in a directory, is kept after its deletion. */
export async function retention(
  path: string,
  value: string | undefined,
  flags: RetentionFlags,
): Promise<void> {
  requireGfs(path);
  if (value !== undefined && value !== 'default' && parseDuration(value) === undefined) {
    throw new UsageFailure(
      `${value}: not a time`,
      'As in: gfs retention DIR 3d (units ms, s, m, h, d; 0: not kept; default: as the cluster)',
    );
  }
  try {
    if (value !== undefined) await setXattr(path, 'user.gfs.retention', Buffer.from(value));
    else {
      const text = (await getXattr(path, 'user.gfs.retention')).toString();
      if (flags.json === true) printJson({ path, retention: text, retentionMs: parseDuration(text) });
      else print(text);
    }
  } catch (error) {
    if (codeOf(error) === 'EINVAL')
      throw new Failure(`${path}: neither a file nor a directory, or more than ${showDuration(MAX_MS)}`);
    throw explain(error, path);
  }
}

const MAX_MS = 3650 * 86_400_000;
