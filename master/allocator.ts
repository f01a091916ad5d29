/** Ids that have never been used. Node and session ids are logged with what they name; handles ahead of it. */
import { GfsError } from '../protocol/errors.js';
import type { Journal } from './journal.js';
import type { LoggedState } from './state.js';

const HANDLE_BLOCK = 4096;

export class Allocator {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  #nextNodeId: number;
  #nextSessionId: number;
  #nextHandle: number;
  #reserving: Promise<unknown> | undefined;

  constructor(state: LoggedState, journal: Journal) {
    this.#state = state;
    this.#journal = journal;
    this.#nextNodeId = state.nextNodeId;
    this.#nextSessionId = state.nextSessionId;
    // Chunkservers may hold chunks of handles that were given out in another life and never logged.
    this.#nextHandle = state.reservedHandles + 1;
  }

  /** The first of `count` node ids in a row. */
  nodeIds(count = 1): number {
    const first = this.#nextNodeId;
    if (first + count > Number.MAX_SAFE_INTEGER) throw new GfsError('NO_SPACE', 'node ids are used up');
    this.#nextNodeId += count;
    return first;
  }

  sessionId(): number {
    return this.#nextSessionId++;
  }

  /** A chunk handle (paper §2.3: immutable, globally unique). Reserved in the log before it can reach a chunkserver. */
  async handle(): Promise<number> {
    while (this.#nextHandle > this.#state.reservedHandles) {
      this.#reserve();
      await this.#reserving;
    }
    const handle = this.#nextHandle++;
    if (this.#state.reservedHandles - handle < HANDLE_BLOCK / 2) this.#reserve();
    return handle;
  }

  #reserve(): void {
    if (this.#reserving !== undefined) return;
    const through = this.#state.reservedHandles + HANDLE_BLOCK;
    const reserving = this.#journal.commit({ type: 'handlesReserved', through });
    this.#reserving = reserving;
    const done = (): void => {
      this.#reserving = undefined;
    };
    reserving.then(done, done);
  }
}
