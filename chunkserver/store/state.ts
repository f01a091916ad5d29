/**
 * The state of one chunk, and the one function that changes it: live mutations and the replay of the
 * journal both go through {@link applyRecord}.
 */
import { checksum, PAGE_BYTES } from '../../protocol/checksum.js';
import { BLOCK_BYTES } from '../../protocol/limits.js';
import { type PageChecksums, UNKNOWN } from './page-checksums.js';
import {
  cutPatches,
  NO_PATCHES,
  type Patch,
  type Patches,
  patchMemory,
  withPatch,
  ZEROS,
} from './patches.js';
import type { JournalRecord, RecordOf } from './record.js';
import { type MutationResult, ResultTable } from './results.js';
import { serialBase } from './serial.js';
import type { SidecarBody, SidecarHead } from './sidecar.js';

const ZERO_BLOCK_CHECKSUM = checksum(ZEROS);

/** A block that was written past the journal. */
interface DirectBlock {
  /** Where its write began. */
  readonly from: number;
  /** The record of that write, or a later one of its round. */
  readonly lsn: number;
}

/** What survives a restart, and what the journal has on top of the chunk file. */
export class ChunkState {
  readonly handle: number;
  version: number;
  /** Bytes past it do not exist, whatever the chunk file holds there. */
  length = 0;
  /** The newest mutation applied. */
  serial = 0;
  /** The newest journal record applied. */
  lsn = 0;
  /**
   * The boot under which the chunk was leased and may have been mutated without a flush; 0 for none.
   * Met under another boot, it makes the replica suspect.
   */
  mark = 0;
  /** It may have lost acknowledged mutations, and is not read until it was compared (DESIGN: replica states). */
  suspect = false;
  /** Checksums of the blocks up to {@link length}, and maybe more. Undefined: still in the sidecar. */
  checksums: Uint32Array | undefined = new Uint32Array(0);
  /** Of its pages, as far as they are known here. */
  pages: PageChecksums | undefined;
  results = new ResultTable();
  readonly patches = new Map<number, Patches>();
  patchBytes = 0;
  /** Drafts committed since the process started. */
  generation = 0;
  /** The generation of the newest truncation: until it is checkpointed nothing is written past the journal. */
  truncatedAt = 0;
  /** The chunk file holds nothing but zeros from here on. Unknown: infinite. */
  zerosFrom = Number.POSITIVE_INFINITY;
  /** Blocks written past the journal since the chunk file's last flush, for the check after a host crash. */
  readonly direct = new Map<number, DirectBlock>();

  constructor(handle: number, version: number) {
    this.handle = handle;
    this.version = version;
  }

  static fromSidecar(head: SidecarHead): ChunkState {
    const state = new ChunkState(head.handle, head.version);
    state.length = head.length;
    state.serial = head.serial;
    state.lsn = head.lsn;
    state.mark = head.mark;
    state.suspect = head.suspect;
    state.checksums = undefined;
    return state;
  }

  /** The same content under another handle. What is in patches is not copied. */
  copyAs(handle: number, version: number): ChunkState {
    const copy = new ChunkState(handle, version);
    copy.length = this.length;
    // Its mutations are counted anew: a serial belongs to a version of this handle.
    copy.serial = serialBase(version);
    copy.suspect = this.suspect;
    copy.checksums = this.checksums?.slice();
    copy.results = this.results.copy();
    return copy;
  }

  setBody(body: SidecarBody): void {
    this.checksums = body.checksums;
    this.results = body.results;
  }

  /** Forgets what the sidecar has too. */
  unload(): void {
    this.checksums = undefined;
    this.results = new ResultTable();
  }

  /** The chunk file was flushed after the mutations up to record `lsn`: what does not match now is damaged. */
  flushedUpTo(lsn: number): void {
    for (const [block, direct] of this.direct) if (direct.lsn <= lsn) this.direct.delete(block);
  }

  checksumOf(block: number): number {
    return this.checksums?.[block] ?? 0;
  }

  patchesOf(block: number): Patches {
    return this.patches.get(block) ?? NO_PATCHES;
  }

  validBytesOf(block: number): number {
    return validBytes(block, this.length);
  }
}

export function blockCount(length: number): number {
  return Math.ceil(length / BLOCK_BYTES);
}

