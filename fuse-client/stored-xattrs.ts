/** Which extended attributes the cluster stores. */
import { isAclName } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { ByteString } from './handler.js';

const NAMESPACES = ['user.', 'trusted.'];
const STORED = [...NAMESPACES, 'security.capability'];

/**
 * Security labels are not stored. To say so saves messages: ls(1) asks every file for its SELinux label
 * until it hears EOPNOTSUPP once.
 * @throws NOT_SUPPORTED, INVALID: nothing but a namespace
 */
export function requireStored(name: ByteString, acls: boolean): void {
  const isStored = isAclName(name) ? acls : STORED.some((prefix) => name.startsWith(prefix));
  if (!isStored) throw new GfsError('NOT_SUPPORTED');
  if (NAMESPACES.includes(name)) throw new GfsError('INVALID', 'an attribute without a name');
}
