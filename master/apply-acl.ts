/** How records change ACLs. Called by apply alone. */
import { ACCESS_ACL, DEFAULT_ACL } from '../protocol/acl.js';
import type { LogEventOf } from '../protocol/records.js';
import { nodeOf, setChanged } from './apply-namespace.js';
import { keepXattr } from './kept-acls.js';
import { Mode } from './mode.js';
import type { LoggedState, Timestamp } from './state.js';

export function applyAclSet(state: LoggedState, event: LogEventOf<'aclSet'>, time: Timestamp): object {
  const node = nodeOf(state, event.id);
  keepXattr(node, event.kind === 'access' ? ACCESS_ACL : DEFAULT_ACL, event.value);
  if (event.mode !== undefined) node.mode = (node.mode & Mode.TYPE) | (event.mode & Mode.PERMISSIONS);
  setChanged(node, time);
  return {};
}