/** Bytes of `block` that exist in a chunk of `length`. */
export function validBytes(block: number, length: number): number {
  return Math.max(0, Math.min(BLOCK_BYTES, length - block * BLOCK_BYTES));
}

/** Changes to a chunk that are not yet to be seen: kept beside its state until their records are in the journal. */
export class Draft {
  readonly #state: ChunkState;
  readonly #checksums = new Map<number, number>();
  readonly #patches = new Map<number, Patches>();
  readonly #results: [session: number, sequence: number, result: MutationResult][] = [];
  readonly #direct = new Map<number, number>();
  /** What became of pages, in order; without checksums: of all from that one on nothing is known. */
  readonly #pages: { readonly first: number; readonly sums: readonly number[] | undefined }[] = [];
  readonly #knownPages: PageChecksums | undefined;
  length: number;
  serial: number;
  version: number;
  mark: number;
  suspect: boolean;
  readonly generation: number;
  truncatedAt: number;
  /** A whole table in place of the present one. */
  results: ResultTable | undefined;

  /** @param knownPages the state's, since before what was to be read for the draft was read */
  constructor(state: ChunkState, knownPages?: PageChecksums) {
    this.#state = state;
    this.#knownPages = knownPages;
    this.length = state.length;
    this.serial = state.serial;
    this.version = state.version;
    this.mark = state.mark;
    this.suspect = state.suspect;
    this.generation = state.generation + 1;
    this.truncatedAt = state.truncatedAt;
  }

  checksumOf(block: number): number {
    return this.#checksums.get(block) ?? this.#state.checksumOf(block);
  }

  setChecksum(block: number, crc: number): void {
    this.#checksums.set(block, crc);
  }

  /** Or UNKNOWN. */
  pageSumOf(page: number): number {
    for (let i = this.#pages.length - 1; i >= 0; i--) {
      const { first, sums } = this.#pages[i] as { first: number; sums: readonly number[] | undefined };
      if (page >= first && (sums === undefined || page < first + sums.length))
        return sums?.[page - first] ?? UNKNOWN;
    }
    return this.#knownPages?.of(page) ?? UNKNOWN;
  }

  setPageSums(first: number, sums: readonly number[] | undefined): void {
    this.#pages.push({ first, sums });
  }

  patchesOf(block: number): Patches {
    return this.#patches.get(block) ?? this.#state.patchesOf(block);
  }

  setPatches(block: number, patches: Patches): void {
    this.#patches.set(block, patches);
  }

  addResult(session: number, sequence: number, result: MutationResult): void {
    this.#results.push([session, sequence, result]);
  }

  /** @param from where the write that it is part of begins */
  addDirect(block: number, from: number): void {
    this.#direct.set(block, from);
  }

  /** Zeros from the chunk's end to `length`: patches only where the chunk file may hold something else. */
  extendZeros(length: number): void {
    for (let at = this.length; at < length; ) {
      const block = Math.floor(at / BLOCK_BYTES);
      const start = at - block * BLOCK_BYTES;
      const end = Math.min(BLOCK_BYTES, length - block * BLOCK_BYTES);
      const bytes = ZEROS.subarray(0, end - start);
      if (start === 0) this.setChecksum(block, end === BLOCK_BYTES ? ZERO_BLOCK_CHECKSUM : checksum(bytes));
      else this.setChecksum(block, checksum(bytes, this.checksumOf(block)));
      if (at < this.#state.zerosFrom) {
        this.setPatches(
          block,
          withPatch(this.patchesOf(block), { start, end, bytes, generation: this.generation }),
        );
      }
      at += end - start;
    }
    this.length = Math.max(this.length, length);
  }

  truncate(length: number): void {
    const last = Math.floor(length / BLOCK_BYTES);
    for (let block = last; block < blockCount(this.length); block++) {
      const patches = this.patchesOf(block);
      const end = validBytes(block, length);
      if (patches.length > 0) this.setPatches(block, cutPatches(patches, end));
    }
    this.setPageSums(Math.floor(length / PAGE_BYTES), undefined);
    this.length = length;
    this.truncatedAt = this.generation;
  }

