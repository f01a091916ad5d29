/**
 * Set-user-ID and set-group-ID bits fall when somebody else writes to a file, truncates it or changes
 * its owner. The kernel leaves that to us (FUSE_HANDLE_KILLPRIV_V2), for otherwise it would ask for
 * `security.capability` before every write.
 */
import type { Attributes } from '../../protocol/messages/index.js';
import {
  type AttributeReply,
  type AttributeUpdate,
  type Context,
  FileType,
  type FuseHandler,
  type Inode,
} from '../handler.js';
import type { Request } from './request.js';

const SET_USER_ID = 0o4000;
const SET_GROUP_ID = 0o2000;
const GROUP_EXECUTE = 0o010;

/** Inodes remembered to have no such bits. When there are more, all are forgotten and asked for again. */
const MAX_REMEMBERED = 16_384;

/** The mode without the bits that fall, as the kernel's own setattr_should_drop_suidgid() has it. */
export function withoutPrivileges(attributes: Attributes): number {
  const { mode } = attributes;
  if ((mode & FileType.MASK) !== FileType.REGULAR) return mode;
  return mode & ~SET_USER_ID & ~(mode & GROUP_EXECUTE ? SET_GROUP_ID : 0);
}

export class Privileges {
  readonly #handler: FuseHandler;
  readonly #clear = new Set<Inode>();

  constructor(handler: FuseHandler) {
    this.#handler = handler;
  }

  /** The mode may have changed, here or on another mount. */
  forget(inode: Inode): void {
    this.#clear.delete(inode);
  }

  /** A write by one whom the bits must not survive. `written` is under way: its data is borrowed. */
  async afterWrite(request: Request, written: Promise<number>): Promise<number> {
    const count = await written;
    if (!this.#clear.has(request.inode)) {
      const { attributes } = await this.#handler.getattr(request, request.inode, undefined);
      await this.#drop(request, attributes);
      if (this.#clear.size >= MAX_REMEMBERED) this.#clear.clear();
      this.#clear.add(request.inode);
    }
    return count;
  }

  /** SETATTR; `kill` when it truncates for such a one or changes the owner. */
  async setattr(request: Request, update: AttributeUpdate, kill: boolean): Promise<AttributeReply> {
    if (update.mode !== undefined) this.forget(request.inode);
    const reply = await this.#handler.setattr(request, request.inode, update);
    if (!kill || update.mode !== undefined) return reply;
    return (await this.#drop(request, reply.attributes)) ?? reply;
  }

  async #drop(request: Request, attributes: Attributes): Promise<AttributeReply | undefined> {
    const mode = withoutPrivileges(attributes);
    if (mode === attributes.mode) return undefined;
    // Not in the name of the caller, who need not be the owner.
    const asRoot: Context = { uid: 0, gid: 0, pid: request.pid, signal: request.signal };
    return await this.#handler.setattr(asRoot, request.inode, { mode: mode & ~FileType.MASK });
  }
}
