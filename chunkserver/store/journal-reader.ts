/**
 * Reads the journal back. The last segment may end in the middle of a record, or in bytes that a host
 * crash kept in no order: a torn tail, which nobody was told of as flushed, and which is cut. Damage
 * in front of something that was flushed is corruption, and is reported.
 */
import type { Disk } from '../../environment/ports/index.js';
import { readWhole } from './files.js';
import { decodeSegmentHead, LSN_MODULUS, SEGMENT_HEAD_BYTES, type SegmentHead } from './journal.js';
import { type Layout, parseName } from './layout.js';
import { type DecodedRecord, decodeRecord, RECORD_MAGIC } from './record.js';

export interface JournalEnd {
  /** The newest segment, 0 for none. */
  readonly lastSegment: number;
  readonly lastLsn: number;
  /** Bytes of records that were read. */
  readonly sizeBytes: number;
  /** Bytes cut from the end of the last segment. */
  readonly tornBytes: number;
}

export async function listSegments(disk: Disk, layout: Layout): Promise<number[]> {
  const numbers: number[] = [];
  for (const name of await disk.list(layout.journal)) {
    const parsed = parseName(name);
    if (parsed?.kind === 'segment') numbers.push(parsed.number);
  }
  return numbers.sort((a, b) => a - b);
}

/**
 * Hands over every record, in order. `data` is only lent.
 * @param bootId of the host now: within one boot nothing that was written is lost
 * @throws Error that names file and position, when the journal is damaged before its end
 */
export async function replayJournal(
  disk: Disk,
  layout: Layout,
  bootId: number,
  onRecord: (record: DecodedRecord) => Promise<void>,
): Promise<JournalEnd> {
  const segments = await listSegments(disk, layout);
  let lastLsn = 0;
  let sizeBytes = 0;
  let tornBytes = 0;
  for (const number of segments) {
    const path = layout.segment(number);
    const isLast = number === segments.at(-1);
    const raw = (await readWhole(disk, path)) as Buffer;
    const head = decodeSegmentHead(raw);
    if (head === undefined) {
      // Nothing is appended before the head is flushed.
      if (raw.byteLength > SEGMENT_HEAD_BYTES) throw new Error(`${path}: damaged segment head`);
      await disk.remove(path);
      continue;
    }
    let at = SEGMENT_HEAD_BYTES;
    for (
      let next = decodeRecord(raw, at);
      next !== undefined && next.lsn > lastLsn;
      next = decodeRecord(raw, at)
    ) {
      await onRecord(next);
      lastLsn = next.lsn;
      at = next.end;
    }
    sizeBytes += at - SEGMENT_HEAD_BYTES;
    const end = endOfContent(raw);
    // Zeros had been written ahead.
    if (at >= end) continue;
    if (!isLast || isCorrupt(raw, at, lastLsn, head, head.bootId === bootId)) {
      throw new Error(`${path}: damaged at byte ${at}, before records that had been flushed`);
    }
    tornBytes = end - at;
    await cut(disk, path, at);
  }
  return { lastSegment: segments.at(-1) ?? 0, lastLsn, sizeBytes, tornBytes };
}

function endOfContent(raw: Buffer): number {
  let end = raw.byteLength;
  while (end > 0 && raw[end - 1] === 0) end--;
  return end;
}

/** Whether something behind the damage at `at` shows that it had been written whole once. */
function isCorrupt(raw: Buffer, at: number, lastLsn: number, head: SegmentHead, sameBoot: boolean): boolean {
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(RECORD_MAGIC);
  for (let found = raw.indexOf(magic, at + 1); found !== -1; found = raw.indexOf(magic, found + 1)) {
    const record = decodeRecord(raw, found);
    if (record === undefined || record.lsn <= lastLsn) continue;
    // What earlier segments had was on the disk before this one began, and they may be gone by now.
    const first = record.lsn - ((record.lsn - head.firstLsn) % LSN_MODULUS);
    if (sameBoot || record.flushedLsn > Math.max(lastLsn, first - 1)) return true;
  }
  return false;
}

/** Makes every segment survive the host, whoever wrote it. */
export async function flushSegments(disk: Disk, layout: Layout): Promise<void> {
  for (const number of await listSegments(disk, layout)) {
    const file = await disk.open(layout.segment(number), 'write');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await disk.syncDirectory(layout.journal);
}

async function cut(disk: Disk, path: string, sizeBytes: number): Promise<void> {
  const file = await disk.open(path, 'write');
  try {
    await file.truncate(sizeBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}
