import type { OutgoingPayload } from '../protocol/frame.js';
import type { Payload } from '../protocol/payload.js';

/** Received bytes with several users (the next hop, the disk), given back to their pool by the last one. */
export class SharedPayload {
  readonly #payload: Payload;
  readonly #crc: number;
  #users = 1;

  /** Takes over the payload; the caller is its first user. */
  constructor(payload: Payload, crc: number) {
    this.#payload = payload;
    this.#crc = crc;
  }

  get bytes(): Buffer {
    return this.#payload.bytes;
  }

  get pageSums(): readonly number[] | undefined {
    return this.#payload.pageSums;
  }

  /** To be passed on, without computing its checksum again. */
  get outgoing(): OutgoingPayload {
    return { buffers: [this.#payload.bytes], crc: this.#crc };
  }

  /** One more user. */
  retain(): this {
    this.#users++;
    return this;
  }

  release(): void {
    this.#users--;
    if (this.#users === 0) this.#payload.release();
  }

  /** A user that keeps the bytes for good: they never go back to the pool. */
  keep(): void {
    this.#users = Number.POSITIVE_INFINITY;
  }
}
