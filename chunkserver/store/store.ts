/** All chunks of this server, over one or more data directories. */
import { checksum } from '../../protocol/checksum.js';
import { GfsError } from '../../protocol/errors.js';
import type { Space } from '../../protocol/messages/index.js';
import { writeU53 } from './binary.js';
import { Chunk } from './chunk.js';
import { DataDirectory, type DirectoryContext } from './data-directory.js';
import { DiskSlot } from './disk-slot.js';
import { isMissing } from './files.js';
import { Layout } from './layout.js';
import { recover } from './recovery.js';
import { blockCount, ChunkState } from './state.js';
import { readSuperblock, type Superblock, writeSuperblock } from './superblock.js';
import { isDeviceError } from './watched-disk.js';

export interface ReplicaState {
  readonly lengthBytes: number;
  readonly digest: number;
  readonly appliedSerial: number;
  readonly suspect: boolean;
}

/** Disks whose free shares differ by less are equally good for a new chunk. */
const LEVEL_SHARE = 0.01;

interface OpenDirectory {
  readonly slot: DiskSlot;
  readonly directory: DataDirectory;
  readonly superblock: Superblock | undefined;
}

export class Store {
  /** Told when a disk fails while others go on: its chunks are not here any more. */
  onDiskLost: (() => void) | undefined;
  readonly #slots: readonly DiskSlot[];
  readonly #context: DirectoryContext;
  #directories: readonly DataDirectory[] = [];
  #identity: Superblock;
  /** The identity is being written: closing writes it once more, whole. */
  #becoming: Promise<void> | undefined;

  private constructor(context: DirectoryContext, slots: readonly DiskSlot[], identity: Superblock) {
    this.#context = context;
    this.#slots = slots;
    this.#identity = identity;
    this.#noteUsable();
    for (const slot of slots) slot.onFailed = (failed, error) => this.#onDiskFailed(failed, error);
  }

  /** Those on disks that work. */
  get directories(): readonly DataDirectory[] {
    return this.#directories;
  }

  get diskCount(): number {
    return this.#slots.length;
  }

  get failedDiskCount(): number {
    return this.#slots.length - this.#directories.length;
  }

