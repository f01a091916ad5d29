/** From a mutation to its journal record: the checksums that come out, and what goes past the journal. */
import { checksum, checksumAfterChange, joinedChecksum, PAGE_BYTES } from '../../protocol/checksum.js';
import { BLOCK_BYTES, INLINE_WRITE_BYTES } from '../../protocol/limits.js';
import type { Entry } from './journal.js';
import type { BlockRange, OldBytes } from './old-bytes.js';
import { joinedPages, Pieces, UNKNOWN } from './page-checksums.js';
import { applyPatchesFrom } from './patches.js';
import { applyRecord, type Draft, validBytes } from './state.js';

export interface Mutation {
  /** `extend`: the chunk ends at `offset`, zeros in between. */
  readonly kind: 'write' | 'extend';
  /** Undefined for a repair, which leaves the applied serial alone. */
  readonly serial?: number;
  readonly offset: number;
  /** Of a write. They do not change until the mutation has ended, and never if they are kept. */
  readonly bytes?: Uint8Array;
  /** Their checksums, in pieces of a page from the first byte on, where they are known. */
  readonly pageSums?: readonly number[] | undefined;
  readonly session: number;
  readonly sequence: number;
}

/** Bytes to be written to the chunk file before the record. */
export interface DirectWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
}

export function endOf(mutation: Mutation): number {
  return mutation.offset + (mutation.bytes?.byteLength ?? 0);
}

/**
 * Where the bytes go past the journal, straight to the chunk file: large writes behind the chunk's
 * end, from the next block on. So a block written directly never holds bytes that existed before, and
 * a crash in the middle leaves nothing that counts. Everything else travels in the record.
 */
export function directFrom(mutation: Mutation, length: number, mayGoDirect: boolean): number {
  const end = endOf(mutation);
  const sizeBytes = end - mutation.offset;
  if (!mayGoDirect || sizeBytes <= INLINE_WRITE_BYTES || mutation.offset < length) return end;
  return Math.min(end, Math.ceil(mutation.offset / BLOCK_BYTES) * BLOCK_BYTES);
}

/** What a mutation replaces of blocks that it covers in part: needed to know their checksums afterwards. */
export function rangesNeeded(mutation: Mutation, length: number): BlockRange[] {
  const { kind, offset } = mutation;
  if (kind === 'extend') return [];
  const end = endOf(mutation);
  const first = Math.floor(offset / BLOCK_BYTES);
  const last = Math.floor((end - 1) / BLOCK_BYTES);
  return (first === last ? [first] : [first, last]).flatMap((block) => {
    const valid = validBytes(block, length);
    const start = Math.max(0, offset - block * BLOCK_BYTES);
    const stop = Math.min(valid, end - block * BLOCK_BYTES);
    const isPart = start < valid && !(start === 0 && stop >= valid);
    return isPart ? [{ block, start, end: stop }] : [];
  });
}

export interface Plan {
  readonly entry: Entry;
  readonly direct: DirectWrite | undefined;
}

/** The checksum of what a mutation replaces, when its pages are known; otherwise UNKNOWN: it has to be read. */
export function knownChecksum(
  { block, start, end }: BlockRange,
  pageSumOf: (page: number) => number,
): number {
  if (start % PAGE_BYTES !== 0 || end % PAGE_BYTES !== 0) return UNKNOWN;
  const first = (block * BLOCK_BYTES + start) / PAGE_BYTES;
  return joinedPages(first, (end - start) / PAGE_BYTES, pageSumOf);
}

/**
 * Plans one mutation and applies it to the draft. `old` is what {@link rangesNeeded} named, but for what
 * {@link knownChecksum} knew.
 */
export function plan(
  handle: number,
  mutation: Mutation,
  draft: Draft,
  old: readonly OldBytes[],
  mayGoDirect: boolean,
): Plan {
  const serial = mutation.serial ?? draft.serial;
  let entry: Entry;
  let direct: DirectWrite | undefined;
  let pageSums: readonly number[] | undefined;
  if (mutation.kind === 'write') {
    const bytes = mutation.bytes as Uint8Array;
    const from = directFrom(mutation, draft.length, mayGoDirect);
    const { offset, session, sequence } = mutation;
    draft.extendZeros(offset);
    const pieces = new Pieces(offset, bytes, mutation.pageSums);
    pageSums = pieces.wholePages;
    const checksums = checksumsAfter(offset, bytes.byteLength, pieces, draft, old);
    const record = {
      type: 'write',
      handle,
      serial,
      offset,
      length: bytes.byteLength,
      directFrom: from,
    } as const;
    // The head of a large write is copied: a patch must not hold on to all of it.
    const data = from === endOf(mutation) ? bytes : Uint8Array.prototype.slice.call(bytes, 0, from - offset);
    entry = { record: { ...record, session, sequence, checksums }, data };
    if (from < endOf(mutation)) direct = { position: from, bytes: bytes.subarray(from - offset) };
  } else {
    entry = { record: { type: 'extend', handle, serial, length: Math.max(mutation.offset, draft.length) } };
  }
  applyRecord(draft, entry.record, entry.data ?? NO_DATA, pageSums);
  return { entry, direct };
}

const NO_DATA = new Uint8Array(0);

/** The checksums of all blocks that `length` bytes at `offset` touch. The chunk is at least `offset` long. */
function checksumsAfter(
  offset: number,
  length: number,
  pieces: Pieces,
  draft: Draft,
  old: readonly OldBytes[],
): Uint8Array {
  const end = offset + length;
  const first = Math.floor(offset / BLOCK_BYTES);
  const count = Math.ceil(end / BLOCK_BYTES) - first;
  const out = Buffer.allocUnsafe(Math.max(0, count) * 4);
  for (let i = 0; i < count; i++) {
    const blockAt = (first + i) * BLOCK_BYTES;
    const start = Math.max(0, offset - blockAt);
    const stop = Math.min(BLOCK_BYTES, end - blockAt);
    out.writeUInt32LE(checksumAfter({ block: first + i, start, end: stop }, pieces, draft, old), i * 4);
  }
  return out;
}

function checksumAfter(written: BlockRange, pieces: Pieces, draft: Draft, old: readonly OldBytes[]): number {
  const { block, start, end } = written;
  const valid = validBytes(block, draft.length);
  const sumOf = (from: number, to: number) =>
    pieces.between(block * BLOCK_BYTES + from, block * BLOCK_BYTES + to);
  if (start === 0 && end >= valid) return sumOf(start, end);
  const replacedTo = Math.max(start, Math.min(valid, end));
  let crc = draft.checksumOf(block);
  if (replacedTo > start) {
    const before = checksumBefore({ block, start, end: replacedTo }, draft, old);
    crc = checksumAfterChange(crc, before, sumOf(start, replacedTo), valid - replacedTo);
  } else if (start !== valid) {
    throw new Error(`block ${block} was not read for a partial overwrite`);
  }
  return replacedTo === end ? crc : joinedChecksum(crc, sumOf(replacedTo, end), end - replacedTo);
}

/** Of what is replaced. Earlier mutations of the same round may have changed it. */
function checksumBefore(replaced: BlockRange, draft: Draft, old: readonly OldBytes[]): number {
  const { block, start, end } = replaced;
  const range = old.find((each) => each.block === block);
  if (range?.start === start && range.end === end) {
    applyPatchesFrom(draft.patchesOf(block), range.bytes, start);
    return checksum(range.bytes);
  }
  const known = knownChecksum(replaced, (page) => draft.pageSumOf(page));
  if (known === UNKNOWN) throw new Error(`block ${block} was not read for a partial overwrite`);
  return known;
}