  /** Makes the changes the chunk's state. Returns by how much the memory held by patches has grown. */
  commit(lsn: number): number {
    const state = this.#state;
    const before = state.patchBytes;
    for (const [block, patches] of this.#patches) {
      state.patchBytes += patchMemory(patches) - patchMemory(state.patchesOf(block));
      if (patches.length === 0) state.patches.delete(block);
      else state.patches.set(block, patches);
    }
    this.#commitChecksums();
    // Not to those it was made with: they may have been dropped meanwhile, and others taken their place.
    for (const { first, sums } of this.#pages) {
      if (sums === undefined) state.pages?.forgetFrom(first);
      else state.pages?.set(first, sums);
    }
    if (this.results !== undefined) state.results = this.results;
    for (const [session, sequence, result] of this.#results) state.results.add(session, sequence, result);
    for (const [block, from] of this.#direct) state.direct.set(block, { from, lsn });
    state.length = this.length;
    state.serial = this.serial;
    state.version = this.version;
    state.mark = this.mark;
    state.suspect = this.suspect;
    state.generation = this.generation;
    state.truncatedAt = this.truncatedAt;
    state.lsn = lsn;
    return state.patchBytes - before;
  }

  #commitChecksums(): void {
    const state = this.#state;
    const needed = blockCount(this.length);
    let checksums = state.checksums ?? new Uint32Array(0);
    if (checksums.length < needed) {
      const grown = new Uint32Array(Math.max(needed, Math.min(1024, checksums.length * 2)));
      grown.set(checksums);
      checksums = grown;
    }
    for (const [block, crc] of this.#checksums) if (block < checksums.length) checksums[block] = crc;
    state.checksums = checksums;
  }
}

/** The one writer of a chunk's state. `data` is kept. @param pageSums of a write, where they are known */
export function applyRecord(
  draft: Draft,
  record: JournalRecord,
  data: Uint8Array,
  pageSums?: readonly number[],
): void {
  switch (record.type) {
    case 'write':
      applyWrite(draft, record, data);
      draft.setPageSums(Math.floor(record.offset / PAGE_BYTES), pageSums ?? unknownPages(record));
      break;
    case 'extend':
      draft.extendZeros(record.length);
      draft.serial = record.serial;
      break;
    case 'truncate':
      draft.truncate(record.length);
      if (record.length % BLOCK_BYTES > 0)
        draft.setChecksum(Math.floor(record.length / BLOCK_BYTES), record.checksum);
      draft.serial = record.serial;
      break;
    case 'create':
    case 'version':
      draft.version = record.version;
      draft.mark = record.mark;
      break;
    case 'mark':
      draft.mark = record.mark;
      break;
    case 'settle':
      draft.serial = record.serial;
      draft.suspect = false;
      draft.results = ResultTable.unpack(data);
      break;
    // They change what is known of the chunk's file, or whether there is one, not the chunk.
    case 'delete':
    case 'flushed':
      break;
  }
}

function unknownPages({ offset, length }: RecordOf<'write'>): readonly number[] {
  const count = Math.ceil((offset + length) / PAGE_BYTES) - Math.floor(offset / PAGE_BYTES);
  return new Array<number>(count).fill(UNKNOWN);
}

function applyWrite(draft: Draft, record: RecordOf<'write'>, data: Uint8Array): void {
  const end = record.offset + record.length;
  draft.extendZeros(record.offset);
  for (let at = record.offset; at < record.directFrom; ) {
    const block = Math.floor(at / BLOCK_BYTES);
    const start = at - block * BLOCK_BYTES;
    const stop = Math.min(BLOCK_BYTES, record.directFrom - block * BLOCK_BYTES);
    const bytes = data.subarray(at - record.offset, at - record.offset + stop - start);
    const patch: Patch = { start, end: stop, bytes, generation: draft.generation };
    draft.setPatches(block, withPatch(draft.patchesOf(block), patch));
    at += stop - start;
  }
  const sums = Buffer.from(record.checksums.buffer, record.checksums.byteOffset, record.checksums.byteLength);
  const first = Math.floor(record.offset / BLOCK_BYTES);
  for (let i = 0; i * 4 < sums.byteLength; i++) draft.setChecksum(first + i, sums.readUInt32LE(i * 4));
  for (let block = Math.floor(record.directFrom / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
    if (block * BLOCK_BYTES >= record.directFrom) draft.addDirect(block, record.offset);
  }
  draft.length = Math.max(draft.length, end);
  draft.serial = record.serial;
  draft.addResult(record.session, record.sequence, { offset: record.offset, length: record.length });
}
