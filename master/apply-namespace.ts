/** How records change nodes and names. Called by apply alone. */
import type { Attributes, Written } from '../protocol/messages/index.js';
import type { LogEventOf } from '../protocol/records.js';
import { isLater as isLaterTime } from '../protocol/times.js';
import type { Effects } from './apply.js';
import { applyChunkAdded, dropReference } from './apply-chunks.js';
import { inheritGoal } from './apply-goals.js';
import { assert } from './assert.js';
import { unnamedIn } from './deleted-table.js';
import type { Directory, Entry } from './directory.js';
import { keepInherited, setMode } from './kept-acls.js';
import { isDirectory } from './mode.js';
import { inheritRetention } from './retention.js';
import type { Link, LoggedState, NewNode, Node, Timestamp } from './state.js';

interface AttributesReply {
  readonly attributes: Attributes;
}

const MAX_NSEC = 999_999_999;

export function nodeOf(state: LoggedState, id: number): Node {
  const node = state.nodes.get(id);
  assert(node !== undefined, `node ${id} is not there`);
  return node;
}

export function directoryOf(state: LoggedState, id: number): Node & { readonly entries: Directory } {
  const node = nodeOf(state, id);
  assert(node.entries !== undefined, `node ${id} is not a directory`);
  return node as Node & { readonly entries: Directory };
}

export function entryOf(
  directory: { readonly id: number; readonly entries: Directory },
  name: string,
): Entry {
  const entry = directory.entries.get(name);
  assert(entry !== undefined, `node ${directory.id} has no entry of that name`);
  return entry;
}

/** It never goes back, also where the clock of the master is set, or that of the next master is behind. */
export function setChanged(node: Node, time: Timestamp): void {
  const { ctimeSec, ctimeNsec } = node;
  if (!isLater({ timeSec: ctimeSec, timeNsec: ctimeNsec }, time)) node.setCtime(time.timeSec, time.timeNsec);
  // Whoever knows the one before sees that it is another.
  else if (ctimeNsec < MAX_NSEC) node.setCtime(ctimeSec, ctimeNsec + 1);
  else node.setCtime(ctimeSec + 1, 0);
}

export function setModified(node: Node, time: Timestamp): void {
  node.setMtime(time.timeSec, time.timeNsec);
  setChanged(node, time);
}

/** Makes a new node, under its first name. */
export function addNode(
  state: LoggedState,
  fields: NewNode,
  parent: Node & { readonly entries: Directory },
  name: string,
): Node {
  const node = state.nodes.add(fields);
  giveName(state, parent, name, node);
  state.nextNodeId = Math.max(state.nextNodeId, node.id + 1);
  if (node.isDirectory) {
    parent.nlink++;
    state.directoryCount++;
  } else {
    state.fileCount++;
  }
  return node;
}

/** An entry for a node: its first name, or one more. The link count is the caller's business. */
export function giveName(
  state: LoggedState,
  parent: Node & { readonly entries: Directory },
  name: string,
  node: Node,
): void {
  assert(parent.entries.get(name) === undefined, `node ${parent.id} has that name already`);
  const entry = parent.entries.add(name, node.id, state.nextCookie++);
  if (node.firstEntry === 0) node.firstEntry = entry.row;
  else node.otherLinks = [...(node.otherLinks ?? []), { parent: parent.id, name }];
}

export function applyCreated(
  state: LoggedState,
  event: LogEventOf<'created'>,
  time: Timestamp,
): AttributesReply & { readonly created: true } {
  const parent = directoryOf(state, event.parent);
  const { id, mode, uid, gid, rdev, target } = event;
  const node = addNode(state, { id, mode, uid, gid, rdev, time }, parent, event.name);
  if (target !== undefined) {
    node.target = target;
    node.size = target.length;
  }
  inheritRetention(state, parent.id, node);
  inheritGoal(state, parent.id, node);
  keepInherited(node, event);
  if (event.chunk !== undefined) applyChunkAdded(state, { ...event.chunk, id, index: 0 });
  setModified(parent, time);
  return { attributes: node.attributes(), created: true };
}

