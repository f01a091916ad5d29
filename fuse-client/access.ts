import type { CallContext, MasterSession } from '../client/index.js';
import { ACCESS_ACL, decodeAcl, permits } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import { type Attributes, GetXattr } from '../protocol/messages/index.js';
import type { Context } from './handler.js';

export const Access = { READ: 4, WRITE: 2, EXECUTE: 1 } as const;

/** Groups that one request can name. */
const MAX_GROUPS = 256;

export function callContext(context: Context): CallContext {
  return { uid: context.uid, gids: [context.gid], signal: context.signal };
}

/** As {@link callContext}, for requests that the master itself authorises: with all groups of the caller. */
export function authorisedContext(context: Context): CallContext {
  const { uid, gid, groups = [gid], signal } = context;
  return { uid, gids: groups.slice(0, MAX_GROUPS), signal };
}

/**
 * access(2) by mode and ACL, for what the kernel's `default_permissions` does not cover: ioctls, and the
 * other end of a snapshot.
 * @throws ACCESS_DENIED
 */
export async function requireAccess(
  master: MasterSession,
  attributes: Attributes,
  context: Context,
  wanted: number,
): Promise<void> {
  const { uid, gid } = context;
  if (uid === 0) return;
  const groups = context.groups ?? [gid];
  const acl = attributes.hasAcl === true ? await accessAcl(master, attributes.id, context) : undefined;
  if (acl !== undefined) {
    if (!permits(decodeAcl(acl), attributes, { uid, gids: groups }, wanted))
      throw new GfsError('ACCESS_DENIED');
    return;
  }
  let bits = attributes.mode & 7;
  if (uid === attributes.uid) bits = (attributes.mode >> 6) & 7;
  else if (groups.includes(attributes.gid)) bits = (attributes.mode >> 3) & 7;
  if ((bits & wanted) !== wanted) throw new GfsError('ACCESS_DENIED');
}

/** Undefined where only a default ACL is there. */
async function accessAcl(
  master: MasterSession,
  id: number,
  context: Context,
): Promise<Uint8Array | undefined> {
  try {
    return (await master.query(GetXattr, { id, name: ACCESS_ACL }, callContext(context))).value;
  } catch (error) {
    if (error instanceof GfsError && error.code === 'NO_ATTRIBUTE') return undefined;
    throw error;
  }
}
