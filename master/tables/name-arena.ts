/**
 * Names as bytes, one after another in blocks outside of the heap: a length byte and the name, rounded up
 * to whole cells of four bytes. What is given back is used again for a name of as many cells.
 */
import { MAX_NAME_BYTES } from '../../protocol/limits.js';
import { assert } from '../assert.js';

const CELL_BYTES = 4;
const BLOCK_SHIFT = 14;
const BLOCK_CELLS = 1 << BLOCK_SHIFT;
const IN_BLOCK = BLOCK_CELLS - 1;
const MAX_CELLS = (MAX_NAME_BYTES + 1) / CELL_BYTES;
const MAX_REFERENCE = 0xffff_ffff;
/** Below it a loop is faster than the call into the runtime. */
const SHORT_NAME = 12;

function cellsOf(nameBytes: number): number {
  return (nameBytes + CELL_BYTES) >>> 2;
}

export class NameArena {
  readonly #blocks: Buffer[] = [];
  /** By cell count: the first free piece, 0 for none. A free piece begins with the next one. */
  readonly #free = new Uint32Array(MAX_CELLS + 1);
  /** Cell 0 is nobody's, so that 0 can stand for "none". */
  #end = 1;

  get memoryBytes(): number {
    return this.#blocks.length * BLOCK_CELLS * CELL_BYTES;
  }

  /** @returns a reference, until {@link free} */
  add(name: string): number {
    const reference = this.#take(cellsOf(name.length));
    const block = this.#blocks[reference >>> BLOCK_SHIFT] as Buffer;
    const at = (reference & IN_BLOCK) * CELL_BYTES;
    block[at] = name.length;
    for (let i = 0; i < name.length; i++) block[at + 1 + i] = name.charCodeAt(i);
    return reference;
  }

  get(reference: number): string {
    const block = this.#blocks[reference >>> BLOCK_SHIFT] as Buffer;
    const at = (reference & IN_BLOCK) * CELL_BYTES + 1;
    const length = block[at - 1] as number;
    if (length > SHORT_NAME) return block.toString('latin1', at, at + length);
    let name = '';
    for (let i = 0; i < length; i++) name += String.fromCharCode(block[at + i] as number);
    return name;
  }

  equals(reference: number, name: string): boolean {
    const block = this.#blocks[reference >>> BLOCK_SHIFT] as Buffer;
    const at = (reference & IN_BLOCK) * CELL_BYTES;
    const length = name.length;
    if (block[at] !== length) return false;
    for (let i = 0; i < length; i++) if (block[at + 1 + i] !== name.charCodeAt(i)) return false;
    return true;
  }

  /** As {@link hashName} of the name. */
  hash(reference: number, seed: number): number {
    const block = this.#blocks[reference >>> BLOCK_SHIFT] as Buffer;
    const at = (reference & IN_BLOCK) * CELL_BYTES;
    const end = at + 1 + (block[at] as number);
    let hash = seed;
    for (let i = at + 1; i < end; i++) hash = Math.imul(hash ^ (block[i] as number), FNV_PRIME);
    return finish(hash);
  }

  free(reference: number): void {
    const block = this.#blocks[reference >>> BLOCK_SHIFT] as Buffer;
    const at = (reference & IN_BLOCK) * CELL_BYTES;
    const cells = cellsOf(block[at] as number);
    block.writeUInt32LE(this.#free[cells] as number, at);
    this.#free[cells] = reference;
  }

  /** How many blocks there are. */
  get blockCount(): number {
    return this.#blocks.length;
  }

  /** The bytes of one block that names have been in: the arena's own memory. */
  block(at: number): Uint8Array {
    const cells = Math.min(BLOCK_CELLS, this.#end - at * BLOCK_CELLS);
    return (this.#blocks[at] as Buffer).subarray(0, cells * CELL_BYTES);
  }

  /** Where the next name goes, and the first free piece by cell count. */
  get layout(): { readonly end: number; readonly free: readonly number[] } {
    return { end: this.#end, free: [...this.#free] };
  }

  loadBlock(at: number, bytes: Uint8Array): void {
    assert(at === this.#blocks.length, 'blocks of names come in order');
    const block = Buffer.alloc(BLOCK_CELLS * CELL_BYTES);
    block.set(bytes);
    this.#blocks.push(block);
  }

  restore({ end, free }: { readonly end: number; readonly free: readonly number[] }): void {
    this.#end = end;
    this.#free.set(free);
  }

  #take(cells: number): number {
    const free = this.#free[cells] as number;
    if (free !== 0) {
      const block = this.#blocks[free >>> BLOCK_SHIFT] as Buffer;
      this.#free[cells] = block.readUInt32LE((free & IN_BLOCK) * CELL_BYTES);
      return free;
    }
    // A name does not cross the end of a block; the few cells there stay empty.
    if ((this.#end & IN_BLOCK) + cells > BLOCK_CELLS) this.#end = (this.#end | IN_BLOCK) + 1;
    const reference = this.#end;
    this.#end += cells;
    assert(this.#end <= MAX_REFERENCE, 'the names take more than 16 GiB');
    if (reference >>> BLOCK_SHIFT >= this.#blocks.length)
      this.#blocks.push(Buffer.alloc(BLOCK_CELLS * CELL_BYTES));
    return reference;
  }
}

const FNV_PRIME = 0x0100_0193;

/** 32 bits, of a name whose characters are bytes: FNV-1a, with the mixing of MurmurHash3 at the end. */
export function hashName(name: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), FNV_PRIME);
  return finish(hash);
}

function finish(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
