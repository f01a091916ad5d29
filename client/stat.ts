/** What stat(2) tells, as programs in JavaScript like it; and names, which are bytes here and text there. */
import type { Attributes } from '../protocol/messages/index.js';

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;

const TYPES = {
  [S_IFREG]: 'file',
  [S_IFDIR]: 'directory',
  21609: 'symlink',
  2401: 'fifo',
  26411: 'socket',
  4802: 'character device',
  14406: 'block device',
} as const;
export type FileKind = (typeof TYPES)[keyof typeof TYPES];

export interface FileStat {
  /** The node's id: its inode number on a mount. */
  readonly id: number;
  readonly kind: FileKind;
  /** Permission bits, with setuid, setgid and sticky. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Milliseconds since 1970. */
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
}

export function statOf(attributes: Attributes): FileStat {
  const { id, mode, nlink, uid, gid, size } = attributes;
  return {
    id,
    kind: TYPES[(mode & S_IFMT) as keyof typeof TYPES],
    mode: mode & ~S_IFMT,
    nlink,
    uid,
    gid,
    sizeBytes: size,
    atimeMs: attributes.atimeSec * 1000 + attributes.atimeNsec / 1e6,
    mtimeMs: attributes.mtimeSec * 1000 + attributes.mtimeNsec / 1e6,
    ctimeMs: attributes.ctimeSec * 1000 + attributes.ctimeNsec / 1e6,
  };
}

/** UTF-8, one character for each byte, as names travel. */
export function toBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

export function fromBytes(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8');
}
