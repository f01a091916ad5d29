import { ROOT_ID } from '../protocol/messages/index.js';
import type { Inode } from './handler.js';

/**
 * Node ids of the cluster and inodes of the kernel are the same numbers, but for the root: a mount of
 * a subtree shows that directory as inode 1, which is the cluster's own root elsewhere.
 */
export class InodeMap {
  readonly #rootId: number;

  /** @param rootId the directory that the mount shows */
  constructor(rootId: number) {
    this.#rootId = rootId;
  }

  toNode(inode: Inode): number {
    return inode === ROOT_ID ? this.#rootId : inode;
  }

  toInode(node: number): Inode {
    return node === this.#rootId ? ROOT_ID : node;
  }
}
