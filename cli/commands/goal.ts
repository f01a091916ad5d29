/** `gfs goal get|set`: how many replicas the chunks of files shall have. */
import type { MasterSession } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import { MAX_DIRECTORY_PAGE } from '../../protocol/limits.js';
import {
  type Attributes,
  GetGoal,
  MAX_GOAL_NODES,
  ReadDirectory,
  SetGoal,
} from '../../protocol/messages/index.js';
import { Failure, UsageFailure } from '../failure.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { print, printJson } from '../output.js';
import { table } from '../table.js';
import { attributesAt, inspected } from './inspect.js';

const TYPE_MASK = 0o170000;
const DIRECTORY_TYPE = 0o040000;
const FILE_TYPE = 0o100000;
/** Nodes after which progress is told. */
const PROGRESS_STEP = 10_000;

export interface GoalFlags extends MasterFlags {
  readonly recursive?: boolean;
  readonly json?: boolean;
}

/** Shows the goal of a file or directory; of a tree, how many of its files have which. */
export async function get(path: string, flags: GoalFlags): Promise<void> {
  const place = inspected(path, flags);
  await withMaster(flags, place.masters, async (master) => {
    const top = await attributesAt(master, place);
    const { goal, own } = await master.query(GetGoal, { id: top.id }, caller());
    if (flags.recursive !== true) {
      if (flags.json === true) return printJson({ path, goal, own });
      return print(`${goal}${own ? '' : " (the cluster's default)"}`);
    }
    const counts = new Map<number, number>();
    for await (const page of pagesOf(master, top)) {
      for (const { id, mode } of page) {
        if ((mode & TYPE_MASK) !== FILE_TYPE) continue;
        const each = (await master.query(GetGoal, { id }, caller())).goal;
        counts.set(each, (counts.get(each) ?? 0) + 1);
      }
    }
    const rows = [...counts].sort(([a], [b]) => a - b);
    if (flags.json === true)
      return printJson({ path, goals: rows.map(([each, files]) => ({ goal: each, files })) });
    print(
      table(
        ['GOAL', 'FILES'],
        rows.map(([each, files]) => [String(each), String(files)]),
        [0, 1],
      ),
    );
  });
}

/** @param value a number, or `default` */
export async function set(value: string, path: string, flags: GoalFlags): Promise<void> {
  const goal = goalOf(value);
  const place = inspected(path, flags);
  await withMaster(flags, place.masters, async (master) => {
    const top = await attributesAt(master, place);
    let count = 0;
    let toldAt = 0;
    const pages = flags.recursive === true ? pagesOf(master, top) : [[top]];
    for await (const page of pages) {
      count += await setPage(master, page, goal, path);
      if (count - toldAt < PROGRESS_STEP || !process.stderr.isTTY) continue;
      toldAt = count;
      process.stderr.write(`\r${count} files and directories`);
    }
    if (toldAt > 0) process.stderr.write('\n');
    if (flags.json === true) return printJson({ path, goal: goal ?? 'default', count });
    const what = count === 1 ? '1 file or directory' : `${count} files and directories`;
    print(
      `${what}: goal ${goal ?? "as the cluster's default"}; copies follow in the background (gfs status)`,
    );
  });
}

/** @throws UsageFailure */
function goalOf(value: string): number | undefined {
  if (value === 'default') return undefined;
  if (/^\d{1,3}$/.test(value) && Number(value) > 0) return Number(value);
  throw new UsageFailure(
    `${value}: a goal is a number of replicas, from 1 to the number of chunkservers, or "default"`,
    'As in: gfs goal set 2 DIR; gfs goal set -r 4 DIR',
  );
}

async function setPage(
  master: MasterSession,
  page: readonly Attributes[],
  goal: number | undefined,
  path: string,
): Promise<number> {
  const ids = page.map(({ id }) => id);
  try {
    const body = { ids, ...(goal === undefined ? {} : { goal }) };
    return (await master.mutate(SetGoal, body, caller())).count;
  } catch (error) {
    if (!(error instanceof GfsError)) throw error;
    throw new Failure(`${path}: ${error.message} (${error.errno})`, 'How many there are: gfs ls-servers');
  }
}

/** A tree's nodes, a page at a time, a directory before what is in it: what is made there meanwhile inherits. */
async function* pagesOf(master: MasterSession, top: Attributes): AsyncGenerator<readonly Attributes[]> {
  yield [top];
  const directories = (top.mode & TYPE_MASK) === DIRECTORY_TYPE ? [top.id] : [];
  const limit = Math.min(MAX_GOAL_NODES, MAX_DIRECTORY_PAGE);
  for (let id = directories.pop(); id !== undefined; id = directories.pop()) {
    for (let cookie = 0; ; ) {
      const { entries, end } = await master.query(ReadDirectory, { id, cookie, limit }, caller());
      for (const { attributes } of entries)
        if ((attributes.mode & TYPE_MASK) === DIRECTORY_TYPE) directories.push(attributes.id);
      if (entries.length > 0) yield entries.map(({ attributes }) => attributes);
      if (end) break;
      cookie = entries.at(-1)?.cookie ?? cookie;
    }
  }
}
