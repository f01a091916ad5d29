/**
 * Deleted files (paper §4.4, DESIGN "Deleted files"): listed, brought back, given up early; and how long
 * they are kept. They are their owner's: others neither see them nor bring them back.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_DELETED_PAGE } from '../protocol/limits.js';
import type {
  DeletedFile,
  GetRetention,
  ListDeleted,
  Purge,
  SetRetention,
  Undelete,
} from '../protocol/messages/index.js';
import { ROOT_ID } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { DeletedCursors } from './deleted-cursors.js';
import { LockSet } from './locks.js';
import type { Decision, Plan } from './mutations.js';
import type { Credentials } from './namespace.js';
import { isOwner, Permission, requirePermission } from './permissions.js';
import {
  checkName,
  checkPathLength,
  type DirectoryNode,
  findDirectory,
  findEntry,
  findLiveDirectory,
  findNode,
  lockName,
  lockNode,
} from './resolve.js';
import { keptMs } from './retention.js';
import type { DeletedNode, LoggedState, Node } from './state.js';

/** Deleted nodes that one page looks at. */
const MAX_LOOKED_AT = 8192;
/** Names of one page fit in a frame's header, whatever the paths. */
const PAGE_BYTES = 512 * 1024;
const ENTRY_BYTES = 96;

export class Trash {
  readonly #state: LoggedState;
  readonly #retentionMs: number;
  readonly #onPurged: (ids: readonly number[]) => void;
  readonly #cursors: DeletedCursors;

  /** @param onPurged hears of what nobody wants any more */
  constructor(state: LoggedState, retentionMs: number, onPurged: (ids: readonly number[]) => void) {
    this.#state = state;
    this.#retentionMs = retentionMs;
    this.#onPurged = onPurged;
    this.#cursors = new DeletedCursors(state);
  }

