/**
 * For mutations that need the leases of chunks to be over first: truncation, snapshot, sharing and
 * punching. The files' gates are closed for that long, so that no new lease comes in between; the locks of
 * the namespace are taken only afterwards, for none of them is ever held across a call to a chunkserver.
 */
import { GfsError } from '../protocol/errors.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Leases } from './leases.js';
import { type LockManager, LockSet } from './locks.js';
import type { Settling } from './settling.js';
import type { ChunkState, LoggedState } from './state.js';

const MAX_REVOCATIONS_AT_ONCE = 64;
const MAX_ATTEMPTS = 16;

/** What the gates were closed for is not what it was, now that the locks are taken: begin again. */
export class TreeChanged extends Error {}

export class Gatekeeper {
  readonly #state: LoggedState;
  readonly #leases: Leases;
  readonly #settling: Settling;
  readonly #chunkservers: ChunkserverTable;
  readonly #gates: LockManager;

  /** @param gates as {@link GrantParts.gates} */
  constructor(
    state: LoggedState,
    leases: Leases,
    settling: Settling,
    chunkservers: ChunkserverTable,
    gates: LockManager,
  ) {
    this.#state = state;
    this.#leases = leases;
    this.#settling = settling;
    this.#chunkservers = chunkservers;
    this.#gates = gates;
  }

  /** Repeats what throws {@link TreeChanged}. @throws OVERLOADED when that does not end */
  async attempts<T>(attempt: () => Promise<T>): Promise<T> {
    for (let count = 0; count < MAX_ATTEMPTS; count++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof TreeChanged)) throw error;
      }
    }
    throw new GfsError('OVERLOADED', 'the files keep changing');
  }

  /** @param ids of files, in ascending order, in which gates are taken */
  async behindGates<T>(ids: readonly number[], signal: () => AbortSignal, run: () => Promise<T>): Promise<T> {
    const set = new LockSet();
    for (const id of ids) set.addNode(id, true);
    const held = await this.#gates.acquire(set, signal);
    try {
      return await run();
    } finally {
      held.release();
    }
  }

  /** @throws NOT_READY, CHUNK_UNAVAILABLE: a lease may still run */
  async endLeases(chunks: readonly ChunkState[]): Promise<void> {
    const held = chunks.filter((chunk) => this.isLeased(chunk));
    await this.#each(held, (chunk) => this.#leases.end(chunk));
  }

  /**
   * For chunks that are about to be shared: their leases are over, and their replicas equal for good.
   * @throws as {@link endLeases}
   */
  async settle(chunks: readonly ChunkState[]): Promise<void> {
    const unsettled = chunks.filter((chunk) => chunk.references === 1 && !this.#settling.isSettled(chunk));
    await this.#each(unsettled, ({ handle }) => this.#settling.settle(handle));
  }

  async #each(chunks: readonly ChunkState[], work: (chunk: ChunkState) => Promise<void>): Promise<void> {
    if (chunks.length > 0 && !this.#chunkservers.ready)
      throw new GfsError('NOT_READY', 'not all chunkservers are back');
    for (let at = 0; at < chunks.length; at += MAX_REVOCATIONS_AT_ONCE) {
      await Promise.all(chunks.slice(at, at + MAX_REVOCATIONS_AT_ONCE).map(work));
    }
  }

  /** A chunk that several files share has no lease: whoever writes it gets a copy. */
  isLeased(chunk: ChunkState): boolean {
    return chunk.references === 1 && this.#leases.mayBeHeld(chunk);
  }

  chunksOf(handles: readonly number[]): ChunkState[] {
    return handles.flatMap((handle) => this.#state.chunks.get(handle) ?? []);
  }
}
