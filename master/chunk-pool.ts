/**
 * Fresh chunks: made on chosen servers, with a lease, before any file has them. Making one takes a round
 * trip and a flush on every server, so while files are being created a few are made ahead, and creating
 * the next file waits only for the log. A chunk that no file gets is deleted; its handle is never used again.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_CHUNKS_AHEAD } from '../protocol/limits.js';
import { type Location, MakeChunks, PrepareVersion } from '../protocol/messages/index.js';
import type { Allocator } from './allocator.js';
import { ASK_DEADLINE_MS, askAll, serversOf, termsFor } from './asking.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { MasterOptions } from './options.js';
import { chooseServers } from './placement.js';
import type { Chunkserver } from './replicas.js';
import type { LoggedState } from './state.js';

/** How much of the demand of the last second is made ahead. */
const AHEAD_SHARE = 0.25;
const FADE_PER_SWEEP = 0.8;

/** A chunk of no file. Its lease runs since `sentAtMs`. */
export interface FreshChunk {
  readonly handle: number;
  readonly version: number;
  readonly primary: Chunkserver;
  readonly members: readonly Chunkserver[];
  readonly sentAtMs: number;
}

export interface Made {
  readonly made: FreshChunk | undefined;
  readonly failed: ReadonlyMap<Chunkserver, GfsError>;
}

export class ChunkPool {
  readonly #state: LoggedState;
  readonly #allocator: Allocator;
  readonly #chunkservers: ChunkserverTable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: MasterOptions;
  #ahead: FreshChunk[] = [];
  #filling = 0;
  /** Chunks taken lately; fades. */
  #demand = 0;

  constructor(
    state: LoggedState,
    allocator: Allocator,
    chunkservers: ChunkserverTable,
    environment: { readonly clock: Clock; readonly logger: Logger },
    options: MasterOptions,
  ) {
    this.#state = state;
    this.#allocator = allocator;
    this.#chunkservers = chunkservers;
    this.#clock = environment.clock;
    this.#logger = environment.logger;
    this.#options = options;
  }