  list(body: ValueOf<typeof ListDeleted.request>, caller: Credentials): ValueOf<typeof ListDeleted.reply> {
    const limit = Math.min(Math.max(body.limit, 1), MAX_DELETED_PAGE);
    const files: DeletedFile[] = [];
    const cursor = this.#cursors.after(body.after);
    let next = body.after;
    let bytes = 0;
    for (let looked = 0; looked < MAX_LOOKED_AT && files.length < limit && bytes < PAGE_BYTES; looked++) {
      const { value: deleted, done } = cursor.next();
      if (done) return { files, next, end: true };
      next = deleted.id;
      const node = this.#shown(deleted, caller);
      if (node === undefined || !isWanted(deleted.path, body)) continue;
      files.push(this.#describe(deleted, node));
      bytes += ENTRY_BYTES + 2 * deleted.path.length;
    }
    this.#cursors.remember(next, cursor);
    return { files, next, end: false };
  }

  /** @throws NOT_FOUND, ACCESS_DENIED */
  get(id: number, caller: Credentials): DeletedFile {
    const { deleted, node } = this.#find(id, caller);
    return this.#describe(deleted, node);
  }

  undelete(
    body: ValueOf<typeof Undelete.request>,
    caller: Credentials,
  ): Plan<ValueOf<typeof Undelete.reply>> {
    return {
      locks: () => {
        const { parent, name } = this.#destination(body, caller);
        const set = new LockSet();
        lockName(this.#state, set, parent, name, true);
        set.addNode(body.id, true);
        return set;
      },
      validate: (): Decision<ValueOf<typeof Undelete.reply>> => {
        const { parent, name } = this.#destination(body, caller);
        requirePermission(parent, caller, Permission.WRITE | Permission.EXECUTE);
        if (parent.entries.get(name) !== undefined) {
          throw new GfsError('EXISTS', `${name} is taken there: bring it back under another name`);
        }
        checkPathLength(this.#state, parent, name);
        return { event: { type: 'undeleted', id: body.id, parent: parent.id, name } };
      },
    };
  }

  /** INVARIANT: the reply comes before anything is reclaimed, so a file that is open only loses its place in the list. */
  purge({ ids }: ValueOf<typeof Purge.request>, caller: Credentials): Plan<ValueOf<typeof Purge.reply>> {
    const there = (): number[] => ids.filter((id) => this.#state.deleted.has(id));
    return {
      locks: () => {
        const set = new LockSet();
        for (const id of there()) set.addNode(id, true);
        return set;
      },
      validate: () => {
        const purged = there();
        for (const id of purged) this.#find(id, caller);
        if (purged.length === 0) return { reply: { count: 0 } };
        this.#onPurged(purged);
        return { event: { type: 'retentionSet', ids: purged, retentionMs: 0 } };
      },
    };
  }

  retention(id: number): ValueOf<typeof GetRetention.reply> {
    const node = findNode(this.#state, id);
    const own = this.#state.retentions.get(node.id);
    return { retentionMs: own ?? this.#retentionMs, own: own !== undefined };
  }

  setRetention({ id, retentionMs }: ValueOf<typeof SetRetention.request>): Plan<object> {
    return {
      locks: () => {
        const set = new LockSet();
        lockNode(this.#state, set, findNode(this.#state, id));
        return set;
      },
      validate: () => {
        const node = findNode(this.#state, id);
        if (!node.isDirectory && !node.isRegular)
          throw new GfsError('INVALID', `node ${id} is neither a file nor a directory`);
        return {
          event: { type: 'retentionSet', ids: [id], ...(retentionMs === undefined ? {} : { retentionMs }) },
        };
      },
    };
  }

  /** The node of a deleted file that this caller may see. */
  #shown(deleted: DeletedNode, caller: Credentials): Node | undefined {
    const node = this.#state.nodes.get(deleted.id);
    // What is kept for those who have it open alone cannot be brought back by others.
    if (node === undefined || !node.isRegular || this.#keptMs(deleted) === 0) return undefined;
    return isOwner(node, caller) ? node : undefined;
  }

  #find(id: number, caller: Credentials): { readonly deleted: DeletedNode; readonly node: Node } {
    const deleted = this.#state.deleted.get(id);
    const node = this.#state.nodes.get(id);
    if (deleted === undefined || node === undefined || !node.isRegular || this.#keptMs(deleted) === 0)
      throw new GfsError('NOT_FOUND', `${id} is not a deleted file`);
    if (!isOwner(node, caller)) throw new GfsError('ACCESS_DENIED', `deleted file ${id} is somebody else's`);
    return { deleted, node };
  }

  #describe(deleted: DeletedNode, node: Node): DeletedFile {
    const { path, timeSec, timeNsec } = deleted;
    const retentionMs = this.#keptMs(deleted);
    const deletedSec = Math.max(0, timeSec);
    return { attributes: node.attributes(), path, deletedSec, deletedNsec: timeNsec, retentionMs };
  }

  #keptMs(deleted: DeletedNode): number {
    return keptMs(this.#state, deleted, this.#retentionMs);
  }

  /** Where a file is to be brought back. @throws NOT_FOUND that says what to do */
  #destination(
    body: ValueOf<typeof Undelete.request>,
    caller: Credentials,
  ): { readonly parent: DirectoryNode; readonly name: string } {
    const { deleted } = this.#find(body.id, caller);
    const slash = deleted.path.lastIndexOf('/');
    const name = body.name ?? deleted.path.slice(slash + 1);
    checkName(name);
    if (body.parent !== undefined) return { parent: findLiveDirectory(this.#state, body.parent), name };
    const above = deleted.path.slice(0, slash);
    try {
      return { parent: this.#directoryAt(above), name };
    } catch (error) {
      if (!(error instanceof GfsError) || !['NOT_FOUND', 'NOT_DIRECTORY'].includes(error.code)) throw error;
      throw new GfsError('NOT_FOUND', `its directory ${above || '/'} is gone: bring it back somewhere else`);
    }
  }

  #directoryAt(path: string): DirectoryNode {
    let directory = findDirectory(this.#state, ROOT_ID);
    for (const name of path.split('/')) {
      if (name !== '') directory = findDirectory(this.#state, findEntry(directory, name).node);
    }
    return directory;
  }
}

function isWanted(path: string, { under, path: exactly }: ValueOf<typeof ListDeleted.request>): boolean {
  if (exactly !== undefined && path !== exactly) return false;
  return under === undefined || under === '/' || path.startsWith(`${under}/`);
}
