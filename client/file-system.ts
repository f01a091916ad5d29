/**
 * The client library for other programs: paths and bytes, as `node:fs` has them, and what GFS adds to it
 * (paper §2.2: create, delete, open, close, read, write, snapshot, record append). See docs/client.md.
 *
 * Paths are absolute, from the cluster's root; the library does not follow symbolic links. Every failure
 * is a GfsError with `code` (of docs/formats/wire.md) and `errno`.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_DIRECTORY_PAGE } from '../protocol/limits.js';
import {
  type Attributes,
  Create,
  LookupPath,
  ReadDirectory,
  Rename,
  Snapshot,
  Unlink,
} from '../protocol/messages/index.js';
import { GfsFile } from './file.js';
import type { GfsClient } from './index.js';
import type { CallContext } from './retry.js';
import { type FileStat, fromBytes, S_IFDIR, S_IFMT, S_IFREG, statOf, toBytes } from './stat.js';
import { type Watched, Watches } from './watch.js';

export interface OpenFlags {
  /** Make the file when it is missing. */
  readonly create?: boolean;
  /** With `create`: EXISTS when it is there. */
  readonly exclusive?: boolean;
  /** Cut it to nothing. */
  readonly truncate?: boolean;
  /** Permission bits of a new file; 0o644. */
  readonly mode?: number;
}

export interface DirectoryItem {
  readonly name: string;
  readonly stat: FileStat;
}

interface Place {
  readonly parent: number;
  readonly name: string;
}

export class FileSystem {
  readonly #client: GfsClient;
  readonly #caller: CallContext;
  readonly #watches: Watches;

  /**
   * @param caller on whose behalf; new files belong to its uid and first gid
   * @param watches of the client, which has one of them
   */
  constructor(client: GfsClient, caller: CallContext = {}, watches: Watches = new Watches(client.master)) {
    this.#client = client;
    this.#caller = caller;
    this.#watches = watches;
  }

