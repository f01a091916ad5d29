/** POSIX ACLs (acl(5)): setting them, and what new nodes get of their directory's default ACL. */
import {
  ACCESS_ACL,
  type Acl,
  DEFAULT_ACL,
  decodeAcl,
  encodeAcl,
  inherit,
  isMinimal,
  modeOfAcl,
} from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { LogEvent } from '../protocol/records.js';
import { isDirectory, Mode } from './mode.js';
import type { Decision } from './mutations.js';
import type { Node } from './state.js';

const RWX = 0o777;

/** What is logged of `setxattr` of an ACL; an empty one is a removal. @throws INVALID, NOT_SUPPORTED, ACCESS_DENIED */
export function decideAcl(
  node: Node,
  name: string,
  value: Uint8Array | undefined,
  dropSetgid: boolean,
): Decision<object> {
  if ((node.mode & Mode.TYPE) === Mode.SYMLINK) throw new GfsError('NOT_SUPPORTED', 'an ACL of a link');
  const acl = value === undefined ? [] : decodeAcl(value);
  if (acl.length === 0) {
    if (!node.xattrs?.has(name)) return { reply: {} };
    return { event: { type: 'aclSet', id: node.id, kind: kindOf(name) } };
  }
  if (name === DEFAULT_ACL) {
    if (!node.isDirectory) throw new GfsError('ACCESS_DENIED', 'a default ACL of what is no directory');
    return { event: { type: 'aclSet', id: node.id, kind: 'default', value: encodeAcl(acl) } };
  }
  const kept = node.mode & Mode.PERMISSIONS & ~RWX & (dropSetgid ? ~Mode.SETGID : ~0);
  return {
    event: {
      type: 'aclSet',
      id: node.id,
      kind: 'access',
      mode: kept | modeOfAcl(acl),
      ...valueUnlessMinimal(acl),
    },
  };
}

function kindOf(name: string): 'access' | 'default' {
  return name === ACCESS_ACL ? 'access' : 'default';
}

/** What the mode says as well needs no ACL. */
function valueUnlessMinimal(acl: Acl): { readonly value?: Uint8Array } {
  return isMinimal(acl) ? {} : { value: encodeAcl(acl) };
}

export type Inherited = Pick<Extract<LogEvent, { type: 'created' }>, 'mode' | 'accessAcl' | 'defaultAcl'>;

/** Mode and ACLs of what is made in `parent`, which is no symbolic link. */
export function inheritedBy(parent: Node, mode: number, umask: number): Inherited {
  const value = parent.xattrs?.get(DEFAULT_ACL);
  if (value === undefined) return { mode: mode & ~(umask & RWX) };
  const inherited = inherit(decodeAcl(value), mode);
  return {
    mode: inherited.mode,
    ...(isMinimal(inherited.acl) ? {} : { accessAcl: encodeAcl(inherited.acl) }),
    ...(isDirectory(mode) ? { defaultAcl: value } : {}),
  };
}
