/**
 * One data directory in use: its journal, its chunks, and the bounds on what they hold in memory.
 */
import type { Clock, Disk, DiskFile, DiskSpace, Logger, Timers } from '../../environment/ports/index.js';
import { GfsError, toGfsError } from '../../protocol/errors.js';
import { MIB } from '../../protocol/limits.js';
import type { BufferPool } from '../../protocol/payload.js';
import { checkpoint, checkpointChunk } from './checkpoint.js';
import type { Chunk } from './chunk.js';
import { FileCache } from './file-cache.js';
import { forEachLimited, removeIfThere } from './files.js';
import type { Journal } from './journal.js';
import { type Layout, SHARD_COUNT } from './layout.js';
import { PageCache } from './page-checksums.js';
import { VectorCache } from './vector-cache.js';

const DEFAULT_CHECKPOINT_BYTES = 64 * MIB;
/** It begins at the latest after so many bytes in all: what a host crash makes us read and check. */
const CHECKPOINT_ADMITTED_BYTES = 1024 * MIB;
/** Above this mutations wait for the checkpoint. */
const MAX_PATCH_BYTES = 192 * MIB;
/** Direct writes are flushed early, so that a later sync has little left to wait for. */
const EARLY_FLUSH_BYTES = 16 * MIB;
/** A replica that has not been mutated for so long gets its mark off at its next checkpoint. */
const QUIET_MS = 300_000;
/** Without a mutation for so long, a checkpoint disturbs nobody. */
const IDLE_MS = 30_000;
/** And then it takes its time between chunks: each costs three flushes, and others may use the disk. */
const IDLE_PACE_MS = 100;
const SPACE_TTL_MS = 1_000;
const CLOSE_CONCURRENCY = 4;

export interface DirectoryContext {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly pool: BufferPool;
  readonly bootId: number;
  readonly sync: 'disk' | 'memory';
  readonly reservedBytes: number;
  /** A checkpoint begins when the journal is this long, or patches hold this much memory. */
  readonly checkpointBytes?: number;
  /** The process must end: what was acknowledged may not be on the disk. */
  readonly onFatal: (error: Error) => void;
}

