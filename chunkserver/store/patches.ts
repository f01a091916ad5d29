/**
 * Bytes of a block that the journal has and the chunk file may not have yet. A block's content is what
 * the file has with its patches on top. Patches and their arrays never change, so whoever holds some
 * (a read, a checkpoint) may go on while newer ones take their place.
 */
import { BLOCK_BYTES } from '../../protocol/limits.js';

export interface Patch {
  /** Within the block. */
  readonly start: number;
  readonly end: number;
  /** `end - start` bytes. */
  readonly bytes: Uint8Array;
  /** The chunk's mutation that made it, counted since the process started. */
  readonly generation: number;
}

export type Patches = readonly Patch[];

export const NO_PATCHES: Patches = [];
export const ZEROS: Uint8Array = new Uint8Array(BLOCK_BYTES);

/** More patches in one block than this are merged where they touch. */
const MERGE_ABOVE = 32;

/** Puts one patch on top of others. The result is sorted, without overlaps. */
export function withPatch(patches: Patches, patch: Patch): Patches {
  const last = patches.at(-1);
  if (last === undefined || last.end <= patch.start) {
    const appended = [...patches, patch];
    return appended.length > MERGE_ABOVE ? merged(appended) : appended;
  }
  const out: Patch[] = [];
  for (const older of patches)
    if (older.start < patch.start) out.push(slice(older, older.start, patch.start));
  out.push(patch);
  for (const older of patches) if (older.end > patch.end) out.push(slice(older, patch.end, older.end));
  return out.length > MERGE_ABOVE ? merged(out) : out;
}

/** What is left when the block ends at `end`. */
export function cutPatches(patches: Patches, end: number): Patches {
  return patches.filter((patch) => patch.start < end).map((patch) => slice(patch, patch.start, end));
}

/** Patches that are newer than `generation`. */
export function patchesAfter(patches: Patches, generation: number): Patches {
  return patches.filter((patch) => patch.generation > generation);
}

/** Copies the patches' bytes over `block`, which holds the block's first bytes. */
export function applyPatches(patches: Patches, block: Uint8Array): void {
  for (const { start, end, bytes } of patches) {
    if (start >= block.byteLength) return;
    block.set(end <= block.byteLength ? bytes : bytes.subarray(0, block.byteLength - start), start);
  }
}

/** As {@link applyPatches}, where `bytes` are those of the block from `from` on. */
export function applyPatchesFrom(patches: Patches, bytes: Uint8Array, from: number): void {
  const until = from + bytes.byteLength;
  for (const { start, end, bytes: patched } of patches) {
    if (start >= until) return;
    if (end <= from) continue;
    const [first, last] = [Math.max(start, from), Math.min(end, until)];
    bytes.set(patched.subarray(first - start, last - start), first - from);
  }
}

/** Whether the patches make up all bytes of the block from `from` to `until`. */
export function coverRange(patches: Patches, from: number, until: number): boolean {
  let covered = from;
  for (const { start, end } of patches) {
    if (start > covered) break;
    covered = Math.max(covered, end);
  }
  return covered >= until;
}

/** Whether the patches make up all of the block's first `length` bytes. */
export function coverWhole(patches: Patches, length: number): boolean {
  let covered = 0;
  for (const { start, end } of patches) {
    if (start > covered) break;
    covered = end;
  }
  return covered >= length;
}

/** Memory that the patches hold, without the shared zeros. */
export function patchMemory(patches: Patches): number {
  let bytes = 0;
  for (const patch of patches) if (patch.bytes.buffer !== ZEROS.buffer) bytes += patch.bytes.byteLength;
  return bytes;
}

function slice(patch: Patch, from: number, to: number): Patch {
  const start = Math.max(patch.start, from);
  const end = Math.min(patch.end, to);
  if (start === patch.start && end === patch.end) return patch;
  const bytes = patch.bytes.subarray(start - patch.start, end - patch.start);
  return { start, end, bytes, generation: patch.generation };
}

/** Joins neighbours into one, so that many small appends do not become many small pieces. */
function merged(patches: readonly Patch[]): Patches {
  const out: Patch[] = [];
  for (let i = 0; i < patches.length; ) {
    let next = i + 1;
    while (next < patches.length && (patches[next] as Patch).start === (patches[next - 1] as Patch).end)
      next++;
    out.push(next === i + 1 ? (patches[i] as Patch) : joined(patches.slice(i, next)));
    i = next;
  }
  return out;
}

function joined(run: readonly Patch[]): Patch {
  const start = (run[0] as Patch).start;
  const end = (run.at(-1) as Patch).end;
  const bytes = Buffer.allocUnsafe(end - start);
  let generation = 0;
  for (const patch of run) {
    bytes.set(patch.bytes, patch.start - start);
    generation = Math.max(generation, patch.generation);
  }
  return { start, end, bytes, generation };
}
