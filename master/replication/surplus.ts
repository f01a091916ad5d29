/**
 * Replicas that are to go: those beyond a goal, those on servers that are drained, useless ones. What is in the
 * way just then (a version that is being raised, a lease whose holder does not answer) is over in a moment, and
 * nothing else tells of that: so what could not go is remembered, and looked at again.
 */
import type { Counter, Logger } from '../../environment/ports/index.js';
import type { ReplicaReports } from '../replica-reports.js';
import type { Chunkserver, Replicas } from '../replicas.js';
import type { ChunkState, LoggedState } from '../state.js';
import { type Dropper, excessOf } from './dropper.js';
import type { Standing } from './standing.js';

/** Of each kind; the rest is found by another census. */
const MAX_REMEMBERED = 16_384;
const MAX_DROPS_AT_ONCE = 16;

export interface SurplusParts {
  readonly state: LoggedState;
  readonly replicas: Replicas;
  readonly reports: ReplicaReports;
  readonly dropper: Dropper;
  readonly standing: (chunk: ChunkState) => Standing;
  readonly dropped: Counter;
  readonly logger: Logger;
  /** Called when there is room again for what did not fit. */
  readonly onRoom: () => void;
}

export class Surplus {
  readonly #parts: SurplusParts;
  /** Chunks that have more than they need. */
  readonly #excess = new Set<number>();
  readonly #postponed = new Set<number>();
  #dropping = 0;
  #isOverfull = false;

  constructor(parts: SurplusParts) {
    this.#parts = parts;
  }

  has(handle: number): boolean {
    return this.#excess.has(handle);
  }

  /** A chunk has all that it needs: what it has beyond that goes, with the next {@link drop}. */
  note(chunk: ChunkState, standing: Standing): void {
    const { replicas, reports } = this.#parts;
    for (const replica of standing.useless) {
      if (!reports.mayDelete(replica, chunk)) {
        this.postpone(chunk.handle);
        continue;
      }
      replicas.remove(replica.chunkserver, chunk.handle);
      replica.chunkserver.deletions.add(chunk.handle);
    }
    if (this.#excess.has(chunk.handle) || excessOf(standing).length === 0) return;
    if (this.#excess.size < MAX_REMEMBERED) this.#excess.add(chunk.handle);
    else this.#isOverfull = true;
  }

  /** Drops what is beyond a goal, `from` one server first, if any has to. */
  async dropFrom(handle: number, from: Chunkserver): Promise<void> {
    this.#parts.dropped.add(await this.#parts.dropper.drop(handle, from));
  }

  drop(): void {
    for (const handle of this.#excess) {
      if (this.#dropping >= MAX_DROPS_AT_ONCE) return;
      this.#excess.delete(handle);
      void this.#drop(handle);
    }
    if (!this.#isOverfull || this.#excess.size > 0) return;
    this.#isOverfull = false;
    this.#parts.onRoom();
  }

  /** What there is to do about a chunk cannot be done now. */
  postpone(handle: number): void {
    if (this.#postponed.size < MAX_REMEMBERED) this.#postponed.add(handle);
  }

  /** Those chunks, to be looked at again. */
  takePostponed(): readonly number[] {
    const handles = [...this.#postponed];
    this.#postponed.clear();
    return handles;
  }

  async #drop(handle: number): Promise<void> {
    const { dropper, dropped, logger, state, standing } = this.#parts;
    this.#dropping++;
    try {
      dropped.add(await dropper.drop(handle));
    } catch (err) {
      logger.debug({ err, handle }, 'a superfluous replica stays for now');
    }
    this.#dropping--;
    const chunk = state.chunks.get(handle);
    if (chunk !== undefined && excessOf(standing(chunk)).length > 0) this.postpone(handle);
    this.drop();
  }
}
