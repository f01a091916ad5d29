/** Mutations of names: create, symlink, link, unlink, rename. Each is a plan: what to lock, what to log. */

import { GfsError } from '../protocol/errors.js';
import { MAX_LINKS } from '../protocol/limits.js';
import type {
  Attributes,
  Create,
  CreateTmpfile,
  Link,
  Rename,
  Symlink,
  Unlink,
} from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { type Inherited, inheritedBy } from './acls.js';
import type { Allocator } from './allocator.js';
import { isUnnamed } from './deleted-table.js';
import { LockSet, RENAME_LOCK } from './locks.js';
import { isDirectory, Mode } from './mode.js';
import type { Decision, Plan } from './mutations.js';
import {
  checkName,
  checkPathLength,
  type DirectoryNode,
  findDirectory,
  findEntry,
  findLiveDirectory,
  findNode,
  livePath,
  lockName,
  lockPrefixes,
} from './resolve.js';
import type { LoggedState, Node } from './state.js';

/** Who asks: becomes the owner of what is made. */
export interface Credentials {
  readonly uid: number;
  readonly gids: readonly number[];
}

interface AttributesReply {
  readonly attributes: Attributes;
}

const CREATABLE = new Set<number>([
  Mode.REGULAR,
  Mode.DIRECTORY,
  Mode.FIFO,
  Mode.SOCKET,
  Mode.CHARACTER,
  Mode.BLOCK,
]);

export class Namespace {
  readonly #state: LoggedState;
  readonly #allocator: Allocator;
  /** Creating and deleting a name write-locks its directory as well (one of the seeds; the paper does not). */
  readonly #parentWrite: boolean;

  constructor(state: LoggedState, allocator: Allocator, parentLock: 'shared' | 'exclusive') {
    this.#state = state;
    this.#allocator = allocator;
    this.#parentWrite = parentLock === 'exclusive';
  }

