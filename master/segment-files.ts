/** The segments of the operation log as files: their names, making one, reading one. */
import type { Disk, DiskFile } from '../environment/ports/index.js';
import { encodeSegmentHeader, type SegmentHeader } from './segment.js';

const SEGMENT_NAME = /^segment-(\d{16})$/;

export interface SegmentFile {
  readonly path: string;
  readonly firstSequence: number;
}

/** In order. */
export async function listSegments(disk: Disk, directory: string): Promise<SegmentFile[]> {
  return (await disk.list(directory))
    .flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? [])
    .map((digits) => ({ path: `${directory}/segment-${digits}`, firstSequence: Number(digits) }))
    .sort((a, b) => a.firstSequence - b.firstSequence);
}

/** A segment that nothing is added to any more. */
export interface ClosedSegment {
  readonly firstSequence: number;
  readonly sizeBytes: number;
}

export function segmentName(firstSequence: number): string {
  return `segment-${String(firstSequence).padStart(16, '0')}`;
}

/** Makes a segment, on disk under its name. @param options where, and what its header says */
export async function createSegment(
  disk: Disk,
  options: Omit<SegmentHeader, 'firstSequence'> & { readonly directory: string },
  firstSequence: number,
): Promise<DiskFile> {
  const { directory, clusterId, chunkBytes, term } = options;
  const path = `${directory}/${segmentName(firstSequence)}`;
  const file = await disk.open(`${path}.new`, 'create');
  try {
    await file.truncate(0);
    await file.write([encodeSegmentHeader({ clusterId, chunkBytes, term, firstSequence })], 0);
    await file.sync();
    // Under its name a segment always has a whole header: recovery need not guess.
    await disk.rename(`${path}.new`, path);
    await disk.syncDirectory(directory);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export async function readWhole(disk: Disk, path: string): Promise<Buffer> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.allocUnsafe(await file.sizeBytes());
    if ((await file.read(bytes, 0)) !== bytes.byteLength) throw new Error(`${path}: it cannot be read whole`);
    return bytes;
  } finally {
    await file.close();
  }
}

export async function sizeOf(disk: Disk, path: string): Promise<number> {
  const file = await disk.open(path, 'read');
  try {
    return await file.sizeBytes();
  } finally {
    await file.close();
  }
}
