/**
 * `.gfs` in the root of a mount: what the mount tells of itself, and the deleted files. It is the
 * mount's alone; the cluster knows nothing of it. Hidden from readdir, found by its name.
 */
import type { Environment } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { type Attributes, ROOT_ID } from '../../protocol/messages/index.js';
import {
  type AttributeReply,
  type ByteString,
  type Context,
  type DirectoryEntryReply,
  type Entry,
  FileType,
  type FuseHandler,
  type Inode,
  OpenFlags,
  type OpenReply,
  type ReadReply,
} from '../handler.js';
import { HandleTable } from '../handles.js';
import { DOT_GFS, DotGfsInode, deletedId } from './inodes.js';
import type { Oplog } from './oplog.js';
import type { TrashFiles } from './trash-files.js';

/** O_NONBLOCK, as a number of the x86-64 and arm64 ABI. */
const NON_BLOCKING = 0o4000;
/** A deleted file is its owner's alone, whatever its ACL had said. */
const ACL_PREFIX = 'system.posix_acl';
/** What there is does not change; what it says is read anew at each open. */
const TTL_MS = 1000;
/** Cookies of `.` and `..`. */
const DOT = 1;
const DOT_DOT = 2;

/** A file whose content is made when it is opened. */
export interface TextFile {
  readonly inode: Inode;
  readonly name: string;
  readonly text: () => string;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface DotGfsParts {
  readonly environment: Pick<Environment, 'clock'>;
  /** Whose mount it is: reads the oplog, which shows the names of everybody's files. */
  readonly owner: Owner;
  readonly texts: readonly TextFile[];
  readonly oplog: Oplog;
  readonly trash: TrashFiles;
}

type Served = Pick<
  FuseHandler,
  | 'lookup'
  | 'forget'
  | 'getattr'
  | 'setattr'
  | 'open'
  | 'read'
  | 'flush'
  | 'release'
  | 'opendir'
  | 'readdir'
  | 'releasedir'
  | 'unlink'
  | 'rename'
  | 'setxattr'
  | 'getxattr'
  | 'listxattr'
  | 'lseek'
>;

/** Everything that is not here is refused with EPERM. */
export class DotGfs implements Served {
  readonly #parts: DotGfsParts;
  readonly #madeSec: number;
  readonly #open = new HandleTable<Buffer>();
  /** Handles of the oplog that were opened with O_NONBLOCK. */
  readonly #impatient = new Set<number>();

  constructor(parts: DotGfsParts) {
    this.#parts = parts;
    this.#madeSec = parts.environment.clock.wallTime().sec;
  }

  async lookup(context: Context, parent: Inode, name: ByteString): Promise<Entry> {
    if (parent === ROOT_ID) return this.#entry(DotGfsInode.DIRECTORY);
    if (parent === DotGfsInode.TRASH) return this.#parts.trash.lookup(context, name);
    const found = parent === DotGfsInode.DIRECTORY ? this.#children().get(name) : undefined;
    if (found === undefined) throw new GfsError('NOT_FOUND');
    return this.#entry(found);
  }

  forget(): void {}

