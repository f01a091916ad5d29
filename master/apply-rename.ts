/** rename(2) and renameat2(2) on logged state. Called by apply alone. */
import type { LogEventOf } from '../protocol/records.js';
import {
  changeLink,
  directoryOf,
  entryOf,
  loseName,
  nodeOf,
  setChanged,
  setModified,
} from './apply-namespace.js';
import { assert } from './assert.js';
import type { LoggedState, Node, Timestamp } from './state.js';

export function applyRenamed(state: LoggedState, event: LogEventOf<'renamed'>, time: Timestamp): object {
  if (event.exchange) exchange(state, event, time);
  else replace(state, event, time);
  return {};
}

function replace(state: LoggedState, event: LogEventOf<'renamed'>, time: Timestamp): void {
  const from = directoryOf(state, event.parent);
  const to = directoryOf(state, event.newParent);
  const entry = entryOf(from, event.name);
  const moved = nodeOf(state, entry.node);
  const target = to.entries.get(event.newName);
  if (target !== undefined) {
    const replaced = nodeOf(state, target.node);
    assert(replaced.id !== moved.id, `node ${moved.id} renamed onto itself`);
    loseName(state, to, replaced, target, time);
    to.entries.retarget(target, moved.id);
    changeLink(moved, from.id, entry, to.id, target);
    from.entries.remove(entry);
  } else if (from.id === to.id) {
    from.entries.rename(entry, event.newName);
    changeLink(moved, from.id, entry, to.id, { ...entry, name: event.newName });
  } else {
    const added = to.entries.add(event.newName, moved.id, state.nextCookie++);
    changeLink(moved, from.id, entry, to.id, added);
    from.entries.remove(entry);
  }
  if (moved.isDirectory) moveDirectory(state, from, to);
  setChanged(moved, time);
  setModified(from, time);
  setModified(to, time);
}

function exchange(state: LoggedState, event: LogEventOf<'renamed'>, time: Timestamp): void {
  const from = directoryOf(state, event.parent);
  const to = directoryOf(state, event.newParent);
  const first = entryOf(from, event.name);
  const second = entryOf(to, event.newName);
  const firstNode = nodeOf(state, first.node);
  const secondNode = nodeOf(state, second.node);
  from.entries.retarget(first, secondNode.id);
  to.entries.retarget(second, firstNode.id);
  changeLink(firstNode, from.id, first, to.id, second);
  changeLink(secondNode, to.id, second, from.id, first);
  if (firstNode.isDirectory) moveDirectory(state, from, to);
  if (secondNode.isDirectory) moveDirectory(state, to, from);
  setChanged(firstNode, time);
  setChanged(secondNode, time);
  setModified(from, time);
  setModified(to, time);
}

function moveDirectory(state: LoggedState, from: Node, to: Node): void {
  from.nlink--;
  to.nlink++;
  state.pathMoves++;
}
