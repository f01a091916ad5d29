import { GfsError } from '../../protocol/errors.js';
import type { Inode } from '../handler.js';
import type { InodeTable } from './inodes.js';

export interface OpenFile {
  readonly inode: Inode;
  /** The handler's own handle. */
  readonly handle: number;
  /** Of open(2). */
  readonly flags: number;
}

/** The package carries handles as positive 32-bit integers; 0 stands for none. */
const MAX_ID = 0x7fff_ffff;

/** The files that are open, by the number that libfuse keeps for each. As many as the kernel has open. */
export class HandleTable {
  readonly #inodes: InodeTable;
  readonly #files = new Map<number, OpenFile>();
  readonly #openCounts = new Map<Inode, number>();
  #last = 0;

  constructor(inodes: InodeTable) {
    this.#inodes = inodes;
  }

  /** @returns the number of the open file; its inode stays held until {@link remove} */
  add(file: OpenFile): number {
    do this.#last = (this.#last % MAX_ID) + 1;
    while (this.#files.has(this.#last));
    this.#inodes.hold(file.inode);
    this.#files.set(this.#last, file);
    this.#openCounts.set(file.inode, (this.#openCounts.get(file.inode) ?? 0) + 1);
    return this.#last;
  }

  /** @throws BAD_HANDLE */
  get(id: number): OpenFile {
    const file = this.#files.get(id);
    if (file === undefined) throw new GfsError('BAD_HANDLE', `no open file ${id}`);
    return file;
  }

  remove(id: number): void {
    const { inode } = this.get(id);
    this.#files.delete(id);
    const count = (this.#openCounts.get(inode) ?? 0) - 1;
    if (count > 0) this.#openCounts.set(inode, count);
    else this.#openCounts.delete(inode);
    this.#inodes.drop(inode);
  }

  isOpen(inode: Inode): boolean {
    return this.#openCounts.has(inode);
  }

  ids(): number[] {
    return [...this.#files.keys()];
  }
}
