/**
 * What the master has promised this client, until it says otherwise: attributes, names (also that one is not
 * there), whole listings. No messages here: {@link Metadata} asks.
 *
 * An answer may be older than a change that was heard of while it was on its way. So whoever asks takes a
 * ticket before, and what was touched since is not kept.
 */
import { LRUCache } from 'lru-cache';
import type { Attributes, DirectoryEntry } from '../protocol/messages/index.js';
import type { CacheLimits } from './cache-limits.js';

/** The number of a node for its attributes; for names a string, see {@link entryKey}. */
export type Key = number | string;

export function entryKey(directory: number, name: string): Key {
  return `${directory}/${name}`;
}

/** Stands for all names of a directory. */
export function listingKey(directory: number): Key {
  return `${directory}/`;
}

/** A change that this client makes. */
export interface Change {
  readonly ticket: number;
  readonly keys: readonly Key[];
}

interface KnownAttributes {
  /** Undefined once they are forgotten, of what is likely to be known again at once. */
  attributes: Attributes | undefined;
  /** Where its name was met last, if that is known. */
  directory: number | undefined;
}

/** A name that a directory does not have. */
export const ABSENT = 0;

interface KnownDirectory {
  readonly names: Map<string, number>;
  /** Every name that the directory has is among them, but for those in `doubtful`. */
  complete: boolean;
  readonly doubtful: Set<string>;
  /** All entries, in the order of their cookies; gone with the first change. */
  listing: readonly ListedName[] | undefined;
  parent: number;
}

interface ListedName {
  readonly name: string;
  readonly cookie: number;
  readonly node: number;
}

export interface KnownListing {
  readonly entries: readonly DirectoryEntry[];
  readonly parent: number;
  /** As {@link MetadataCache.listingOf}. */
  readonly listing: object;
}

/** Of one node: values by name, `undefined` for one that it does not have. */
type KnownXattrs = Map<string, Uint8Array | undefined>;

export class MetadataCache {
  #generation = 0;
  /** Tickets below it are too old: what was touched since is no longer remembered. */
  #floor = 0;
  /**
   * When a key was touched last. Two maps, the older one thrown away as a whole: a Map from which a busy
   * directory's key were removed each time it is touched would look for it along all the gaps left behind.
   */
  #touched = new Map<Key, number>();
  #touchedBefore = new Map<Key, number>();
  /** Nothing in the older map was touched after it. */
  #newerFrom = 0;
  #nameCount = 0;
  readonly #limits: CacheLimits;
  readonly #attributes: LRUCache<number, KnownAttributes>;
  readonly #xattrs: LRUCache<number, KnownXattrs>;
  readonly #directories: LRUCache<number, KnownDirectory>;

