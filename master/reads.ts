/**
 * Reads of the namespace: synchronous, on applied state alone, so they never see what a crash could
 * take back. They take no lock; they only wait while the very name or node they ask for is being
 * changed, so that whoever hears of a change and looks sees it.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_DIRECTORY_PAGE } from '../protocol/limits.js';
import type { Attributes, ReadDirectory } from '../protocol/messages/index.js';
import { ROOT_ID } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { type LockKey, type LockManager, LockSet } from './locks.js';
import type { LogGate } from './log-gate.js';
import { Mode } from './mode.js';
import { findDirectory, findEntry, findNode } from './resolve.js';
import type { LoggedState } from './state.js';

type Signal = () => AbortSignal;

/** Attributes and names of one page fit in a frame's header, whatever the names. */
export const PAGE_BYTES = 512 * 1024;
const ENTRY_BYTES = 80;

export class Reads {
  readonly #state: LoggedState;
  readonly #locks: LockManager;
  readonly #gate: LogGate;

  constructor(state: LoggedState, locks: LockManager, gate: LogGate) {
    this.#state = state;
    this.#locks = locks;
    this.#gate = gate;
  }

  async lookup(parent: number, name: string, signal: Signal): Promise<Attributes> {
    await this.nameSettled(parent, name, signal);
    const directory = findDirectory(this.#state, parent);
    return findNode(this.#state, findEntry(directory, name).node).attributes();
  }

  /** Resolves once nobody is changing this name. @throws STALE_NODE, NOT_DIRECTORY */
  async nameSettled(parent: number, name: string, signal: Signal): Promise<void> {
    if (!this.#locks.hasWriters) return;
    const path = this.#state.pathOf(findDirectory(this.#state, parent));
    if (path !== undefined) await this.#settled(`${path}/${name}`, signal);
  }

  /** Resolves once nobody is changing this node. */
  async nodeSettled(id: number, signal: Signal): Promise<void> {
    await this.#settled(id, signal);
  }

  /** The nodes that a page of a directory would tell of. */
  nodesOf(body: ValueOf<typeof ReadDirectory.request>): number[] {
    const directory = findDirectory(this.#state, body.id);
    return directory.entries.page(body.cookie, pageLimit(body.limit)).map(({ node }) => node);
  }

  /** Symbolic links are not followed: that is the kernel's, or the user's, business. */
  lookupPath(path: string): Attributes {
    let node = findNode(this.#state, ROOT_ID);
    for (const name of path.split('/')) {
      if (name === '') continue;
      node = findNode(this.#state, findEntry(findDirectory(this.#state, node.id), name).node);
    }
    return node.attributes();
  }

  /** A full path of the node, `/` for the root; of a file with several, its first. @throws STALE_NODE */
  path(id: number): string {
    const node = findNode(this.#state, id);
    if (node.id === ROOT_ID) return '/';
    const parent = this.#state.nodes.get(node.parent);
    const above = parent === undefined ? undefined : this.#state.pathOf(parent);
    if (above === undefined) throw new GfsError('STALE_NODE', `node ${id} has no name any more`);
    return `${above}/${node.name}`;
  }

  async attributes(id: number, signal: Signal): Promise<Attributes> {
    await this.#settled(id, signal);
    return findNode(this.#state, id).attributes();
  }

  readDirectory(body: ValueOf<typeof ReadDirectory.request>): ValueOf<typeof ReadDirectory.reply> {
    const directory = findDirectory(this.#state, body.id);
    const limit = pageLimit(body.limit);
    const page = directory.entries.page(body.cookie, limit);
    const entries = [];
    let bytes = 0;
    for (const { name, cookie, node } of page) {
      bytes += entryBytes(name);
      if (bytes > PAGE_BYTES) break;
      entries.push({ name, cookie, attributes: findNode(this.#state, node).attributes() });
    }
    const end = page.length < limit && entries.length === page.length;
    return { entries, end, parent: directory.parent === 0 ? directory.id : directory.parent };
  }

  readLink(id: number): string {
    const node = findNode(this.#state, id);
    if ((node.mode & Mode.TYPE) !== Mode.SYMLINK) throw new GfsError('INVALID', `node ${id} is not a link`);
    return node.target ?? '';
  }

  async xattr(id: number, name: string, signal: Signal): Promise<Uint8Array> {
    await this.#settled(id, signal);
    const value = findNode(this.#state, id).xattrs?.get(name);
    if (value === undefined) throw new GfsError('NO_ATTRIBUTE');
    return value;
  }

  async xattrNames(id: number, signal: Signal): Promise<string[]> {
    await this.#settled(id, signal);
    return [...(findNode(this.#state, id).xattrs?.keys() ?? [])];
  }

  /** Resolves once nobody holds a write lock on `key`, or whoever does waits for log replicas that are away. */
  #settled(key: LockKey, signal: Signal): Promise<void> | undefined {
    if (!this.#locks.isWriteLocked(key) || this.#gate.stalled) return undefined;
    const set = new LockSet();
    set.add(key, 0, false);
    return this.#gate.settled(this.#passThrough(set, signal));
  }

  async #passThrough(set: LockSet, signal: Signal): Promise<void> {
    const held = await this.#locks.acquire(set, signal);
    held.release();
  }
}

/** At most, in a message. */
export function entryBytes(name: string): number {
  return ENTRY_BYTES + 2 * name.length;
}

function pageLimit(limit: number): number {
  return Math.min(Math.max(limit, 1), MAX_DIRECTORY_PAGE);
}
