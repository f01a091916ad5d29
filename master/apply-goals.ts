/** How records change goals. Called by apply alone. */
import type { LogEventOf } from '../protocol/records.js';
import type { LoggedState, Node } from './state.js';

export function applyGoalSet(
  state: LoggedState,
  { ids, goal, own }: LogEventOf<'goalSet'>,
): { readonly count: number } {
  let count = 0;
  for (const id of ids) {
    const node = state.nodes.get(id);
    if (node === undefined) continue;
    count++;
    if (own) state.goals.set(id, goal);
    else state.goals.delete(id);
    for (const handle of node.chunks?.handles() ?? []) {
      const chunk = state.chunks.get(handle);
      // Of what other files have too, the highest counts; whether this was it is for the audit to find out.
      if (chunk !== undefined && (chunk.references === 1 || chunk.goal < goal)) chunk.goal = goal;
    }
  }
  return { count };
}

/** The audit has looked at all files that have these chunks. */
export function applyChunkGoalsSet(
  state: LoggedState,
  { handles, goal }: LogEventOf<'chunkGoalsSet'>,
): object {
  for (const handle of handles) {
    const chunk = state.chunks.get(handle);
    if (chunk !== undefined) chunk.goal = goal;
  }
  return {};
}

/** A new node has the goal of the directory that it is made in, or of what it is copied from. */
export function inheritGoal(state: LoggedState, from: number, node: Node): void {
  if (state.goals.size === 0 || !(node.isDirectory || node.isRegular)) return;
  const goal = state.goals.get(from);
  if (goal !== undefined) state.goals.set(node.id, goal);
}
