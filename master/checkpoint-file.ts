/**
 * A checkpoint on disk (docs/formats/checkpoint.md): a header as a segment's, sections with a CRC each,
 * and a last one that makes it complete. It gets its name once it is flushed to its end.
 */
import type { Disk, DiskFile } from '../environment/ports/index.js';
import { checksum, checksumOf } from '../protocol/checksum.js';
import { MIB } from '../protocol/limits.js';
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment.js';
import { type Pace, SequentialWriter } from './sequential-writer.js';
import type { LoggedState } from './state.js';
import { encodeState, type SectionBody, StateDecoder } from './state-image.js';

const MAGIC = Buffer.from('GFSCHKPT', 'latin1');
const NAME = /^checkpoint-(\d{16})$/;
const SECTION_HEAD_BYTES = 32;
const TAG_BYTES = 16;
const END_TAG = 'end';
/** A directory of hundreds of millions of entries fits; damage that looks like a length does not. */
const MAX_SECTION_BYTES = 1024 * MIB;

export interface CheckpointFile {
  readonly path: string;
  /** The first record that is not in it. */
  readonly nextSequence: number;
}

export function checkpointName(nextSequence: number): string {
  return `checkpoint-${String(nextSequence).padStart(16, '0')}`;
}

/** The newest first. */
export async function listCheckpoints(disk: Disk, directory: string): Promise<CheckpointFile[]> {
  return (await disk.list(directory))
    .flatMap((name) => {
      const nextSequence = Number(NAME.exec(name)?.[1] ?? 0);
      return nextSequence === 0 ? [] : [{ path: `${directory}/${name}`, nextSequence }];
    })
    .sort((a, b) => b.nextSequence - a.nextSequence);
}

/** @param header `firstSequence` is the first record that is not in the state. @returns its length */
export async function writeCheckpoint(
  disk: Disk,
  directory: string,
  header: SegmentHeader,
  state: LoggedState,
  pace?: Pace,
): Promise<number> {
  const path = `${directory}/${checkpointName(header.firstSequence)}`;
  const file = await disk.open(`${path}.new`, 'create');
  try {
    await file.truncate(0);
    const sizeBytes = await writeSections(new SequentialWriter(disk, file, pace), header, state);
    await disk.rename(`${path}.new`, path);
    await disk.syncDirectory(directory);
    return sizeBytes;
  } catch (error) {
    await disk.remove(`${path}.new`).catch(() => undefined);
    throw error;
  } finally {
    await file.close();
  }
}

async function writeSections(
  writer: SequentialWriter,
  header: SegmentHeader,
  state: LoggedState,
): Promise<number> {
  await writer.write(encodeSegmentHeader(header, MAGIC));
  let count = 0;
  for (const { tag, body } of encodeState(state)) {
    await writer.write(encodeSectionHead(tag, body));
    for (const piece of body) await writer.write(piece);
    count++;
  }
  const end = Buffer.alloc(4);
  end.writeUInt32LE(count);
  await writer.write(encodeSectionHead(END_TAG, [end]));
  await writer.write(end);
  await writer.finish();
  return writer.sizeBytes;
}

function lengthOf(body: SectionBody): number {
  return body.reduce((sum, piece) => sum + piece.byteLength, 0);
}

function encodeSectionHead(tag: string, body: SectionBody): Buffer {
  const head = Buffer.alloc(SECTION_HEAD_BYTES);
  head.write(tag, 0, TAG_BYTES, 'latin1');
  const bodyBytes = lengthOf(body);
  head.writeUInt32LE(bodyBytes % 2 ** 32, 16);
  head.writeUInt32LE(Math.floor(bodyBytes / 2 ** 32), 20);
  head.writeUInt32LE(checksumOf(body), 24);
  head.writeUInt32LE(checksum(head.subarray(0, 28)), 28);
  return head;
}

/**
 * @param hashSeed as {@link LoggedState}'s
 * @throws Error that says what is wrong with it, and where
 */
export async function readCheckpoint(
  disk: Disk,
  path: string,
  hashSeed: number,
): Promise<{ readonly header: SegmentHeader; readonly state: LoggedState; readonly sizeBytes: number }> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
    await file.read(bytes, 0);
    const header = decodeSegmentHeader(bytes, MAGIC);
    const decoder = new StateDecoder(header.chunkBytes, hashSeed);
    const sizeBytes = await readSections(file, decoder);
    return { header, state: decoder.finish(), sizeBytes };
  } finally {
    await file.close();
  }
}

async function readSections(file: DiskFile, decoder: StateDecoder): Promise<number> {
  let at = SEGMENT_HEADER_BYTES;
  let head = await readExactly(file, SECTION_HEAD_BYTES, at);
  for (let count = 0; ; count++) {
    const section = decodeSectionHead(head, at);
    const bodyAt = at + SECTION_HEAD_BYTES;
    const isEnd = section.tag === END_TAG;
    // With the head of the next one: one read for each section.
    const bytes = await readExactly(file, section.bodyBytes + (isEnd ? 0 : SECTION_HEAD_BYTES), bodyAt);
    const body = bytes.subarray(0, section.bodyBytes);
    if (checksum(body) !== section.crc)
      throw new Error(`damaged at offset ${bodyAt}: section "${section.tag}"`);
    at = bodyAt + section.bodyBytes;
    if (isEnd) {
      if (body.byteLength !== 4 || body.readUInt32LE() !== count)
        throw new Error('sections of it are missing');
      return at;
    }
    decoder.add(section.tag, body);
    head = bytes.subarray(section.bodyBytes);
  }
}

function decodeSectionHead(head: Buffer, at: number): { tag: string; bodyBytes: number; crc: number } {
  if (checksum(head.subarray(0, 28)) !== head.readUInt32LE(28)) throw new Error(`damaged at offset ${at}`);
  const bodyBytes = head.readUInt32LE(16) + head.readUInt32LE(20) * 2 ** 32;
  if (bodyBytes > MAX_SECTION_BYTES) throw new Error(`a section of ${bodyBytes} bytes at offset ${at}`);
  const tag = head.toString('latin1', 0, TAG_BYTES).replace(/\0+$/, '');
  return { tag, bodyBytes, crc: head.readUInt32LE(24) };
}

async function readExactly(file: DiskFile, bytes: number, at: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  const read = await file.read(buffer, at);
  if (read < bytes) throw new Error(`it ends at offset ${at + read}: it is not complete`);
  return buffer;
}
