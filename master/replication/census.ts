/** Looking at every chunk, in slices, so that nothing that happened meanwhile is missed for good. */
import type { Clock, Timers } from '../../environment/ports/index.js';
import type { ChunkserverTable } from '../chunkservers.js';
import type { ChunkState, LoggedState } from '../state.js';
import type { Standing } from './standing.js';

/** Chunks looked at in one turn of the event loop. */
export const CENSUS_SLICE = 2_000;
/** Without a reason all chunks are looked at so often. */
const CENSUS_INTERVAL_MS = 60_000;

export interface CensusFigures {
  readonly belowGoal: number;
  /** One copy left of a chunk that should have more. */
  readonly endangered: number;
  /** No copy on any live server. */
  readonly unavailable: number;
  /** Replicas that are ahead of the log by more than one version. */
  readonly quarantined: number;
}

export interface CensusParts {
  readonly state: LoggedState;
  readonly chunkservers: ChunkserverTable;
  readonly clock: Clock;
  readonly timers: Timers;
}

export class Census {
  readonly #parts: CensusParts;
  readonly #look: (chunk: ChunkState, isDeleted: boolean) => Standing;
  readonly #onSlice: () => void;
  #figures: CensusFigures = { belowGoal: 0, endangered: 0, unavailable: 0, quarantined: 0 };
  #countedAtMs = Number.NEGATIVE_INFINITY;
  #isRunning = false;
  #isStopped = false;

  /** @param look what is done with each chunk; @param onSlice called between the slices, and at the end */
  constructor(
    parts: CensusParts,
    look: (chunk: ChunkState, isDeleted: boolean) => Standing,
    onSlice: () => void,
  ) {
    this.#parts = parts;
    this.#look = look;
    this.#onSlice = onSlice;
  }

  /** As of the last one that was finished. */
  get figures(): CensusFigures {
    return this.#figures;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  get isDue(): boolean {
    return this.#parts.clock.monotonicMs() - this.#countedAtMs >= CENSUS_INTERVAL_MS;
  }

  stop(): void {
    this.#isStopped = true;
  }

  async run(): Promise<void> {
    const { state, clock } = this.#parts;
    this.#isRunning = true;
    const figures = { belowGoal: 0, endangered: 0, unavailable: 0, quarantined: 0 };
    try {
      const deleted = await this.#deletedChunks();
      let left = CENSUS_SLICE;
      for (const chunk of state.chunks.values()) {
        const { good, missing, quarantinedCount } = this.#look(chunk, deleted.has(chunk.handle));
        figures.quarantined += quarantinedCount;
        if (missing > 0) figures.belowGoal++;
        if (good.length === 0) figures.unavailable++;
        else if (good.length === 1 && chunk.goal > 1) figures.endangered++;
        if (--left > 0) continue;
        left = CENSUS_SLICE;
        this.#onSlice();
        await this.#pause();
        if (this.#isStopped) return;
      }
      this.#figures = figures;
    } finally {
      this.#countedAtMs = clock.monotonicMs();
      this.#isRunning = false;
    }
    this.#onSlice();
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#parts.timers.after(0, resolve));
  }

  /** Chunks that only deleted files have: these wait until all others are healed. None while all is well. */
  async #deletedChunks(): Promise<ReadonlySet<number>> {
    const { state } = this.#parts;
    const handles = new Set<number>();
    if (this.#figures.belowGoal === 0 && !this.#isAnyoneLost()) return handles;
    let left = CENSUS_SLICE;
    for (const { id } of state.deleted.values()) {
      for (const handle of state.nodes.get(id)?.chunks?.handles() ?? [])
        if (state.chunks.get(handle)?.references === 1) handles.add(handle);
      if (--left > 0) continue;
      left = CENSUS_SLICE;
      await this.#pause();
    }
    return handles;
  }

  #isAnyoneLost(): boolean {
    for (const { alive } of this.#parts.chunkservers.all) if (!alive) return true;
    return false;
  }
}