/** It goes where files without a name are: the deleted table keeps it for whoever has it open. */
export function applyTmpfileCreated(
  state: LoggedState,
  event: LogEventOf<'tmpfileCreated'>,
  time: Timestamp,
): AttributesReply {
  const { id, mode, uid, gid } = event;
  const parentPath = state.pathOf(directoryOf(state, event.parent));
  assert(parentPath !== undefined, `node ${event.parent} has no path`);
  const node = state.nodes.add({ id, mode, uid, gid, rdev: 0, time });
  node.nlink = 0;
  state.nextNodeId = Math.max(state.nextNodeId, id + 1);
  const { timeSec, timeNsec } = time;
  state.deleted.add({ id, timeSec, timeNsec, path: unnamedIn(parentPath) });
  inheritRetention(state, event.parent, node);
  inheritGoal(state, event.parent, node);
  keepInherited(node, event);
  if (event.chunk !== undefined) applyChunkAdded(state, { ...event.chunk, id, index: 0 });
  return { attributes: node.attributes() };
}

export function applyLinked(
  state: LoggedState,
  event: LogEventOf<'linked'>,
  time: Timestamp,
): AttributesReply {
  const node = nodeOf(state, event.id);
  const parent = directoryOf(state, event.parent);
  giveName(state, parent, event.name, node);
  if (node.nlink++ === 0) {
    assert(state.deleted.delete(node.id), `node ${node.id} has no name and is not deleted`);
    state.fileCount++;
  }
  setChanged(node, time);
  setModified(parent, time);
  return { attributes: node.attributes() };
}

export function applyUnlinked(
  state: LoggedState,
  event: LogEventOf<'unlinked'>,
  time: Timestamp,
): { readonly id: number } {
  const parent = directoryOf(state, event.parent);
  const entry = entryOf(parent, event.name);
  loseName(state, parent, nodeOf(state, entry.node), entry, time);
  parent.entries.remove(entry);
  setModified(parent, time);
  return { id: entry.node };
}

/** A node loses the name `entry` in `parent`; then the caller removes the entry, or has it lead elsewhere. */
export function loseName(state: LoggedState, parent: Node, node: Node, entry: Entry, time: Timestamp): void {
  const parentPath = state.pathOf(parent);
  assert(parentPath !== undefined, `node ${parent.id} has no path`);
  setChanged(node, time);
  if (node.isDirectory) {
    parent.nlink--;
    node.nlink = 0;
    node.firstEntry = 0;
    if (node.entries !== undefined) node.entries.cachedPath = undefined;
  } else {
    forgetLink(state, node, parent.id, entry);
    node.nlink--;
  }
  if (node.nlink > 0) return;
  if (node.isDirectory) state.directoryCount--;
  else state.fileCount--;
  const { timeSec, timeNsec } = time;
  state.deleted.add({ id: node.id, timeSec, timeNsec, path: `${parentPath}/${entry.name}` });
}

function forgetLink(state: LoggedState, node: Node, parent: number, entry: Entry): void {
  const others = [...(node.otherLinks ?? [])];
  if (node.firstEntry === entry.row) {
    const next = others.shift();
    node.firstEntry = next === undefined ? 0 : entryOf(directoryOf(state, next.parent), next.name).row;
  } else {
    others.splice(placeOf(node, others, parent, entry.name), 1);
  }
  node.otherLinks = others.length === 0 ? undefined : others;
}

/** One of a node's names becomes another: `from`, in the directory `parent`, becomes `to`, in `newParent`. */
export function changeLink(node: Node, parent: number, from: Entry, newParent: number, to: Entry): void {
  if (node.firstEntry === from.row) {
    node.firstEntry = to.row;
    return;
  }
  const others = [...(node.otherLinks ?? [])];
  others[placeOf(node, others, parent, from.name)] = { parent: newParent, name: to.name };
  node.otherLinks = others;
}

function placeOf(node: Node, links: readonly Link[], parent: number, name: string): number {
  const at = links.findIndex((link) => link.parent === parent && link.name === name);
  assert(at >= 0, `node ${node.id} does not know one of its names`);
  return at;
}

export function applyAttributesSet(
  state: LoggedState,
  event: LogEventOf<'attributesSet'>,
  time: Timestamp,
  effects: Effects,
): AttributesReply {
  const node = nodeOf(state, event.id);
  if (event.written !== undefined) extend(node, event.written, time);
  const { mode, uid, gid, size, atimeSec, atimeNsec, mtimeSec, mtimeNsec } = event.changes;
  if (mode !== undefined) setMode(node, mode);
  if (uid !== undefined) node.uid = uid;
  if (gid !== undefined) node.gid = gid;
  setChanged(node, time);
  if (size !== undefined) {
    cutChunks(state, node, size, effects);
    node.size = size;
    node.dataVersion++;
    setModified(node, time);
  }
  if (atimeSec !== undefined) node.setAtime(atimeSec, atimeNsec ?? 0);
  if (mtimeSec !== undefined) node.setMtime(mtimeSec, mtimeNsec ?? 0);
  return { attributes: node.attributes() };
}

