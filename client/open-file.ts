/** One file that is open here, however often: its length as we know it, its data on the way, its appends. */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES } from '../protocol/limits.js';
import { type AttributeChanges, type Attributes, SetAttributes } from '../protocol/messages/index.js';
import { Appender } from './append.js';
import type { DataVersions } from './data-versions.js';
import { FileLength } from './file-length.js';
import type { Locations } from './locations.js';
import type { Metadata } from './metadata.js';
import type { Reader, ReadResult } from './reader.js';
import type { CopySource, Replicas } from './replicas.js';
import type { CallContext } from './retry.js';
import type { MasterSession } from './session.js';
import type { SharedChunks } from './shared-chunks.js';
import { Telling } from './telling.js';
import { WriteBehind, type WriteBehindParts } from './write-behind.js';

export interface OpenFileParts {
  readonly environment: Environment;
  readonly session: MasterSession;
  readonly locations: Locations;
  readonly reader: Reader;
  readonly replicas: Replicas;
  readonly writeBehind: WriteBehindParts;
  readonly dataVersions: DataVersions;
  readonly metadata: Metadata;
  readonly sharedChunks: SharedChunks;
}

export class OpenFile {
  readonly id: number;
  /** @internal for telling the master */
  readonly length: FileLength;
  /** Held open this often. */
  opens = 0;
  /** It was made when it was opened. */
  isNew = false;
  /** Made without a name, and has none yet. */
  isUnnamed = false;
  /** Data went into it from here, other than by sharing chunks. */
  wasWritten = false;
  readonly #parts: OpenFileParts;
  /** Made when they are needed: most files are only looked at. */
  #behind: WriteBehind | undefined;
  #appends: Appender | undefined;
  readonly #telling: Telling;
  /** Fsyncs under way whose time the master has been told before their data had arrived. */
  #toldEarly = 0;
  #isDoubtful = false;
  /** How often it became so. */
  #doubts = 0;
  /** And may be shorter: an append from where its end was would leave a hole. */
  #isCut = false;

  constructor(id: number, size: number, dataVersion: number, parts: OpenFileParts) {
    this.id = id;
    this.length = new FileLength(size, dataVersion);
    this.#parts = parts;
    this.#telling = new Telling(this, size, dataVersion, parts);
  }

