/** How records change what is deleted, and how long it is kept. Called by apply alone. */
import type { Attributes } from '../protocol/messages/index.js';
import type { LogEventOf } from '../protocol/records.js';
import { directoryOf, giveName, nodeOf, setChanged, setModified } from './apply-namespace.js';
import { assert } from './assert.js';
import type { LoggedState, Timestamp } from './state.js';

export function applyRetentionSet(
  state: LoggedState,
  { ids, retentionMs }: LogEventOf<'retentionSet'>,
): { readonly count: number } {
  let count = 0;
  for (const id of ids) {
    if (!state.nodes.has(id)) continue;
    count++;
    if (retentionMs === undefined) state.retentions.delete(id);
    else state.retentions.set(id, retentionMs);
  }
  return { count };
}

export function applyUndeleted(
  state: LoggedState,
  event: LogEventOf<'undeleted'>,
  time: Timestamp,
): { readonly attributes: Attributes; readonly path: string } {
  const node = nodeOf(state, event.id);
  const parent = directoryOf(state, event.parent);
  assert(state.deleted.delete(node.id), `node ${node.id} is not deleted`);
  giveName(state, parent, event.name, node);
  node.nlink = 1;
  state.fileCount++;
  setChanged(node, time);
  setModified(parent, time);
  return { attributes: node.attributes(), path: `${state.pathOf(parent) ?? ''}/${event.name}` };
}
