import { checksum, joinedPageChecksums, pageChecksums } from './checksum.js';
import { KIB, MIB } from './limits.js';

/**
 * Bytes that arrived behind a header, in memory of their own. Whoever gets one owns it and may call
 * {@link release} once nothing reads it any more; forgetting to costs speed, not memory.
 */
export class Payload {
  readonly bytes: Buffer;
  /** Of a large one, if its pool has it so: the checksums of its pages, once {@link checksum} was asked for. */
  pageSums: readonly number[] | undefined;
  readonly #giveBack: (() => void) | undefined;
  readonly #sumsPages: boolean;
  #released = false;

  constructor(bytes: Buffer, giveBack?: () => void, sumsPages = false) {
    this.bytes = bytes;
    this.#giveBack = giveBack;
    this.#sumsPages = sumsPages;
  }

  checksum(): number {
    if (!this.#sumsPages) return checksum(this.bytes);
    this.pageSums = pageChecksums(this.bytes);
    return joinedPageChecksums(this.pageSums, this.bytes.byteLength);
  }

  /** Returns the memory to its pool. INVARIANT: nobody reads or writes `bytes` afterwards. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#giveBack?.();
  }
}

/** Smaller ones are cut from memory that Node shares out itself. */
const SMALLEST_POOLED_BYTES = 4 * KIB;
/** From here on buffers come from the pool's own source of memory. */
const LARGE_BYTES = 256 * KIB;

/**
 * Reuses large buffers, by power-of-two size. A fresh 1 MiB buffer costs 256 page faults, more than
 * copying a megabyte into a warm one.
 */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #maxIdleBytes: number;
  readonly #allocate: (sizeBytes: number) => Buffer;
  readonly #sumsPages: boolean;
  #idleBytes = 0;

  /**
   * @param maxIdleBytes how much memory the pool keeps for reuse
   * @param allocate where large buffers come from: memory that a disk likes, perhaps
   * @param sumsPages large ones are summed page by page
   */
  constructor(
    maxIdleBytes: number = 32 * MIB,
    allocate: (sizeBytes: number) => Buffer = Buffer.allocUnsafeSlow,
    sumsPages = false,
  ) {
    this.#maxIdleBytes = maxIdleBytes;
    this.#allocate = allocate;
    this.#sumsPages = sumsPages;
  }

  /** A payload of `sizeBytes`, its content undefined. */
  take(sizeBytes: number): Payload {
    if (sizeBytes < SMALLEST_POOLED_BYTES) return new Payload(Buffer.allocUnsafe(sizeBytes));
    const classBytes = 2 ** Math.ceil(Math.log2(sizeBytes));
    const reused = this.#free.get(classBytes)?.pop();
    if (reused !== undefined) this.#idleBytes -= classBytes;
    const allocate = classBytes < LARGE_BYTES ? Buffer.allocUnsafeSlow : this.#allocate;
    const whole = reused ?? allocate(classBytes);
    const sumsPages = this.#sumsPages && classBytes >= LARGE_BYTES;
    return new Payload(whole.subarray(0, sizeBytes), () => this.#giveBack(whole), sumsPages);
  }

  #giveBack(whole: Buffer): void {
    if (this.#idleBytes + whole.byteLength > this.#maxIdleBytes) return;
    const list = this.#free.get(whole.byteLength) ?? [];
    list.push(whole);
    this.#free.set(whole.byteLength, list);
    this.#idleBytes += whole.byteLength;
  }
}
