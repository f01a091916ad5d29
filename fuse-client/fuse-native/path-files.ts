import type { Clock } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { type Attributes, ROOT_ID } from '../../protocol/messages/index.js';
import type {
  AttributeUpdate,
  ByteString,
  Context,
  DirectoryEntryReply,
  Entry,
  FuseHandler,
  IoctlReply,
  OpenReply,
  StatfsReply,
} from '../handler.js';
import { HandleTable } from './handles.js';
import { InodeTable } from './inodes.js';
import { Names } from './names.js';

/** Entries asked of the handler at once. */
const DIRECTORY_PAGE = 1024;
/** Nobody's lock owner: libfuse 2 does not tell. */
const NO_OWNER = 0n;

/**
 * The handler's inode-based operations by path, as the high-level interface of libfuse 2 asks for them.
 * Paths start with `/`; file handles are the numbers of {@link HandleTable}.
 */
export class PathFiles {
  readonly #handler: FuseHandler;
  readonly #inodes: InodeTable;
  readonly #names: Names;
  readonly #handles: HandleTable;

  constructor(handler: FuseHandler, clock: Clock, maxCachedNames: number) {
    this.#handler = handler;
    this.#inodes = new InodeTable(handler);
    this.#names = new Names(handler, this.#inodes, clock, maxCachedNames);
    this.#handles = new HandleTable(this.#inodes);
  }

  /** libfuse asks it for each LOOKUP of the kernel too, so it always asks for the name anew. */
  async getattr(context: Context, path: ByteString): Promise<Attributes> {
    if (path === '/') return (await this.#handler.getattr(context, ROOT_ID, undefined)).attributes;
    return this.#names.in(context, path, async (parent, name) => {
      const hidden = this.#names.hidden(parent, name);
      if (hidden !== undefined) return (await this.#handler.getattr(context, hidden, undefined)).attributes;
      const { attributes } = await this.#names.lookup(context, parent, name);
      this.#inodes.drop(attributes.id);
      return attributes;
    });
  }

  async fgetattr(context: Context, id: number): Promise<Attributes> {
    const { inode, handle } = this.#handles.get(id);
    return (await this.#handler.getattr(context, inode, handle)).attributes;
  }

  async setattr(context: Context, path: ByteString, update: AttributeUpdate): Promise<void> {
    await this.#names.at(context, path, (inode) => this.#handler.setattr(context, inode, update));
  }

  async ftruncate(context: Context, id: number, size: number): Promise<void> {
    const { inode, handle } = this.#handles.get(id);
    await this.#handler.setattr(context, inode, { size, handle });
  }

  readlink(context: Context, path: ByteString): Promise<ByteString> {
    return this.#names.at(context, path, (inode) => this.#handler.readlink(context, inode));
  }

  mknod(context: Context, path: ByteString, mode: number, rdev: number): Promise<void> {
    return this.#make(context, path, (parent, name) =>
      this.#handler.mknod(context, parent, name, mode, rdev, 0),
    );
  }

  mkdir(context: Context, path: ByteString, mode: number): Promise<void> {
    return this.#make(context, path, (parent, name) => this.#handler.mkdir(context, parent, name, mode, 0));
  }

  symlink(context: Context, path: ByteString, target: ByteString): Promise<void> {
    return this.#make(context, path, (parent, name) => this.#handler.symlink(context, parent, name, target));
  }

