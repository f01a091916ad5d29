/** Whole answers about trees, from the parts that the master gives. */
import { CheckTree, type ChunkProblem, type TreeCursor, type TreePart } from '../protocol/messages/index.js';
import type { CallContext } from './retry.js';
import type { MasterSession } from './session.js';

/** What is in a tree, and how well its chunks are. */
export type TreeSummary = Omit<TreePart, 'problems' | 'cursor'>;

export interface TreeCheck {
  /** Counts the deleted files as well, after the tree. */
  readonly deleted?: boolean;
  /** Chunks that are not well, as they are found. */
  readonly onProblems?: (problems: readonly ChunkProblem[]) => void;
  /** After each part: what there is so far. */
  readonly onProgress?: (soFar: TreeSummary) => void;
}

/** Walks a file or a tree to its end. What changes meanwhile may be counted as before or as after. @throws STALE_NODE */
export async function checkTree(
  master: MasterSession,
  root: number,
  context: CallContext,
  { deleted = false, onProblems, onProgress }: TreeCheck = {},
): Promise<TreeSummary> {
  let sum: TreeSummary | undefined;
  let cursor: TreeCursor | undefined;
  for (;;) {
    const body = { root, deleted, ...(cursor === undefined ? {} : { cursor }) };
    const { problems, cursor: next, ...part } = await master.query(CheckTree, body, context);
    sum = sum === undefined ? part : add(sum, part);
    if (problems.length > 0) onProblems?.(problems);
    onProgress?.(sum);
    if (next === undefined) return sum;
    cursor = next;
  }
}

function add(a: TreeSummary, b: TreeSummary): TreeSummary {
  const sum: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(a)) {
    if (typeof value === 'number') sum[name] = value + (b[name as keyof TreeSummary] as number);
  }
  return { ...(sum as unknown as TreeSummary), goals: addGoals(a.goals, b.goals) };
}

function addGoals(a: TreeSummary['goals'], b: TreeSummary['goals']): TreeSummary['goals'] {
  const byGoal = new Map(a.map((each) => [each.goal, each]));
  for (const { goal, files, chunks } of b) {
    const known = byGoal.get(goal) ?? { goal, files: 0, chunks: 0 };
    byGoal.set(goal, { goal, files: known.files + files, chunks: known.chunks + chunks });
  }
  return [...byGoal.values()].sort((x, y) => x.goal - y.goal);
}
