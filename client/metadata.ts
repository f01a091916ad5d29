/**
 * The namespace as this client may believe it (docs/decisions/0017-caching-by-promise.md): answered from the
 * cache where the master has promised it, else asked for. While the session does not stand, nothing is believed.
 */
import type { Clock } from '../environment/ports/index.js';
import { MAX_CHUNKS_PER_REPLY, MAX_DIRECTORY_PAGE } from '../protocol/limits.js';
import * as m from '../protocol/messages/index.js';
import type { Method } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { CacheLimits } from './cache-limits.js';
import { LookAhead, Walks, Window } from './look-ahead.js';
import { ABSENT, type Change, type Key, MetadataCache } from './metadata-cache.js';
import { type Keeper, ownChangeOf } from './own-changes.js';
import type { CallContext } from './retry.js';
import type { MasterSession, Outcome } from './session.js';
import { S_IFDIR, S_IFMT } from './stat.js';
import { following } from './tree-order.js';

const { Promised } = m;
/** A larger directory is not kept as a listing: its names and attributes are. */
const MAX_LISTING = 131_072;

/** Entries of listings, and files whose places, and data where that is little, are read ahead. */
const LISTINGS_AHEAD = { first: 64, most: MAX_DIRECTORY_PAGE };
const PLACES_AHEAD = { first: 16, most: MAX_CHUNKS_PER_REPLY };
/** Nodes that are looked at to find those files. */
const MAX_STEPS_AHEAD = 512;

/** What is no longer true, for whoever keeps copies of what was told: the kernel, open files. */
export type Broken = ValueOf<typeof m.BreakPromises.request>;

export interface Listener {
  /** Resolves when it is forgotten. @param directories where the names of these nodes were met, as far as is known */
  onBroken(broken: Broken, directories: ReadonlySet<number>): Promise<void> | undefined;
  /** The session was lost: nothing that was told before is promised any more. */
  onLost(): void;
}

export interface DirectoryPage {
  readonly entries: readonly m.DirectoryEntry[];
  readonly end: boolean;
  readonly parent: number;
  /** What {@link Metadata.listing} tells as long as the page is right, once all of the listing is known. */
  readonly listing?: object | undefined;
}

type Page = ValueOf<typeof m.ReadDirectory.reply>;

/** A listing that is being read page by page. */
interface Reading {
  readonly ticket: number;
  nextCookie: number;
  readonly names: { name: string; cookie: number; node: number }[];
}

const MAX_READINGS = 64;

export class Metadata {
  readonly #session: MasterSession;
  readonly #clock: Clock;
  readonly #cache: MetadataCache;
  readonly #listeners: Listener[] = [];
  readonly #readings = new Map<number, Reading>();
  readonly #lookAhead: LookAhead;
  readonly #listings: Window;
  readonly #places: Window;
  /** Directories to be listed next are looked for among those beside the last, and so are files to be read. */
  readonly #siblings = new Walks();
  readonly #files = new Walks();

  constructor(session: MasterSession, clock: Clock, limits: CacheLimits) {
    this.#cache = new MetadataCache(limits);
    this.#lookAhead = new LookAhead(limits);
    this.#listings = new Window({ ...LISTINGS_AHEAD, after: limits.listingsBeforeAhead });
    this.#places = new Window({ ...PLACES_AHEAD, after: limits.placesBeforeAhead });
    this.#session = session;
    this.#clock = clock;
    session.observe({
      onBreak: (broken) => this.#onBreak(broken),
      onLost: () => this.#onLost(),
      changing: (method, body) => this.#changing(method, body),
    });
  }

  /** What is kept. */
  get counts(): { readonly attributes: number; readonly names: number } {
    return this.#cache.counts;
  }

  listen(listener: Listener): void {
    this.#listeners.push(listener);
  }

  // How long somebody else may believe what was answered just now without asking.

  /** What is left of the session, 0 when nothing is promised. */
  entryTtlMs(parent: number, name: string, node: number): number {
    return this.#cache.entry(parent, name) === node ? this.trustMs : 0;
  }

  attributesTtlMs(id: number): number {
    return this.#cache.knowsAttributes(id) ? this.trustMs : 0;
  }

