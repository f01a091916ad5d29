/**
 * The GFS client library: what the mount and the command line are built on. It talks to the master for
 * metadata and to chunkservers for data (paper §2.3), and keeps no file data beyond what is on its way.
 */
import type { Environment } from '../environment/ports/index.js';
import {
  type AttributeChanges,
  type Attributes,
  Create,
  CreateTmpfile,
  Link,
  SetAttributes,
} from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import type { ValueOf } from '../protocol/schema.js';
import { defaultCacheLimits } from './cache-limits.js';
import { ChunkserverConnections } from './connections.js';
import { Creations } from './creations.js';
import { DataVersions } from './data-versions.js';
import { FileLocks } from './file-locks.js';
import { Locations, type ReadNext } from './locations.js';
import { Metadata } from './metadata.js';
import { OpenFile, type OpenFileParts } from './open-file.js';
import type { ClientOptions } from './options.js';
import { Reader } from './reader.js';
import { Replicas } from './replicas.js';
import { type CallContext, Deadline } from './retry.js';
import { MasterSession } from './session.js';
import { SharedChunks } from './shared-chunks.js';
import { SmallFiles } from './small-files.js';
import { UnsyncedChunks } from './unsynced.js';
import { WriteBudget } from './write-behind.js';

export { type CacheLimits, defaultCacheLimits } from './cache-limits.js';
export { copyRange, punchHole } from './chunk-changes.js';
export { checkTree, type TreeCheck, type TreeSummary } from './inspection.js';
export { type Broken, Metadata } from './metadata.js';
export { ABSENT } from './metadata-cache.js';
export { OpenFile } from './open-file.js';
export { type ClientOptions, clientDefaults, type HostPort } from './options.js';
export type { ReadResult } from './reader.js';
export type { CallContext } from './retry.js';
export type { MasterSession } from './session.js';
export { type Watched, Watches } from './watch.js';

/**
 * Memory kept for written data, as a multiple of what may wait: so much more arrives with the writes that
 * many writers make at once before they are held up. Buffers that were not kept would be garbage, which
 * takes more memory for longer.
 */
const POOL_SHARE = 3;

export interface OpenedCached {
  readonly file: OpenFile;
  /** Nobody else has changed it since it was opened this way. */
  readonly isUnchanged: boolean;
}

/** Counts, but for the bytes. */
export interface ClientUsage {
  readonly writeBehindBytes: number;
  /** Chunks that were written or shared from here, and not flushed to disk. */
  readonly unsyncedChunks: number;
  readonly openFiles: number;
  /** Files whose chunks' places are known. */
  readonly cachedLocations: number;
  readonly cachedAttributes: number;
  readonly cachedNames: number;
  readonly fileLocks: number;
}

export class GfsClient {
  readonly master: MasterSession;
  readonly locations: Locations;
  readonly metadata: Metadata;
  /** flock(2) and fcntl(2) locks, between all clients. */
  readonly locks: FileLocks;
  readonly #environment: Environment;
  readonly #connections: ChunkserverConnections;
  readonly #parts: OpenFileParts;
  readonly #files = new Map<number, OpenFile>();
  readonly #unsynced: UnsyncedChunks;
  readonly #creations = new Creations();

