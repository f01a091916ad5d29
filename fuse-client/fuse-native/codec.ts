import { GfsError } from '../../protocol/errors.js';
import type { ByteString } from '../handler.js';

/** Who asks; the context of a request without its signal. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** How texts look on their way through the package, which takes all bytes for UTF-8. */
export interface Codec {
  /** The first path of an operation. */
  path(text: string): { caller: Caller; path: ByteString };
  /** A second path, a symlink's target, the name of an attribute. */
  bytes(text: string): ByteString;
  /** For the library: a directory's names, a symlink's target. */
  text(bytes: ByteString): string;
}

/**
 * As the package is. Bytes that are not UTF-8 arrive as U+FFFD: such names are refused, for a file
 * made under the mangled name could not be found by its own.
 */
export function plainCodec(process: Caller): Codec {
  const bytes = (text: string): ByteString => {
    if (text.includes('\ufffd')) throw new GfsError('INVALID', 'fuse-native carries names in UTF-8 only');
    return Buffer.from(text).toString('latin1');
  };
  return {
    path: (text) => ({ caller: process, path: bytes(text) }),
    bytes,
    text: (name) => Buffer.from(name, 'latin1').toString(),
  };
}

/** With the stacked module: `UID,GID,PID/path`, one character per byte. */
export const moduleCodec: Codec = {
  path(text) {
    const slash = text.indexOf('/');
    const [uid, gid, pid] = text.slice(0, slash).split(',');
    return { caller: { uid: Number(uid), gid: Number(gid), pid: Number(pid) }, path: text.slice(slash) };
  },
  bytes: (text) => text,
  text: (bytes) => bytes,
};
