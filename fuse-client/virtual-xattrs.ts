/**
 * The extended attributes `user.gfs.*`: the powers of GFS for setfattr(1) and getfattr(1). They are
 * never listed, so `cp -a` and `rsync -X` do not copy them; a name that is not there is EOPNOTSUPP.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_XATTR_VALUE_BYTES } from '../protocol/limits.js';
import type { ByteString, Context } from './handler.js';
import type { Powers } from './powers.js';

const PREFIX = 'user.gfs.';
/** Leaves room in `user.gfs.all` for what is told beside the chunks. */
const MAX_CHUNKS_BYTES = MAX_XATTR_VALUE_BYTES - 8192;

interface VirtualXattr {
  readonly get?: (powers: Powers, context: Context, id: number) => Promise<string>;
  readonly set?: (powers: Powers, context: Context, id: number, value: Uint8Array) => Promise<unknown>;
  readonly remove?: (powers: Powers, context: Context, id: number) => Promise<unknown>;
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
    get: async (powers, _context, id) => String(await powers.lastAppend(id)),
  },
  chunks: { get: chunksOf },
  locations: { get: chunksOf },
  inode: {
    get: async (_powers, _context, id) => String(id),
  },
  /** Value: a time such as `3d`, `12h`, `0`, or `default`. */
  retention: {
    get: (powers, context, id) => powers.info.retention(context, id),
    set: (powers, context, id, value) => powers.info.setRetention(context, id, textOf(value)),
    remove: (powers, context, id) => powers.info.setRetention(context, id, undefined),
  },
  /** Value: a number of replicas, or `default`. */
  goal: {
    get: (powers, context, id) => powers.info.goal(context, id),
    set: (powers, context, id, value) => powers.info.setGoal(context, id, textOf(value)),
    remove: (powers, context, id) => powers.info.setGoal(context, id, 'default'),
  },
  health: {
    get: async (powers, context, id) => JSON.stringify(await powers.info.health(context, id)),
  },
  deleted_at: {
    get: (powers, context, id) => powers.info.deletedAt(context, id),
  },
  /** Of a file in `.gfs/trash`, which answers for itself. */
  undelete: {
    set: () => Promise.reject(new GfsError('INVALID', 'it is not deleted')),
  },
  all: { get: everything },
};

/** Of every attribute that can be read and has a value here, as one object. */
async function everything(powers: Powers, context: Context, id: number): Promise<string> {
  const told: Record<string, unknown> = {};
  const path = await powers.info.path(context, id);
  if (path !== undefined) told.path = Buffer.from(path, 'latin1').toString();
  for (const [name, { get }] of Object.entries(attributes)) {
    if (get === undefined || name === 'all' || name === 'locations') continue;
    try {
      const text = await get(powers, context, id);
      told[name] = /^[[{]/.test(text) ? JSON.parse(text) : text;
    } catch (error) {
      // A directory has no chunks, a file that lives was not deleted.
      if (!(error instanceof GfsError) || !NOT_HERE.has(error.code)) throw error;
    }
  }
  return JSON.stringify(told);
}

const NOT_HERE: ReadonlySet<string> = new Set(['NO_ATTRIBUTE', 'IS_DIRECTORY', 'INVALID', 'ACCESS_DENIED']);

function textOf(value: Uint8Array): string {
  return Buffer.from(value).toString('latin1').replace(/\0$/, '').trim();
}

async function chunksOf(powers: Powers, context: Context, id: number): Promise<string> {
  const { json, next } = await powers.chunkInfo(context, id, 0, MAX_CHUNKS_BYTES);
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

/** @throws NOT_SUPPORTED: there is no such attribute, or it cannot be taken back */
export async function removeVirtualXattr(
  powers: Powers,
  context: Context,
  id: number,
  name: ByteString,
): Promise<void> {
  const remove = attributes[name.slice(PREFIX.length)]?.remove;
  if (remove === undefined) throw new GfsError('NOT_SUPPORTED', `${name} cannot be removed`);
  await remove(powers, context, id);
}

function destinationOf(value: Uint8Array): ByteString {
  const destination = Buffer.from(value).toString('latin1');
  // A C program may count the terminating NUL in.
  const path = destination.endsWith('\0') ? destination.slice(0, -1) : destination;
  if (path === '' || path.includes('\0')) throw new GfsError('INVALID', 'no destination');
  return path;
}
