/**
 * Before a chunk is shared (paper §3.4) its replicas have to be equal, for good: nobody would make them
 * equal later, and a snapshot must not change with the replica that it is read from. So it is not enough
 * that the lease is over. Either its primary says that every mutation under it reached every replica, or
 * the replicas are compared and repaired under a version of their own.
 */
import { RevokeLease } from '../protocol/messages/index.js';
import { ASK_DEADLINE_MS } from './asking.js';
import type { Leases } from './leases.js';
import type { Raiser } from './raising.js';
import type { Chunkserver, Replicas } from './replicas.js';
import type { ChunkState, LoggedState } from './state.js';

/** Chunks remembered as equal; of more, the one settled first is asked again. */
const MAX_SETTLED = 65_536;

export class Settling {
  readonly #state: LoggedState;
  readonly #leases: Leases;
  readonly #raiser: Raiser;
  readonly #replicas: Replicas;
  readonly #serverById: (serverId: string) => Chunkserver | undefined;
  /** Handle → the version at which its replicas are equal and nobody has a lease. */
  readonly #settled = new Map<number, number>();

  constructor(
    state: LoggedState,
    leases: Leases,
    raiser: Raiser,
    replicas: Replicas,
    serverById: (serverId: string) => Chunkserver | undefined,
  ) {
    this.#state = state;
    this.#leases = leases;
    this.#raiser = raiser;
    this.#replicas = replicas;
    this.#serverById = serverById;
  }

  /** Whether the chunk's replicas are known to be equal, with no lease that could change them. */
  isSettled({ handle, version }: ChunkState): boolean {
    return this.#settled.get(handle) === version;
  }

  /**
   * Ends the chunk's lease and has its replicas equal on return.
   * INVARIANT: the caller keeps new leases away (the file's gate).
   * @throws CHUNK_UNAVAILABLE, NOT_READY: ask again
   */
  async settle(handle: number): Promise<void> {
    const chunk = this.#state.chunks.get(handle);
    if (chunk === undefined || this.isSettled(chunk)) return;
    if (await this.#isAgreed(chunk)) this.#leases.noteOver(handle);
    else await this.#compare(handle);
    const settled = this.#state.chunks.get(handle);
    if (settled !== undefined) this.#note(handle, settled.version);
  }

  async #compare(handle: number): Promise<void> {
    const chunk = this.#state.chunks.get(handle);
    if (chunk === undefined) return;
    if (this.#replicas.raisable(chunk).length > 0) return this.#raiser.verify(chunk);
    // There is nothing to compare. What comes back is compared before anyone reads it.
    await this.#leases.end(chunk);
    this.#replicas.doubt(handle);
  }

  /** Whether the holder of the last lease is there, and knows that all replicas did what it did. */
  async #isAgreed(chunk: ChunkState): Promise<boolean> {
    const { handle, version, holder } = chunk;
    const primary = this.#serverById(holder);
    if (primary === undefined || !this.#leases.beginEnding(chunk, primary)) return false;
    try {
      const { body } = await primary.peer.call(
        RevokeLease,
        { handle, version },
        { deadlineMs: ASK_DEADLINE_MS },
      );
      return body.agreed === true;
    } catch {
      // Whatever it is, the replicas are compared then.
      return false;
    }
  }

  #note(handle: number, version: number): void {
    this.#settled.delete(handle);
    this.#settled.set(handle, version);
    if (this.#settled.size > MAX_SETTLED) this.#settled.delete(this.#settled.keys().next().value as number);
  }
}