  constructor(limits: CacheLimits) {
    this.#limits = limits;
    this.#attributes = new LRUCache({ max: limits.attributes });
    this.#xattrs = new LRUCache({ max: limits.xattrs });
    this.#directories = new LRUCache({
      max: limits.directories,
      dispose: ({ names }) => {
        this.#nameCount -= names.size;
      },
    });
  }

  get counts(): { readonly attributes: number; readonly names: number } {
    return { attributes: this.#attributes.size, names: this.#nameCount };
  }

  /** To be taken before a question, and given with its answer. */
  get ticket(): number {
    return this.#generation;
  }

  // What has changed.

  /** The master says so: what is known is old, and so are answers on their way. */
  touchAttributes(id: number): void {
    this.#note(id);
    this.#forgetAttributes(id);
  }

  touchEntry(directory: number, name: string): void {
    this.#note(entryKey(directory, name));
    this.#note(listingKey(directory));
    this.#doubt(directory, name);
  }

  touchDirectory(directory: number): void {
    // Every name of it: no answer on its way is kept.
    this.#floor = ++this.#generation;
    this.#directories.delete(directory);
  }

  /** Nothing is promised any more. */
  clear(): void {
    this.#floor = ++this.#generation;
    this.#touched.clear();
    this.#touchedBefore.clear();
    this.#attributes.clear();
    this.#xattrs.clear();
    this.#directories.clear();
  }

  /** This client is about to change these. What is known of them stays until {@link end}. */
  begin(keys: readonly Key[]): Change {
    for (const key of keys) this.#note(key);
    return { ticket: this.#generation, keys };
  }

  /** The change was answered. @returns whether what the answer says of a key may be kept: nothing else touched it */
  end({ ticket, keys }: Change): (key: Key) => boolean {
    const own = new Set(keys.filter((key) => !this.#isTouchedSince(key, ticket)));
    for (const key of keys) {
      this.#note(key);
      this.#forget(key);
    }
    return (key) => own.has(key);
  }

  #forget(key: Key): void {
    if (typeof key === 'number') return this.#forgetAttributes(key);
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    if (name !== '') this.#doubt(Number(key.slice(0, slash)), name);
  }

  // Attributes.

  attributes(id: number): Attributes | undefined {
    return this.#attributes.get(id)?.attributes;
  }

  /** Where a node whose attributes are known was met, if that is known. */
  directoryOf(id: number): number | undefined {
    return this.#attributes.peek(id)?.directory;
  }

  knowsAttributes(id: number): boolean {
    return this.#attributes.peek(id)?.attributes !== undefined;
  }

  /** @param directory where its name was met */
  keepAttributes(attributes: Attributes, ticket: number, directory?: number): void {
    const { id } = attributes;
    if (this.#isTouchedSince(id, ticket)) return;
    const place = this.#attributes.get(id);
    if (place === undefined) this.#attributes.set(id, { attributes, directory });
    else {
      place.attributes = attributes;
      place.directory = directory ?? place.directory;
    }
  }

  xattr(id: number, name: string): { readonly value: Uint8Array | undefined } | undefined {
    const known = this.#xattrs.get(id);
    return known?.has(name) ? { value: known.get(name) } : undefined;
  }

  /** Extended attributes come with the promise of the attributes. */
  keepXattr(id: number, name: string, value: Uint8Array | undefined, ticket: number): void {
    if (this.#isTouchedSince(id, ticket) || !this.knowsAttributes(id)) return;
    const known = this.#xattrs.get(id);
    if (known === undefined) this.#xattrs.set(id, new Map([[name, value]]));
    else known.set(name, value);
  }

  // Names.

  /** The node of a name, {@link ABSENT}, or undefined when that is not known. */
  entry(directory: number, name: string): number | undefined {
    const known = this.#directories.get(directory);
    if (known === undefined) return undefined;
    const node = known.names.get(name);
    if (node !== undefined) return node;
    return known.complete && !known.doubtful.has(name) ? ABSENT : undefined;
  }

  keepEntry(directory: number, name: string, node: number, ticket: number): void {
    if (this.#isTouchedSince(entryKey(directory, name), ticket)) return;
    const known = this.#directory(directory);
    known.doubtful.delete(name);
    // In a complete directory a name that is not there need not be known.
    if (node === ABSENT && known.complete) this.#removeName(known, name);
    else this.#setName(known, name, node);
  }

  /** Somebody else is told that a name is not there, and has to be told when it is. */
  noteAbsent(directory: number, name: string): void {
    this.#setName(this.#directory(directory), name, ABSENT);
  }

  /** The names that were told of, also those that are not there. */
  namesOf(directory: number): string[] {
    return [...(this.#directories.peek(directory)?.names.keys() ?? [])];
  }

  /** All that is in a directory, in order, where that is known. */
  nodesListed(directory: number): readonly ListedName[] | undefined {
    return this.#directories.peek(directory)?.listing;
  }

  /** The nodes of a directory's known names, as they change. */
  nodesOf(directory: number): ReadonlyMap<string, number> | undefined {
    return this.#directories.peek(directory)?.names;
  }

  /** The directory is as new: it has no names. */
  keepEmpty(directory: number, parent: number, ticket: number): void {
    if (this.#isTouchedSince(listingKey(directory), ticket)) return;
    this.#directories.delete(directory);
    this.keepListing(directory, [], parent, ticket);
  }

  /** A whole listing, if all of its attributes are known too. */
  listing(directory: number): KnownListing | undefined {
    const known = this.#directories.get(directory);
    if (known?.listing === undefined) return undefined;
    const { listing, parent } = known;
    const entries: DirectoryEntry[] = [];
    for (const { name, cookie, node } of listing) {
      const attributes = this.attributes(node);
      if (attributes === undefined) return undefined;
      entries.push({ name, cookie, attributes });
    }
    return { entries, parent, listing };
  }

  /** Stands for a whole listing: it is another object after each change, and undefined while it is not known. */
  listingOf(directory: number): object | undefined {
    return this.#directories.get(directory)?.listing;
  }

  /** @param ticket of the question for its first page */
  keepListing(directory: number, listing: readonly ListedName[], parent: number, ticket: number): void {
    if (this.#isTouchedSince(listingKey(directory), ticket)) return;
    const known = this.#directory(directory);
    for (const { name, node } of listing) this.#setName(known, name, node);
    known.doubtful.clear();
    known.complete = true;
    known.listing = listing;
    known.parent = parent;
  }

  /** All of it was told, and what has changed since is known to have. */
  wasListed(directory: number): boolean {
    return this.#directories.peek(directory)?.complete === true;
  }

  /** All of a directory that was told in one answer. @param unpromised nodes whose attributes are not promised */
  keepDirectory(
    directory: number,
    entries: readonly DirectoryEntry[],
    parent: number,
    unpromised: ReadonlySet<number>,
    ticket: number,
  ): void {
    if (this.#isTouchedSince(listingKey(directory), ticket)) return;
    const listing: ListedName[] = [];
    for (const { name, cookie, attributes } of entries) {
      if (!unpromised.has(attributes.id)) this.keepAttributes(attributes, ticket, directory);
      listing.push({ name, cookie, node: attributes.id });
    }
    this.keepListing(directory, listing, parent, ticket);
  }

  #directory(id: number): KnownDirectory {
    let known = this.#directories.get(id);
    if (known === undefined) {
      known = { names: new Map(), complete: false, doubtful: new Set(), listing: undefined, parent: 0 };
      this.#directories.set(id, known);
    }
    return known;
  }

  #setName(directory: KnownDirectory, name: string, node: number): void {
    if (!directory.names.has(name)) this.#nameCount++;
    directory.names.set(name, node);
    while (this.#nameCount > this.#limits.names && this.#directories.size > 1) this.#directories.pop();
  }

  #removeName(directory: KnownDirectory, name: string): void {
    if (directory.names.delete(name)) this.#nameCount--;
  }

  #doubt(directory: number, name: string): void {
    const known = this.#directories.peek(directory);
    if (known === undefined) return;
    this.#removeName(known, name);
    known.listing = undefined;
    if (known.complete) known.doubtful.add(name);
  }

  #forgetAttributes(id: number): void {
    this.#xattrs.delete(id);
    const known = this.#directories.peek(id);
    if (known === undefined) {
      this.#attributes.delete(id);
      return;
    }
    // Its parent may be another one now.
    known.listing = undefined;
    // Each change of a name changes its directory. A Map whose key is removed and set again and again looks for
    // it along all the gaps left behind: 30 us among 40,000 others.
    const place = this.#attributes.peek(id);
    if (place?.attributes === undefined) this.#attributes.delete(id);
    else place.attributes = undefined;
  }

  #note(key: Key): void {
    this.#touched.set(key, ++this.#generation);
    if (this.#touched.size <= this.#limits.changes / 2) return;
    this.#floor = Math.max(this.#floor, this.#newerFrom);
    this.#newerFrom = this.#generation;
    this.#touchedBefore = this.#touched;
    this.#touched = new Map();
  }

  #isTouchedSince(key: Key, ticket: number): boolean {
    if (ticket < this.#floor) return true;
    return (this.#touched.get(key) ?? this.#touchedBefore.get(key) ?? 0) > ticket;
  }
}
