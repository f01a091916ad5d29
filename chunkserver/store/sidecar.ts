/**
 * Sidecars: what is known of a chunk besides its bytes, as of its last checkpoint. The head is of
 * fixed size, so that a start reads no more of each than it must. See docs/formats/chunk-store.md.
 */
import { checksum } from '../../protocol/checksum.js';
import { readU53, writeU53 } from './binary.js';
import { ResultTable } from './results.js';

const MAGIC = 0x53534647;
const FORMAT = 1;
export const SIDECAR_HEAD_BYTES = 72;
const SUSPECT = 1;

export interface SidecarHead {
  readonly handle: number;
  readonly version: number;
  readonly length: number;
  readonly serial: number;
  /** Journal records up to this one are contained. */
  readonly lsn: number;
  readonly mark: number;
  readonly suspect: boolean;
}

export interface SidecarBody {
  /** One for each block of {@link SidecarHead.length}. */
  readonly checksums: Uint32Array;
  readonly results: ResultTable;
}

export function encodeSidecar(head: SidecarHead, { checksums, results }: SidecarBody): Uint8Array[] {
  const sums = Buffer.allocUnsafe(checksums.length * 4);
  for (let i = 0; i < checksums.length; i++) sums.writeUInt32LE(checksums[i] as number, i * 4);
  const table = results.pack();
  const out = Buffer.alloc(SIDECAR_HEAD_BYTES);
  out.writeUInt32LE(MAGIC, 0);
  out.writeUInt16LE(FORMAT, 4);
  out.writeUInt16LE(head.suspect ? SUSPECT : 0, 6);
  writeU53(out, head.handle, 8);
  writeU53(out, head.version, 16);
  writeU53(out, head.length, 24);
  writeU53(out, head.serial, 32);
  writeU53(out, head.lsn, 40);
  writeU53(out, head.mark, 48);
  out.writeUInt32LE(checksums.length, 56);
  out.writeUInt32LE(table.byteLength, 60);
  out.writeUInt32LE(checksum(table, checksum(sums)), 64);
  out.writeUInt32LE(checksum(out.subarray(0, 68)), 68);
  return [out, sums, table];
}

/** Undefined when it is damaged. */
export function decodeSidecarHead(raw: Buffer): SidecarHead | undefined {
  if (raw.byteLength < SIDECAR_HEAD_BYTES || raw.readUInt32LE(0) !== MAGIC) return undefined;
  if (checksum(raw.subarray(0, 68)) !== raw.readUInt32LE(68) || raw.readUInt16LE(4) !== FORMAT)
    return undefined;
  return {
    handle: readU53(raw, 8),
    version: readU53(raw, 16),
    length: readU53(raw, 24),
    serial: readU53(raw, 32),
    lsn: readU53(raw, 40),
    mark: readU53(raw, 48),
    suspect: (raw.readUInt16LE(6) & SUSPECT) !== 0,
  };
}

/** @param raw the whole sidecar, its head undamaged. Undefined when the rest is damaged. */
export function decodeSidecarBody(raw: Buffer): SidecarBody | undefined {
  const count = raw.readUInt32LE(56);
  const tableBytes = raw.readUInt32LE(60);
  const tableAt = SIDECAR_HEAD_BYTES + count * 4;
  if (raw.byteLength < tableAt + tableBytes) return undefined;
  const body = raw.subarray(SIDECAR_HEAD_BYTES, tableAt + tableBytes);
  if (checksum(body) !== raw.readUInt32LE(64)) return undefined;
  const checksums = new Uint32Array(count);
  for (let i = 0; i < count; i++) checksums[i] = raw.readUInt32LE(SIDECAR_HEAD_BYTES + i * 4);
  const table = raw.subarray(tableAt, tableAt + tableBytes);
  return {
    checksums,
    results: ResultTable.unpack(table),
  };
}
