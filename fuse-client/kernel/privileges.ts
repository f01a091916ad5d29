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

/**
 * The mode without the bits that fall, as the kernel's own setattr_should_drop_suidgid() has it: without
 * execution by the group, set-group-ID falls only for those who are not in it, and not for root.
 */
export function withoutPrivileges({ mode, gid }: Attributes, isMember: (gid: number) => boolean): number {
  if ((mode & FileType.MASK) !== FileType.REGULAR || (mode & (SET_USER_ID | SET_GROUP_ID)) === 0) return mode;
  const dropsGroup = (mode & SET_GROUP_ID) !== 0 && ((mode & GROUP_EXECUTE) !== 0 || !isMember(gid));
  return mode & ~SET_USER_ID & ~(dropsGroup ? SET_GROUP_ID : 0);
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
  async afterWrite<T>(request: Request, written: Promise<T>, inode: Inode = request.inode): Promise<T> {
    const result = await written;
    if (!this.#clear.has(inode)) {
      const { attributes } = await this.#handler.getattr(request, inode, undefined);
      const now = (await this.#drop(request, inode, attributes))?.attributes ?? attributes;
      // Set-group-ID may have stayed, for a writer who is in the group.
      if ((now.mode & (SET_USER_ID | SET_GROUP_ID)) === 0) this.#rememberClear(inode);
    }
    return result;
  }

  /** As {@link afterWrite}, for fallocate and copy_file_range, where the kernel does not say whose it is. */
  afterChange<T>(request: Request, done: Promise<T>, inode: Inode = request.inode): Promise<T> {
    return request.uid === 0 ? done : this.afterWrite(request, done, inode);
  }

  #rememberClear(inode: Inode): void {
    if (this.#clear.size >= MAX_REMEMBERED) this.#clear.clear();
    this.#clear.add(inode);
  }

  /** SETATTR; `kill` when it truncates for such a one or changes the owner. */
  async setattr(request: Request, update: AttributeUpdate, kill: boolean): Promise<AttributeReply> {
    if (update.mode !== undefined) this.forget(request.inode);
    // Whether the caller is in the group is asked of the group that the file had.
    const isGiven = kill && update.gid !== undefined && request.uid !== 0;
    const before = isGiven ? await this.#handler.getattr(request, request.inode, undefined) : undefined;
    const reply = await this.#handler.setattr(request, request.inode, update);
    if (update.mode !== undefined) return reply;
    const { uid } = reply.attributes;
    // chown(-1, -1). Of others it cannot be told from what precedes a write, which drops them itself.
    const dropsThem = Object.keys(update).length === 0 && (request.uid === 0 || request.uid === uid);
    if (!kill && !dropsThem) return reply;
    const gid = before?.attributes.gid ?? reply.attributes.gid;
    return (await this.#drop(request, request.inode, { ...reply.attributes, gid })) ?? reply;
  }

  async #drop(request: Request, inode: Inode, attributes: Attributes): Promise<AttributeReply | undefined> {
    const mode = withoutPrivileges(attributes, (gid) => request.uid === 0 || request.groups.includes(gid));
    if (mode === attributes.mode) return undefined;
    // Not in the name of the caller, who need not be the owner.
    const asRoot: Context = { uid: 0, gid: 0, pid: request.pid, signal: request.signal };
    return await this.#handler.setattr(asRoot, inode, { mode: mode & ~FileType.MASK });
  }
}
