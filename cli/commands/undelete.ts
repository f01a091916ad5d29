/** `gfs undelete`, `gfs trash restore`: deleted files get a name again. */
import { basename, join } from 'node:path/posix';
import type { MasterSession } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import { Create, type DeletedFile, LookupPath, ROOT_ID, Undelete } from '../../protocol/messages/index.js';
import { Failure, UsageFailure } from '../failure.js';
import { caller, withMaster } from '../master-session.js';
import { print, printJson } from '../output.js';
import { type Place, shownPath, textOf } from '../place.js';
import { findDeleted, isId, report, type TrashFlags } from './deleted.js';
import { inspected } from './inspect.js';

const DIRECTORY_TYPE = 0o040000;
const TYPE_MASK = 0o170000;
const DIRECTORY_MODE = 0o040755;

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
