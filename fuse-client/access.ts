import { GfsError } from '../protocol/errors.js';
import type { Attributes } from '../protocol/messages/index.js';
import type { Context } from './handler.js';

export const Access = { READ: 4, WRITE: 2, EXECUTE: 1 } as const;

/**
 * access(2) by mode bits, for what the kernel's `default_permissions` does not cover: ioctls, and the
 * other end of a snapshot. Supplementary groups are not known here, so a caller who has a right only
 * through one of them is refused.
 * @throws ACCESS_DENIED
 */
export function requireAccess(attributes: Attributes, context: Context, wanted: number): void {
  if (context.uid === 0) return;
  let bits = attributes.mode & 7;
  if (context.uid === attributes.uid) bits = (attributes.mode >> 6) & 7;
  else if (context.gid === attributes.gid) bits = (attributes.mode >> 3) & 7;
  if ((bits & wanted) !== wanted) throw new GfsError('ACCESS_DENIED');
}
