/**
 * The part of an exact append that the chunk has no room for. It goes to the file's next chunk first, and
 * only then is the head of the append exposed here: so whoever reads past this chunk's end finds all of
 * the append, and a crash in between leaves none of it (O_APPEND: each write whole, in one place).
 */
import { GfsError, toGfsError } from '../protocol/errors.js';
import { GetLease, type Lease, SyncChunk, WriteChunk } from '../protocol/messages/index.js';
import type { MasterSession } from './master-session.js';
import type { Peers } from './peers.js';
import type { SharedPayload } from './shared-payload.js';
import { type ResultTable, SPILL_SESSION } from './store/results.js';

const MAX_ATTEMPTS = 3;
const LEASE_TIMEOUT_MS = 2_000;
const WRITE_TIMEOUT_MS = 2_000;

export interface NextChunk {
  /** Of the file. */
  readonly id: number;
  readonly index: number;
}

export class Spiller {
  readonly #master: Pick<MasterSession, 'ask'>;
  readonly #peers: Peers;

  constructor(master: Pick<MasterSession, 'ask'>, peers: Peers) {
    this.#master = master;
    this.#peers = peers;
  }

  /**
   * Writes `data` from `from` on to the beginning of the next chunk, in place of an earlier spill whose
   * head never came.
   * @returns the boot ids of its replicas
   * @throws CHUNK_FULL: the file goes on in that chunk already, this one takes no more appends
   */
  write(next: NextChunk, data: SharedPayload, from: number, sequence: number): Promise<number[]> {
    const bytes = data.bytes.subarray(from);
    return this.#underLease(next, async ({ handle, version, primary }) => {
      data.retain();
      const body = { handle, version, offset: 0, length: bytes.byteLength, spill: sequence };
      const options = { payload: { buffers: [bytes] }, onSent: () => data.release() };
      const call = this.#peers.call(primary, WriteChunk, body, { ...options, deadlineMs: WRITE_TIMEOUT_MS });
      return (await call).body.verifiers;
    });
  }

  /** Flushes the next chunk, for one who asks again after its spill. @returns the boot ids of its replicas */
  sync(next: NextChunk): Promise<number[]> {
    return this.#underLease(next, async ({ handle, version, primary, secondaries }) => {
      const body = { handle, version, secondaries };
      return (await this.#peers.call(primary, SyncChunk, body, {})).body.verifiers;
    });
  }

  async #underLease<T>({ id, index }: NextChunk, work: (lease: Lease) => Promise<T>): Promise<T> {
    let known = { version: 0, failed: [] as string[] };
    for (let attempt = 1; ; attempt++) {
      const { lease } = await this.#master.ask(GetLease, { id, index, ...known }, LEASE_TIMEOUT_MS);
      try {
        return await work(lease);
      } catch (thrown) {
        const error = toGfsError(thrown);
        if (error.code === 'CHUNK_FULL' || attempt === MAX_ATTEMPTS) throw error;
        known = { version: lease.version, failed: [] };
      }
    }
  }
}

/**
 * Whether a spill may take the chunk's beginning: it is empty, or holds nothing but an earlier spill.
 * @param lengthBytes with all mutations that are under way
 * @throws CHUNK_FULL when the file goes on here; STALE_CHUNK_VERSION for a spill that comes late
 */
export function checkSpill(results: ResultTable, lengthBytes: number, sequence: number): void {
  const last = results.newest(SPILL_SESSION);
  if (last !== undefined && sequence < last.sequence)
    throw new GfsError('STALE_CHUNK_VERSION', `spill ${sequence} comes after spill ${last.sequence}`);
  if (lengthBytes > 0 && lengthBytes !== last?.result.length)
    throw new GfsError('CHUNK_FULL', 'the file goes on in the next chunk already');
}
