/** How long deleted nodes are kept, on logged state. */
import type { LoggedState, Node } from './state.js';

/** A new node is kept as long after its deletion as the directory that it is made in, or what it is copied from, says. */
export function inheritRetention(state: LoggedState, from: number, node: Node): void {
  if (state.retentions.size === 0 || !(node.isDirectory || node.isRegular)) return;
  const retentionMs = state.retentions.get(from);
  if (retentionMs !== undefined) state.retentions.set(node.id, retentionMs);
}
