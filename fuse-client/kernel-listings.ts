/**
 * Whether the listing of a directory that the kernel has kept (FOPEN_CACHE_DIR) is right still, so that it need not
 * ask for it again: everything it was told since it last forgot is of one listing, and that is still promised.
 */
import { LRUCache } from 'lru-cache';
import type { Metadata } from '../client/index.js';
import type { Clock } from '../environment/ports/index.js';

/** Directories that nobody has open. */
const MAX_CLOSED = 16_384;

interface KernelListing {
  /** Handles that are open. */
  opens: number;
  /** What all pages were of that were told since the kernel last forgot. Undefined: nothing was, or it is no use. */
  source: object | undefined;
  /** Pages of another listing may be on their way to the kernel, until all handles are closed. */
  isMixed: boolean;
  /** Until then it believes the names and attributes that came with it. */
  believedUntilMs: number;
}

export class KernelListings {
  readonly #metadata: Pick<Metadata, 'listing'>;
  readonly #clock: Clock;
  readonly #ttlMs: () => number;
  readonly #open = new Map<number, KernelListing>();
  readonly #closed = new LRUCache<number, KernelListing>({ max: MAX_CLOSED });

  /** @param ttlMs how long the kernel may believe what it is told now; 0 where it could not be told to forget */
  constructor(metadata: Pick<Metadata, 'listing'>, clock: Clock, ttlMs: () => number) {
    this.#metadata = metadata;
    this.#clock = clock;
    this.#ttlMs = ttlMs;
  }

  /** @returns whether the kernel may use what it has; otherwise it forgets that now */
  opened(directory: number): boolean {
    const listing = this.#open.get(directory) ?? this.#closed.get(directory) ?? fresh();
    this.#closed.delete(directory);
    this.#open.set(directory, listing);
    const others = listing.opens++;
    const isRight =
      !listing.isMixed &&
      listing.source !== undefined &&
      listing.source === this.#metadata.listing(directory) &&
      // Later each name would be looked up by itself: a new listing brings all of them at once.
      listing.believedUntilMs > this.#clock.monotonicMs();
    if (isRight) return true;
    listing.source = undefined;
    listing.isMixed = others > 0;
    return false;
  }

  /** A page is told. @param source the listing that it is of, if that is known */
  told(directory: number, source: object | undefined): void {
    const listing = this.#open.get(directory);
    if (listing === undefined || listing.isMixed) return;
    if (listing.source === undefined) {
      listing.source = source;
      listing.believedUntilMs = this.#clock.monotonicMs() + this.#ttlMs();
    }
    listing.isMixed = source === undefined || listing.source !== source;
  }

  closed(directory: number): void {
    const listing = this.#open.get(directory);
    if (listing === undefined || --listing.opens > 0) return;
    this.#open.delete(directory);
    if (listing.source !== undefined && !listing.isMixed) this.#closed.set(directory, listing);
  }
}

function fresh(): KernelListing {
  return { opens: 0, source: undefined, isMixed: false, believedUntilMs: 0 };
}