  private constructor(environment: Environment, options: ClientOptions, master: MasterSession) {
    const { clock } = environment;
    const { cacheLimits: limits = defaultCacheLimits } = options;
    this.#environment = environment;
    this.master = master;
    this.#connections = new ChunkserverConnections(environment, master.clientId, () => master.clusterId);
    const smallFiles = new SmallFiles(environment, master, this.#connections);
    const readNext: ReadNext = {
      after: (id, isWanted) => this.metadata.readNext(id, isWanted),
      used: (id) => this.metadata.noteReadNext(id),
      located: (files) =>
        smallFiles.fetch(
          files.map(({ id, chunk }) => ({ chunk, sizeBytes: this.metadata.known(id)?.size ?? 0 })),
        ),
    };
    this.locations = new Locations(master, clock, options.locationTtlMs, limits, readNext);
    const reader = new Reader(environment, master, this.locations, this.#connections, smallFiles);
    const replicas = new Replicas(environment, master, this.locations, this.#connections);
    this.#unsynced = new UnsyncedChunks(
      limits.unsyncedChunks,
      (id, index) => replicas.sync({ id, index }, {}, master.deadline()),
      environment.logger,
    );
    this.locks = new FileLocks(master, () => new Deadline(clock, Number.POSITIVE_INFINITY));
    this.metadata = new Metadata(master, clock, limits);
    this.metadata.listen({
      onBroken: ({ data, cut }) => {
        for (const id of data) this.#changedElsewhere(id);
        for (const id of cut) this.#files.get(id)?.noteCut();
        return undefined;
      },
      onLost: () => this.#changedUnseen(),
    });
    master.onReportLengths(async (ids, aheadOnly) => {
      const asked = ids.length === 0 ? this.#files.values() : ids.map((id) => this.#files.get(id));
      await Promise.all([...asked].map((file) => (aheadOnly ? file?.sendAhead() : file?.report())));
    });
    this.#parts = {
      environment,
      session: master,
      locations: this.locations,
      reader,
      replicas,
      metadata: this.metadata,
      dataVersions: new DataVersions(limits.dataVersions),
      sharedChunks: new SharedChunks(
        environment,
        master,
        this.locations,
        this.#connections,
        limits.unsyncedChunks,
      ),
      writeBehind: {
        environment,
        replicas,
        unsynced: this.#unsynced,
        pool: new BufferPool(POOL_SHARE * options.writeBehindBytes),
        budget: new WriteBudget(options.writeBehindBytes),
        chunkBytes: master.chunkBytes,
        deadline: () => master.deadline(),
      },
    };
  }

  /** Opens a session with the master. @throws UNREACHABLE, WRONG_CLUSTER, WRONG_PROTOCOL_VERSION */
  static async connect(environment: Environment, options: ClientOptions): Promise<GfsClient> {
    const master = new MasterSession(environment, options);
    await master.start();
    return new GfsClient(environment, options, master);
  }

  /** @internal for copyRange */
  get copying(): Pick<OpenFileParts, 'sharedChunks' | 'writeBehind'> {
    return this.#parts;
  }

  /** What it keeps in memory, each within its bound. */
  get usage(): ClientUsage {
    const { writeBehind, sharedChunks } = this.#parts;
    const { attributes, names } = this.metadata.counts;
    return {
      writeBehindBytes: writeBehind.budget.usedBytes,
      unsyncedChunks: this.#unsynced.size + sharedChunks.size,
      openFiles: this.#files.size,
      cachedLocations: this.locations.size,
      cachedAttributes: attributes,
      cachedNames: names,
      fileLocks: this.locks.size,
    };
  }

  get chunkBytes(): number {
    return this.master.chunkBytes;
  }

  /** The file if it is open here. */
  openFile(id: number): OpenFile | undefined {
    return this.#files.get(id);
  }

  /**
   * Opens a file by its id: its length and its first locations are asked for anew, unless it is open
   * here already, so that what other clients closed before is seen.
   * @param isNew it was made a moment ago by this client: it is empty
   * @throws STALE_NODE
   */
  async open(id: number, context: CallContext, isNew = false): Promise<OpenFile> {
    const atHand = this.#openAtHand(id, isNew);
    if (atHand !== undefined) return atHand;
    const { ticket } = this.metadata;
    const told = await this.locations.reopen(id, context, this.master.deadline());
    if (told.attributes !== undefined) {
      this.master.time.met(told.attributes);
      this.metadata.keep(told.attributes, told.promised, ticket);
    }
    // Another open of the same file may have come first meanwhile.
    const file = this.#files.get(id) ?? new OpenFile(id, told.size, told.dataVersion, this.#parts);
    // What was told may have changed already: then it is asked for again before it is read.
    if (this.master.caches && this.metadata.known(id) === undefined) file.noteChangedElsewhere();
    return this.#keepOpen(file);
  }

  /** {@link open}, of a file that is open already, is new, or whose state is promised. */
  #openAtHand(id: number, isNew: boolean): OpenFile | undefined {
    const open = this.#files.get(id);
    if (open !== undefined) return this.#keepOpen(open);
    if (isNew) return this.#keepOpen(new OpenFile(id, 0, 0, this.#parts));
    const known = this.metadata.known(id);
    if (known === undefined) return undefined;
    this.master.time.met(known);
    const { size, dataVersion = 0 } = known;
    // Locations that came with a lease were not promised.
    if (!this.#parts.dataVersions.isSeen(id, dataVersion)) this.locations.forgetUnpromised(id);
    return this.#keepOpen(new OpenFile(id, size, dataVersion, this.#parts));
  }

  #keepOpen(file: OpenFile): OpenFile {
    const { id } = file;
    if (file.opens++ > 0) return file;
    this.#files.set(id, file);
    this.master.noteOpened(id);
    return file;
  }

  /** Makes a file, or opens the one that is there where that is allowed. */
  async create(
    request: ValueOf<typeof Create.request>,
    context: CallContext,
  ): Promise<{ readonly attributes: Attributes; readonly created: boolean; readonly file: OpenFile }> {
    const askedAtMs = this.#environment.clock.monotonicMs();
    const writes = this.#creations.areWritten;
    const reply = await this.master.mutate(Create, { ...request, ...(writes ? { writes } : {}) }, context);
    const { attributes, created, lease } = reply;
    if (lease !== undefined) this.locations.keepLease(attributes.id, lease, askedAtMs);
    const { file } = await this.openCached(attributes.id, context, created);
    file.isNew ||= created;
    return { attributes, created, file };
  }

