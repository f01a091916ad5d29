/** `gfs fsck`: asks of every chunk of a tree, or of the cluster, whether its copies are there, and names the files; or checks a log. */
import { checkTree, type TreeSummary } from '../../client/index.js';
import { type ChunkProblem, GetStatus, ROOT_ID } from '../../protocol/messages/index.js';
import { Failure, UsageFailure } from '../failure.js';
import { caller, withMaster } from '../master-session.js';
import { colour, count, print, printJson } from '../output.js';
import { type Place, shownPath } from '../place.js';
import { Progress } from '../progress.js';
import { type InspectFlags, inspected, nodeAt, summaryRows } from './inspect.js';

/** As fsck(8): what is left after it, and what the cluster sees to by itself. */
const EXIT_HEALING = 1;
const EXIT_LOST = 4;
const EXIT_OPERATIONAL = 8;
/** What JSON carries; the counts are of all. */
const MAX_JSON_PROBLEMS = 100_000;

export interface FsckFlags extends InspectFlags {
  /** A master's data directory, to be checked instead of a cluster. */
  readonly log?: string;
}

export async function fsck(path: string | undefined, flags: FsckFlags): Promise<void> {
  if (flags.log !== undefined) {
    if (path !== undefined || flags.master !== undefined)
      throw new UsageFailure('--log DIR checks files of a master that is not running: no path, no --master');
    return (await import('./log-check.js')).check(flags.log, flags);
  }
  try {
    await check(path, flags);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Failure(error.message, undefined, EXIT_OPERATIONAL);
  }
}

async function check(path: string | undefined, flags: InspectFlags): Promise<void> {
  const place = path === undefined ? undefined : inspected(path, flags);
  await withMaster(flags, place?.masters ?? [], async (master) => {
    const root = place === undefined ? ROOT_ID : await nodeAt(master, place);
    const status = await master.query(GetStatus, {}, caller());
    const total = root === ROOT_ID ? status.files + status.directories + status.deletedFiles : undefined;
    const progress = new Progress();
    const problems: ChunkProblem[] = [];
    const summary = await checkTree(master, root, caller(), {
      deleted: root === ROOT_ID,
      onProblems: (some) => {
        if (flags.json !== true)
          progress.around(() => some.forEach((each) => void print(lineOf(each, place))));
        else problems.push(...some.slice(0, MAX_JSON_PROBLEMS - problems.length));
      },
      onProgress: (soFar) => progress.show(shareOf(soFar, total), progressText(soFar)),
    });
    progress.end();
    if (flags.json === true) {
      const affected = problems.map((each) => ({ ...each, path: shownPath(place, each.path) }));
      printJson({ ready: status.ready, ...summary, problems: affected });
    } else {
      if (!status.ready) print('The master has just started and waits for chunkservers that it knew.');
      print(summaryRows(summary).join('\n'));
    }
    if (summary.lost > 0) process.exitCode = EXIT_LOST;
    else if (summary.belowGoal + summary.unknown > 0) process.exitCode = EXIT_HEALING;
  });
}

function shareOf({ files, directories, others, deletedFiles }: TreeSummary, total: number | undefined) {
  return total === undefined ? undefined : (files + directories + others + deletedFiles) / Math.max(1, total);
}

function progressText({ files, chunks, healthy }: TreeSummary): string {
  return `${count(files)} files, ${count(chunks)} chunks, ${count(chunks - healthy)} not well`;
}

function lineOf(problem: ChunkProblem, place: Place | undefined): string {
  const { path, deleted, index, handle, goal, current, suspect, stale, damaged, health } = problem;
  const kind = !deleted ? '' : path.endsWith('/') ? '(a file without a name)' : ' (deleted)';
  const where = `${shownPath(place, path)}${kind}: chunk ${index} (${handle.toString(16)})`;
  const others = [
    ...(suspect > 0 ? [`${suspect} to be compared`] : []),
    ...(stale > 0 ? [`${stale} stale`] : []),
    ...(damaged > 0 ? [`${damaged} damaged`] : []),
  ];
  const more = others.length === 0 ? '' : ` (${others.join(', ')})`;
  if (health === 'lost') return `${where}: ${colour('red', 'LOST')}: no good copy on any server${more}`;
  if (health === 'unknown') return `${where}: ${colour('yellow', 'no copy yet')}${more}`;
  return `${where}: ${colour('yellow', `${current} of ${goal} copies`)}${more}`;
}
