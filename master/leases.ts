/**
 * Leases that are running (paper §3.1), and how the master makes sure that one is over. That a lease
 * was granted is logged, with its version; when it runs out is soft, by a monotonic clock. Safety does
 * not rest on that clock: every mutation needs all replicas of its version, so one replica at a higher
 * version is enough to stop an old primary.
 */
import type { Clock } from '../environment/ports/index.js';
import { GfsError, toGfsError } from '../protocol/errors.js';
import { PrepareVersion, RevokeLease } from '../protocol/messages/index.js';
import type { Journal } from './journal.js';
import type { Chunkserver, Replicas } from './replicas.js';
import type { SentVersions } from './sent-versions.js';
import type { ChunkState, LoggedState } from './state.js';

/** A lease that clients can be told of. */
export type UsableLease = RunningLease & { readonly secondaries: readonly Chunkserver[] };

export interface RunningLease {
  readonly handle: number;
  readonly version: number;
  readonly primary: Chunkserver;
  /** Unknown of a lease that a primary brought from the master's former life: no client is given that one. */
  readonly secondaries: readonly Chunkserver[] | undefined;
  /** No later than when the primary thinks that it ends: what clients are told. */
  safeUntilMs: number;
  /** No earlier than that: when another may be granted without asking. */
  overAtMs: number;
  /** It is being ended, and not extended any more. */
  ending: boolean;
  /** Where the chunk is; unknown of a lease of the master's former life. */
  readonly place: ChunkPlace | undefined;
}

/** A chunk by the file that it belongs to. */
export interface ChunkPlace {
  readonly id: number;
  readonly index: number;
}

/** A primary that lives may first have to give up a secondary that hangs; one that hangs itself is soon disconnected. */
const REVOKE_DEADLINE_MS = 10_000;
/** Clocks may differ by a hundredth. */
const CLOCK_DRIFT = 0.01;

export class Leases {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #replicas: Replicas;
  readonly #clock: Clock;
  readonly #serverById: (serverId: string) => Chunkserver | undefined;
  readonly #startedAtMs: number;
  readonly #running = new Map<number, RunningLease>();
  readonly #sent: SentVersions;

  constructor(
    state: LoggedState,
    journal: Journal,
    replicas: Replicas,
    sent: SentVersions,
    clock: Clock,
    serverById: (serverId: string) => Chunkserver | undefined,
  ) {
    this.#state = state;
    this.#journal = journal;
    this.#replicas = replicas;
    this.#sent = sent;
    this.#clock = clock;
    this.#startedAtMs = clock.monotonicMs();
    this.#serverById = serverById;
  }

