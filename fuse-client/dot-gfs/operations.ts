/** What each operation of the handler is about: the inodes in its arguments, and its line in the oplog. */
import type { FuseHandler, Inode } from '../handler.js';

export type OperationName = keyof FuseHandler;
/** As a handler's method takes them; {@link operationTable} knows their types. */
export type OperationArguments = readonly unknown[];

type Describe<K extends OperationName> = (...args: Parameters<FuseHandler[K]>) => string;

const quote = (name: string): string => JSON.stringify(Buffer.from(name, 'latin1').toString());

/** The arguments of every operation as text, for people; one line each, so that none is forgotten. */
const operationTable: { readonly [K in OperationName]: Describe<K> } = {
  lookup: (_, parent, name) => `${parent},${quote(name)}`,
  forget: (inode, count) => `${inode},${count}`,
  getattr: (_, inode) => `${inode}`,
  setattr: (_, inode, update) => `${inode},${Object.keys(update).join('+')}`,
  readlink: (_, inode) => `${inode}`,
  mknod: (_, parent, name, mode) => `${parent},${quote(name)},0${mode.toString(8)}`,
  mkdir: (_, parent, name, mode) => `${parent},${quote(name)},0${mode.toString(8)}`,
  symlink: (_, parent, name, target) => `${parent},${quote(name)},${quote(target)}`,
  link: (_, inode, parent, name) => `${inode},${parent},${quote(name)}`,
  unlink: (_, parent, name) => `${parent},${quote(name)}`,
  rmdir: (_, parent, name) => `${parent},${quote(name)}`,
  rename: (_, parent, name, newParent, newName, mode) =>
    `${parent},${quote(name)},${newParent},${quote(newName)},${mode}`,
  create: (_, parent, name, mode, flags) =>
    `${parent},${quote(name)},0${mode.toString(8)},0x${flags.toString(16)}`,
  tmpfile: (_, parent, mode, flags) => `${parent},0${mode.toString(8)},0x${flags.toString(16)}`,
  open: (_, inode, flags) => `${inode},0x${flags.toString(16)}`,
  read: (_, inode, handle, offset, length) => `${inode},${handle},${offset},${length}`,
  write: (_, inode, handle, offset, data) => `${inode},${handle},${offset},${data.byteLength}`,
  flush: (_, inode, handle) => `${inode},${handle}`,
  fsync: (_, inode, handle, dataOnly) => `${inode},${handle},${dataOnly ? 'data' : 'all'}`,
  release: (_, inode, handle) => `${inode},${handle}`,
  fallocate: (_, inode, handle, mode, offset, length) => `${inode},${handle},${mode},${offset},${length}`,
  lseek: (_, inode, handle, offset, whence) => `${inode},${handle},${offset},${whence}`,
  copyFileRange: (_, from, to, length) => `${from.inode},${from.offset},${to.inode},${to.offset},${length}`,
  opendir: (_, inode) => `${inode}`,
  readdir: (_, inode, handle, cookie, plus) => `${inode},${handle},${cookie}${plus ? ',plus' : ''}`,
  releasedir: (_, inode, handle) => `${inode},${handle}`,
  fsyncdir: (_, inode, handle) => `${inode},${handle}`,
  statfs: (_, inode) => `${inode}`,
  setxattr: (_, inode, name, value) => `${inode},${quote(name)},${value.byteLength}`,
  getxattr: (_, inode, name) => `${inode},${quote(name)}`,
  listxattr: (_, inode) => `${inode}`,
  removexattr: (_, inode, name) => `${inode},${quote(name)}`,
  ioctl: (_, inode, handle, command) => `${inode},${handle},0x${command.toString(16)}`,
  getlk: (_, inode, handle, lock) => `${inode},${handle},${lock.type},${lock.start}-${lock.end}`,
  setlk: (_, inode, handle, lock, wait) =>
    `${inode},${handle},${lock.type},${lock.start}-${lock.end}${wait ? ',wait' : ''}`,
};

export const operationNames = Object.keys(operationTable) as readonly OperationName[];

export function describeArguments(operation: OperationName, args: OperationArguments): string {
  return (operationTable[operation] as (...args: OperationArguments) => string)(...args);
}

interface Position {
  readonly inode: Inode;
}

const NAMED: ReadonlySet<OperationName> = new Set<OperationName>([
  ...(['lookup', 'mknod', 'mkdir', 'symlink', 'unlink', 'rmdir', 'rename', 'create'] as const),
]);

/**
 * @returns whether an operation with such arguments is on an inode that `isOurs`, or names `name` in the
 * directory `parent`: it is asked before every operation
 */
export function concerns(
  operation: OperationName,
  isOurs: (inode: Inode) => boolean,
  parent: Inode,
  name: string,
): (args: OperationArguments) => boolean {
  const isName = (args: OperationArguments, at: number) => args[at] === parent && args[at + 1] === name;
  if (operation === 'forget') return (args) => isOurs(args[0] as Inode);
  if (operation === 'copyFileRange')
    return (args) => isOurs((args[1] as Position).inode) || isOurs((args[2] as Position).inode);
  if (operation === 'link')
    return (args) => isOurs(args[1] as Inode) || isOurs(args[2] as Inode) || isName(args, 2);
  if (operation === 'rename')
    return (args) =>
      isOurs(args[1] as Inode) || isOurs(args[3] as Inode) || isName(args, 1) || isName(args, 3);
  if (NAMED.has(operation)) return (args) => isOurs(args[1] as Inode) || isName(args, 1);
  return (args) => isOurs(args[1] as Inode);
}
