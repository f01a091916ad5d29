/**
 * Who was promised what, in 22 bytes a promise (soft state). A ring in the order of granting, so that the
 * oldest goes first when it is full; and chains from the node's number, to find who has to hear of a change.
 */

/** What is remembered of one client and one node. */
export const PromiseKind = {
  /** Attributes, extended ones too. */
  ATTRIBUTES: 1,
  /** The names in a directory: those told, and those told not to be there. */
  ENTRIES: 2,
  /** Not the client's to believe but ours to ask: it appends to the file, and tells the length late. */
  DEFERRED: 4,
  /** A file's data and its chunks' locations: stays when an attribute changes. */
  DATA: 8,
} as const;

const FIRST_CAPACITY = 1024;
const NONE = -1;

/** @param kinds what was promised @returns what still is */
export type Visit = (holder: number, kinds: number, changes: number) => number;

export class PromiseTable {
  readonly #maxCount: number;
  readonly #onEvicted: (holder: number, node: number, kinds: number) => void;
  #capacity = 0;
  #nodes = new Float64Array(0);
  #holders = new Uint32Array(0);
  /** 0: nothing is promised here any more. */
  #kinds = new Uint8Array(0);
  /** Names that changed in the directory since its holder last asked about it. */
  #changes = new Uint8Array(0);
  #next = new Int32Array(0);
  #chains = new Int32Array(0);
  /** Positions count up for ever; the slot of one is what its lower bits say. */
  #oldest = 0;
  #end = 0;
  #count = 0;

  /**
   * @param maxCount a power of two
   * @param onEvicted told of a promise that had to make room: its holder must forget it
   */
  constructor(maxCount: number, onEvicted: (holder: number, node: number, kinds: number) => void) {
    this.#maxCount = maxCount;
    this.#onEvicted = onEvicted;
    this.#rebuild(Math.min(FIRST_CAPACITY, maxCount));
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#capacity * (8 + 4 + 1 + 1 + 4 + 4);
  }

  grant(holder: number, node: number, kinds: number): void {
    const known = this.#find(holder, node);
    if (known !== NONE) {
      this.#kinds[known]! |= kinds;
      this.#changes[known] = 0;
      return;
    }
    if (this.#end - this.#oldest === this.#capacity) this.#makeRoom();
    const slot = this.#end++ & (this.#capacity - 1);
    this.#nodes[slot] = node;
    this.#holders[slot] = holder;
    this.#kinds[slot] = kinds;
    this.#changes[slot] = 0;
    this.#link(slot);
    this.#count++;
  }

  /** What was promised to a client of a node. */
  kindsOf(holder: number, node: number): number {
    const slot = this.#find(holder, node);
    return slot === NONE ? 0 : this.#kinds[slot]!;
  }

  /** Goes through the promises of a node; each becomes what `visit` returns. */
  update(node: number, visit: Visit): void {
    let before = NONE;
    const chain = this.#chainOf(node);
    for (let slot = this.#chains[chain]!; slot !== NONE; ) {
      const next = this.#next[slot]!;
      if (this.#nodes[slot] === node) {
        const kept = visit(this.#holders[slot]!, this.#kinds[slot]!, this.#changes[slot]!);
        this.#kinds[slot] = kept;
        if (kept === 0) {
          if (before === NONE) this.#chains[chain] = next;
          else this.#next[before] = next;
          this.#count--;
          slot = next;
          continue;
        }
      }
      before = slot;
      slot = next;
    }
  }

  /** One more name has changed in a directory, of whose names these holders keep their promise. */
  noteChange(holder: number, node: number): void {
    const slot = this.#find(holder, node);
    if (slot !== NONE && this.#changes[slot]! < 255) this.#changes[slot]!++;
  }

  #find(holder: number, node: number): number {
    let slot = this.#chains[this.#chainOf(node)]!;
    while (slot !== NONE && !(this.#nodes[slot] === node && this.#holders[slot] === holder)) {
      slot = this.#next[slot]!;
    }
    return slot;
  }

  #chainOf(node: number): number {
    // Fibonacci hashing: node ids are counted, so they are spread by a multiplication alone.
    return (Math.imul(node | 0, 0x9e3779b1) >>> 8) & (this.#capacity - 1);
  }

  #link(slot: number): void {
    const chain = this.#chainOf(this.#nodes[slot]!);
    this.#next[slot] = this.#chains[chain]!;
    this.#chains[chain] = slot;
  }

  /** Passes over slots that are free already; else grows, moves together, or breaks the oldest promises. */
  #makeRoom(): void {
    while (this.#oldest < this.#end && this.#kinds[this.#oldest & (this.#capacity - 1)] === 0) this.#oldest++;
    if (this.#end - this.#oldest < this.#capacity) return;
    if (this.#count <= this.#capacity / 2) return this.#rebuild(this.#capacity);
    if (this.#capacity < this.#maxCount) return this.#rebuild(2 * this.#capacity);
    // Some at once: each batch is one message to each of their holders.
    for (let left = Math.max(1, this.#capacity >> 8); left > 0; left--) this.#evictOldest();
  }

  #evictOldest(): void {
    const slot = this.#oldest++ & (this.#capacity - 1);
    const kinds = this.#kinds[slot]!;
    if (kinds === 0) return;
    const node = this.#nodes[slot]!;
    const holder = this.#holders[slot]!;
    this.update(node, (one, its) => (one === holder ? 0 : its));
    this.#onEvicted(holder, node, kinds);
  }

  #rebuild(capacity: number): void {
    const [nodes, holders, kinds, changes] = [this.#nodes, this.#holders, this.#kinds, this.#changes];
    const mask = this.#capacity - 1;
    const [oldest, end] = [this.#oldest, this.#end];
    this.#capacity = capacity;
    this.#nodes = new Float64Array(capacity);
    this.#holders = new Uint32Array(capacity);
    this.#kinds = new Uint8Array(capacity);
    this.#changes = new Uint8Array(capacity);
    this.#next = new Int32Array(capacity);
    this.#chains = new Int32Array(capacity).fill(NONE);
    this.#oldest = 0;
    this.#end = 0;
    for (let position = oldest; position < end; position++) {
      const from = position & mask;
      if (kinds[from] === 0) continue;
      const slot = this.#end++;
      this.#nodes[slot] = nodes[from]!;
      this.#holders[slot] = holders[from]!;
      this.#kinds[slot] = kinds[from]!;
      this.#changes[slot] = changes[from]!;
      this.#link(slot);
    }
  }
}