  /** What is left of the session. */
  get trustMs(): number {
    return Math.max(0, this.#session.trustedUntilMs - this.#clock.monotonicMs());
  }

  // Questions.

  /** What {@link lookup} answers without asking anybody: undefined where it has to. */
  knownEntry(parent: number, name: string): m.Attributes | typeof ABSENT | undefined {
    const node = this.trustMs > 0 ? this.#cache.entry(parent, name) : undefined;
    if (node === undefined) return undefined;
    if (node !== ABSENT) {
      this.#lookAhead.used(parent);
      return this.#cache.attributes(node);
    }
    this.#cache.noteAbsent(parent, name);
    return ABSENT;
  }

  /** @returns undefined when there is no such name @throws NOT_DIRECTORY, STALE_NODE */
  async lookup(parent: number, name: string, context: CallContext): Promise<m.Attributes | undefined> {
    const known = this.knownEntry(parent, name);
    if (known !== undefined) return known === ABSENT ? undefined : known;
    const { ticket } = this.#cache;
    const { attributes, promised = 0 } = await this.#session
      .query(m.Lookup, { parent, name }, context)
      .catch(noneIfNotFound);
    if (attributes !== undefined && (promised & Promised.ATTRIBUTES) !== 0)
      this.#cache.keepAttributes(attributes, ticket, parent);
    if ((promised & Promised.ENTRIES) !== 0) {
      this.#cache.keepEntry(parent, name, attributes?.id ?? ABSENT, ticket);
      this.#readAhead(parent, context);
    }
    return attributes;
  }

  /** Nobody waits for it. */
  #readAhead(directory: number, { uid = 0, gids = [] }: CallContext): void {
    const cookie = this.#lookAhead.asked(directory);
    if (cookie === undefined) return;
    this.#readPage(directory, cookie, { uid, gids }).then(
      (page) => this.#lookAhead.read(directory, isPromised(page) ? page : undefined),
      // Whoever asks for a name will hear of it.
      () => this.#lookAhead.read(directory, undefined),
    );
  }

  /** @throws STALE_NODE */
  async attributes(id: number, context: CallContext): Promise<m.Attributes> {
    const known = this.known(id);
    if (known !== undefined) return known;
    const { ticket } = this.#cache;
    const { attributes, promised = 0 } = await this.#session.query(m.GetAttributes, { id }, context);
    if ((promised & Promised.ATTRIBUTES) !== 0) this.#cache.keepAttributes(attributes, ticket);
    return attributes;
  }

  /** The attributes that are promised now, without asking. */
  known(id: number): m.Attributes | undefined {
    return this.trustMs > 0 ? this.#cache.attributes(id) : undefined;
  }

  /**
   * Where a file is had to be asked for, and was.
   * @returns files that may be read next: others of its directory, in the order of the listing
   */
  readNext(id: number, isWanted: (attributes: m.Attributes) => boolean): number[] {
    const directory = this.trustMs > 0 ? this.#cache.directoryOf(id) : undefined;
    const most = this.#places.asked(directory !== undefined);
    if (directory === undefined || most === 0) return [];
    const next = new Set<number>();
    let steps = MAX_STEPS_AHEAD;
    const take = (nodes: Iterable<number>) => {
      for (const node of nodes) {
        if (next.size === most || --steps < 0) return;
        const attributes = this.#cache.attributes(node);
        if (attributes !== undefined && node !== id && isWanted(attributes)) next.add(node);
      }
    };
    take(this.#files.next(directory, this.#cache.nodesOf(directory)));
    take(following(this.#cache, directory));
    this.#places.brought(next);
    return [...next];
  }

  /** A file was read whose place was known, or on its way. */
  noteReadNext(id: number): void {
    this.#places.used(id);
  }

  /** Keeps attributes that came with another answer. */
  keep(attributes: m.Attributes, promised: number, ticket: number): void {
    if ((promised & Promised.ATTRIBUTES) !== 0) this.#cache.keepAttributes(attributes, ticket);
  }

  /** To be taken before a question whose answer is given to {@link keep}. */
  get ticket(): number {
    return this.#cache.ticket;
  }

  /** @returns undefined when the node has no such attribute @throws STALE_NODE */
  async xattr(id: number, name: string, context: CallContext): Promise<Uint8Array | undefined> {
    if (this.hasNoXattrs(id)) return undefined;
    const known = this.trustMs > 0 ? this.#cache.xattr(id, name) : undefined;
    if (known !== undefined) return known.value;
    const { ticket } = this.#cache;
    const value = await this.#session.query(m.GetXattr, { id, name }, context).then(
      (reply) => reply.value,
      (error) => {
        if (error.code === 'NO_ATTRIBUTE') return undefined;
        throw error;
      },
    );
    this.#cache.keepXattr(id, name, value, ticket);
    return value;
  }

  /** Whether it is known to have no extended attributes at all. */
  hasNoXattrs(id: number): boolean {
    const known = this.known(id);
    return known !== undefined && known.hasXattrs !== true;
  }

  /** Entries from after `cookie`; all that follow where the listing is known. */
  async directory(id: number, cookie: number, context: CallContext): Promise<DirectoryPage> {
    let known = this.trustMs > 0 ? this.#cache.listing(id) : undefined;
    if (known !== undefined) this.#listings.used(id);
    else if (cookie === 0 && (await this.#readTree(id, context))) known = this.#cache.listing(id);
    if (known !== undefined) {
      const from = cookie === 0 ? 0 : firstAfter(known.entries, cookie);
      return { ...known, entries: from === 0 ? known.entries : known.entries.slice(from), end: true };
    }
    return this.#readPage(id, cookie, context);
  }

  /** Stands for the listing of a directory: another one after each change, undefined while it is not known. */
  listing(id: number): object | undefined {
    return this.trustMs > 0 ? this.#cache.listingOf(id) : undefined;
  }

  /** Reads this listing, and those that may be wanted next, where that is likely. @returns whether it did */
  async #readTree(id: number, context: CallContext): Promise<boolean> {
    const parent = this.trustMs > 0 ? this.#cache.directoryOf(id) : undefined;
    const isStep = parent !== undefined && this.#cache.wasListed(parent);
    const limit = this.#listings.asked(isStep);
    if (!isStep || limit === 0) return false;
    const ids = [id];
    for (const node of this.#siblings.next(parent, this.#cache.nodesOf(parent))) {
      if (ids.length === MAX_CHUNKS_PER_REPLY) break;
      if (node !== id && this.#isUnlisted(node)) ids.push(node);
    }
    const { ticket } = this.#cache;
    const told = await this.#session.query(m.ReadTree, { ids, limit }, context).catch(() => undefined);
    // Whoever asks for the listing alone hears why there is none.
    if (told === undefined) return false;
    for (const { id: directory, entries, parent: above, unpromised } of told.directories)
      this.#cache.keepDirectory(directory, entries, above, new Set(unpromised), ticket);
    this.#listings.brought(told.directories.map((told) => told.id));
    this.#listings.used(id);
    return this.trustMs > 0;
  }

  #isUnlisted(node: number): boolean {
    const mode = this.#cache.attributes(node)?.mode ?? 0;
    return (mode & S_IFMT) === S_IFDIR && this.#cache.listingOf(node) === undefined;
  }

  async #readPage(id: number, cookie: number, context: CallContext): Promise<Page & DirectoryPage> {
    const { ticket } = this.#cache;
    const request = { id, cookie, limit: MAX_DIRECTORY_PAGE };
    const page = await this.#session.query(m.ReadDirectory, request, context);
    const listing = isPromised(page) ? this.#keepPage(id, cookie, page, ticket) : undefined;
    return { ...page, listing };
  }

  /** @returns what will stand for the listing when all of it is known */
  #keepPage(id: number, cookie: number, page: Page, ticket: number): object | undefined {
    const unpromised = new Set(page.unpromised);
    for (const { name, attributes } of page.entries) {
      this.#cache.keepEntry(id, name, attributes.id, ticket);
      if (!unpromised.has(attributes.id)) this.#cache.keepAttributes(attributes, ticket, id);
    }
    let reading = this.#readings.get(id);
    if (cookie === 0) reading = { ticket, nextCookie: 0, names: [] };
    if (reading === undefined || reading.nextCookie !== cookie) return undefined;
    for (const entry of page.entries) {
      reading.names.push({ name: entry.name, cookie: entry.cookie, node: entry.attributes.id });
      reading.nextCookie = entry.cookie;
    }
    this.#readings.delete(id);
    if (page.end) this.#cache.keepListing(id, reading.names, page.parent, reading.ticket);
    else if (reading.names.length < MAX_LISTING) {
      this.#readings.set(id, reading);
      if (this.#readings.size > MAX_READINGS)
        this.#readings.delete(this.#readings.keys().next().value as number);
    }
    return reading.names;
  }

  // Changes.

  #onBreak(broken: Broken): Promise<void> | undefined {
    const met = this.#directoriesOf(broken);
    for (const id of broken.attributes) this.#cache.touchAttributes(id);
    for (const id of broken.data) this.#cache.touchAttributes(id);
    for (const { directory, name } of broken.entries) this.#cache.touchEntry(directory, name);
    const { directories } = broken;
    const names = directories.flatMap((directory) =>
      this.#cache.namesOf(directory).map((name) => ({ directory, name })),
    );
    for (const id of directories) this.#cache.touchDirectory(id);
    return this.#tell(
      names.length === 0 ? broken : { ...broken, entries: [...broken.entries, ...names] },
      met,
    );
  }

  #directoriesOf({ attributes, data }: Broken): Set<number> {
    const met = new Set<number>();
    for (const ids of [attributes, data])
      for (const id of ids) {
        const directory = this.#cache.directoryOf(id);
        if (directory !== undefined) met.add(directory);
      }
    return met;
  }

  #tell(broken: Broken, directories: ReadonlySet<number>): Promise<void> | undefined {
    const waits = this.#listeners.flatMap((listener) => listener.onBroken(broken, directories) ?? []);
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  #onLost(): void {
    this.#cache.clear();
    this.#readings.clear();
    this.#lookAhead.clear();
    this.#listings.clear();
    this.#places.clear();
    this.#siblings.clear();
    this.#files.clear();
    for (const listener of this.#listeners) listener.onLost();
  }

  #changing(method: Method<unknown, unknown>, body: unknown): ((outcome: Outcome) => void) | undefined {
    const change = ownChangeOf(method);
    if (change === undefined) {
      this.#cache.clear();
      return () => this.#onLost();
    }
    const keys = change.keys(body, this.#cache);
    if (keys.length === 0) return undefined;
    const begun: Change = this.#cache.begin(keys);
    return ({ reply, isKnown }) => {
      const isOwn = this.#cache.end(begun);
      // The master tells its author of a change only by the answer.
      if (!isKnown) this.#cache.clear();
      if (change.behindKernel === true) void this.#tell(brokenBy(keys), new Set());
      if (reply !== undefined) change.keep?.(this.#keeper(isOwn, begun.ticket), body, reply);
    };
  }

  #keeper(isOwn: (key: Key) => boolean, asked: number): Keeper {
    const cache = this.#cache;
    const { ticket } = cache;
    return {
      attributes: (attributes, isPromised) => {
        if (attributes === undefined) return;
        this.#session.time.met(attributes);
        if (!isPromised) return;
        // A node that was not known before the change was not among its keys: then nothing may have touched it since.
        if (isOwn(attributes.id)) cache.keepAttributes(attributes, ticket);
        else cache.keepAttributes(attributes, asked);
      },
      entry: (directory, name, node) => {
        if (isOwn(`${directory}/${name}`)) cache.keepEntry(directory, name, node, ticket);
      },
      empty: (directory, parent) => cache.keepEmpty(directory, parent, asked),
      forget: (node) => cache.touchAttributes(node),
    };
  }
}

function isPromised({ promised = 0 }: Page): boolean {
  return (promised & Promised.ENTRIES) !== 0;
}

function noneIfNotFound(error: { code?: unknown }): { attributes?: m.Attributes; promised?: number } {
  if (error.code === 'NOT_FOUND') return {};
  throw error;
}

function firstAfter(entries: readonly m.DirectoryEntry[], cookie: number): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((entries[middle] as m.DirectoryEntry).cookie > cookie) high = middle;
    else low = middle + 1;
  }
  return low;
}

function brokenBy(keys: readonly Key[]): Broken {
  const broken: Broken = { attributes: [], data: [], entries: [], directories: [], cut: [] };
  for (const key of keys) {
    if (typeof key === 'number') {
      broken.attributes.push(key);
      continue;
    }
    const slash = key.indexOf('/');
    if (slash < key.length - 1)
      broken.entries.push({ directory: Number(key.slice(0, slash)), name: key.slice(slash + 1) });
  }
  return broken;
}
