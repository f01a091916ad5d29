/**
 * Promises that have left the table and that their holders have not forgotten yet. A change that comes meanwhile
 * finds no promise any more; its answer waits for them all the same, for they show what was before both changes. Not
 * every change waits for its own breaks: nobody waits for a time of access.
 */
import type { Holder } from './breaking.js';

export class Unforgotten {
  /** Whom the messages under way tell of a node. No more than promises were taken back, each until its answer. */
  readonly #ofNode = new Map<number, Map<Promise<void>, Holder>>();

  /** @param forgotten resolves when it is; one promise for all that is told in one message */
  add(node: number, holder: Holder, forgotten: Promise<void>): void {
    const told = this.#ofNode.get(node) ?? new Map<Promise<void>, Holder>();
    if (told.has(forgotten)) return;
    this.#ofNode.set(node, told);
    told.set(forgotten, holder);
    void forgotten.then(() => {
      told.delete(forgotten);
      if (told.size === 0) this.#ofNode.delete(node);
    });
  }

  /** Whether anybody but `own` may still believe what was promised of a node. */
  isAny(node: number, own: Holder | undefined): boolean {
    for (const holder of this.#ofNode.get(node)?.values() ?? []) if (holder !== own) return true;
    return false;
  }

  /** Adds what a change of `own`'s waits for. */
  collect(node: number, own: Holder | undefined, waits: Set<Promise<void>>): void {
    const told = this.#ofNode.get(node);
    if (told === undefined) return;
    for (const [forgotten, holder] of told) if (holder !== own) waits.add(forgotten);
  }
}