  create(body: ValueOf<typeof Create.request>, owner: Credentials): Plan<ValueOf<typeof Create.reply>> {
    const type = body.mode & Mode.TYPE || Mode.REGULAR;
    return {
      locks: () => this.#lockNewName(body.parent, body.name),
      validate: () => {
        if (!CREATABLE.has(type)) throw new GfsError('INVALID', `a node of type ${type.toString(8)}`);
        const parent = findLiveDirectory(this.#state, body.parent);
        const existing = parent.entries.get(body.name);
        if (existing !== undefined) {
          if (body.exclusive || type !== Mode.REGULAR) throw new GfsError('EXISTS');
          const node = findNode(this.#state, existing.node);
          if (node.isDirectory) throw new GfsError('IS_DIRECTORY');
          return { reply: { attributes: node.attributes(), created: false } };
        }
        const mode = type | (body.mode & Mode.PERMISSIONS);
        return this.#make(parent, body.name, inheritedBy(parent, mode, body.umask ?? 0), owner, body.rdev);
      },
    };
  }

  symlink(body: ValueOf<typeof Symlink.request>, owner: Credentials): Plan<AttributesReply> {
    return {
      locks: () => this.#lockNewName(body.parent, body.name),
      validate: () => {
        if (body.target === '' || body.target.includes('\0'))
          throw new GfsError('INVALID', 'a link to nothing');
        const parent = findLiveDirectory(this.#state, body.parent);
        if (parent.entries.get(body.name) !== undefined) throw new GfsError('EXISTS');
        return this.#make(parent, body.name, { mode: Mode.SYMLINK | 0o777 }, owner, 0, body.target);
      },
    };
  }

  #make(
    parent: DirectoryNode,
    name: string,
    { mode, ...acls }: Inherited,
    owner: Credentials,
    rdev: number,
    target?: string,
  ): Decision<never> {
    checkPathLength(this.#state, parent, name);
    if (isDirectory(mode) && parent.nlink >= MAX_LINKS) throw new GfsError('TOO_MANY_LINKS');
    const handsDown = isDirectory(mode) && (parent.mode & Mode.SETGID) !== 0;
    return {
      event: {
        type: 'created',
        parent: parent.id,
        name,
        id: this.#allocator.nodeIds(),
        mode: handsDown ? mode | Mode.SETGID : mode,
        ...ownership(parent, owner),
        rdev,
        ...(target === undefined ? {} : { target }),
        ...acls,
      },
    };
  }

  /** A file without a name: nothing in its directory changes. */
  createTmpfile(
    body: ValueOf<typeof CreateTmpfile.request>,
    owner: Credentials,
  ): Plan<ValueOf<typeof CreateTmpfile.reply>> {
    return {
      locks: () => {
        const set = new LockSet();
        lockPrefixes(this.#state, set, this.#directoryOfTmpfile(body.parent));
        return set;
      },
      validate: () => {
        const parent = this.#directoryOfTmpfile(body.parent);
        const mode = Mode.REGULAR | (body.mode & Mode.PERMISSIONS);
        return {
          event: {
            type: 'tmpfileCreated',
            parent: parent.id,
            id: this.#allocator.nodeIds(),
            ...ownership(parent, owner),
            ...inheritedBy(parent, mode, body.umask ?? 0),
          },
        };
      },
    };
  }

  /** One more name; the first, of a file that was made without. */
  link(body: ValueOf<typeof Link.request>): Plan<AttributesReply> {
    return {
      locks: () => {
        const set = this.#lockNewName(body.parent, body.name);
        set.addNode(body.id, true);
        return set;
      },
      validate: () => {
        const node = findNode(this.#state, body.id);
        if (node.isDirectory) throw new GfsError('NOT_PERMITTED', 'a second name for a directory');
        if (node.nlink === 0 && !this.#isUnnamed(node))
          throw new GfsError('NOT_FOUND', `node ${node.id} is deleted`);
        if (node.nlink >= MAX_LINKS) throw new GfsError('TOO_MANY_LINKS');
        const parent = findLiveDirectory(this.#state, body.parent);
        if (parent.entries.get(body.name) !== undefined) throw new GfsError('EXISTS');
        checkPathLength(this.#state, parent, body.name);
        return { event: { type: 'linked', ...body } };
      },
    };
  }

  #directoryOfTmpfile(id: number): DirectoryNode {
    const parent = findDirectory(this.#state, id);
    // As ext4 has it.
    if (parent.nlink === 0) throw new GfsError('NOT_PERMITTED', `directory ${id} was removed`);
    return parent;
  }

  #isUnnamed(node: Node): boolean {
    const deleted = this.#state.deleted.get(node.id);
    return deleted !== undefined && isUnnamed(deleted);
  }

  unlink(body: ValueOf<typeof Unlink.request>): Plan<ValueOf<typeof Unlink.reply>> {
    return {
      locks: () => {
        const parent = this.#directory(body.parent, body.name);
        const set = new LockSet();
        lockName(this.#state, set, parent, body.name, true, this.#parentWrite);
        set.addNode(findEntry(parent, body.name).node, true);
        return set;
      },
      validate: () => {
        const parent = findLiveDirectory(this.#state, body.parent);
        const node = findNode(this.#state, findEntry(parent, body.name).node);
        if (body.directory) checkRemovable(node);
        else if (node.isDirectory) throw new GfsError('IS_DIRECTORY');
        return { event: { type: 'unlinked', parent: body.parent, name: body.name } };
      },
    };
  }

  rename(body: ValueOf<typeof Rename.request>): Plan<object> {
    return { locks: () => this.#lockRename(body), validate: () => this.#validateRename(body) };
  }

  #lockRename(body: ValueOf<typeof Rename.request>): LockSet {
    const from = this.#directory(body.parent, body.name);
    const to = this.#directory(body.newParent, body.newName);
    const moved = findNode(this.#state, findEntry(from, body.name).node);
    const target = to.entries.get(body.newName);
    const set = new LockSet();
    const targetNode = target === undefined ? undefined : findNode(this.#state, target.node);
    if (moved.isDirectory || (body.mode === 'exchange' && targetNode?.isDirectory)) {
      set.add(RENAME_LOCK.key, RENAME_LOCK.level, true);
    }
    lockName(this.#state, set, from, body.name, true, this.#parentWrite);
    lockName(this.#state, set, to, body.newName, true, this.#parentWrite);
    set.addNode(moved.id, true);
    if (targetNode !== undefined) set.addNode(targetNode.id, true);
    return set;
  }

  #validateRename(body: ValueOf<typeof Rename.request>): Decision<object> {
    const from = findLiveDirectory(this.#state, body.parent);
    const to = findLiveDirectory(this.#state, body.newParent);
    const moved = findNode(this.#state, findEntry(from, body.name).node);
    const entry = to.entries.get(body.newName);
    const target = entry === undefined ? undefined : findNode(this.#state, entry.node);
    if (moved.isDirectory && this.#isInside(to, moved)) throw new GfsError('INVALID', 'into its own subtree');
    if (body.mode === 'noreplace' && target !== undefined) throw new GfsError('EXISTS');
    if (body.mode === 'exchange') {
      if (target === undefined) throw new GfsError('NOT_FOUND');
      if (target.isDirectory && this.#isInside(from, target))
        throw new GfsError('INVALID', 'into its own subtree');
    } else if (target !== undefined && target.id !== moved.id) {
      checkReplaceable(moved, target, this.#isInside(from, target));
    }
    // rename(2): two names of one file stay as they are.
    if (target?.id === moved.id) return { reply: {} };
    checkPathLength(this.#state, to, body.newName);
    if (moved.isDirectory && from.id !== to.id && to.nlink >= MAX_LINKS) throw new GfsError('TOO_MANY_LINKS');
    const { parent, name, newParent, newName, mode } = body;
    return { event: { type: 'renamed', parent, name, newParent, newName, exchange: mode === 'exchange' } };
  }

  /** Whether `directory` is `ancestor`, or below it. */
  #isInside(directory: Node, ancestor: Node): boolean {
    if (!ancestor.isDirectory) return false;
    const path = livePath(this.#state, directory);
    const above = livePath(this.#state, ancestor);
    return path === above || path.startsWith(`${above}/`);
  }

  #directory(id: number, name: string): DirectoryNode {
    checkName(name);
    return findLiveDirectory(this.#state, id);
  }

  #lockNewName(parent: number, name: string): LockSet {
    const set = new LockSet();
    lockName(this.#state, set, this.#directory(parent, name), name, true, this.#parentWrite);
    return set;
  }
}

/** Of what is made in `parent`: set-group-ID on a directory hands its group down. */
function ownership(parent: Node, owner: Credentials): { readonly uid: number; readonly gid: number } {
  const inheritsGroup = (parent.mode & Mode.SETGID) !== 0;
  return { uid: owner.uid, gid: inheritsGroup ? parent.gid : (owner.gids[0] ?? 0) };
}

function checkRemovable(node: Node): void {
  if (node.entries === undefined) throw new GfsError('NOT_DIRECTORY');
  if (node.entries.size > 0) throw new GfsError('NOT_EMPTY');
}

function checkReplaceable(moved: Node, target: Node, holdsSource: boolean): void {
  if (moved.isDirectory) checkRemovable(target);
  else if (target.isDirectory) throw new GfsError(holdsSource ? 'NOT_EMPTY' : 'IS_DIRECTORY');
}
