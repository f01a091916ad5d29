/** Which extended attributes the cluster stores. */
import { isAclName } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { ByteString } from './handler.js';

const STORED = ['user.', 'trusted.', 'security.capability'];

/**
 * Security labels are not stored. To say so saves messages: ls(1) asks every file for its SELinux label
 * until it hears EOPNOTSUPP once.
 * @throws NOT_SUPPORTED, INVALID: a name that ends with its namespace
 */
export function requireStored(name: ByteString, acls: boolean): void {
  const isStored = isAclName(name) ? acls : STORED.some((prefix) => name.startsWith(prefix));
  if (!isStored) throw new GfsError('NOT_SUPPORTED');
  if (name.endsWith('.')) throw new GfsError('INVALID', 'an attribute without a name');
}
