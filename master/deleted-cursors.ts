/** Places in the table of deleted nodes, for those who read it page by page while it changes. */
import type { DeletedNode, LoggedState } from './state.js';

/** Readers whose places are remembered; who comes back later goes on behind the entry that it was told last. */
const MAX_CURSORS = 64;

export class DeletedCursors {
  readonly #state: LoggedState;
  /** Id of the last entry told → what follows. The oldest place is forgotten first. */
  readonly #cursors = new Map<number, IterableIterator<DeletedNode>>();

  constructor(state: LoggedState) {
    this.#state = state;
  }

  /** What follows the entry of node `id`; from the start for 0, or when neither the place nor the entry is known any more. */
  after(id: number): IterableIterator<DeletedNode> {
    const remembered = this.#cursors.get(id);
    if (remembered !== undefined) {
      this.#cursors.delete(id);
      return remembered;
    }
    return this.#state.deleted.values(id);
  }

  /** @param cursor has told the entry of node `id` last */
  remember(id: number, cursor: IterableIterator<DeletedNode>): void {
    this.#cursors.set(id, cursor);
    if (this.#cursors.size <= MAX_CURSORS) return;
    const [oldest] = this.#cursors.keys();
    this.#cursors.delete(oldest as number);
  }
}
