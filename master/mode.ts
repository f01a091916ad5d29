/** Bits of `st_mode`. */
export const Mode = {
  TYPE: 0o170000,
  FIFO: 0o010000,
  CHARACTER: 0o020000,
  DIRECTORY: 0o040000,
  BLOCK: 0o060000,
  REGULAR: 0o100000,
  SYMLINK: 0o120000,
  SOCKET: 0o140000,
  PERMISSIONS: 0o7777,
  SETUID: 0o4000,
  SETGID: 0o2000,
  GROUP_EXECUTE: 0o010,
} as const;

export function isDirectory(mode: number): boolean {
  return (mode & Mode.TYPE) === Mode.DIRECTORY;
}

export function isRegular(mode: number): boolean {
  return (mode & Mode.TYPE) === Mode.REGULAR;
}

/** What Linux leaves of a file's mode when its owner changes or a stranger writes it. */
export function withoutPrivilege(mode: number): number {
  if (isDirectory(mode)) return mode;
  const setgid = (mode & Mode.GROUP_EXECUTE) !== 0 ? Mode.SETGID : 0;
  return mode & ~(Mode.SETUID | setgid);
}