  #noteUsable(): void {
    this.#directories = this.#slots.flatMap(({ directory, failure }) =>
      directory === undefined || failure !== undefined ? [] : [directory],
    );
  }

  /** A disk is given up; the server with it, if it was the last. */
  #onDiskFailed({ root, directory }: DiskSlot, error: Error): void {
    const left = this.#slots.filter(({ failure }) => failure === undefined).length;
    const chunks = directory?.chunks.size ?? 0;
    this.#context.logger.error(
      { err: error, directory: root, chunks, left },
      'a disk failed and is given up',
    );
    if (left === 0) {
      this.#context.onFatal(error);
      return;
    }
    this.#noteUsable();
    directory?.abandon();
    this.onDiskLost?.();
  }

  /**
   * Locks and recovers the data directories; new ones are made. A disk that fails meanwhile is left out,
   * as long as there is another.
   * @param newServerId for a server that has none yet
   * @throws Error that names the file, when a directory is damaged, in use or somebody else's
   */
  static async open(
    context: DirectoryContext,
    roots: readonly string[],
    newServerId: string,
  ): Promise<Store> {
    const slots = roots.map((root) => new DiskSlot(context, root));
    const opened: OpenDirectory[] = [];
    try {
      for (const slot of slots) {
        const one = await unlessItFails(slot, slots, () => openDirectory(slot));
        if (one !== undefined) opened.push(one);
      }
      const identity = commonIdentity(opened, {
        serverId: newServerId,
        clusterId: '',
        chunkBytes: 0,
        term: 0,
        bootId: 0,
        clean: false,
      });
      const current = { ...identity, bootId: context.bootId, clean: false };
      for (const { slot, directory, superblock } of opened) {
        await unlessItFails(slot, slots, () => bringBack(directory, superblock, current));
      }
      const store = new Store(context, slots, current);
      await store.#dropDuplicates();
      await store.space();
      return store;
    } catch (error) {
      for (const { slot, directory } of opened) if (slot.failure === undefined) await directory.releaseLock();
      throw error;
    }
  }

  /** A disk that had failed is back, and its chunks were made anew on others meanwhile: the newer replica stays. */
  async #dropDuplicates(): Promise<void> {
    const newest = new Map<number, Chunk>();
    for (const chunk of this.chunks()) {
      const other = newest.get(chunk.handle);
      const isNewer = other === undefined || isAhead(chunk, other);
      const older = isNewer ? other : chunk;
      if (isNewer) newest.set(chunk.handle, chunk);
      if (older !== undefined) await older.directory.remove(older);
    }
  }

  get serverId(): string {
    return this.#identity.serverId;
  }

  /** Empty until {@link adopt}. */
  get clusterId(): string {
    return this.#identity.clusterId;
  }

  get chunkBytes(): number {
    return this.#identity.chunkBytes;
  }

  /** Joins a cluster, for good. @throws WRONG_CLUSTER when it belongs to another already */
  async adopt(clusterId: string, chunkBytes: number): Promise<void> {
    const own = this.#identity;
    if (own.clusterId === clusterId && own.chunkBytes === chunkBytes) return;
    if (own.clusterId !== '') {
      const message = `this data belongs to cluster ${own.clusterId} with chunks of ${own.chunkBytes} bytes`;
      throw new GfsError('WRONG_CLUSTER', `${message}, not to ${clusterId} with ${chunkBytes}`);
    }
    await this.#become({ ...own, clusterId, chunkBytes });
  }

  #become(identity: Superblock): Promise<void> {
    this.#becoming = (async () => {
      for (const { disk, layout } of this.directories) await writeSuperblock(disk, layout, identity);
      this.#identity = identity;
    })();
    return this.#becoming;
  }

  /** The newest term of a master that this server has served. */
  get term(): number {
    return this.#identity.term;
  }

  /** From here on no master of an older term is served, also after a restart. */
  async noteTerm(term: number): Promise<void> {
    if (term <= this.#identity.term) return;
    await this.#become({ ...this.#identity, term });
  }

  /** @throws NO_SUCH_CHUNK, CHUNK_CORRUPT when its sidecar is damaged */
  get(handle: number): Chunk {
    const chunk = this.find(handle);
    if (chunk !== undefined) return chunk;
    if (this.directories.some(({ unreadable }) => unreadable.has(handle))) {
      throw new GfsError('CHUNK_CORRUPT', `chunk ${handle}: damaged sidecar`);
    }
    throw new GfsError('NO_SUCH_CHUNK', `chunk ${handle}`);
  }

  find(handle: number): Chunk | undefined {
    for (const { chunks } of this.directories) {
      const chunk = chunks.get(handle);
      if (chunk !== undefined) return chunk;
    }
    return undefined;
  }

  *chunks(): Iterable<Chunk> {
    for (const { chunks } of this.directories) yield* chunks.values();
  }

  get chunkCount(): number {
    return this.directories.reduce((sum, { chunks }) => sum + chunks.size, 0);
  }

  /** Makes an empty chunk. It outlives this process at once, and the host with the journal's next flush. */
  async create(handle: number, version: number): Promise<Chunk> {
    const directory = this.#roomiest();
    await directory.admission(0);
    const existing = this.find(handle);
    if (existing !== undefined) return existing;
    const state = new ChunkState(handle, version);
    state.zerosFrom = 0;
    const chunk = new Chunk(directory, state);
    directory.chunks.set(handle, chunk);
    try {
      await chunk.create(version);
    } catch (error) {
      directory.forget(chunk);
      throw error;
    }
    return chunk;
  }

  /**
   * A chunk that is nobody's replica yet: at version 0, which no chunk ever has, and not in the table
   * until {@link reveal}. What a crash leaves of it is removed by {@link removeDrafts}.
   */
  async draft(handle: number): Promise<Chunk> {
    // A replica whose sidecar cannot be read is none: this takes its place.
    for (const each of this.directories) await each.removeUnreadable(handle);
    const directory = this.#roomiest();
    await directory.admission(0);
    const state = new ChunkState(handle, 0);
    state.zerosFrom = 0;
    const chunk = new Chunk(directory, state);
    await chunk.create(0);
    return chunk;
  }

  /** A draft has become a replica. */
  reveal(chunk: Chunk): void {
    chunk.directory.chunks.set(chunk.handle, chunk);
  }

  /** At a start: clones that were not adopted before the last end. */
  async removeDrafts(): Promise<void> {
    for (const chunk of [...this.chunks()])
      if (chunk.state.version === 0 && chunk.directory.isSettled) await chunk.directory.remove(chunk);
  }

  /**
   * Copies a chunk under a new handle, on the same disk (paper §3.4). Nobody may be mutating `source`.
   * The copy survives the host on return.
   */
  async copy(source: Chunk, handle: number, version: number): Promise<Chunk> {
    const { directory } = source;
    await directory.admission(source.state.length);
    const copy = await this.#copyFiles(source, handle, version);
    // So that its file is flushed too.
    copy.unflushedBytes = copy.state.length;
    await directory.writeBack(copy);
    await directory.syncShard(handle);
    directory.chunks.set(handle, copy);
    return copy;
  }

  async #copyFiles(source: Chunk, handle: number, version: number): Promise<Chunk> {
    const { directory, state } = source;
    for (;;) {
      await directory.writeBack(source);
      const copied = await source.exclusive(async () => {
        if (source.isDirty) return undefined;
        await directory.load(source);
        const copy = state.copyAs(handle, version);
        copy.mark = directory.bootId;
        copy.lsn = directory.journal.lastLsn;
        try {
          await directory.disk.copy(
            directory.layout.chunkFile(source.handle),
            directory.layout.chunkFile(handle),
          );
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
        return copy;
      });
      if (copied === undefined) continue;
      directory.shardChanged(handle);
      return new Chunk(directory, copied);
    }
  }

  async delete(handle: number): Promise<void> {
    const chunk = this.find(handle);
    if (chunk !== undefined) await chunk.directory.remove(chunk);
    for (const directory of this.directories) await directory.removeUnreadable(handle);
  }

  /** What the master compares replicas by. */
  async describe(chunk: Chunk): Promise<ReplicaState> {
    await chunk.directory.load(chunk);
    const { length, serial, suspect } = chunk.state;
    return { lengthBytes: length, digest: digestOf(chunk.state), appliedSerial: serial, suspect };
  }

  /** What the disks have, the headroom taken off. */
  async space(): Promise<Space> {
    let totalBytes = 0;
    let availableBytes = 0;
    let usedBytes = 0;
    for (const directory of this.directories) {
      const space = await directory.space();
      totalBytes += space.totalBytes;
      usedBytes += space.totalBytes - space.availableBytes;
      availableBytes += Math.max(0, space.availableBytes - directory.context.reservedBytes);
    }
    return { totalBytes, availableBytes, usedBytes };
  }

  /** Flushes everything, and notes that it did. What the journal holds stays there. */
  async close(): Promise<void> {
    await this.#becoming?.catch(() => undefined);
    for (const directory of this.directories) {
      const { disk, layout } = directory;
      await directory.close();
      try {
        // Not for one that could not even settle after its host had crashed.
        if (directory.isSettled) await writeSuperblock(disk, layout, { ...this.#identity, clean: true });
      } finally {
        await directory.releaseLock();
      }
    }
  }

  /** The directory that is the least full; where several are about level, the one with the fewest chunks. */
  #roomiest(): DataDirectory {
    const usable = this.directories.filter((directory) => directory.hasRoomFor(this.chunkBytes));
    const [first, ...others] = usable.length > 0 ? usable : this.directories;
    let best = first as DataDirectory;
    for (const directory of others) {
      const more = directory.availableShare - best.availableShare;
      const isLevel = Math.abs(more) < LEVEL_SHARE;
      if (isLevel ? directory.chunks.size < best.chunks.size : more > 0) best = directory;
    }
    return best;
  }
}

function isAhead({ state: a }: Chunk, { state: b }: Chunk): boolean {
  return a.version === b.version ? a.serial > b.serial : a.version > b.version;
}

/** Runs a step of the start. Undefined when it met an error of this disk, and there are others to go on with. */
async function unlessItFails<T>(
  slot: DiskSlot,
  slots: readonly DiskSlot[],
  step: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    if (!isDeviceError(error)) throw error;
    slot.fail(error as Error);
    if (slots.every(({ failure }) => failure !== undefined)) throw error;
    const { logger } = slot.context;
    logger.error({ err: error, directory: slot.root }, 'a disk cannot be used: the server starts without it');
    await slot.directory?.releaseLock().catch(() => undefined);
    return undefined;
  }
}