function cutChunks(state: LoggedState, node: Node, size: number, effects: Effects): void {
  const chunks = node.chunks;
  // A file that grows keeps what it has: past its logged length may be data that is only not flushed yet.
  if (chunks === undefined || size > node.size) return;
  for (const handle of chunks.cutFrom(Math.ceil(size / state.chunkBytes)))
    dropReference(state, handle, effects);
  const validBytes = size % state.chunkBytes;
  const boundary = Math.floor(size / state.chunkBytes);
  const handle = validBytes === 0 ? 0 : chunks.get(boundary);
  if (handle === 0) return;
  chunks.addPendingTruncation(boundary, validBytes);
  endLease(state, handle);
}

/** The master saw to it that the lease is over; the next write needs a new one, at a new version. */
function endLease(state: LoggedState, handle: number): void {
  const chunk = state.chunks.get(handle);
  assert(chunk !== undefined, `chunk ${handle} is not there`);
  chunk.holder = '';
  chunk.durationMs = 0;
}

export function applyExtended(
  state: LoggedState,
  event: LogEventOf<'extended'>,
  time: Timestamp,
): AttributesReply {
  const node = nodeOf(state, event.id);
  extend(node, event, time);
  return { attributes: node.attributes() };
}

function extend(node: Node, written: Written, time: Timestamp): void {
  node.size = Math.max(node.size, written.size);
  node.dataVersion++;
  const { mtimeSec = time.timeSec, mtimeNsec = time.timeNsec } = written;
  const told = { timeSec: mtimeSec, timeNsec: mtimeNsec };
  const at = isLater(told, time) ? time : told;
  const changed = { timeSec: node.ctimeSec, timeNsec: node.ctimeNsec };
  const modified = { timeSec: node.mtimeSec, timeNsec: node.mtimeNsec };
  if (isLater(at, changed)) setModified(node, at);
  // Its name or its mode was changed after it was written to: as if it had been told at once. Or it was.
  // (An mtime to come was set by somebody: no data came with it.)
  else if (isLater(time, changed) && (!isLater(modified, at) || isLater(modified, time)))
    node.setMtime(at.timeSec, at.timeNsec);
  // Others wrote to it after that, whose data was told before. Who saw it then has to see that this came.
  else setModified(node, time);
}

/** Nothing was validated: a node may have gone meanwhile. */
export function applyAccessed(state: LoggedState, event: LogEventOf<'accessed'>): object {
  for (const { id, sec, nsec } of event.items) {
    const node = state.nodes.get(id);
    if (node === undefined) continue;
    const { atimeSec, atimeNsec } = node;
    if (sec > atimeSec || (sec === atimeSec && nsec > atimeNsec)) node.setAtime(sec, nsec);
  }
  return {};
}

function isLater(a: Timestamp, b: Timestamp): boolean {
  return isLaterTime(a.timeSec, a.timeNsec, b.timeSec, b.timeNsec);
}

export function applyXattrSet(state: LoggedState, event: LogEventOf<'xattrSet'>, time: Timestamp): object {
  const node = nodeOf(state, event.id);
  node.xattrs ??= new Map();
  node.xattrs.set(event.name, event.value);
  setChanged(node, time);
  return {};
}

export function applyXattrRemoved(
  state: LoggedState,
  event: LogEventOf<'xattrRemoved'>,
  time: Timestamp,
): object {
  const node = nodeOf(state, event.id);
  node.xattrs?.delete(event.name);
  if (node.xattrs?.size === 0) node.xattrs = undefined;
  setChanged(node, time);
  return {};
}

export function applyReclaimed(state: LoggedState, event: LogEventOf<'reclaimed'>, effects: Effects): object {
  for (const id of event.ids) {
    const node = nodeOf(state, id);
    assert(node.nlink === 0 && state.deleted.has(id), `node ${id} is not deleted`);
    assert(!isDirectory(node.mode) || node.entries?.size === 0, `directory ${id} is not empty`);
    for (const handle of node.chunks?.handles() ?? []) dropReference(state, handle, effects);
    state.deleted.delete(id);
    state.nodes.delete(id);
    state.retentions.delete(id);
    state.goals.delete(id);
  }
  return {};
}
