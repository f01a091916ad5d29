/** `gfs trash list`, `gfs trash purge`. */
import { parseDuration } from '../../protocol/duration.js';
import { MAX_DELETED_PAGE } from '../../protocol/limits.js';
import { type DeletedFile, Purge } from '../../protocol/messages/index.js';
import { UsageFailure } from '../failure.js';
import { caller, withMaster } from '../master-session.js';
import { bytes, duration, print, printJson } from '../output.js';
import { textOf } from '../place.js';
import { deletedFiles, findDeleted, isId, report, type TrashFlags } from './deleted.js';
import { inspected } from './inspect.js';

/** @param directory shows only what was below it */
export async function list(directory: string | undefined, flags: TrashFlags): Promise<void> {
  const where = directory === undefined ? undefined : inspected(directory, flags);
  await withMaster(flags, where?.masters ?? [], async (master) => {
    const under = where === undefined ? {} : { under: where.clusterPath };
    const files: object[] = [];
    let count = 0;
    for await (const file of deletedFiles(master, under)) {
      if (flags.json === true) files.push(jsonOf(file));
      else {
        // As they come: there may be millions.
        if (count++ === 0) print(lineOf(['ID', 'DELETED', 'KEPT FOR', 'SIZE', 'OWNER', 'PATH']));
        print(lineOf(rowOf(file)));
      }
    }
    if (flags.json === true) printJson(files);
    else if (count === 0) print('No deleted file is kept.');
  });
}

const WIDTHS = [10, -20, -8, 10, 6];

/** In columns of a fixed width; negative: to the left. */
function lineOf(cells: readonly string[]): string {
  return cells
    .map((cell, at) => {
      const width = WIDTHS[at] ?? 0;
      return width < 0 ? cell.padEnd(-width) : cell.padStart(width);
    })
    .join('  ');
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
