import { ROOT_ID } from '../../protocol/messages/index.js';
import type { FuseHandler, Inode } from '../handler.js';

/**
 * The references to inodes that this binding owes the handler. A kernel would count them; here several
 * parts hold one inode (the name cache, an open file, a request under way), and when the last lets go
 * the handler gets all its references back at once.
 */
export class InodeTable {
  readonly #handler: FuseHandler;
  /** As many as names are cached, files are open and requests are under way. */
  readonly #inodes = new Map<Inode, { references: number; holders: number }>();

  constructor(handler: FuseHandler) {
    this.#handler = handler;
  }

  /** Takes over the reference of an entry that the handler gave; the caller holds the inode. */
  adopt(inode: Inode): void {
    if (inode === ROOT_ID) return;
    const counts = this.#inodes.get(inode);
    if (counts === undefined) {
      this.#inodes.set(inode, { references: 1, holders: 1 });
      return;
    }
    counts.references++;
    counts.holders++;
  }

  /** One holder more, of an inode that somebody holds. */
  hold(inode: Inode): void {
    if (inode === ROOT_ID) return;
    this.#counts(inode).holders++;
  }

  drop(inode: Inode): void {
    if (inode === ROOT_ID) return;
    const counts = this.#counts(inode);
    counts.holders--;
    if (counts.holders > 0) return;
    this.#inodes.delete(inode);
    this.#handler.forget(inode, counts.references);
  }

  /** Inodes that somebody holds. */
  get size(): number {
    return this.#inodes.size;
  }

  #counts(inode: Inode): { references: number; holders: number } {
    const counts = this.#inodes.get(inode);
    if (counts === undefined) throw new Error(`inode ${inode} is used but not held`);
    return counts;
  }
}