  /** A chunk made ahead, if there is one for this place, with at least half of its lease left. */
  take(near: Location | undefined): FreshChunk | undefined {
    // Where servers can be chosen, a writer with coordinates gets the ones near it.
    if (near !== undefined && this.#chunkservers.active.length > this.#options.goal) return undefined;
    this.#demand++;
    let taken = this.#ahead.shift();
    while (taken !== undefined && !this.#isGood(taken)) {
      this.settled(taken.handle);
      taken = this.#ahead.shift();
    }
    this.#fill();
    return taken;
  }

  /** Makes one now. @throws NO_CHUNKSERVERS, NO_SPACE */
  async make(
    near: Location | undefined,
    exclude: ReadonlySet<Chunkserver>,
    goal = this.#options.goal,
  ): Promise<Made> {
    const { leaseDurationMs } = this.#options;
    const members = this.#choose(near, exclude, goal);
    const primary = members[0] as Chunkserver;
    for (const chunkserver of members) chunkserver.recentCreations++;
    primary.recentLeases++;
    const handle = await this.#allocator.handle();
    this.reserve(handle, members);
    const sentAtMs = this.#clock.monotonicMs();
    const answers = await askAll(members, (chunkserver) => {
      const terms = termsFor(chunkserver, primary, members, leaseDurationMs);
      const body = { handle, version: 1, create: true, ...terms };
      return chunkserver.peer.call(PrepareVersion, body, { deadlineMs: ASK_DEADLINE_MS });
    });
    if (answers.failed.size === 0)
      return { made: { handle, version: 1, primary, members, sentAtMs }, failed: answers.failed };
    // Whoever failed may have made it: the handle is given up, so that no one has a chunk of that name and no lease.
    this.settled(handle);
    return { made: undefined, failed: answers.failed };
  }

  /** The handle is on its way into the log: nobody may take it for garbage. */
  reserve(handle: number, members: readonly Chunkserver[]): void {
    this.#chunkservers.reports.pendingHandles.set(handle, members);
  }

  /** It is in the log now, or given up: then the servers delete it. */
  settled(handle: number): void {
    const members = this.#chunkservers.reports.pendingHandles.get(handle) ?? [];
    this.#chunkservers.reports.pendingHandles.delete(handle);
    if (this.#state.chunks.has(handle)) return this.#chunkservers.reports.noteLogged(handle);
    for (const chunkserver of members) if (chunkserver.alive) chunkserver.deletions.add(handle);
  }

  /** Once a second: what nobody wants any more goes. */
  sweep(): void {
    this.#demand = Math.floor(this.#demand * FADE_PER_SWEEP);
    const wanted = this.#wanted();
    const kept = this.#ahead.filter((chunk, at) => at < wanted && this.#isGood(chunk));
    const gone = this.#ahead.filter((chunk) => !kept.includes(chunk));
    this.#ahead = kept;
    for (const { handle } of gone) this.settled(handle);
  }

  #wanted(): number {
    return Math.min(MAX_CHUNKS_AHEAD, Math.ceil(this.#demand * AHEAD_SHARE));
  }

  #isGood({ members, sentAtMs }: FreshChunk): boolean {
    const ageMs = this.#clock.monotonicMs() - sentAtMs;
    const enough = Math.min(this.#options.goal, this.#chunkservers.active.length);
    return (
      ageMs < this.#options.leaseDurationMs / 2 &&
      members.length >= enough &&
      members.every(({ alive, server }) => alive && !this.#state.drains.has(server.serverId))
    );
  }

  /** @returns at least one server, the one that is best as primary first @throws NO_CHUNKSERVERS */
  #choose(near: Location | undefined, exclude: ReadonlySet<Chunkserver>, count: number): Chunkserver[] {
    const { active, priority } = this.#chunkservers;
    const staying = active.filter(({ server }) => !this.#state.drains.has(server.serverId));
    const request = { count, near, exclude, chunkBytes: this.#options.chunkBytes };
    const members = chooseServers(staying.length > 0 ? staying : active, priority, request);
    if (members.length === 0) throw new GfsError('NO_CHUNKSERVERS', 'no chunkserver takes a new chunk');
    return members;
  }

  /** Waits until half of them are gone: then one message and one flush of each server make the next. */
  #fill(): void {
    const wanted = this.#wanted();
    const coming = this.#ahead.length + this.#filling;
    const count = wanted - coming;
    if (count <= 0 || coming > wanted / 2) return;
    this.#filling += count;
    this.#makeAhead(count)
      .catch((err) => this.#logger.debug({ err }, 'no chunks made ahead'))
      .finally(() => {
        this.#filling -= count;
      });
  }

  async #makeAhead(count: number): Promise<void> {
    const members = this.#choose(undefined, new Set(), this.#options.goal);
    const chunks: { handle: number; primary: Chunkserver }[] = [];
    while (chunks.length < count) {
      const primary = members[chunks.length % members.length] as Chunkserver;
      chunks.push({ handle: await this.#allocator.handle(), primary });
      for (const chunkserver of members) chunkserver.recentCreations++;
      primary.recentLeases++;
    }
    const handles = chunks.map(({ handle }) => handle);
    for (const handle of handles) this.reserve(handle, members);
    const sentAtMs = this.#clock.monotonicMs();
    const { failed } = await askAll(members, (chunkserver) => {
      const leased = chunks.flatMap(({ handle, primary }) => (primary === chunkserver ? [handle] : []));
      const terms = {
        secondaries: serversOf(members, chunkserver),
        durationMs: this.#options.leaseDurationMs,
      };
      const body = { handles, leased, terms };
      return chunkserver.peer.call(MakeChunks, body, { deadlineMs: ASK_DEADLINE_MS });
    });
    for (const { handle, primary } of chunks) {
      if (failed.size === 0) this.#ahead.push({ handle, version: 1, primary, members, sentAtMs });
      // As in make().
      else this.settled(handle);
    }
  }
}
