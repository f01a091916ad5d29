/** How the handler's answers are written: one function for each shape of reply. */
import { GfsError } from '../../protocol/errors.js';
import {
  type AttributeReply,
  type ByteString,
  type CreateReply,
  type DirectoryEntryReply,
  type Entry,
  type FileLock,
  FileType,
  type FuseHandler,
  type IoctlReply,
  NoSuchName,
  type OpenReply,
  type ReadReply,
  type StatfsReply,
} from '../handler.js';
import * as p from './protocol.js';
import { Opcode } from './protocol.js';
import type { ReplyWriter } from './reply.js';
import type { Request } from './request.js';

export function nothing(): void {}

export function byteString(out: ReplyWriter, value: ByteString): void {
  out.buffers = [Buffer.from(value, 'latin1')];
}

export function attributes(out: ReplyWriter, value: AttributeReply): void {
  const at = out.reserve(p.AttributeOut.BYTES);
  out.ttl(at + p.AttributeOut.ttl, at + p.AttributeOut.ttlNsec, value.attributeTtlMs);
  out.u32(at + p.AttributeOut.ttlNsec + 4, 0);
  out.attributes(at + p.AttributeOut.attributes, value.attributes);
}

export function entry(out: ReplyWriter, value: Entry): void {
  const { EntryOut } = p;
  const at = out.reserve(EntryOut.BYTES);
  out.u64(at + EntryOut.inode, value.attributes.id);
  // An inode number is never used again, so it needs no generation to tell two lives apart.
  out.u64(at + EntryOut.generation, 0);
  out.ttl(at + EntryOut.entryTtl, at + EntryOut.entryTtlNsec, value.entryTtlMs);
  out.ttl(at + EntryOut.attributeTtl, at + EntryOut.attributeTtlNsec, value.attributeTtlMs);
  out.attributes(at + EntryOut.attributes, value.attributes);
}

/** A name that is not there, to be believed for a while: inode 0. @throws NOT_FOUND when it is not */
export function lookedUp(out: ReplyWriter, value: Entry | NoSuchName): void {
  if (!(value instanceof NoSuchName)) return entry(out, value);
  const { ttlMs } = value;
  if (ttlMs <= 0) throw new GfsError('NOT_FOUND');
  const { EntryOut } = p;
  const at = out.zeros(EntryOut.BYTES);
  out.ttl(at + EntryOut.entryTtl, at + EntryOut.entryTtlNsec, ttlMs);
}

/** Direct writes that do not extend the file need no lock of the kernel's: the primary orders them. */
export function opened(out: ReplyWriter, value: OpenReply): void {
  const direct = value.directIo ? p.OpenFlag.DIRECT_IO | p.OpenFlag.PARALLEL_DIRECT_WRITES : 0;
  writeOpen(out, value.handle, direct | (value.keepCache ? p.OpenFlag.KEEP_CACHE : 0));
}

/** Unless it goes direct, the kernel may keep the listing, and use it again when told to keep its cache. */
export function directoryOpened(out: ReplyWriter, value: OpenReply): void {
  const cache = value.directIo ? 0 : p.OpenFlag.CACHE_DIRECTORY;
  writeOpen(out, value.handle, cache | (value.keepCache ? p.OpenFlag.KEEP_CACHE : 0));
}

function writeOpen(out: ReplyWriter, handle: number, flags: number): void {
  const at = out.reserve(p.OpenOut.BYTES);
  out.u64(at + p.OpenOut.handle, handle);
  out.u32(at + p.OpenOut.flags, flags);
  out.u32(at + p.OpenOut.flags + 4, 0);
}

export function created(out: ReplyWriter, value: CreateReply): void {
  entry(out, value.entry);
  opened(out, value);
}

export function data(out: ReplyWriter, value: ReadReply, request: Request): void {
  out.buffers = value.buffers;
  out.release = value.release;
  let total = 0;
  for (const buffer of value.buffers) total += buffer.byteLength;
  if (total > request.limit)
    throw new Error(`the handler read ${total} bytes where ${request.limit} were wanted`);
}

export function count(out: ReplyWriter, value: number, request: Request): void {
  if (request.opcode === Opcode.WRITE && value > request.limit) {
    throw new Error(`the handler wrote ${value} of ${request.limit} bytes`);
  }
  const at = out.reserve(8);
  out.u32(at, value);
  out.u32(at + 4, 0);
}

