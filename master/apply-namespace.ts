/** How records change nodes and names. Called by apply alone. */
import type { Attributes } from '../protocol/messages/index.js';
import type { LogEventOf } from '../protocol/records.js';
import type { Effects } from './apply.js';
import { dropReference } from './apply-chunks.js';
import { assert } from './assert.js';
import type { Directory, Entry } from './directory.js';
import { isDirectory, Mode } from './mode.js';
import { inheritRetention } from './retention.js';
import { type LoggedState, Node, type Timestamp } from './state.js';

interface AttributesReply {
  readonly attributes: Attributes;
}

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

export function setChanged(node: Node, time: Timestamp): void {
  node.ctimeSec = time.timeSec;
  node.ctimeNsec = time.timeNsec;
}

export function setModified(node: Node, time: Timestamp): void {
  node.mtimeSec = time.timeSec;
  node.mtimeNsec = time.timeNsec;
  setChanged(node, time);
}

/** Makes a new node known, under its first name. */
export function addNode(
  state: LoggedState,
  node: Node,
  parent: Node & { readonly entries: Directory },
  name: string,
): void {
  assert(!state.nodes.has(node.id), `node ${node.id} twice`);
  assert(parent.entries.get(name) === undefined, `node ${parent.id} has that name already`);
  node.parent = parent.id;
  node.name = name;
  state.nodes.set(node.id, node);
  parent.entries.add(name, node.id, state.nextCookie++);
  state.nextNodeId = Math.max(state.nextNodeId, node.id + 1);
  if (node.isDirectory) {
    parent.nlink++;
    state.directoryCount++;
  } else {
    state.fileCount++;
  }
}

export function applyCreated(
  state: LoggedState,
  event: LogEventOf<'created'>,
  time: Timestamp,
): AttributesReply & { readonly created: true } {
  const parent = directoryOf(state, event.parent);
  const node = new Node(event.id, event.mode, event.uid, event.gid, event.rdev, time);
  if (event.target !== undefined) {
    node.target = event.target;
    node.size = event.target.length;
  }
  addNode(state, node, parent, event.name);
  inheritRetention(state, parent.id, node);
  setModified(parent, time);
  return { attributes: node.attributes(), created: true };
}

export function applyLinked(
  state: LoggedState,
  event: LogEventOf<'linked'>,
  time: Timestamp,
): AttributesReply {
  const node = nodeOf(state, event.id);
  const parent = directoryOf(state, event.parent);
  assert(parent.entries.get(event.name) === undefined, `node ${parent.id} has that name already`);
  parent.entries.add(event.name, node.id, state.nextCookie++);
  node.otherLinks ??= [];
  node.otherLinks.push({ parent: parent.id, name: event.name });
  node.nlink++;
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
  parent.entries.remove(entry);
  loseName(state, parent, nodeOf(state, entry.node), event.name, time);
  setModified(parent, time);
  return { id: entry.node };
}

/** A node has lost the name `name` in `parent`; the directory's entry is the caller's business. */
export function loseName(state: LoggedState, parent: Node, node: Node, name: string, time: Timestamp): void {
  const parentPath = state.pathOf(parent);
  assert(parentPath !== undefined, `node ${parent.id} has no path`);
  setChanged(node, time);
  if (node.isDirectory) {
    parent.nlink--;
    node.nlink = 0;
    node.cachedPath = undefined;
  } else {
    forgetLink(node, parent.id, name);
    node.nlink--;
  }
  if (node.nlink > 0) return;
  node.parent = 0;
  node.name = '';
  if (node.isDirectory) state.directoryCount--;
  else state.fileCount--;
  state.deleted.set(node.id, {
    id: node.id,
    timeSec: time.timeSec,
    timeNsec: time.timeNsec,
    path: `${parentPath}/${name}`,
  });
}

function forgetLink(node: Node, parent: number, name: string): void {
  const others = node.otherLinks;
  if (node.parent === parent && node.name === name) {
    const next = others?.shift();
    node.parent = next?.parent ?? 0;
    node.name = next?.name ?? '';
  } else {
    const at = others?.findIndex((link) => link.parent === parent && link.name === name) ?? -1;
    assert(at >= 0, `node ${node.id} does not know one of its names`);
    others?.splice(at, 1);
  }
  if (others?.length === 0) node.otherLinks = undefined;
}

/** One of a node's names becomes another. */
export function changeLink(
  node: Node,
  from: { parent: number; name: string },
  to: { parent: number; name: string },
): void {
  if (node.parent === from.parent && node.name === from.name) {
    node.parent = to.parent;
    node.name = to.name;
    return;
  }
  const at =
    node.otherLinks?.findIndex((link) => link.parent === from.parent && link.name === from.name) ?? -1;
  assert(at >= 0, `node ${node.id} does not know one of its names`);
  (node.otherLinks as { parent: number; name: string }[])[at] = to;
}

export function applyAttributesSet(
  state: LoggedState,
  event: LogEventOf<'attributesSet'>,
  time: Timestamp,
  effects: Effects,
): AttributesReply {
  const node = nodeOf(state, event.id);
  const { mode, uid, gid, size, atimeSec, atimeNsec, mtimeSec, mtimeNsec } = event.changes;
  if (mode !== undefined) node.mode = (node.mode & Mode.TYPE) | (mode & Mode.PERMISSIONS);
  if (uid !== undefined) node.uid = uid;
  if (gid !== undefined) node.gid = gid;
  setChanged(node, time);
  if (size !== undefined) {
    cutChunks(state, node, size, effects);
    node.size = size;
    node.dataVersion++;
    setModified(node, time);
  }
  if (atimeSec !== undefined) {
    node.atimeSec = atimeSec;
    node.atimeNsec = atimeNsec ?? 0;
  }
  if (mtimeSec !== undefined) {
    node.mtimeSec = mtimeSec;
    node.mtimeNsec = mtimeNsec ?? 0;
  }
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
  node.size = Math.max(node.size, event.size);
  node.dataVersion++;
  setModified(node, time);
  return { attributes: node.attributes() };
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
    state.deleted.delete(id);
    state.nodes.delete(id);
    state.retentions.delete(id);
    for (const handle of node.chunks?.handles() ?? []) dropReference(state, handle, effects);
  }
  return {};
}
