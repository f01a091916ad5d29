/**
 * The directory `.gfs/trash`: deleted files under dated names, to be looked at, read, moved out (which
 * brings them back) and removed (which gives them up). Each shows those of whoever looks; root sees all.
 */
import type { GfsClient } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import { MAX_NAME_BYTES } from '../../protocol/limits.js';
import {
  type Attributes,
  type DeletedFile,
  GetAttributes,
  GetDeleted,
  ListDeleted,
  LookupPath,
  Purge,
  Undelete,
} from '../../protocol/messages/index.js';
import { authorisedContext } from '../access.js';
import type {
  Answer,
  ByteString,
  Context,
  DirectoryEntryReply,
  Entry,
  FuseHandler,
  Inode,
  OpenReply,
  ReadReply,
} from '../handler.js';
import { HandleTable } from '../handles.js';
import type { InodeMap } from '../inodes.js';
import type { HandlerOptions } from '../options.js';
import { clusterPath } from '../user-paths.js';
import { deletedInode } from './inodes.js';

/** Behind those of `.` and `..`; a file's cookie is its id, moved up by them. */
const FIRST_COOKIE = 2;
/** Only the owner's bits: the directory that kept others away is not above it any more. */
const OWNER_BITS = 0o170700;
const PAGE = 256;

interface OpenDirectory {
  page: readonly DeletedFile[];
  /** The master's cursor that the page was read from, and the one behind it. */
  from: number;
  next: number;
  end: boolean;
}

export class TrashFiles {
  readonly #client: GfsClient;
  readonly #inner: FuseHandler;
  readonly #inodes: InodeMap;
  readonly #options: Pick<HandlerOptions, 'path' | 'directory'>;
  readonly #directories = new HandleTable<OpenDirectory>();

  constructor(
    client: GfsClient,
    inner: FuseHandler,
    inodes: InodeMap,
    options: Pick<HandlerOptions, 'path' | 'directory'>,
  ) {
    this.#client = client;
    this.#inner = inner;
    this.#inodes = inodes;
    this.#options = options;
  }