export class DataDirectory {
  readonly context: DirectoryContext;
  readonly layout: Layout;
  readonly chunks = new Map<number, Chunk>();
  /** Handles whose sidecar cannot be read. Nothing else is known of them. */
  readonly unreadable = new Set<number>();
  readonly files: FileCache;
  readonly pages = new PageCache();
  #journal: Journal | undefined;
  readonly #release: () => Promise<void>;
  readonly #dirty = new Set<Chunk>();
  readonly #vectors: VectorCache;
  /** Shards with creations, renames or removals that may not survive the host. */
  readonly #changedShards = new Set<number>();
  #mutatedMs = 0;
  #patchBytes = 0;
  /** Admitted since the last checkpoint began, directly written bytes among them. */
  #admittedBytes = 0;
  #checkpoint: Promise<void> | undefined;
  /** Somebody waits for the checkpoint that is under way. */
  #isHurried = false;
  /** What has to succeed before the first mutation. */
  #settle: (() => Promise<void>) | undefined;
  #space: DiskSpace = { totalBytes: 0, availableBytes: 0 };
  #spaceAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: DirectoryContext, layout: Layout, releaseLock: () => Promise<void>) {
    this.context = context;
    this.layout = layout;
    this.#release = releaseLock;
    this.files = new FileCache(context.disk, layout, (handle) => this.shardChanged(handle));
    this.#vectors = new VectorCache(context.disk, layout, (chunk) => this.#dirty.has(chunk));
  }

  get disk(): Disk {
    return this.context.disk;
  }

  get pool(): BufferPool {
    return this.context.pool;
  }

  get bootId(): number {
    return this.context.bootId;
  }

  get journal(): Journal {
    if (this.#journal === undefined) throw new Error('the journal is not open yet');
    return this.#journal;
  }

  /** Of the disk, as last measured, less what was admitted since. */
  get availableShare(): number {
    const { totalBytes, availableBytes } = this.#space;
    return totalBytes === 0 ? 0 : availableBytes / totalBytes;
  }

  hasRoomFor(sizeBytes: number): boolean {
    return !this.#isLow(sizeBytes);
  }

  get patchBytes(): number {
    return this.#patchBytes;
  }

  openJournal(journal: Journal): void {
    this.#journal = journal;
  }

  /** Makes everything survive the host, as quickly as can be: what the journal holds stays there. */
  async close(): Promise<void> {
    this.#isHurried = true;
    await this.#checkpoint?.catch(() => undefined);
    await forEachLimited(this.chunks.values(), CLOSE_CONCURRENCY, (chunk) => chunk.syncFile());
    await this.syncShards();
    await this.journal.close();
    await this.files.closeAll();
  }

  get isSettled(): boolean {
    return this.#settle === undefined;
  }

  releaseLock(): Promise<void> {
    return this.#release();
  }

  /** Brings the checksums and results of a chunk into memory. @throws CHUNK_CORRUPT when its sidecar is damaged */
  load(chunk: Chunk): Promise<void> {
    return this.#vectors.load(chunk);
  }

  /** Notes that the chunk is about to have records in the journal that its sidecar lacks. */
  touch(chunk: Chunk): void {
    this.#dirty.add(chunk);
  }

  dirtyChunks(): Chunk[] {
    return [...this.#dirty];
  }

  checkpointed(chunk: Chunk): void {
    if (chunk.isDirty && !chunk.deleted) return;
    this.#dirty.delete(chunk);
    if (!chunk.deleted) this.#vectors.settled(chunk);
  }

  /**
   * Does what the first start under a new boot of the host has to do before any mutation. On a full
   * disk reads are served without it, and mutations have to wait.
   */
  async settleAfterBoot(settle: () => Promise<void>): Promise<void> {
    let running: Promise<void> | undefined;
    this.#settle = () => {
      running ??= settle().then(
        () => {
          this.#settle = undefined;
        },
        (error: unknown) => {
          running = undefined;
          throw toGfsError(error);
        },
      );
      return running;
    };
    try {
      await this.#settle();
    } catch (error) {
      if (!(error instanceof GfsError) || error.code !== 'NO_SPACE') throw error;
      this.context.logger.error(
        { err: error, directory: this.layout.root },
        'no space: nothing can be written',
      );
    }
  }

  /**
   * Before a mutation of `sizeBytes` is queued: is there room on the disk and in memory? Undefined when
   * there is, so that the usual case waits for nothing.
   */
  admission(sizeBytes: number): Promise<void> | undefined {
    const isFresh = this.context.clock.monotonicMs() - this.#spaceAtMs <= SPACE_TTL_MS;
    if (!isFresh || this.#isLow(sizeBytes) || this.#patchBytes > MAX_PATCH_BYTES)
      return this.#makeRoom(sizeBytes);
    this.#spend(sizeBytes);
    return undefined;
  }

  /** @throws NO_SPACE when `sizeBytes` more would use what is kept free */
  async #makeRoom(sizeBytes: number): Promise<void> {
    await this.space();
    await this.#settle?.();
    if (this.#isLow(sizeBytes)) {
      throw new GfsError('NO_SPACE', `${this.layout.root}: only ${this.#space.availableBytes} bytes left`);
    }
    this.#spend(sizeBytes);
    while (this.#patchBytes > MAX_PATCH_BYTES) await this.checkpointNow();
  }

  #isLow(sizeBytes: number): boolean {
    return this.#space.availableBytes - sizeBytes < this.context.reservedBytes;
  }

  #spend(sizeBytes: number): void {
    const { totalBytes, availableBytes } = this.#space;
    this.#space = { totalBytes, availableBytes: availableBytes - sizeBytes };
    this.#admittedBytes += sizeBytes;
  }

  async space(): Promise<DiskSpace> {
    this.#space = await this.disk.space(this.layout.root);
    this.#spaceAtMs = this.context.clock.monotonicMs();
    return this.#space;
  }

  addPatchBytes(bytes: number): void {
    this.#patchBytes += bytes;
  }

  /** After a round: begins what is due. */
  mutated(chunk: Chunk): void {
    this.#mutatedMs = this.context.clock.monotonicMs();
    chunk.lastMutationMs = this.#mutatedMs;
    if (this.#isCheckpointDue()) {
      if (this.#checkpoint === undefined) this.#inBackground(this.checkpointNow());
      this.#isHurried = true;
    }
    if (this.context.sync === 'disk' && chunk.unflushedBytes > EARLY_FLUSH_BYTES && !chunk.isFlushing) {
      this.#inBackground(chunk.syncFile());
    }
  }

  #isCheckpointDue(): boolean {
    const limitBytes = this.context.checkpointBytes ?? DEFAULT_CHECKPOINT_BYTES;
    return (
      this.journal.segmentBytes > limitBytes ||
      this.#patchBytes > limitBytes ||
      this.#admittedBytes > CHECKPOINT_ADMITTED_BYTES
    );
  }

  /** What fails here fails again where somebody waits for it; the journal keeps everything until then. */
  #inBackground(work: Promise<void>): void {
    work.catch((err: unknown) => {
      this.context.logger.warn({ err, directory: this.layout.root }, 'checkpoint or early flush failed');
    });
  }

  /** One checkpoint at a time: who asks while one runs gets that one. */
  checkpointNow(): Promise<void> {
    this.#isHurried = true;
    return this.#underCheckpoint();
  }

  #underCheckpoint(): Promise<void> {
    if (this.#checkpoint === undefined) this.#admittedBytes = 0;
    this.#checkpoint ??= checkpoint(this).finally(() => {
      this.#checkpoint = undefined;
      this.#isHurried = false;
    });
    return this.#checkpoint;
  }

  /** Between the chunks of a checkpoint: a while, unless somebody waits for it. */
  async pace(): Promise<void> {
    if (this.#isHurried) return;
    await new Promise<void>((resolve) => void this.context.timers.after(IDLE_PACE_MS, resolve));
  }

  /** Takes the mark off a replica that is left alone: a host crash will not make it suspect. */
  forgetQuietMark(chunk: Chunk): void {
    const quietMs = this.context.clock.monotonicMs() - chunk.lastMutationMs;
    if (quietMs > QUIET_MS) chunk.state.mark = 0;
  }

  /**
   * To be called now and then: takes the marks off chunks that have become quiet, and makes a
   * checkpoint when nobody is in its way.
   */
  tend(): void {
    const nowMs = this.context.clock.monotonicMs();
    if (nowMs - this.#mutatedMs < IDLE_MS || this.#checkpoint !== undefined) return;
    for (const chunk of this.chunks.values()) {
      if (chunk.state.mark !== 0 && nowMs - chunk.lastMutationMs > QUIET_MS) this.#dirty.add(chunk);
    }
    if (this.#dirty.size > 0) this.#inBackground(this.#underCheckpoint());
  }

  shardChanged(handle: number): void {
    this.#changedShards.add(handle % SHARD_COUNT);
  }

  async syncShard(handle: number): Promise<void> {
    const shard = handle % SHARD_COUNT;
    if (!this.#changedShards.delete(shard)) return;
    await this.#fatalIfItFails(this.disk.syncDirectory(this.layout.shard(shard)));
  }

  async syncShards(): Promise<void> {
    for (const shard of [...this.#changedShards]) await this.syncShard(shard);
  }

  /** A failed flush is the end: the kernel has dropped the bytes, and the next flush would not say so. */
  syncFile(file: DiskFile): Promise<void> {
    return this.#fatalIfItFails(file.sync());
  }

  async #fatalIfItFails(flush: Promise<void>): Promise<void> {
    try {
      await flush;
    } catch (cause) {
      const error = new Error(`cannot flush below ${this.layout.root}`, { cause });
      this.context.onFatal(error);
      throw error;
    }
  }

  forget(chunk: Chunk): void {
    chunk.deleted = true;
    this.chunks.delete(chunk.handle);
    this.#vectors.forget(chunk.handle);
    this.pages.drop(chunk.state);
    this.#dirty.delete(chunk);
    this.addPatchBytes(-chunk.state.patchBytes);
    chunk.state.patchBytes = 0;
    chunk.state.patches.clear();
  }

  /** Its sidecar is damaged: the replica is lost, which the master will be told. Its bytes stay until it says so. */
  giveUp(handle: number): void {
    const { logger } = this.context;
    logger.error({ handle, directory: this.layout.root }, 'damaged sidecar: the replica is lost');
    const chunk = this.chunks.get(handle);
    if (chunk !== undefined) this.forget(chunk);
    this.unreadable.add(handle);
  }

  /** The disk has failed: whoever works on one of its chunks hears that there is no such chunk here. */
  abandon(): void {
    for (const chunk of [...this.chunks.values()]) this.forget(chunk);
    this.unreadable.clear();
    void this.files.closeAll().catch(() => undefined);
    this.#release().catch(() => undefined);
  }

  /** Forgets a chunk and removes its files. */
  async remove(chunk: Chunk): Promise<void> {
    await chunk.exclusive(async () => {
      if (chunk.deleted) return;
      await this.journal.append([{ record: { type: 'delete', handle: chunk.handle } }]);
      this.forget(chunk);
    });
    await chunk.checkpointing?.catch(() => undefined);
    await this.files.forget(chunk.handle);
    await removeIfThere(this.disk, this.layout.sidecar(chunk.handle));
    await removeIfThere(this.disk, this.layout.chunkFile(chunk.handle));
    this.shardChanged(chunk.handle);
  }

  /** Removes what is left of a chunk whose sidecar cannot be read. */
  async removeUnreadable(handle: number): Promise<void> {
    if (!this.unreadable.delete(handle)) return;
    await removeIfThere(this.disk, this.layout.sidecar(handle));
    await removeIfThere(this.disk, this.layout.chunkFile(handle));
    this.shardChanged(handle);
  }

  /** Puts all of one chunk into its file and sidecar. */
  writeBack(chunk: Chunk): Promise<void> {
    return checkpointChunk(chunk);
  }
}
