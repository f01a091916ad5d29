/** Repair: making the secondaries equal to the primary, block by block, before a lease begins. */
import { GfsError, toGfsError } from '../protocol/errors.js';
import { BLOCK_BYTES, MIB } from '../protocol/limits.js';
import { GetChecksums, RepairChunk, type Server } from '../protocol/messages/index.js';
import type { Payload } from '../protocol/payload.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Peers } from './peers.js';
import { SharedPayload } from './shared-payload.js';
import type { Chunk } from './store/chunk.js';
import { blockCount, validBytes } from './store/state.js';
import { readVerified } from './store/verified-read.js';

const RUN_BLOCKS = (1 * MIB) / BLOCK_BYTES;

export interface Vector {
  readonly lengthBytes: number;
  readonly checksums: readonly number[];
}

/**
 * At the primary: finds the blocks in which each secondary differs, and sends those.
 * @throws REPLICA_FAILED, CHUNK_CORRUPT when this replica is the damaged one
 */
export async function repairReplicas(
  peers: Peers,
  chunk: Chunk,
  secondaries: readonly Server[],
): Promise<void> {
  await chunk.directory.load(chunk);
  const { state } = chunk;
  const own: Vector = { lengthBytes: state.length, checksums: checksumsOf(chunk) };
  const version = state.version;
  const appliedSerial = state.serial;
  const results = state.results.pack();
  await Promise.all(
    secondaries.map(async (server) => {
      try {
        const { body } = await peers.call(server, GetChecksums, { handle: chunk.handle, version }, {});
        const theirs: Vector = { lengthBytes: body.lengthBytes, checksums: decodeChecksums(body.checksums) };
        for (const { first, count } of differingRuns(own, theirs)) {
          await sendBlocks(peers, server, chunk, first, count);
        }
        const end = { offset: 0, lengthBytes: own.lengthBytes, appliedSerial, last: true };
        // With the bytes goes what is known to be done: a retry at any replica finds the first result.
        const payload = { buffers: [results] };
        await peers.call(server, RepairChunk, { handle: chunk.handle, version, ...end }, { payload });
      } catch (error) {
        const { code, message } = toGfsError(error);
        if (code === 'CHUNK_CORRUPT') throw error;
        throw new GfsError('REPLICA_FAILED', `${server.serverId}: ${message}`, { cause: error });
      }
    }),
  );
  // The others are like this one now, so it is as good as they are.
  if (state.suspect) await chunk.settle(appliedSerial, results);
}

async function sendBlocks(
  peers: Peers,
  server: Server,
  chunk: Chunk,
  first: number,
  count: number,
): Promise<void> {
  const offset = first * BLOCK_BYTES;
  const read = await readVerified(chunk, offset, count * BLOCK_BYTES);
  const { version, serial } = chunk.state;
  const body = { handle: chunk.handle, version, offset, appliedSerial: serial, last: false };
  await peers.call(server, RepairChunk, body, { payload: { buffers: [read.bytes] }, onSent: read.release });
}

/** Runs of blocks that `theirs` lacks or has otherwise, each of at most {@link RUN_BLOCKS}. */
export function differingRuns(own: Vector, theirs: Vector): { first: number; count: number }[] {
  const runs: { first: number; count: number }[] = [];
  for (let block = 0; block < blockCount(own.lengthBytes); block++) {
    const isEqual =
      validBytes(block, own.lengthBytes) === validBytes(block, theirs.lengthBytes) &&
      own.checksums[block] === theirs.checksums[block];
    if (isEqual) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === block && last.count < RUN_BLOCKS) last.count++;
    else runs.push({ first: block, count: 1 });
  }
  return runs;
}

/** At a secondary: takes what the primary sends. */
export async function applyRepair(
  chunk: Chunk,
  body: ValueOf<typeof RepairChunk.request>,
  request: IncomingRequest,
): Promise<void> {
  const { payload, payloadCrc } = request;
  if (payload !== undefined && !body.last) {
    const data = new SharedPayload(payload, payloadCrc);
    try {
      const admission = chunk.directory.admission(data.bytes.byteLength);
      if (admission !== undefined) await admission;
      chunk.checkVersion(body.version);
      const { offset } = body;
      if (await chunk.mutate({ kind: 'write', offset, bytes: data.bytes, session: 0, sequence: 0 }))
        data.keep();
    } finally {
      data.release();
    }
  }
  if (body.lengthBytes !== undefined) {
    chunk.checkVersion(body.version);
    if (body.lengthBytes < chunk.state.length) await chunk.truncate(body.lengthBytes);
    else await chunk.mutate({ kind: 'extend', offset: body.lengthBytes, session: 0, sequence: 0 });
  }
  if (!body.last) return;
  chunk.checkVersion(body.version);
  await chunk.settle(body.appliedSerial, ownCopy(payload));
}

function ownCopy(payload: Payload | undefined): Uint8Array {
  const copy = Uint8Array.from(payload?.bytes ?? []);
  payload?.release();
  return copy;
}

export function checksumsOf(chunk: Chunk): number[] {
  const { state } = chunk;
  return Array.from({ length: blockCount(state.length) }, (_, block) => state.checksumOf(block));
}

/** As GetChecksums carries them. */
export function encodeChecksums(chunk: Chunk): Uint8Array {
  const checksums = checksumsOf(chunk);
  const out = Buffer.alloc(checksums.length * 4);
  for (const [i, crc] of checksums.entries()) out.writeUInt32LE(crc, i * 4);
  return out;
}

export function decodeChecksums(raw: Uint8Array): number[] {
  const buffer = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  return Array.from({ length: Math.floor(raw.byteLength / 4) }, (_, i) => buffer.readUInt32LE(i * 4));
}