/** The directory as it was left, and noted as in use. */
async function bringBack(
  directory: DataDirectory,
  superblock: Superblock | undefined,
  current: Superblock,
): Promise<void> {
  const { disk, layout } = directory;
  if (superblock === undefined) await writeSuperblock(disk, layout, { ...current, bootId: 0, clean: false });
  const hostCrashed = await recover(directory, superblock);
  if (superblock?.bootId === current.bootId && !superblock.clean) return;
  await directory.settleAfterBoot(async () => {
    // What was cut must not come back when the journal is read again.
    if (hostCrashed) await directory.checkpointNow();
    await writeSuperblock(disk, layout, current);
  });
}

async function openDirectory(slot: DiskSlot): Promise<OpenDirectory> {
  const { root, context } = slot;
  const { disk } = context;
  const layout = new Layout(root);
  await disk.makeDirectory(root);
  let release: () => Promise<void>;
  try {
    release = await disk.lock(layout.lock);
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'EBUSY') throw cause;
    throw new GfsError('DUPLICATE_SERVER', `${root} is in use by another process`, { cause });
  }
  try {
    const superblock = await readSuperblock(disk, layout);
    if (superblock === undefined) await format(context, layout);
    const directory = new DataDirectory(context, layout, release);
    slot.directory = directory;
    return { slot, directory, superblock };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Makes the folders of a new data directory; its superblock comes last. */
async function format({ disk }: DirectoryContext, layout: Layout): Promise<void> {
  await disk.makeDirectory(layout.journal);
  if ((await disk.list(layout.journal)).length > 0) {
    throw new Error(`${layout.root}: a journal without a superblock: not a new data directory`);
  }
  for (const shard of layout.allShards()) await disk.makeDirectory(shard);
  for (const directory of [layout.chunks, layout.root, layout.parent]) await disk.syncDirectory(directory);
}

/** @throws Error when the directories belong to different servers or clusters */
function commonIdentity(opened: readonly OpenDirectory[], fresh: Superblock): Superblock {
  let identity: Superblock | undefined;
  for (const { directory, superblock } of opened) {
    if (superblock === undefined) continue;
    identity ??= superblock;
    const { serverId, clusterId } = identity;
    if (superblock.serverId !== serverId || superblock.clusterId !== clusterId) {
      throw new Error(
        `${directory.layout.root} belongs to server ${superblock.serverId}, not to ${serverId}`,
      );
    }
  }
  return identity ?? fresh;
}

function digestOf(state: ChunkState): number {
  const count = blockCount(state.length);
  const raw = Buffer.alloc(8 + count * 4);
  writeU53(raw, state.length, 0);
  for (let block = 0; block < count; block++) raw.writeUInt32LE(state.checksumOf(block), 8 + block * 4);
  return checksum(raw);
}
