/** Pushed data waiting for its mutation (paper §3.1 step 3): bounded, the least recently pushed goes first. */
import { MIB } from '../protocol/limits.js';
import type { SharedPayload } from './shared-payload.js';

const MAX_BYTES = 128 * MIB;

export interface DataId {
  readonly session: number;
  readonly number: number;
}

export class PushBuffer {
  readonly #held = new Map<string, SharedPayload>();
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number = MAX_BYTES) {
    this.#maxBytes = maxBytes;
  }

  get sizeBytes(): number {
    return this.#bytes;
  }

  /** Takes over `data`. */
  put(id: DataId, data: SharedPayload): void {
    this.take(id)?.release();
    this.#held.set(keyOf(id), data);
    this.#bytes += data.bytes.byteLength;
    for (const [key, oldest] of this.#held) {
      if (this.#bytes <= this.#maxBytes || this.#held.size === 1) break;
      this.#drop(key, oldest);
      oldest.release();
    }
  }

  /** Hands the data over to the caller; undefined when it is not here. */
  take(id: DataId): SharedPayload | undefined {
    const key = keyOf(id);
    const data = this.#held.get(key);
    if (data !== undefined) this.#drop(key, data);
    return data;
  }

  #drop(key: string, data: SharedPayload): void {
    this.#held.delete(key);
    this.#bytes -= data.bytes.byteLength;
  }
}

function keyOf({ session, number }: DataId): string {
  return `${session}:${number}`;
}
