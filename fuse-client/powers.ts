/** What GFS can do and POSIX has no call for: snapshot, record append, a look at the chunks. */
import { LRUCache } from 'lru-cache';
import type { CallContext, GfsClient } from '../client/index.js';
import { GfsError } from '../protocol/errors.js';
import { type Attributes, GetPath, LookupPath, Snapshot } from '../protocol/messages/index.js';
import { Access, callContext, requireAccess } from './access.js';
import { type ByteString, type Context, FileType, type Mount } from './handler.js';
import type { InodeMap } from './inodes.js';
import { type ChunkPage, NodeInfo } from './node-info.js';
import type { HandlerOptions } from './options.js';
import { clusterPath } from './user-paths.js';

const MAX_REMEMBERED_APPENDS = 65_536;

export class Powers {
  readonly info: NodeInfo;
  readonly #client: GfsClient;
  readonly #options: HandlerOptions;
  readonly #inodes: InodeMap;
  readonly #lastAppends = new LRUCache<number, number>({ max: MAX_REMEMBERED_APPENDS });

  /** What the kernel caches behind our back, once mounted; a binding without notifications caches nothing. */
  kernel: Pick<Mount, 'invalidateInode'> | undefined;

  constructor(client: GfsClient, options: HandlerOptions, inodes: InodeMap) {
    this.#client = client;
    this.info = new NodeInfo(client);
    this.#options = options;
    this.#inodes = inodes;
  }

  /**
   * Copies a file or a tree by metadata alone (paper §3.4); what was written through this mount is
   * sent before, so that it is in it.
   * @param destination relative to the source's directory, or absolute below the mount point
   * @throws CROSS_DEVICE, EXISTS, NOT_FOUND, INVALID
   */
  async snapshot(context: Context, source: number, destination: ByteString): Promise<void> {
    const call = callContext(context);
    const attributes = await this.attributes(source, call);
    await requireAccess(this.#client.master, attributes, context, Access.READ);
    const path = await this.#clusterPath(source, destination, call);
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    if (name === '') throw new GfsError('EXISTS', 'the destination is a directory');
    const parentPath = path.slice(0, slash) || '/';
    const { attributes: parent } = await this.#client.master.query(LookupPath, { path: parentPath }, call);
    await requireAccess(this.#client.master, parent, context, Access.WRITE | Access.EXECUTE);
    const file = this.#client.openFile(source);
    if ((attributes.mode & FileType.MASK) === FileType.DIRECTORY) await this.#client.flushAll(call);
    else if (file !== undefined) await file.flush(call);
    await this.#client.master.mutate(Snapshot, { id: source, parent: parent.id, name }, call);
    this.#client.locations.dropAll();
  }

  /** Record append (paper §3.3). @returns the offset @throws TOO_BIG, IS_DIRECTORY, INVALID */
  async appendRecord(context: Context, id: number, data: Uint8Array): Promise<number> {
    const call = callContext(context);
    const attributes = await this.attributes(id, call);
    requireRegular(attributes);
    await requireAccess(this.#client.master, attributes, context, Access.WRITE);
    const file = await this.#client.open(id, call);
    try {
      const offset = await file.appendRecord(data, call);
      this.noteAppend(id, offset);
      // The file grew without the kernel's doing: whoever looks after this call has to see it.
      await this.kernel?.invalidateInode?.(this.#inodes.toInode(id), offset, data.byteLength);
      return offset;
    } finally {
      await this.#client.close(file);
    }
  }

  /** Locations here, attributes and pages in the kernel. */
  async dropCaches(id: number): Promise<void> {
    this.#client.locations.drop(id);
    await this.kernel?.invalidateInode?.(this.#inodes.toInode(id), 0, 0);
  }

  noteAppend(id: number, offset: number): void {
    this.#lastAppends.set(id, offset);
  }

  /**
   * What was acknowledged as appended went to `offset` instead. @param shown where the kernel has put it into its
   * pages: that and the length are forgotten. (Where the kernel itself knew an old end, it finds out as it asks for
   * the length after every write.)
   */
  noteMoved(id: number, offset: number, shown: { readonly offset: number; readonly length: number }): void {
    this.noteAppend(id, offset);
    // Nobody waits: it holds its pages until it has the answer to a write.
    void this.kernel?.invalidateInode?.(this.#inodes.toInode(id), shown.offset, shown.length);
  }

  /** Where the last append through this mount went. @throws NO_ATTRIBUTE when there was none */
  async lastAppend(id: number): Promise<number> {
    await this.#client.openFile(id)?.appended();
    const offset = this.#lastAppends.get(id);
    if (offset === undefined) throw new GfsError('NO_ATTRIBUTE', 'no append through this mount');
    return offset;
  }

  /** The chunks of a file from index `first`, as JSON of at most `maxBytes`. */
  async chunkInfo(context: Context, id: number, first: number, maxBytes: number): Promise<ChunkPage> {
    const attributes = await this.attributes(id, callContext(context));
    requireRegular(attributes);
    return this.info.chunks(context, id, first, attributes.size, maxBytes);
  }

  async attributes(id: number, call: CallContext): Promise<Attributes> {
    return this.#client.withLocalChanges(await this.#client.metadata.attributes(id, call));
  }

  /** The path in the cluster that a user means. @throws CROSS_DEVICE when it is not on this mount */
  async #clusterPath(source: number, destination: ByteString, call: CallContext): Promise<ByteString> {
    if (destination.startsWith('/')) return clusterPath(this.#options, destination, '');
    const { path } = await this.#client.master.query(GetPath, { id: source }, call);
    return clusterPath(this.#options, destination, path.slice(0, path.lastIndexOf('/')));
  }
}

export function requireRegular(attributes: Attributes): void {
  const type = attributes.mode & FileType.MASK;
  if (type === FileType.DIRECTORY) throw new GfsError('IS_DIRECTORY');
  if (type !== FileType.REGULAR) throw new GfsError('INVALID', 'not a regular file');
}