export function offset(out: ReplyWriter, value: number): void {
  out.u64(out.reserve(8), value);
}

export function statfs(out: ReplyWriter, value: StatfsReply): void {
  const { StatfsOut } = p;
  const at = out.zeros(StatfsOut.BYTES);
  out.u64(at + StatfsOut.blocks, value.blocks);
  out.u64(at + StatfsOut.blocksFree, value.blocksFree);
  out.u64(at + StatfsOut.blocksAvailable, value.blocksAvailable);
  out.u64(at + StatfsOut.files, value.files);
  out.u64(at + StatfsOut.filesFree, value.filesFree);
  out.u32(at + StatfsOut.blockBytes, value.blockBytes);
  out.u32(at + StatfsOut.nameMax, value.nameMaxBytes);
  out.u32(at + StatfsOut.fragmentBytes, value.blockBytes);
}

export function xattr(out: ReplyWriter, value: Uint8Array, request: Request): void {
  if (request.limit === 0) {
    count(out, value.byteLength, request);
  } else if (value.byteLength > request.limit) {
    throw new GfsError('RANGE', 'the value is longer than the caller has room for');
  } else {
    out.buffers = [value];
  }
}

export function xattrNames(out: ReplyWriter, names: readonly ByteString[], request: Request): void {
  xattr(out, Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1'), request);
}

export function ioctl(out: ReplyWriter, value: IoctlReply, request: Request): void {
  const at = out.zeros(p.IoctlOut.BYTES);
  out.u32(at + p.IoctlOut.result, value.result >>> 0);
  if (value.output === undefined) return;
  if (value.output.byteLength > request.limit) {
    throw new Error(`ioctl: ${value.output.byteLength} bytes of output where ${request.limit} are wanted`);
  }
  out.buffers = [value.output];
}

export function lock(out: ReplyWriter, value: FileLock): void {
  const { LockOut, LockType } = p;
  const at = out.reserve(LockOut.BYTES);
  out.long(at + LockOut.start, value.start);
  out.long(at + LockOut.end, value.end);
  const type =
    value.type === 'read' ? LockType.READ : value.type === 'write' ? LockType.WRITE : LockType.UNLOCK;
  out.u32(at + LockOut.type, type);
  out.u32(at + LockOut.pid, value.pid);
}

/** The bytes of one entry of READDIR, or of READDIRPLUS. */
function entryBytes(nameBytes: number, plus: boolean): number {
  const bytes = (p.DirectoryEntryOut.BYTES + nameBytes + 7) & ~7;
  return plus ? p.EntryOut.BYTES + bytes : bytes;
}

/** The most entries that can fit into a reply of `bytes`. */
export function mostEntries(bytes: number, plus: boolean): number {
  return Math.max(1, Math.floor(bytes / entryBytes(1, plus)));
}

/**
 * As many entries as fit. Each one with its {@link Entry} counts as one reference of the kernel's, except
 * `.` and `..`, which it passes over; so what is not handed out after all is given back to the handler.
 */
export function directory(
  out: ReplyWriter,
  entries: readonly DirectoryEntryReply[],
  request: Request,
  served: { readonly handler: FuseHandler },
): void {
  const plus = request.opcode === Opcode.READDIRPLUS;
  const limit = Math.min(request.limit, out.capacity);
  let full = false;
  for (const item of entries) {
    full ||= out.length + entryBytes(item.name.length, plus) > limit;
    const counts = !full && plus && item.name !== '.' && item.name !== '..';
    if (item.entry !== undefined && !counts) served.handler.forget(item.inode, 1);
    if (full) continue;
    if (plus && counts && item.entry !== undefined) entry(out, item.entry);
    else if (plus) out.zeros(p.EntryOut.BYTES);
    writeDirectoryEntry(out, item);
  }
}

function writeDirectoryEntry(out: ReplyWriter, item: DirectoryEntryReply): void {
  const { DirectoryEntryOut } = p;
  const at = out.zeros(entryBytes(item.name.length, false));
  out.u64(at + DirectoryEntryOut.inode, item.inode);
  out.u64(at + DirectoryEntryOut.cookie, item.cookie);
  out.u32(at + DirectoryEntryOut.nameLength, item.name.length);
  // d_type is st_mode's type, without the zeros below it.
  out.u32(at + DirectoryEntryOut.type, (item.mode & FileType.MASK) >> 12);
  out.byteString(at + DirectoryEntryOut.BYTES, item.name);
}