  /**
   * The same cluster for calls that somebody may give up: they, and reads of files opened this way, fail with
   * CANCELLED once the signal aborts. A change that was under way then may have happened. What goes into files is
   * not given up half-way.
   */
  with(signal: AbortSignal): FileSystem {
    return new FileSystem(this.#client, { ...this.#caller, signal }, this.#watches);
  }

  /** @throws NOT_FOUND, IS_DIRECTORY, EXISTS */
  async open(path: string, flags: OpenFlags = {}): Promise<GfsFile> {
    const { attributes, isNew } = flags.create ? await this.#create(path, flags) : await this.#existing(path);
    if ((attributes.mode & S_IFMT) === S_IFDIR) throw new GfsError('IS_DIRECTORY', path);
    if ((attributes.mode & S_IFMT) !== S_IFREG) throw new GfsError('INVALID', `${path} is not a file`);
    const open = await this.#client.open(attributes.id, this.#caller, isNew);
    const file = new GfsFile(this.#client, open, this.#caller);
    try {
      if (flags.truncate === true && !isNew) await file.truncate(0);
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
    return file;
  }

  /** @throws NOT_FOUND, NOT_DIRECTORY */
  async stat(path: string): Promise<FileStat> {
    const attributes = await this.#lookup(path);
    return statOf(this.#client.withLocalChanges(attributes));
  }

  /** The entries of a directory, in the order in which they were made, page by page. */
  async *list(path: string): AsyncGenerator<DirectoryItem> {
    const { id } = await this.#lookup(path);
    for (let cookie = 0, end = false; !end; ) {
      const request = { id, cookie, limit: MAX_DIRECTORY_PAGE };
      const page = await this.#client.master.query(ReadDirectory, request, this.#caller);
      for (const entry of page.entries) {
        yield { name: fromBytes(entry.name), stat: statOf(entry.attributes) };
        cookie = entry.cookie;
      }
      end = page.end;
    }
  }

  /** @throws EXISTS, NOT_FOUND */
  async mkdir(path: string, mode = 0o755): Promise<void> {
    const request = { ...(await this.#place(path)), mode: S_IFDIR | mode, rdev: 0, exclusive: true };
    await this.#client.master.mutate(Create, request, this.#caller);
  }

  /** Removes a file's name; the file goes to the trash with its last one. @throws NOT_FOUND, IS_DIRECTORY */
  async unlink(path: string): Promise<void> {
    const request = { ...(await this.#place(path)), directory: false };
    await this.#client.master.mutate(Unlink, request, this.#caller);
  }

  /** @throws NOT_EMPTY, NOT_DIRECTORY, NOT_FOUND */
  async rmdir(path: string): Promise<void> {
    const request = { ...(await this.#place(path)), directory: true };
    await this.#client.master.mutate(Unlink, request, this.#caller);
  }

  /** rename(2): takes the place of what has the new name. */
  async rename(from: string, to: string): Promise<void> {
    const [old, next] = await Promise.all([this.#place(from), this.#place(to)]);
    const request = { ...old, newParent: next.parent, newName: next.name, mode: 'replace' as const };
    await this.#client.master.mutate(Rename, request, this.#caller);
  }

  /** Copies a file or a tree by metadata alone (paper §3.4), with what was written through this library. @throws EXISTS */
  async snapshot(source: string, destination: string): Promise<void> {
    const { id } = await this.#lookup(source);
    const { parent, name } = await this.#place(destination);
    await this.#client.flushAll(this.#caller);
    await this.#client.master.mutate(Snapshot, { id, parent, name }, this.#caller);
    this.#client.locations.dropAll();
  }

  /** Record append (paper §3.3) to a file that need not be open. @returns the record's offset @throws TOO_BIG */
  async recordAppend(path: string, record: Uint8Array): Promise<number> {
    const file = await this.open(path, { create: true });
    try {
      return await file.recordAppend(record);
    } finally {
      await file.close();
    }
  }

  /**
   * What changes at a path and below it from now on, whoever changes it, until the signal aborts. An event
   * of type `lost` tells that some were missed.
   * @throws NOT_FOUND
   */
  async *watch(path: string, signal?: AbortSignal): AsyncGenerator<Watched> {
    const { id } = await this.#lookup(path);
    yield* this.#watches.watch(id, { ...this.#caller, ...(signal === undefined ? {} : { signal }) });
  }

  /** Sends what is on its way and ends the session. */
  close(): Promise<void> {
    return this.#client.shutdown();
  }

  async #existing(path: string): Promise<{ attributes: Attributes; isNew: boolean }> {
    return { attributes: await this.#lookup(path), isNew: false };
  }

  async #create(path: string, flags: OpenFlags): Promise<{ attributes: Attributes; isNew: boolean }> {
    const mode = S_IFREG | (flags.mode ?? 0o644);
    const request = { ...(await this.#place(path)), mode, rdev: 0, exclusive: flags.exclusive ?? false };
    const { attributes, created } = await this.#client.master.mutate(Create, request, this.#caller);
    return { attributes, isNew: created };
  }

  async #lookup(path: string): Promise<Attributes> {
    const reply = await this.#client.master.query(LookupPath, { path: absolute(path) }, this.#caller);
    return reply.attributes;
  }

  /** A path as its directory and the name there. */
  async #place(path: string): Promise<Place> {
    const whole = absolute(path);
    const slash = whole.lastIndexOf('/');
    const name = whole.slice(slash + 1);
    if (name === '' || name === '.' || name === '..')
      throw new GfsError('INVALID', `${path} does not name an entry`);
    const { attributes } = await this.#client.master.query(
      LookupPath,
      { path: whole.slice(0, slash) || '/' },
      this.#caller,
    );
    return { parent: attributes.id, name };
  }
}

/** As a byte string, without slashes at the end. @throws INVALID */
function absolute(path: string): string {
  if (!path.startsWith('/')) throw new GfsError('INVALID', `${path} does not begin at the cluster's root`);
  return toBytes(path).replace(/(?<=.)\/+$/, '');
}
