/** From node ids and names to the locks of an operation, and to the nodes that it is about. */
import { GfsError } from '../protocol/errors.js';
import { MAX_NAME_BYTES, MAX_PATH_BYTES } from '../protocol/limits.js';
import type { Directory, Entry } from './directory.js';
import type { LockSet } from './locks.js';
import type { LoggedState, Node } from './state.js';

export type DirectoryNode = Node & { readonly entries: Directory };

/** @throws STALE_NODE */
export function findNode(state: LoggedState, id: number): Node {
  const node = state.nodes.get(id);
  if (node === undefined) throw new GfsError('STALE_NODE', `node ${id}`);
  return node;
}

/** @throws STALE_NODE, NOT_DIRECTORY */
export function findDirectory(state: LoggedState, id: number): DirectoryNode {
  const node = findNode(state, id);
  if (node.entries === undefined) throw new GfsError('NOT_DIRECTORY', `node ${id}`);
  return node as DirectoryNode;
}

/** A directory that things can be made in. @throws NOT_FOUND when it was removed */
export function findLiveDirectory(state: LoggedState, id: number): DirectoryNode {
  const node = findDirectory(state, id);
  if (node.nlink === 0) throw new GfsError('NOT_FOUND', `directory ${id} was removed`);
  return node;
}

/** @throws NOT_FOUND */
export function findEntry(directory: DirectoryNode, name: string): Entry {
  const entry = directory.entries.get(name);
  if (entry === undefined) throw new GfsError('NOT_FOUND', `no such name in node ${directory.id}`);
  return entry;
}

/** A name that an entry may have. @throws INVALID, NAME_TOO_LONG */
export function checkName(name: string): void {
  if (name.length > MAX_NAME_BYTES) throw new GfsError('NAME_TOO_LONG', `a name of ${name.length} bytes`);
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    throw new GfsError('INVALID', 'not a name');
  }
}

/** @throws NAME_TOO_LONG */
export function checkPathLength(state: LoggedState, directory: DirectoryNode, name: string): void {
  const path = livePath(state, directory);
  if (path.length + 1 + name.length > MAX_PATH_BYTES) throw new GfsError('NAME_TOO_LONG', 'the full path');
}

/** The full path of a directory, '' for the root. @throws NOT_FOUND when it was removed */
export function livePath(state: LoggedState, directory: Node): string {
  const path = state.pathOf(directory);
  if (path === undefined) throw new GfsError('NOT_FOUND', `directory ${directory.id} was removed`);
  return path;
}

/**
 * Adds the locks of one name to a set: read on every directory above it, `write` or read on itself.
 * The root has no lock: nothing renames or removes it.
 * @param parentWrite the lock on the directory itself, for `namespace.parent_lock = "exclusive"`
 */
export function lockName(
  state: LoggedState,
  set: LockSet,
  directory: Node,
  name: string,
  write: boolean,
  parentWrite = false,
): void {
  const path = livePath(state, directory);
  const level = lockPrefixes(state, set, directory);
  if (parentWrite && path !== '') set.add(path, level, true);
  set.add(`${path}/${name}`, level + 1, write);
}

/** Read locks on a directory and all above it; returns its level. */
export function lockPrefixes(state: LoggedState, set: LockSet, directory: Node): number {
  const chain: string[] = [];
  for (let node = directory; node.parent !== 0; node = state.nodes.get(node.parent) as Node) {
    chain.push(livePath(state, node));
  }
  for (let at = chain.length - 1; at >= 0; at--) set.add(chain[at] as string, chain.length - at, false);
  return chain.length;
}

/** The locks of an operation on a node, by its id: as for one of its names, if it has any, then the node's own. */
export function lockNode(state: LoggedState, set: LockSet, node: Node): void {
  const parent = state.nodes.get(node.parent);
  if (parent !== undefined) lockPrefixes(state, set, parent);
  set.addNode(node.id, true);
}
