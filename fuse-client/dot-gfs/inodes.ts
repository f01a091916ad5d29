/** Inodes of what the cluster does not have: `.gfs` in the mount's root and what is below it. */
import type { Inode } from '../handler.js';

/** Node ids are counted up from 1 and never come near: no cluster makes 2^52 files. */
const FIRST = 2 ** 52;

export const DotGfsInode = {
  DIRECTORY: FIRST,
  STATS: FIRST + 1,
  OPLOG: FIRST + 2,
  CONFIG: FIRST + 3,
  TRASH: FIRST + 4,
} as const;
const FIRST_DELETED = FIRST + 16;

export const DOT_GFS = '.gfs';

export function isVirtualInode(inode: Inode): boolean {
  return inode >= FIRST;
}

/**
 * A deleted file as it is seen in the trash: another inode than its own, for it shows other permissions,
 * and who has the file open must not see them change.
 */
export function deletedInode(id: number): Inode {
  return FIRST_DELETED + id;
}

/** The node id of a deleted file, undefined for the rest of `.gfs`. */
export function deletedId(inode: Inode): number | undefined {
  return inode >= FIRST_DELETED ? inode - FIRST_DELETED : undefined;
}