  /** Makes a file without a name, which is gone with its last close unless it is linked by then. */
  async createTmpfile(
    request: ValueOf<typeof CreateTmpfile.request>,
    context: CallContext,
  ): Promise<{ readonly attributes: Attributes; readonly file: OpenFile }> {
    const askedAtMs = this.#environment.clock.monotonicMs();
    const { ticket } = this.metadata;
    const asked = { ...request, ...(this.#creations.areWritten ? { writes: true } : {}) };
    const { attributes, promised = 0, lease } = await this.master.mutate(CreateTmpfile, asked, context);
    if (lease !== undefined) this.locations.keepLease(attributes.id, lease, askedAtMs);
    this.master.time.met(attributes);
    this.metadata.keep(attributes, promised, ticket);
    const { file } = await this.openCached(attributes.id, context, true);
    file.isNew = true;
    file.isUnnamed = true;
    return { attributes, file };
  }

  /** One more name for a file. What was written to one without a name is there before its first name is. */
  async link(request: ValueOf<typeof Link.request>, context: CallContext): Promise<Attributes> {
    const file = this.#files.get(request.id);
    if (file?.isUnnamed) await file.flush(context);
    const { attributes } = await this.master.mutate(Link, request, context);
    if (file !== undefined) file.isUnnamed = false;
    return attributes;
  }

  #changedElsewhere(id: number): void {
    this.locations.noteChangedElsewhere(id);
    this.#parts.dataVersions.forget(id);
    this.#files.get(id)?.noteChangedElsewhere();
  }

  /** Whatever changed while the session was lost, nobody has told. */
  #changedUnseen(): void {
    this.locations.forgetPromises();
    for (const file of this.#files.values()) {
      file.noteChangedElsewhere();
      file.noteCut();
    }
  }

  /**
   * {@link open}, for a caller that caches data. @returns also whether what it has cached of this file is
   * right still: nobody else has changed it since it was opened this way
   */
  async openCached(id: number, context: CallContext, isNew = false): Promise<OpenedCached> {
    return this.openCachedAtHand(id, isNew) ?? this.#noteCached(await this.open(id, context));
  }

  /** {@link openCached}, where nobody has to be asked: else undefined. */
  openCachedAtHand(id: number, isNew = false): OpenedCached | undefined {
    const file = this.#openAtHand(id, isNew);
    return file === undefined ? undefined : this.#noteCached(file);
  }

  #noteCached(file: OpenFile): OpenedCached {
    const isUnchanged = this.#parts.dataVersions.noteOpened(file.id, file.dataVersion) && !file.isDoubtful;
    return { file, isUnchanged };
  }

  /** Ends one {@link open}. What is still on its way is sent by itself; errors were told by flush. */
  async close(file: OpenFile): Promise<void> {
    if (this.closeSettled(file) || --file.opens > 0) return;
    await file.flush({}).catch((error) => {
      this.#environment.logger.error({ err: error, id: file.id }, 'data was lost after the last close');
    });
    if (file.opens === 0) this.#closed(file);
  }

  /** {@link close}, unless it has to wait. @returns whether it is done */
  closeSettled(file: OpenFile): boolean {
    if (file.opens === 1 && !file.isSettled) return false;
    if (--file.opens === 0) this.#closed(file);
    return true;
  }

  #closed(file: OpenFile): void {
    this.#files.delete(file.id);
    if (file.isNew) this.#creations.note(file.wasWritten);
    this.master.noteClosed(file.id);
  }

  /** Sends everything that was written through this client. @throws the first error */
  async flushAll(context: CallContext): Promise<void> {
    const results = await Promise.allSettled([...this.#files.values()].map((file) => file.flush(context)));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Ends the session; open files are flushed first. */
  async shutdown(): Promise<void> {
    await this.flushAll({}).catch((error) => {
      this.#environment.logger.error({ err: error }, 'data was lost at shutdown');
    });
    await this.master.close();
    this.#connections.close();
  }

  /** What the master says of a file, corrected by what was written here and has not reached it. */
  withLocalChanges(attributes: Attributes): Attributes {
    return this.#files.get(attributes.id)?.noteAttributes(attributes) ?? attributes;
  }

  /** setattr. Data on its way is sent first, so that times set now stay. */
  async setAttributes(id: number, changes: AttributeChanges, context: CallContext): Promise<Attributes> {
    const file = this.#files.get(id);
    if (file !== undefined) return file.setAttributes(changes, context);
    const { attributes } = await this.master.mutate(SetAttributes, { id, changes }, context);
    if (changes.size !== undefined) {
      this.locations.drop(id);
      this.#parts.dataVersions.noteOwnChange(id, attributes.dataVersion ?? 0);
    }
    return attributes;
  }
}