  get #writes(): WriteBehind {
    this.#behind ??= new WriteBehind(this, this.#parts.writeBehind);
    return this.#behind;
  }

  get #appender(): Appender {
    if (this.#appends === undefined) {
      const { replicas, session, writeBehind, environment } = this.#parts;
      const { budget, chunkBytes } = writeBehind;
      const deadline = () => session.deadline();
      this.#appends = new Appender(this, {
        ...{ timers: environment.timers, replicas, budget, chunkBytes, deadline },
      });
    }
    return this.#appends;
  }

  /** All that was written has arrived, the master knows of it, and no error is to be told: a flush has nothing to do. */
  get isSettled(): boolean {
    return this.#behind?.isSettled !== false && this.#appends === undefined && !this.#telling.isDue;
  }

  get size(): number {
    return this.length.bytes;
  }

  /** As the master told when it was opened, or after the last change from here. */
  get dataVersion(): number {
    return this.#telling.dataVersion;
  }

  /** It was changed elsewhere, or may be without our hearing of it: its length has to be asked for. */
  get isDoubtful(): boolean {
    return this.#isDoubtful;
  }

  /** @internal appends that were acknowledged are on their way */
  get isAhead(): boolean {
    return (this.#appends?.aheadBytes ?? 0) > 0;
  }

  /** @internal for telling the master */
  get isArriving(): boolean {
    return this.#behind?.isIdle === false;
  }

  /** @internal for the appender */
  get arrivedBytes(): number {
    return Math.max(0, this.size - (this.#appends?.aheadBytes ?? 0));
  }

  /** Takes over what the master told. @returns it with what was changed from here and the master does not know */
  noteAttributes(attributes: Attributes): Attributes {
    this.length.heard(attributes, this.isAhead);
    return this.#telling.show(attributes);
  }

  /** Up to `length` bytes; fewer only at the end of the file. */
  async read(offset: number, length: number, context: CallContext): Promise<ReadResult> {
    if (this.#behind?.overlaps(offset, length)) await this.#behind.settle();
    if (offset + length > this.arrivedBytes) await this.#appends?.settle();
    await this.revalidate(context);
    const count = Math.min(length, this.size - offset);
    if (count <= 0) return { buffers: [], release: () => undefined };
    return this.#parts.reader.read(this.id, offset, count, context);
  }

  /** Takes a copy of `data` before it first waits. @throws FILE_TOO_BIG, or what an earlier write met */
  write(offset: number, data: Uint8Array): Promise<void> {
    const end = offset + data.byteLength;
    if (end > MAX_FILE_BYTES) return Promise.reject(new GfsError('FILE_TOO_BIG'));
    if (this.isAhead) {
      const copy = Uint8Array.from(data);
      return this.#appender.settle().then(() => this.write(offset, copy));
    }
    this.#noteWrite();
    this.length.wrote(end);
    return this.#writes.write(offset, data);
  }

  /** As {@link write}, of bytes that the chunkservers copy, to within one chunk. @throws CannotCopy */
  async copyFrom(source: CopySource, offset: number, context: CallContext): Promise<void> {
    await this.#appender.settle();
    if (this.#writes.overlaps(offset, source.length)) await this.#writes.settle();
    const { replicas, session, writeBehind } = this.#parts;
    const { chunkBytes, unsynced } = writeBehind;
    const index = Math.floor(offset / chunkBytes);
    const place = { id: this.id, index };
    const took = await replicas.copy(place, offset % chunkBytes, source, context, session.deadline());
    this.#noteWrite();
    this.length.wrote(offset + source.length);
    this.length.arrived(offset + source.length);
    unsynced.note(this.id, index, took);
  }

  /** As {@link write}, and resolves when everybody sees it (O_DIRECT). */
  async writeThrough(offset: number, data: Uint8Array): Promise<void> {
    await this.write(offset, data);
    await this.#writes.drain();
    this.#telling.noteArrived();
    await this.#acknowledged();
  }

  /**
   * Appends at the exact end (O_APPEND). `data` must not change until then. @returns the offset
   * @param moved who passes it does not wait until that is certain, and hears if it is another one
   */
  async append(data: Uint8Array, moved?: (offset: number) => void): Promise<number> {
    if (!this.#writes.isIdle) await this.#writes.drain();
    if (moved !== undefined && this.#telling.isAlone) return this.#appendAhead(data, moved);
    if (this.#isCut) await this.#askAgain({});
    this.#telling.noteTime();
    const offset = await this.#appender.exact(data);
    await this.#acknowledged();
    return offset;
  }

  /** INVARIANT: whoever looks has to ask the master first, who asks us. */
  async #appendAhead(data: Uint8Array, moved: (offset: number) => void): Promise<number> {
    let offset = this.size;
    this.#noteWrite();
    this.length.wrote(offset + data.byteLength);
    await this.#appender.ahead(data, offset, (trueOffset) => {
      offset = trueOffset;
      // So this client was not alone, and does not know what came before.
      this.noteChangedElsewhere();
      moved(trueOffset);
    });
    return offset;
  }

  /** Until all that was appended is where it was said to be, or was told to be elsewhere. */
  async appended(): Promise<void> {
    await this.#appends?.settle();
  }

  /**
   * Whoever looks from now on sees what was written: the master has been told, or asks before it tells others.
   * (A client that does not cache is late by a moment.)
   */
  async #acknowledged(): Promise<void> {
    if (!this.#telling.mayDefer && this.#parts.session.caches) await this.#telling.now({}, true);
    else this.#telling.soon();
  }

  /** Somebody else looks: what was acknowledged is told now. A failure is the writer's to hear. */
  async report(): Promise<void> {
    this.#telling.noteArrived();
    this.#telling.deferNothing();
    await Promise.all([
      // Of an fsync under way whose time was told already.
      this.#toldEarly > 0 ? this.#writes.settle() : undefined,
      this.isAhead ? this.#appender.settle() : undefined,
    ]);
    // What whoever is in the lane is waiting for now may wait for this.
    if (this.#telling.isDue) await this.#telling.now({});
  }

  /** Somebody else may append from now on: behind what was acknowledged. */
  async sendAhead(): Promise<void> {
    this.#telling.noteOthers();
    if (this.isAhead) await this.#appender.settle();
  }

  /** Another client changed its data, or nobody would say if one did. */
  noteChangedElsewhere(): void {
    this.#isDoubtful = true;
    this.#doubts++;
    this.#telling.deferNothing();
  }

  /** Another client may have made it shorter. */
  noteCut(): void {
    this.#isCut = true;
    this.#doubts++;
  }

  /** Asks for its length where that is in doubt. */
  async revalidate(context: CallContext): Promise<void> {
    if (this.#isDoubtful) await this.#askAgain(context);
  }

  /** Each reader asks for itself until one has been answered: what was asked before it began may be old. */
  async #askAgain(context: CallContext): Promise<void> {
    const { metadata, session, locations } = this.#parts;
    const doubts = this.#doubts;
    const attributes = await metadata.attributes(this.id, context);
    session.time.met(attributes);
    this.length.heard(attributes, this.isAhead);
    const { dataVersion = 0 } = attributes;
    if (dataVersion > this.dataVersion) {
      locations.noteChangedElsewhere(this.id);
      this.#telling.dataVersion = dataVersion;
    }
    // It has changed again meanwhile, which the answer need not know.
    if (this.#doubts !== doubts) return;
    this.#isCut = false;
    // Nobody would tell of the next change: it is asked for again.
    this.#isDoubtful = session.caches && metadata.known(this.id) === undefined;
  }

  /** Record append (paper §3.3). @returns the offset @throws TOO_BIG */
  async appendRecord(data: Uint8Array, context: CallContext): Promise<number> {
    await this.#drain();
    this.#telling.noteTime();
    const offset = await this.#appender.record(data, context);
    await this.flush(context);
    return offset;
  }

  /** @internal for the appender */
  noteAppended(
    end: number,
    took: readonly { index: number; verifiers: readonly number[] }[],
    flushed: boolean,
  ): void {
    // Its time is when it was written, not when it arrived.
    this.#noteChange();
    this.length.wrote(end);
    this.length.arrived(end);
    const { unsynced } = this.#parts.writeBehind;
    for (const { index, verifiers } of took) {
      unsynced.note(this.id, index, verifiers);
      if (flushed) unsynced.noteFlushed(this.id, index, verifiers);
    }
    this.#telling.soon();
  }

  /** @internal for write-behind */
  noteArrived(end: number): void {
    this.length.arrived(end);
  }

  /** @internal for write-behind */
  noteFailed(waitingEnd: number): void {
    // What counts appends that are on their way is left as it is.
    if (!this.isAhead) this.length.failed(waitingEnd);
  }

  /** @internal for the appender */
  noteLost(bytes: number): void {
    this.length.lost(bytes);
    this.noteChangedElsewhere();
  }

  /** @throws what a write or an append met */
  async #drain(): Promise<void> {
    await this.#behind?.drain();
    await this.#appends?.drain();
    this.#telling.noteArrived();
  }

  /** Until what was written is on every replica and the master knows the length. @throws deferred write errors */
  async flush(context: CallContext): Promise<void> {
    await this.#drain();
    if (this.#telling.isDue) await this.#telling.now(context);
  }

  /**
   * {@link flush}, and on every replica's disk. The length is told where it grew. The time of a change may be
   * told a moment later while nobody has seen it (docs/decisions/0027-times-that-nobody-has-seen.md).
   * @param dataOnly also where somebody has (fdatasync(2))
   */
  async sync(context: CallContext, dataOnly = false): Promise<void> {
    // Nobody else knows the file's state without our having been asked: so it may be told before the data is there.
    const telling = this.#telling;
    const isOurs = telling.mayDefer && !telling.hasGrown;
    const mayBeLater = isOurs && (dataOnly || !telling.timeIsShown);
    // Until somebody asks, who may see the file before the data is there.
    const isTimeLater = () => mayBeLater && telling.mayDefer;
    const tell = () => (telling.isDue && !isTimeLater() ? telling.now(context, true) : undefined);
    const early = isOurs ? tell() : undefined;
    // It is waited for below, unless the data fails first.
    early?.catch(() => undefined);
    if (early !== undefined) this.#toldEarly++;
    try {
      await this.#writes.drainForSync();
    } finally {
      if (early !== undefined) this.#toldEarly--;
    }
    await this.#appends?.drain(true);
    telling.noteArrived();
    if (isTimeLater()) telling.soon();
    // The master's disk and the chunkservers' flush at the same time.
    await Promise.all([
      early?.then(() => (telling.wasToldAhead ? telling.now(context, true) : undefined)) ?? tell(),
      this.#syncChunks(context),
      this.#parts.sharedChunks.sync(this.id, context),
    ]);
  }

  #syncChunks(context: CallContext): Promise<void> {
    const { replicas, session, writeBehind } = this.#parts;
    return writeBehind.unsynced.sync(this.id, (index) =>
      replicas.sync({ id: this.id, index }, context, session.deadline()),
    );
  }

  /** Truncates or extends, and changes other attributes with it. */
  async setAttributes(changes: AttributeChanges, context: CallContext): Promise<Attributes> {
    return this.#telling.inLane(async () => {
      await this.#drain();
      // Also before a truncation: what the master does not know to be there it would not cut.
      if (changes.size === undefined) return this.#telling.withAttributes(changes, context);
      await this.#telling.nowInLane(context);
      const { attributes } = await this.#parts.session.mutate(
        SetAttributes,
        { id: this.id, changes },
        context,
      );
      const { chunkBytes, unsynced } = this.#parts.writeBehind;
      unsynced.cut(this.id, Math.ceil(changes.size / chunkBytes));
      this.#parts.sharedChunks.cut(this.id, Math.ceil(changes.size / chunkBytes));
      this.#noteReplaced(attributes);
      return this.size > attributes.size ? { ...attributes, size: this.size } : attributes;
    });
  }

  /**
   * Has the master change which chunks the file has, when everything that was written before has arrived.
   * @param change changes them; resolves to the attributes after it
   */
  async changeChunks<T extends { readonly attributes: Attributes }>(
    context: CallContext,
    change: () => Promise<T>,
  ): Promise<T> {
    return this.#telling.inLane(async () => {
      await this.#drain();
      await this.#telling.nowInLane(context);
      const changed = await change();
      this.#noteReplaced(changed.attributes);
      return changed;
    });
  }

  /** The master has changed length or chunks for us: what was known before is old. */
  #noteReplaced(attributes: Attributes): void {
    this.#parts.locations.drop(this.id);
    this.#telling.noteReplaced(attributes);
  }

  /** Its data counts as changed now. */
  touch(): void {
    this.#noteWrite();
  }

  #noteWrite(): void {
    this.#noteChange();
    this.#telling.noteTime();
  }

  #noteChange(): void {
    this.wasWritten = true;
    this.#telling.noteChange();
  }
}