  link(context: Context, path: ByteString, newPath: ByteString): Promise<void> {
    return this.#names.at(context, path, (inode) =>
      this.#make(context, newPath, (parent, name) => this.#handler.link(context, inode, parent, name)),
    );
  }

  unlink(context: Context, path: ByteString): Promise<void> {
    return this.#names.in(context, path, async (parent, name) => {
      if (this.#names.unhide(parent, name)) return;
      await this.#change(parent, name, () => this.#handler.unlink(context, parent, name));
    });
  }

  rmdir(context: Context, path: ByteString): Promise<void> {
    return this.#names.in(context, path, async (parent, name) => {
      await this.#requireNothingHidden(context, parent, name);
      await this.#change(parent, name, () => this.#handler.rmdir(context, parent, name));
    });
  }

  rename(context: Context, path: ByteString, newPath: ByteString): Promise<void> {
    return this.#names.in(context, path, (parent, name) =>
      this.#names.in(context, newPath, async (newParent, newName) => {
        if (isHiddenName(newName) && (await this.#hide(context, parent, name, newParent, newName))) return;
        await this.#requireNothingHidden(context, newParent, newName);
        await this.#change(parent, name, () =>
          this.#change(newParent, newName, () =>
            this.#handler.rename(context, parent, name, newParent, newName, 'replace'),
          ),
        );
      }),
    );
  }

  create(context: Context, path: ByteString, mode: number, flags: number): Promise<OpenReply> {
    return this.#names.in(context, path, async (parent, name) => {
      const reply = await this.#handler.create(context, parent, name, mode, flags, 0);
      this.#names.adopt(parent, name, reply.entry);
      const inode = reply.entry.attributes.id;
      const handle = this.#handles.add({ inode, handle: reply.handle, flags });
      this.#inodes.drop(inode);
      return { ...reply, handle };
    });
  }

  open(context: Context, path: ByteString, flags: number): Promise<OpenReply> {
    return this.#names.at(context, path, async (inode) => {
      const reply = await this.#handler.open(context, inode, flags);
      return { ...reply, handle: this.#handles.add({ inode, handle: reply.handle, flags }) };
    });
  }

  /** @returns the bytes put into `target`; fewer than its length at the end of the file */
  async read(context: Context, id: number, target: Uint8Array, offset: number): Promise<number> {
    const { inode, handle } = this.#handles.get(id);
    const { buffers, release } = await this.#handler.read(context, inode, handle, offset, target.length);
    try {
      let length = 0;
      for (const buffer of buffers) {
        target.set(buffer, length);
        length += buffer.length;
      }
      return length;
    } finally {
      release?.();
    }
  }

  async write(context: Context, id: number, data: Uint8Array, offset: number): Promise<number> {
    const { inode, handle, flags } = this.#handles.get(id);
    return this.#handler.write(context, inode, handle, offset, data, flags);
  }

  async flush(context: Context, id: number): Promise<void> {
    const { inode, handle } = this.#handles.get(id);
    await this.#handler.flush(context, inode, handle, NO_OWNER);
  }

  async fsync(context: Context, id: number, dataOnly: boolean): Promise<void> {
    const { inode, handle } = this.#handles.get(id);
    await this.#handler.fsync(context, inode, handle, dataOnly);
  }

  async release(context: Context, id: number): Promise<void> {
    const { inode, handle } = this.#handles.get(id);
    try {
      await this.#handler.release(context, inode, handle, NO_OWNER, false);
    } finally {
      this.#handles.remove(id);
    }
  }

  /** The whole directory: libfuse 2 asks once and keeps it for the descriptor. */
  readdir(context: Context, path: ByteString): Promise<DirectoryEntryReply[]> {
    return this.#withDirectory(context, path, async (inode, handle) => {
      const entries: DirectoryEntryReply[] = [];
      for (let cookie = 0; ; cookie = entries.at(-1)!.cookie) {
        const page = await this.#handler.readdir(context, inode, handle, cookie, false, DIRECTORY_PAGE);
        if (page.length === 0) return entries;
        for (const entry of page) entries.push(entry);
      }
    });
  }

  fsyncdir(context: Context, path: ByteString, dataOnly: boolean): Promise<void> {
    return this.#withDirectory(context, path, (inode, handle) =>
      this.#handler.fsyncdir(context, inode, handle, dataOnly),
    );
  }

  statfs(context: Context, path: ByteString): Promise<StatfsReply> {
    return this.#names.at(context, path, (inode) => this.#handler.statfs(context, inode));
  }

  setxattr(
    context: Context,
    path: ByteString,
    name: ByteString,
    value: Uint8Array,
    mode: 'either' | 'create' | 'replace',
  ): Promise<void> {
    return this.#names.at(context, path, (inode) =>
      this.#handler.setxattr(context, inode, name, value, mode, false),
    );
  }

  getxattr(context: Context, path: ByteString, name: ByteString): Promise<Uint8Array> {
    return this.#names.at(context, path, (inode) => this.#handler.getxattr(context, inode, name));
  }

  listxattr(context: Context, path: ByteString): Promise<readonly ByteString[]> {
    return this.#names.at(context, path, (inode) => this.#handler.listxattr(context, inode));
  }

  removexattr(context: Context, path: ByteString, name: ByteString): Promise<void> {
    return this.#names.at(context, path, (inode) => this.#handler.removexattr(context, inode, name));
  }

  /** @param id of the open file; a directory has none, and is found by its path */
  async ioctl(
    context: Context,
    path: ByteString,
    id: number | undefined,
    command: number,
    input: Uint8Array,
    outputBytes: number,
  ): Promise<IoctlReply> {
    if (id !== undefined) {
      const { inode, handle } = this.#handles.get(id);
      return this.#handler.ioctl(context, inode, handle, command, input, outputBytes, false);
    }
    return this.#withDirectory(context, path, (inode, handle) =>
      this.#handler.ioctl(context, inode, handle, command, input, outputBytes, true),
    );
  }

  /** Releases what is open and gives every inode back, at the end of the mount. */
  async close(context: Context): Promise<void> {
    await Promise.allSettled(this.#handles.ids().map((id) => this.release(context, id)));
    this.#names.clear();
  }

  async #make(
    context: Context,
    path: ByteString,
    make: (parent: number, name: ByteString) => Promise<Entry>,
  ): Promise<void> {
    await this.#names.in(context, path, async (parent, name) => {
      const entry = await make(parent, name);
      this.#names.changed(parent, name);
      this.#names.adopt(parent, name, entry);
      this.#inodes.drop(entry.attributes.id);
    });
  }

  async #change(parent: number, name: ByteString, change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } finally {
      this.#names.changed(parent, name);
    }
  }

  /**
   * libfuse hides a file that is unlinked, or replaced by a rename, while it is open here: it renames
   * it and unlinks the new name after the last close, because its own table has no path without a
   * name (with `hard_remove` it would answer every read of such a file with ENOENT). A hidden file in
   * the cluster would be seen by other mounts, keep its directory from being removed, and stay for
   * ever after a crash. So the file is unlinked at once, and only this mount knows libfuse's name.
   *
   * @returns false when it is no open file: then somebody really uses such a name
   */
  async #hide(
    context: Context,
    parent: number,
    name: ByteString,
    newParent: number,
    newName: ByteString,
  ): Promise<boolean> {
    const inode = (await this.#names.lookup(context, parent, name)).attributes.id;
    try {
      if (!this.#handles.isOpen(inode)) return false;
      await this.#change(parent, name, () => this.#handler.unlink(context, parent, name));
      this.#inodes.hold(inode);
      this.#names.hide(newParent, newName, inode);
      return true;
    } finally {
      this.#inodes.drop(inode);
    }
  }

  /**
   * A directory that an open file was unlinked from cannot go before that file is closed, as with
   * libfuse's own hidden files: libfuse would call for the open file with no path at all, which the
   * package cannot take.
   *
   * @throws NOT_EMPTY
   */
  async #requireNothingHidden(context: Context, parent: number, name: ByteString): Promise<void> {
    if (!this.#names.hides()) return;
    const found = await this.#names.lookup(context, parent, name).catch(() => undefined);
    if (found === undefined) return;
    const directory = found.attributes.id;
    this.#inodes.drop(directory);
    if (this.#names.hides(directory))
      throw new GfsError('NOT_EMPTY', 'a file unlinked from it is still open');
  }

  /** Opens a directory for one operation: the package's readdir does not say which descriptor it is for. */
  #withDirectory<T>(
    context: Context,
    path: ByteString,
    body: (inode: number, handle: number) => Promise<T>,
  ): Promise<T> {
    return this.#names.at(context, path, async (inode) => {
      const { handle } = await this.#handler.opendir(context, inode);
      try {
        return await body(inode, handle);
      } finally {
        await this.#handler.releasedir(context, inode, handle);
      }
    });
  }
}

/** The names that libfuse 2 makes up (`hidden_name` in its lib/fuse.c). */
function isHiddenName(name: ByteString): boolean {
  return /^\.fuse_hidden[0-9a-f]{16}$/.test(name);
}
