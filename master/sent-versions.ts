import type { LoggedState } from './state.js';

/**
 * What versions were sent to chunkservers and not logged with a lease. A server that got one and is in
 * no lease must never pass for current, so the next lease goes above it.
 */
export class SentVersions {
  /** Chunks whose version is being raised: what their replicas report meanwhile decides nothing. */
  readonly raising = new Set<number>();
  /** Handles above it are of this life of the master. */
  readonly #formerHandles: number;
  /** Older chunks whose version was raised in this life. */
  readonly #known = new Set<number>();
  readonly #outside = new Map<number, number>();

  constructor(state: LoggedState) {
    this.#formerHandles = state.reservedHandles;
  }

  /** Whether somebody who is in no lease may have this version, the one after the logged one. */
  mayBeOutside(handle: number, version: number): boolean {
    // What the master's former life sent before it died, nobody remembers.
    return this.isOfFormerLife(handle) || this.#outside.get(handle) === version;
  }

  /** Whether the chunk has not been raised since the master started. */
  isOfFormerLife(handle: number): boolean {
    return handle <= this.#formerHandles && !this.#known.has(handle);
  }

  /** A version was sent and came to nothing. */
  noteOutside(handle: number, version: number): void {
    this.#outside.set(handle, version);
  }

  /** A version was logged, or all that it was sent to have it: nobody has one above. */
  noteKnown(handle: number): void {
    if (handle <= this.#formerHandles) this.#known.add(handle);
    this.#outside.delete(handle);
  }

  forget(handle: number): void {
    this.#known.delete(handle);
    this.#outside.delete(handle);
  }
}
