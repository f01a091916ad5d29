/** ACLs as they are kept, among a node's extended attributes, and their mode in step. Called by apply alone. */
import { ACCESS_ACL, DEFAULT_ACL, decodeAcl, encodeAcl, withMode } from '../protocol/acl.js';
import type { LogEventOf } from '../protocol/records.js';
import { Mode } from './mode.js';
import type { Node } from './state.js';

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

/** What a new node inherits. */
export function keepInherited(
  node: Node,
  event: Partial<Pick<LogEventOf<'created'>, 'accessAcl' | 'defaultAcl'>>,
): void {
  if (event.accessAcl !== undefined) keepXattr(node, ACCESS_ACL, event.accessAcl);
  if (event.defaultAcl !== undefined) keepXattr(node, DEFAULT_ACL, event.defaultAcl);
}
