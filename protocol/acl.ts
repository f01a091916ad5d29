/**
 * POSIX access control lists (POSIX 1003.1e draft 17, acl(5)) in the form in which Linux passes them as
 * extended attributes: a version, then tag, permissions and id of each entry, little-endian.
 */
import { GfsError } from './errors.js';

export const ACCESS_ACL = 'system.posix_acl_access';
/** Of a directory: what is made in it gets this one. */
export const DEFAULT_ACL = 'system.posix_acl_default';

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
/** As many as fit into an extended attribute. */
const MAX_ENTRIES = (65_536 - HEADER_BYTES) / ENTRY_BYTES;
const NO_ID = 0xffff_ffff;
const READ_WRITE_EXECUTE = 7;

/** In the order in which entries stand; those of users and groups may repeat. */
const Tag = { OWNER: 1, USER: 2, OWNING_GROUP: 4, GROUP: 8, MASK: 16, OTHER: 32 } as const;

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

export type Acl = readonly AclEntry[];

export function isAclName(name: string): boolean {
  return name === ACCESS_ACL || name === DEFAULT_ACL;
}

/** @returns no entries for an attribute that says nothing @throws INVALID, NOT_SUPPORTED (another version) */
export function decodeAcl(value: Uint8Array): Acl {
  const count = (value.byteLength - HEADER_BYTES) / ENTRY_BYTES;
  if (!Number.isInteger(count) || count < 0 || count > MAX_ENTRIES) throw new GfsError('INVALID', 'an ACL');
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  if (view.getUint32(0, true) !== VERSION) throw new GfsError('NOT_SUPPORTED', 'the version of an ACL');
  const acl: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < value.byteLength; at += ENTRY_BYTES) {
    acl.push({
      tag: view.getUint16(at, true),
      permissions: view.getUint16(at + 2, true),
      id: view.getUint32(at + 4, true),
    });
  }
  if (!isValid(acl)) throw new GfsError('INVALID', 'an ACL');
  return acl;
}

export function encodeAcl(acl: Acl): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + acl.length * ENTRY_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, VERSION, true);
  acl.forEach(({ tag, permissions, id }, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  });
  return value;
}

/** One owner, one owning group, one of others; a mask at most, and one where users or groups are named. */
function isValid(acl: Acl): boolean {
  if (acl.length === 0) return true;
  const count = (tag: number) => acl.filter((entry) => entry.tag === tag).length;
  const inOrder = acl.every(({ tag }, at) => {
    const before = at === 0 ? 0 : (acl[at - 1] as AclEntry).tag;
    return before < tag || (before === tag && isNamed(tag));
  });
  const known = acl.every(
    ({ tag, permissions, id }) =>
      (permissions & ~READ_WRITE_EXECUTE) === 0 &&
      Object.values<number>(Tag).includes(tag) &&
      (!isNamed(tag) || id !== NO_ID),
  );
  const isWhole = [Tag.OWNER, Tag.OWNING_GROUP, Tag.OTHER].every((tag) => count(tag) === 1);
  return inOrder && known && isWhole && (count(Tag.MASK) === 1 || !acl.some(({ tag }) => isNamed(tag)));
}

function isNamed(tag: number): boolean {
  return tag === Tag.USER || tag === Tag.GROUP;
}

function permissionsOf(acl: Acl, tag: number): number | undefined {
  return acl.find((entry) => entry.tag === tag)?.permissions;
}

/** The nine permission bits that stand for an ACL: the group's are those of the mask. */
export function modeOfAcl(acl: Acl): number {
  const owner = permissionsOf(acl, Tag.OWNER) ?? 0;
  const group = permissionsOf(acl, Tag.MASK) ?? permissionsOf(acl, Tag.OWNING_GROUP) ?? 0;
  return (owner << 6) | (group << 3) | (permissionsOf(acl, Tag.OTHER) ?? 0);
}

/** Whether the mode says all that the ACL says. */
export function isMinimal(acl: Acl): boolean {
  return acl.every(({ tag }) => tag !== Tag.MASK && !isNamed(tag));
}

/** The ACL after a chmod(2): the group's bits become the mask. */
export function withMode(acl: Acl, mode: number): Acl {
  const groupTag = permissionsOf(acl, Tag.MASK) === undefined ? Tag.OWNING_GROUP : Tag.MASK;
  return acl.map((entry) => {
    if (entry.tag === Tag.OWNER) return { ...entry, permissions: (mode >> 6) & READ_WRITE_EXECUTE };
    if (entry.tag === groupTag) return { ...entry, permissions: (mode >> 3) & READ_WRITE_EXECUTE };
    if (entry.tag === Tag.OTHER) return { ...entry, permissions: mode & READ_WRITE_EXECUTE };
    return entry;
  });
}

/** What a node gets that is made with `mode` below a directory with this default ACL; the umask does not count. */
export function inherit(defaultAcl: Acl, mode: number): { readonly acl: Acl; readonly mode: number } {
  const bits = modeOfAcl(defaultAcl) & mode & 0o777;
  return { acl: withMode(defaultAcl, bits), mode: (mode & ~0o777) | bits };
}

/** Whether the caller has the permissions `wanted` (4 read, 2 write, 1 execute), as acl(5) decides it. */
export function permits(
  acl: Acl,
  node: { readonly uid: number; readonly gid: number },
  caller: { readonly uid: number; readonly gids: readonly number[] },
  wanted: number,
): boolean {
  const mask = permissionsOf(acl, Tag.MASK) ?? READ_WRITE_EXECUTE;
  const has = (permissions: number) => (permissions & wanted) === wanted;
  if (caller.uid === node.uid) return has(permissionsOf(acl, Tag.OWNER) ?? 0);
  const named = acl.find(({ tag, id }) => tag === Tag.USER && id === caller.uid);
  if (named !== undefined) return has(named.permissions & mask);
  const groups = acl.filter(
    ({ tag, id }) =>
      (tag === Tag.OWNING_GROUP && caller.gids.includes(node.gid)) ||
      (tag === Tag.GROUP && caller.gids.includes(id)),
  );
  if (groups.length > 0) return groups.some(({ permissions }) => has(permissions & mask));
  return has(permissionsOf(acl, Tag.OTHER) ?? 0);
}