  /** Leases that have not run out. */
  get count(): number {
    const nowMs = this.#clock.monotonicMs();
    let count = 0;
    for (const lease of this.#running.values()) if (lease.overAtMs > nowMs) count++;
    return count;
  }

  /** The lease of a chunk that a client may use now. */
  usable(chunk: ChunkState): UsableLease | undefined {
    const lease = this.#running.get(chunk.handle);
    if (lease?.secondaries === undefined || lease.ending || lease.version !== chunk.version) return undefined;
    if (!lease.primary.alive || lease.safeUntilMs <= this.#clock.monotonicMs()) return undefined;
    return lease as UsableLease;
  }

  /** What clients may count on of a lease. */
  remainingMs({ safeUntilMs }: RunningLease): number {
    return Math.max(0, Math.floor(safeUntilMs - this.#clock.monotonicMs()));
  }

  /** @param sentAtMs when the primary was told; @param durationMs counted by it from later than that */
  start(
    handle: number,
    version: number,
    primary: Chunkserver,
    secondaries: readonly Chunkserver[],
    sentAtMs: number,
    durationMs: number,
    place: ChunkPlace,
  ): UsableLease {
    const lease: UsableLease = {
      handle,
      place,
      version,
      primary,
      secondaries,
      safeUntilMs: sentAtMs + durationMs,
      overAtMs: this.#endOf(durationMs),
      ending: false,
    };
    primary.recentLeases++;
    this.#running.set(handle, lease);
    return lease;
  }

  /** A primary reported a lease of the master's former life, with `remainingMs` to go. */
  restore(chunk: ChunkState, primary: Chunkserver, remainingMs: number): void {
    if (chunk.holder !== primary.server.serverId || this.#sent.raising.has(chunk.handle)) return;
    const nowMs = this.#clock.monotonicMs();
    this.#running.set(chunk.handle, {
      handle: chunk.handle,
      version: chunk.version,
      primary,
      secondaries: undefined,
      place: undefined,
      safeUntilMs: nowMs + remainingMs,
      overAtMs: nowMs + remainingMs * (1 + CLOCK_DRIFT),
      ending: false,
    });
  }

  /** A primary asks for more time; returns what it gets, 0 for none. */
  extend(handle: number, version: number, primary: Chunkserver): number {
    const chunk = this.#state.chunks.get(handle);
    const lease = this.#running.get(handle);
    if (chunk === undefined || lease === undefined || lease.primary !== primary || lease.ending) return 0;
    if (lease.version !== version || chunk.version !== version || chunk.references > 1) return 0;
    lease.safeUntilMs = this.#clock.monotonicMs() + chunk.durationMs;
    lease.overAtMs = this.#endOf(chunk.durationMs);
    return chunk.durationMs;
  }

  /** The newest lease of a chunk that is known, running or over. */
  find(handle: number): RunningLease | undefined {
    return this.#running.get(handle);
  }

  /**
   * The chunk's lease, if there is one, is not extended any more, and clients are told no more of it.
   * @returns false when it is somebody else's than `primary`'s
   */
  beginEnding(chunk: ChunkState, primary: Chunkserver): boolean {
    const lease = this.#running.get(chunk.handle);
    if (lease === undefined || lease.version !== chunk.version) return true;
    lease.ending = true;
    return lease.primary === primary;
  }

  /** The primary has said that the chunk's lease is over. */
  noteOver(handle: number): void {
    const lease = this.#running.get(handle);
    if (lease !== undefined) lease.overAtMs = this.#clock.monotonicMs();
  }

  forget(handle: number): void {
    this.#running.delete(handle);
  }

  /**
   * Forgets what is over, a while later: {@link mayBeHeld} takes a lease that nobody knows for one of
   * the master's former life, and by then those are over too.
   */
  sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const lease of this.#running.values()) {
      const durationMs = this.#state.chunks.get(lease.handle)?.durationMs ?? 0;
      if (lease.overAtMs + 2 * durationMs < nowMs) this.#running.delete(lease.handle);
    }
  }

  /** Whether somebody may still acknowledge mutations under the chunk's logged version. */
  mayBeHeld(chunk: ChunkState): boolean {
    if (chunk.holder === '') return false;
    const lease = this.#running.get(chunk.handle);
    const nowMs = this.#clock.monotonicMs();
    if (lease !== undefined && lease.version === chunk.version) return lease.overAtMs > nowMs;
    // Granted in the master's former life. Its holder reported without it, or else has its full time.
    if (this.#serverById(chunk.holder)?.reported) return false;
    return this.#startedAtMs + chunk.durationMs * (1 + CLOCK_DRIFT) > nowMs;
  }

  /** Whether the server that had the last lease is alive, and could be asked. */
  isHolderHere({ holder }: ChunkState): boolean {
    return this.#serverById(holder)?.reported === true;
  }

  /**
   * Sees to it that no mutation is acknowledged any more under the chunk's version: asks the primary,
   * else raises the version of another of its replicas, else finds that the time is over.
   * INVARIANT: the caller keeps new leases away (the file's gate).
   * @throws CHUNK_UNAVAILABLE: nobody can be reached and the lease has time left; ask again
   */
  async end(chunk: ChunkState): Promise<void> {
    if (!this.mayBeHeld(chunk)) return;
    const lease = this.#running.get(chunk.handle);
    if (lease !== undefined) lease.ending = true;
    if (lease?.primary.alive && (await this.#revoke(lease))) {
      lease.overAtMs = this.#clock.monotonicMs();
      return;
    }
    if (await this.#fence(chunk, lease)) return;
    if (this.mayBeHeld(chunk))
      throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${chunk.handle}: its primary cannot be reached`);
  }

  /**
   * Ends the lease by its holder's own word, so that nothing is acknowledged under the chunk's version any
   * more, whatever the clocks say. INVARIANT: the caller keeps new leases away.
   * @returns the serial that the holder applied last; undefined when nobody can hold a lease
   * @throws CHUNK_UNAVAILABLE when it cannot be asked, or what it answers
   */
  async endByHolder({ handle, version, holder }: ChunkState): Promise<number | undefined> {
    if (holder === '') return undefined;
    const lease = this.#running.get(handle);
    if (lease !== undefined) lease.ending = true;
    const primary = this.#serverById(holder);
    if (primary === undefined)
      throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${handle}: ${holder}, which held its lease, is gone`);
    const { body } = await primary.peer.call(
      RevokeLease,
      { handle, version },
      { deadlineMs: REVOKE_DEADLINE_MS },
    );
    if (lease !== undefined) lease.overAtMs = this.#clock.monotonicMs();
    return body.appliedSerial;
  }

  async #revoke({ handle, version, primary }: RunningLease): Promise<boolean> {
    try {
      await primary.peer.call(RevokeLease, { handle, version }, { deadlineMs: REVOKE_DEADLINE_MS });
      return true;
    } catch (thrown) {
      const { code } = toGfsError(thrown);
      return code === 'NOT_PRIMARY' || code === 'NO_SUCH_CHUNK' || code === 'STALE_CHUNK_VERSION';
    }
  }

  /** Raises the version on the replicas that can be reached, without a lease; true when one has it. */
  async #fence(chunk: ChunkState, lease: RunningLease | undefined): Promise<boolean> {
    if (this.#sent.raising.has(chunk.handle)) return false;
    const version = chunk.version + 1;
    this.#sent.raising.add(chunk.handle);
    this.#sent.noteOutside(chunk.handle, version);
    try {
      const others = this.#replicas
        .raisable(chunk)
        .filter(({ chunkserver }) => chunkserver !== lease?.primary);
      const raised = await Promise.all(
        others.map(async ({ chunkserver }) => {
          const body = { handle: chunk.handle, version, create: false };
          try {
            const { body: answer } = await chunkserver.peer.call(PrepareVersion, body, {
              deadlineMs: REVOKE_DEADLINE_MS,
            });
            if (this.#state.chunks.has(chunk.handle))
              this.#replicas.put(chunkserver, chunk.handle, version, answer.lengthBytes, answer.suspect);
            return true;
          } catch {
            return false;
          }
        }),
      );
      if (!raised.includes(true)) return false;
      const replicas = raised.filter((acknowledged) => acknowledged).length;
      await this.#journal.commit({ type: 'versionRaised', handle: chunk.handle, version, replicas });
      this.#replicas.noteLeaseless(chunk.handle, version);
      this.#sent.noteKnown(chunk.handle);
      return true;
    } finally {
      this.#sent.raising.delete(chunk.handle);
    }
  }

  #endOf(durationMs: number): number {
    return this.#clock.monotonicMs() + durationMs * (1 + CLOCK_DRIFT);
  }
}
