/** Deleted files as commands name them: by id, or by the path that they had. */
import type { MasterSession } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import { MAX_DELETED_PAGE } from '../../protocol/limits.js';
import { type DeletedFile, GetDeleted, ListDeleted } from '../../protocol/messages/index.js';
import { EXIT_FAILED, Failure } from '../failure.js';
import { caller, type MasterFlags } from '../master-session.js';
import type { Place } from '../place.js';

export interface TrashFlags extends MasterFlags {
  readonly json?: boolean;
}

export async function* deletedFiles(
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

/** Goes on with the next one, and fails in the end. */
export function report(error: unknown, name: string): void {
  if (!(error instanceof Failure) && !(error instanceof GfsError)) throw error;
  const message = error instanceof Failure ? error.message : `${name}: ${error.message} (${error.errno})`;
  process.stderr.write(`gfs: ${message}\n`);
  process.exitCode = EXIT_FAILED;
}

export function isId(name: string): boolean {
  return /^\d+$/.test(name);
}

/** The newest deleted file that had this path, or the one with this id. @throws Failure */
export async function findDeleted(
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