  async lookup(context: Context, name: ByteString): Promise<Entry> {
    return entryOf(await this.#find(context, name));
  }

  async attributes(context: Context, id: number): Promise<Attributes> {
    try {
      return shown((await this.#get(context, id)).attributes);
    } catch (error) {
      // Brought back while somebody has it open from here.
      if (!(error instanceof GfsError) || error.code !== 'NOT_FOUND') throw error;
      return shown(
        (await this.#client.master.query(GetAttributes, { id }, authorisedContext(context))).attributes,
      );
    }
  }

  open(context: Context, id: number, flags: number): Answer<OpenReply> {
    return this.#inner.open(context, id, flags);
  }

  read(context: Context, id: number, handle: number, offset: number, length: number): Promise<ReadReply> {
    return this.#inner.read(context, id, handle, offset, length);
  }

  release(
    context: Context,
    id: number,
    handle: number,
    lockOwner: bigint,
    unlockFlock: boolean,
  ): Answer<void> {
    return this.#inner.release(context, id, handle, lockOwner, unlockFlock);
  }

  lseek(
    context: Context,
    id: number,
    handle: number,
    offset: number,
    whence: 'data' | 'hole',
  ): Promise<number> {
    return this.#inner.lseek(context, id, handle, offset, whence);
  }

  openDirectory(): number {
    return this.#directories.add({ page: [], from: -1, next: 0, end: false });
  }

  closeDirectory(handle: number): void {
    this.#directories.take(handle);
  }

  async readDirectory(
    context: Context,
    handle: number,
    cookie: number,
    plus: boolean,
    limit: number,
  ): Promise<readonly DirectoryEntryReply[]> {
    const directory = this.#directories.get(handle);
    const files = await this.#filesAfter(context, directory, Math.max(0, cookie - FIRST_COOKIE));
    return files.slice(0, Math.max(1, limit)).map((file) => {
      const entry = entryOf(file);
      const { id, mode } = entry.attributes;
      const place = { cookie: file.attributes.id + FIRST_COOKIE, inode: id, mode };
      return { name: nameOf(file), ...place, ...(plus ? { entry } : {}) };
    });
  }

  /** What follows the file `after`, from the page at hand where it is in it. Empty: the end. */
  async #filesAfter(
    context: Context,
    directory: OpenDirectory,
    after: number,
  ): Promise<readonly DeletedFile[]> {
    const at = directory.page.findIndex(({ attributes }) => attributes.id === after);
    const rest = directory.page.slice(at + 1);
    if (at >= 0 && rest.length > 0) return rest;
    const isAtEnd = at >= 0;
    let from = after;
    if (isAtEnd) {
      if (directory.end) return [];
      from = directory.next;
    } else if (directory.from === after && directory.page.length > 0) {
      return directory.page;
    }
    const under = this.#options.path === '/' ? {} : { under: this.#options.path };
    for (;;) {
      const body = { after: from, limit: PAGE, ...under };
      const { files, next, end } = await this.#client.master.query(
        ListDeleted,
        body,
        authorisedContext(context),
      );
      Object.assign(directory, { page: files, from, next, end });
      if (files.length > 0 || end) return files;
      from = next;
    }
  }

  /** `rm`: the file is given up. */
  async purge(context: Context, name: ByteString): Promise<void> {
    const { attributes } = await this.#find(context, name);
    await this.#client.master.mutate(Purge, { ids: [attributes.id] }, authorisedContext(context));
  }

  /** `mv` to elsewhere in the mount: the file is brought back. */
  async restore(context: Context, name: ByteString, parent: Inode, newName: ByteString): Promise<void> {
    const { attributes } = await this.#find(context, name);
    const body = { id: attributes.id, parent: this.#inodes.toNode(parent), name: newName };
    await this.#client.master.mutate(Undelete, body, authorisedContext(context));
  }

  /** `user.gfs.undelete`: the destination, as for a snapshot; empty for the path that it had. */
  async setxattr(context: Context, id: number, name: ByteString, value: Uint8Array): Promise<void> {
    if (name !== 'user.gfs.undelete') throw new GfsError('NOT_PERMITTED', 'a deleted file is not changed');
    const call = authorisedContext(context);
    const { path } = await this.#get(context, id);
    const destination = Buffer.from(value).toString('latin1').replace(/\0$/, '');
    const wanted =
      destination === ''
        ? path
        : clusterPath(this.#options, destination, path.slice(0, path.lastIndexOf('/')));
    const slash = wanted.lastIndexOf('/');
    const directory = { path: wanted.slice(0, slash) || '/' };
    const { attributes } = await this.#client.master.query(LookupPath, directory, call);
    await this.#client.master.mutate(
      Undelete,
      { id, parent: attributes.id, name: wanted.slice(slash + 1) },
      call,
    );
  }

  async getxattr(context: Context, id: number, name: ByteString): Promise<Uint8Array> {
    if (name !== 'user.gfs.path') return this.#inner.getxattr(context, id, name);
    return Buffer.from((await this.#get(context, id)).path, 'latin1');
  }

  listxattr(context: Context, id: number): Promise<readonly ByteString[]> {
    return this.#inner.listxattr(context, id);
  }

  #get(context: Context, id: number): Promise<DeletedFile> {
    return this.#client.master.query(GetDeleted, { id }, authorisedContext(context));
  }

  /** @throws NOT_FOUND, also for a file of another subtree than the mount's */
  async #find(context: Context, name: ByteString): Promise<DeletedFile> {
    const id = Number(/^\d{8}-\d{6}\.(\d{1,15})\./.exec(name)?.[1]);
    if (!Number.isSafeInteger(id)) throw new GfsError('NOT_FOUND');
    const file = await this.#get(context, id);
    const root = this.#options.path === '/' ? '' : this.#options.path;
    if (nameOf(file) !== name || !file.path.startsWith(`${root}/`)) throw new GfsError('NOT_FOUND');
    return file;
  }
}

/** `20261122-064512.1234.report.txt`: when it was deleted, its id, the name that it had. */
function nameOf({ attributes, path, deletedSec }: DeletedFile): ByteString {
  const date = new Date(deletedSec * 1000)
    .toISOString()
    .replaceAll(/[-:]/g, '')
    .slice(0, 15)
    .replace('T', '-');
  return `${date}.${attributes.id}.${path.slice(path.lastIndexOf('/') + 1)}`.slice(0, MAX_NAME_BYTES);
}

/** The kernel asks anew each time: a file may have been brought back by another mount. */
function entryOf({ attributes }: DeletedFile): Entry {
  return { attributes: shown(attributes), entryTtlMs: 0, attributeTtlMs: 0 };
}

function shown(attributes: Attributes): Attributes {
  return { ...attributes, id: deletedInode(attributes.id), mode: attributes.mode & OWNER_BITS, nlink: 1 };
}
