/** How well chunks are: what `gfs status`, `gfs fsck` and the gauges go by. */
import type { Timers } from '../environment/ports/index.js';
import type { ChunkHealth } from '../protocol/messages/index.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Replicas } from './replicas.js';
import type { ChunkState, LoggedState } from './state.js';

/** Chunks looked at in one turn of the event loop: about a millisecond's work. */
const SLICE = 2048;

export interface HealthCounts {
  readonly chunks: number;
  readonly belowGoal: number;
  readonly lost: number;
  readonly unknown: number;
}

export class Health {
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #chunkservers: ChunkserverTable;
  readonly #timers: Timers;
  #counting: Promise<HealthCounts> | undefined;
  #latest: HealthCounts = { chunks: 0, belowGoal: 0, lost: 0, unknown: 0 };

  constructor(state: LoggedState, replicas: Replicas, chunkservers: ChunkserverTable, timers: Timers) {
    this.#state = state;
    this.#replicas = replicas;
    this.#chunkservers = chunkservers;
    this.#timers = timers;
  }

  of(chunk: ChunkState): ChunkHealth {
    const copies = this.#replicas.readable(chunk).length;
    if (copies >= chunk.goal) return 'healthy';
    // Suspect replicas are compared when somebody asks for them: until then they are copies as well.
    if (copies > 0 || this.#replicas.raisable(chunk).length > 0) return 'belowGoal';
    return this.#chunkservers.ready ? 'lost' : 'unknown';
  }

  /** As of the last {@link count}. */
  get latest(): HealthCounts {
    return this.#latest;
  }

  /** Looks at every chunk, in slices; who asks meanwhile gets the same answer. */
  count(): Promise<HealthCounts> {
    this.#counting ??= this.#count().finally(() => {
      this.#counting = undefined;
    });
    return this.#counting;
  }

  async #count(): Promise<HealthCounts> {
    const counts: Record<ChunkHealth, number> = { healthy: 0, belowGoal: 0, lost: 0, unknown: 0 };
    let chunks = 0;
    for (const chunk of this.#state.chunks.values()) {
      counts[this.of(chunk)]++;
      if (++chunks % SLICE === 0) await new Promise<void>((resolve) => void this.#timers.after(0, resolve));
    }
    const { belowGoal, lost, unknown } = counts;
    this.#latest = { chunks, belowGoal, lost, unknown };
    return this.#latest;
  }
}
