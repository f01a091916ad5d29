import { KIB, MIB } from './limits.js';

/**
 * Bytes that arrived behind a header, in memory of their own. Whoever gets one owns it and may call
 * {@link release} once nothing reads it any more; forgetting to costs speed, not memory.
 */
export class Payload {
  readonly bytes: Buffer;
  readonly #giveBack: (() => void) | undefined;
  #released = false;

  constructor(bytes: Buffer, giveBack?: () => void) {
    this.bytes = bytes;
    this.#giveBack = giveBack;
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
  #idleBytes = 0;

  /**
   * @param maxIdleBytes how much memory the pool keeps for reuse
   * @param allocate where large buffers come from: memory that a disk likes, perhaps
   */
  constructor(
    maxIdleBytes: number = 32 * MIB,
    allocate: (sizeBytes: number) => Buffer = Buffer.allocUnsafeSlow,
  ) {
    this.#maxIdleBytes = maxIdleBytes;
    this.#allocate = allocate;
  }

  /** A payload of `sizeBytes`, its content undefined. */
  take(sizeBytes: number): Payload {
    if (sizeBytes < SMALLEST_POOLED_BYTES) return new Payload(Buffer.allocUnsafe(sizeBytes));
    const classBytes = 2 ** Math.ceil(Math.log2(sizeBytes));
    const reused = this.#free.get(classBytes)?.pop();
    if (reused !== undefined) this.#idleBytes -= classBytes;
    const allocate = classBytes < LARGE_BYTES ? Buffer.allocUnsafeSlow : this.#allocate;
    const whole = reused ?? allocate(classBytes);
    return new Payload(whole.subarray(0, sizeBytes), () => this.#giveBack(whole));
  }

  #giveBack(whole: Buffer): void {
    if (this.#idleBytes + whole.byteLength > this.#maxIdleBytes) return;
    const list = this.#free.get(whole.byteLength) ?? [];
    list.push(whole);
    this.#free.set(whole.byteLength, list);
    this.#idleBytes += whole.byteLength;
  }
}
