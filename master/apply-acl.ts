/** How records change ACLs, which are kept among a node's extended attributes. Called by apply alone. */
import { ACCESS_ACL, DEFAULT_ACL, decodeAcl, encodeAcl, withMode } from '../protocol/acl.js';
import type { LogEventOf } from '../protocol/records.js';
import { nodeOf, setChanged } from './apply-namespace.js';
import { Mode } from './mode.js';
import type { LoggedState, Node, Timestamp } from './state.js';

/** A new mode; an access ACL goes along with it. */
export function setMode(node: Node, mode: number): void {
  node.mode = (node.mode & Mode.TYPE) | (mode & Mode.PERMISSIONS);
  const acl = node.xattrs?.get(ACCESS_ACL);
  if (acl !== undefined) keepXattr(node, ACCESS_ACL, encodeAcl(withMode(decodeAcl(acl), mode)));
}

export function keepXattr(node: Node, name: string, value: Uint8Array | undefined): void {
  const xattrs = new Map(node.xattrs);
  if (value === undefined) xattrs.delete(name);
  else xattrs.set(name, value);
  node.xattrs = xattrs.size === 0 ? undefined : xattrs;
}

export function applyAclSet(state: LoggedState, event: LogEventOf<'aclSet'>, time: Timestamp): object {
  const node = nodeOf(state, event.id);
  keepXattr(node, event.kind === 'access' ? ACCESS_ACL : DEFAULT_ACL, event.value);
  if (event.mode !== undefined) node.mode = (node.mode & Mode.TYPE) | (event.mode & Mode.PERMISSIONS);
  setChanged(node, time);
  return {};
}

/** What a new node inherits. */
export function keepInherited(node: Node, event: LogEventOf<'created'>): void {
  if (event.accessAcl !== undefined) keepXattr(node, ACCESS_ACL, event.accessAcl);
  if (event.defaultAcl !== undefined) keepXattr(node, DEFAULT_ACL, event.defaultAcl);
}
