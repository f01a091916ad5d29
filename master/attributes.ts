/** Mutations of one node: its attributes, its length, its extended attributes. */
import { isAclName } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_XATTRS_PER_NODE } from '../protocol/limits.js';
import type {
  AttributeChanges,
  Attributes,
  ExtendFile,
  RemoveXattr,
  SetAttributes,
  SetXattr,
} from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { AccessTimes } from './access-times.js';
import { decideAcl } from './acls.js';
import { LockSet } from './locks.js';
import { Mode, withoutPrivilege } from './mode.js';
import type { Plan } from './mutations.js';
import type { Credentials } from './namespace.js';
import { findNode, lockNode } from './resolve.js';
import type { LoggedState, Node } from './state.js';

interface AttributesReply {
  readonly attributes: Attributes;
}

/** Below it Linux has no time that a file could have. */
const MAX_NSEC = 999_999_999;

export class NodeMutations {
  readonly #state: LoggedState;
  readonly #accessTimes: AccessTimes;

  constructor(state: LoggedState, accessTimes: AccessTimes) {
    this.#state = state;
    this.#accessTimes = accessTimes;
  }

  /** INVARIANT: the leases of the chunks that a `size` cuts are over, and no new ones come. */
  setAttributes(body: ValueOf<typeof SetAttributes.request>, caller: Credentials): Plan<AttributesReply> {
    return {
      locks: () => this.#lock(body.id),
      validate: () => {
        const node = findNode(this.#state, body.id);
        // Also when nothing changes, as with chown(-1, -1): that moves the ctime.
        checkChanges(node, body.changes);
        const changes = effective(node, body.changes, caller);
        const { written } = body;
        if (written !== undefined) {
          checkRegular(node);
          checkTime(written.mtimeNsec);
          if (changes.size !== undefined) throw new GfsError('INVALID', 'written and cut in one');
        }
        if (changes.atimeSec !== undefined) this.#accessTimes.noteSet(node.id);
        const event = { type: 'attributesSet', id: node.id, changes } as const;
        return { event: written === undefined ? event : { ...event, written } };
      },
    };
  }

  extend(body: ValueOf<typeof ExtendFile.request>): Plan<AttributesReply> {
    return {
      locks: () => this.#lock(body.id),
      validate: () => {
        checkRegular(findNode(this.#state, body.id));
        const { id, size, mtimeSec, mtimeNsec = 0 } = body;
        checkTime(mtimeNsec);
        const mtime = mtimeSec === undefined ? {} : { mtimeSec, mtimeNsec };
        return { event: { type: 'extended', id, size, ...mtime } };
      },
    };
  }

  setXattr(body: ValueOf<typeof SetXattr.request>): Plan<object> {
    return {
      locks: () => this.#lock(body.id),
      validate: () => {
        const node = findNode(this.#state, body.id);
        const { xattrs } = node;
        const present = xattrs?.get(body.name);
        const has = present !== undefined;
        if (body.name === '' || body.name.includes('\0')) throw new GfsError('RANGE', 'not a name');
        if (body.mode === 'create' && has) throw new GfsError('EXISTS');
        if (body.mode === 'replace' && !has) throw new GfsError('NO_ATTRIBUTE');
        if (isAclName(body.name)) return decideAcl(node, body.name, body.value, body.dropSetgid ?? false);
        if (!has && (xattrs?.size ?? 0) >= MAX_XATTRS_PER_NODE)
          throw new GfsError('NO_SPACE', 'too many attributes');
        // As ext4 does: nothing has changed, not even the ctime.
        if (has && isSame(present, body.value)) return { reply: {} };
        return { event: { type: 'xattrSet', id: body.id, name: body.name, value: body.value } };
      },
    };
  }

  removeXattr(body: ValueOf<typeof RemoveXattr.request>): Plan<object> {
    return {
      locks: () => this.#lock(body.id),
      validate: () => {
        const node = findNode(this.#state, body.id);
        if (isAclName(body.name)) return decideAcl(node, body.name, undefined, false);
        if (!node.xattrs?.has(body.name)) throw new GfsError('NO_ATTRIBUTE');
        return { event: { type: 'xattrRemoved', ...body } };
      },
    };
  }

  #lock(id: number): LockSet {
    const set = new LockSet();
    lockNode(this.#state, set, findNode(this.#state, id));
    return set;
  }
}

/** @throws IS_DIRECTORY, INVALID */
export function checkRegular(node: Node): void {
  if (node.isDirectory) throw new GfsError('IS_DIRECTORY');
  if (!node.isRegular) throw new GfsError('INVALID', `node ${node.id} is not a file`);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, at) => byte === b[at]);
}

function checkTime(nsec: number | undefined): void {
  if ((nsec ?? 0) > MAX_NSEC) throw new GfsError('INVALID', 'a time');
}

function checkChanges(node: Node, changes: AttributeChanges): void {
  if (changes.size !== undefined) checkRegular(node);
  if ((changes.atimeNsec ?? 0) > MAX_NSEC || (changes.mtimeNsec ?? 0) > MAX_NSEC) {
    throw new GfsError('INVALID', 'a time');
  }
}

/** As Linux does: a new owner, or a write by someone else than root, takes setuid and setgid away. */
function effective(node: Node, changes: AttributeChanges, caller: Credentials): AttributeChanges {
  if (changes.mode !== undefined) return { ...changes, mode: changes.mode & Mode.PERMISSIONS };
  // No change at all is chown(-1, -1), which Linux treats like any other.
  const newOwner =
    changes.uid !== undefined || changes.gid !== undefined || Object.keys(changes).length === 0;
  const written = changes.size !== undefined && caller.uid !== 0;
  if (!newOwner && !written) return changes;
  const mode = withoutPrivilege(node.mode);
  return mode === node.mode ? changes : { ...changes, mode: mode & Mode.PERMISSIONS };
}