  async getattr(context: Context, inode: Inode): Promise<AttributeReply> {
    const id = deletedId(inode);
    if (id !== undefined)
      return { attributes: await this.#parts.trash.attributes(context, id), attributeTtlMs: 0 };
    return { attributes: this.#attributes(inode), attributeTtlMs: 0 };
  }

  /** `> .gfs/stats` and `chmod` change nothing here. */
  setattr(): Promise<AttributeReply> {
    return Promise.reject(new GfsError('NOT_PERMITTED', 'nothing can be changed in .gfs'));
  }

  async open(context: Context, inode: Inode, flags: number): Promise<OpenReply> {
    const id = deletedId(inode);
    if ((flags & OpenFlags.ACCMODE) !== OpenFlags.RDONLY)
      throw new GfsError('NOT_PERMITTED', 'nothing can be written in .gfs');
    if (id !== undefined) return this.#parts.trash.open(context, id, flags);
    if (inode === DotGfsInode.OPLOG) {
      const handle = this.#parts.oplog.open();
      if ((flags & NON_BLOCKING) !== 0) this.#impatient.add(handle);
      return { handle, directIo: true, keepCache: false };
    }
    return { handle: this.#open.add(this.#textOf(inode)), directIo: true, keepCache: false };
  }

  async read(
    context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    length: number,
  ): Promise<ReadReply> {
    const id = deletedId(inode);
    if (id !== undefined) return this.#parts.trash.read(context, id, handle, offset, length);
    if (inode === DotGfsInode.OPLOG) {
      const isBlocking = !this.#impatient.has(handle);
      return { buffers: [await this.#parts.oplog.read(handle, length, isBlocking, context.signal)] };
    }
    return { buffers: [this.#open.get(handle).subarray(offset, offset + length)] };
  }

  async flush(): Promise<void> {}

  async release(
    context: Context,
    inode: Inode,
    handle: number,
    lockOwner: bigint,
    unlockFlock: boolean,
  ): Promise<void> {
    const id = deletedId(inode);
    if (id !== undefined) return this.#parts.trash.release(context, id, handle, lockOwner, unlockFlock);
    if (inode === DotGfsInode.OPLOG) {
      this.#parts.oplog.close(handle);
      this.#impatient.delete(handle);
    } else {
      this.#open.take(handle);
    }
  }

  lseek(
    context: Context,
    inode: Inode,
    handle: number,
    offset: number,
    whence: 'data' | 'hole',
  ): Promise<number> {
    const id = deletedId(inode);
    if (id === undefined) return Promise.reject(new GfsError('INVALID', 'it has no holes'));
    return this.#parts.trash.lseek(context, id, handle, offset, whence);
  }

  async opendir(_context: Context, inode: Inode): Promise<OpenReply> {
    const handle = inode === DotGfsInode.TRASH ? this.#parts.trash.openDirectory() : 0;
    // Other mounts delete files too: the listing is not kept.
    return { handle, directIo: true, keepCache: false };
  }

  async readdir(
    context: Context,
    inode: Inode,
    handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<readonly DirectoryEntryReply[]> {
    const parent = inode === DotGfsInode.DIRECTORY ? ROOT_ID : DotGfsInode.DIRECTORY;
    const mode = FileType.DIRECTORY;
    const dots = [
      { name: '.', cookie: DOT, inode, mode },
      { name: '..', cookie: DOT_DOT, inode: parent, mode },
    ].filter((dot) => dot.cookie > cookie);
    if (inode === DotGfsInode.TRASH) {
      return [...dots, ...(await this.#parts.trash.readDirectory(context, handle, cookie, plus, limit))];
    }
    const children = [...this.#children()].map(([name, child], at) => {
      const entry = this.#entry(child);
      const more = plus ? { entry } : {};
      return { name, cookie: DOT_DOT + 1 + at, inode: child, mode: entry.attributes.mode, ...more };
    });
    return [...dots, ...children.filter((child) => child.cookie > cookie)].slice(0, Math.max(1, limit));
  }

  async releasedir(_context: Context, inode: Inode, handle: number): Promise<void> {
    if (inode === DotGfsInode.TRASH) this.#parts.trash.closeDirectory(handle);
  }

  /** In the trash: gives the file up. */
  async unlink(context: Context, parent: Inode, name: ByteString): Promise<void> {
    if (parent !== DotGfsInode.TRASH) throw new GfsError('NOT_PERMITTED');
    await this.#parts.trash.purge(context, name);
  }

  /** Out of the trash: brings the file back. */
  async rename(
    context: Context,
    parent: Inode,
    name: ByteString,
    newParent: Inode,
    newName: ByteString,
    mode: 'replace' | 'noreplace' | 'exchange',
  ): Promise<void> {
    const isOut = parent === DotGfsInode.TRASH && newParent < DotGfsInode.DIRECTORY;
    const isReserved = newParent === ROOT_ID && newName === DOT_GFS;
    if (!isOut || isReserved || mode === 'exchange')
      throw new GfsError('NOT_PERMITTED', 'files are moved out of the trash, never into .gfs');
    await this.#parts.trash.restore(context, name, newParent, newName);
  }

  async setxattr(context: Context, inode: Inode, name: ByteString, value: Uint8Array): Promise<void> {
    const id = deletedId(inode);
    if (id === undefined) throw new GfsError('NOT_SUPPORTED');
    await this.#parts.trash.setxattr(context, id, name, value);
  }

  async getxattr(context: Context, inode: Inode, name: ByteString): Promise<Uint8Array> {
    const id = deletedId(inode);
    // The kernel asks for ACLs before it lets anybody but root look, and takes any other error for a no.
    if (id === undefined || name.startsWith(ACL_PREFIX)) throw new GfsError('NO_ATTRIBUTE');
    return this.#parts.trash.getxattr(context, id, name);
  }

  async listxattr(context: Context, inode: Inode): Promise<readonly ByteString[]> {
    const id = deletedId(inode);
    if (id === undefined) return [];
    const names = await this.#parts.trash.listxattr(context, id);
    return names.filter((name) => !name.startsWith(ACL_PREFIX));
  }

  #children(): ReadonlyMap<string, Inode> {
    const texts = this.#parts.texts.map(({ name, inode }) => [name, inode] as const);
    return new Map([...texts, ['oplog', DotGfsInode.OPLOG], ['trash', DotGfsInode.TRASH]]);
  }

  #textOf(inode: Inode): Buffer {
    const file = this.#parts.texts.find((each) => each.inode === inode);
    if (file === undefined) throw new GfsError('NOT_FOUND');
    return Buffer.from(file.text());
  }

  #entry(inode: Inode): Entry {
    return { attributes: this.#attributes(inode), entryTtlMs: TTL_MS, attributeTtlMs: 0 };
  }

  #attributes(inode: Inode): Attributes {
    const { uid, gid } = this.#parts.owner;
    const { sec, nsec } = this.#parts.environment.clock.wallTime();
    const isText = inode !== DotGfsInode.OPLOG && MODES[inode] === FILE_MODE;
    return {
      id: inode,
      mode: MODES[inode] ?? FILE_MODE,
      nlink: 1,
      uid,
      gid,
      rdev: 0,
      size: isText ? this.#textOf(inode).byteLength : 0,
      ...{ atimeSec: this.#madeSec, atimeNsec: 0, ctimeSec: this.#madeSec, ctimeNsec: 0 },
      ...(isText ? { mtimeSec: sec, mtimeNsec: nsec } : { mtimeSec: this.#madeSec, mtimeNsec: 0 }),
    };
  }
}

const FILE_MODE = FileType.REGULAR | 0o444;
const MODES: Readonly<Record<Inode, number>> = {
  [DotGfsInode.DIRECTORY]: FileType.DIRECTORY | 0o555,
  [DotGfsInode.STATS]: FILE_MODE,
  [DotGfsInode.CONFIG]: FILE_MODE,
  [DotGfsInode.OPLOG]: FileType.REGULAR | 0o400,
  // Sticky: the kernel lets only its owner and root take a file out, or away.
  [DotGfsInode.TRASH]: FileType.DIRECTORY | 0o1777,
};
