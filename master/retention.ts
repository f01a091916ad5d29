/** How long deleted nodes are kept, on logged state. */
import { isUnnamed } from './deleted-table.js';
import type { DeletedNode, LoggedState, Node } from './state.js';

/** A new node is kept as long after its deletion as the directory that it is made in, or what it is copied from, says. */
export function inheritRetention(state: LoggedState, from: number, node: Node): void {
  if (state.retentions.size === 0 || !(node.isDirectory || node.isRegular)) return;
  const retentionMs = state.retentions.get(from);
  if (retentionMs !== undefined) state.retentions.set(node.id, retentionMs);
}

/** How long a deleted node can be brought back; 0: it is there for those who have it open alone. */
export function keptMs(state: LoggedState, deleted: DeletedNode, defaultMs: number): number {
  return isUnnamed(deleted) ? 0 : (state.retentions.get(deleted.id) ?? defaultMs);
}
