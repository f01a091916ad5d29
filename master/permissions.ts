/**
 * Who may do what, for the few requests that do not come through a kernel which has checked it: bringing
 * deleted files back, and giving them up.
 */
import { ACCESS_ACL, decodeAcl, permits } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { Credentials } from './namespace.js';
import type { Node } from './state.js';

export const Permission = { READ: 4, WRITE: 2, EXECUTE: 1 } as const;

export function isOwner(node: Node, caller: Credentials): boolean {
  return caller.uid === 0 || caller.uid === node.uid;
}

/** By ACL, else by mode bits, as access(2) does. @throws ACCESS_DENIED */
export function requirePermission(node: Node, caller: Credentials, wanted: number): void {
  if (caller.uid === 0) return;
  const acl = node.xattrs?.get(ACCESS_ACL);
  if (acl !== undefined) {
    if (!permits(decodeAcl(acl), node, caller, wanted)) throw new GfsError('ACCESS_DENIED');
    return;
  }
  let bits = node.mode & 7;
  if (caller.uid === node.uid) bits = (node.mode >> 6) & 7;
  else if (caller.gids.includes(node.gid)) bits = (node.mode >> 3) & 7;
  if ((bits & wanted) !== wanted) throw new GfsError('ACCESS_DENIED');
}
