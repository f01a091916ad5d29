/**
 * The extended attributes `user.gfs.*`: the powers of GFS for setfattr(1) and getfattr(1). They are
 * never listed, so `cp -a` and `rsync -X` do not copy them; a name that is not there is EOPNOTSUPP.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_XATTR_VALUE_BYTES } from '../protocol/limits.js';
import type { ByteString, Context } from './handler.js';
import type { Powers } from './powers.js';

const PREFIX = 'user.gfs.';

interface VirtualXattr {
  readonly get?: (powers: Powers, context: Context, id: number) => Promise<string>;
  readonly set?: (powers: Powers, context: Context, id: number, value: Uint8Array) => Promise<unknown>;
}

const attributes: Readonly<Record<string, VirtualXattr>> = {
  /** Value: the destination. */
  snapshot: {
    set: (powers, context, id, value) => powers.snapshot(context, id, destinationOf(value)),
  },
  /** Value: one record. The kernel refuses more than 64 KiB with E2BIG. */
  append: {
    set: (powers, context, id, value) => {
      if (value.byteLength === 0) throw new GfsError('INVALID', 'an empty record');
      return powers.appendRecord(context, id, Uint8Array.from(value));
    },
  },
  'append.offset': {
    get: async (powers, _context, id) => String(powers.lastAppend(id)),
  },
  chunks: { get: chunksOf },
  locations: { get: chunksOf },
  inode: {
    get: async (_powers, _context, id) => String(id),
  },
};

async function chunksOf(powers: Powers, context: Context, id: number): Promise<string> {
  const { json, next } = await powers.chunkInfo(context, id, 0, MAX_XATTR_VALUE_BYTES - 64);
  return next === 0 ? json : JSON.stringify({ ...JSON.parse(json), next });
}

export function isVirtualXattr(name: ByteString): boolean {
  return name.startsWith(PREFIX);
}

/** @throws NOT_SUPPORTED: there is no such attribute, or it cannot be read */
export async function getVirtualXattr(
  powers: Powers,
  context: Context,
  id: number,
  name: ByteString,
): Promise<Uint8Array> {
  const get = attributes[name.slice(PREFIX.length)]?.get;
  if (get === undefined) throw new GfsError('NOT_SUPPORTED', `${name} cannot be read`);
  return Buffer.from(await get(powers, context, id));
}

/** @throws NOT_SUPPORTED: there is no such attribute, or it cannot be set */
export async function setVirtualXattr(
  powers: Powers,
  context: Context,
  id: number,
  name: ByteString,
  value: Uint8Array,
): Promise<void> {
  const set = attributes[name.slice(PREFIX.length)]?.set;
  if (set === undefined) throw new GfsError('NOT_SUPPORTED', `${name} cannot be set`);
  await set(powers, context, id, value);
}

function destinationOf(value: Uint8Array): ByteString {
  const destination = Buffer.from(value).toString('latin1');
  // A C program may count the terminating NUL in.
  const path = destination.endsWith('\0') ? destination.slice(0, -1) : destination;
  if (path === '' || path.includes('\0')) throw new GfsError('INVALID', 'no destination');
  return path;
}
