/**
 * What one file of a {@link FakeDisk} holds: in the page cache, on the platter, and the states in
 * between that a host may come back with.
 */
import type { FakeRandom } from './random.js';

export const PAGE_BYTES = 4096;
/** Older states of a page that nobody flushed are forgotten: there is enough to choose from. */
const MAX_VERSIONS = 8;

interface PageVersion {
  readonly bytes: Uint8Array;
  readonly fileSizeBytes: number;
  /** Which write it is from, counted over the file's life. */
  readonly write: number;
}

/** A flush under way: what it is going to make durable, as it was when the flush began. */
interface Flush {
  /** The newest write that it covers. */
  readonly upToWrite: number;
  readonly pages: Map<number, Uint8Array>;
  sizeBytes: number;
  /** A cut that nobody had flushed when it began is durable with it. */
  readonly coversCut: boolean;
}

/** What is durable, and what was written since. INVARIANT: the bytes of a page never change once they are in here. */
class WriteBack {
  readonly base: Map<number, Uint8Array>;
  baseSizeBytes: number;
  readonly versions: Map<number, PageVersion[]>;

  constructor(base: Map<number, Uint8Array>, baseSizeBytes: number, versions: Map<number, PageVersion[]>) {
    this.base = base;
    this.baseSizeBytes = baseSizeBytes;
    this.versions = versions;
  }

  clone(): WriteBack {
    const versions = new Map([...this.versions].map(([page, list]) => [page, [...list]]));
    return new WriteBack(new Map(this.base), this.baseSizeBytes, versions);
  }

  add(page: number, bytes: Uint8Array, fileSizeBytes: number, write: number): void {
    const list = this.versions.get(page) ?? [];
    if (list.length === MAX_VERSIONS) list.shift();
    list.push({ bytes, fileSizeBytes, write });
    this.versions.set(page, list);
  }

  /** What a flush covered is durable; newer states of its pages may follow it or not. */
  settle({ pages, sizeBytes, upToWrite }: Flush): void {
    for (const [page, bytes] of pages) {
      this.base.set(page, bytes);
      const newer = (this.versions.get(page) ?? []).filter(({ write }) => write > upToWrite);
      if (newer.length === 0) this.versions.delete(page);
      else this.versions.set(page, newer);
    }
    this.baseSizeBytes = sizeBytes;
  }

  /** Changes every state of a page. */
  change(page: number, how: PageChange): void {
    const base = this.base.get(page);
    if (base !== undefined) this.base.set(page, how(base));
    const list = this.versions.get(page);
    if (list !== undefined)
      this.versions.set(
        page,
        list.map((version) => ({ ...version, bytes: how(version.bytes) })),
      );
  }

  /** As if everything had been cut before it was written back. */
  cut(sizeBytes: number): void {
    const cutPage = Math.floor(sizeBytes / PAGE_BYTES);
    const within = sizeBytes % PAGE_BYTES;
    cutPages(this.base, sizeBytes);
    for (const [page, list] of [...this.versions]) {
      if (page > cutPage || (page === cutPage && within === 0)) this.versions.delete(page);
      else if (page === cutPage) {
        const zeroed = list.map(({ bytes, write }) => ({
          bytes: zeroedFrom(bytes, within),
          fileSizeBytes: sizeBytes,
          write,
        }));
        this.versions.set(page, zeroed);
      }
    }
    this.baseSizeBytes = Math.min(this.baseSizeBytes, sizeBytes);
  }
}

function cutPages(pages: Map<number, Uint8Array>, sizeBytes: number): void {
  const cutPage = Math.floor(sizeBytes / PAGE_BYTES);
  const within = sizeBytes % PAGE_BYTES;
  for (const page of [...pages.keys()]) {
    if (page > cutPage || (page === cutPage && within === 0)) pages.delete(page);
    else if (page === cutPage) pages.set(page, zeroedFrom(pages.get(page) as Uint8Array, within));
  }
}

type PageChange = (bytes: Uint8Array) => Uint8Array;

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
}

function zeroedFrom(bytes: Uint8Array, from: number): Uint8Array {
  const copy = bytes.slice();
  copy.fill(0, from);
  return copy;
}

export class FileContent {
  #pages = new Map<number, Uint8Array>();
  #sizeBytes = 0;
  #writeBack = new WriteBack(new Map(), 0, new Map());
  /** The state before a cut that nobody flushed yet: the cut may be lost. */
  #beforeCut: { writeBack: WriteBack; sizeBytes: number } | undefined;
  #writes = 0;
  /** Those under way when it was cut have a state of their own for either outcome of the cut. */
  readonly #flushes = new Set<{ readonly now: Flush; readonly uncut: Flush }>();

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get pageCount(): number {
    return this.#pages.size;
  }

  /** How many pages more a write would take. */
  newPages(position: number, lengthBytes: number): number {
    let count = 0;
    const lastPage = Math.floor((position + lengthBytes - 1) / PAGE_BYTES);
    for (let page = Math.floor(position / PAGE_BYTES); page <= lastPage; page++)
      if (!this.#pages.has(page)) count++;
    return count;
  }

  read(buffer: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(buffer.byteLength, this.#sizeBytes - position));
    for (let done = 0; done < count; ) {
      const at = position + done;
      const within = at % PAGE_BYTES;
      const take = Math.min(PAGE_BYTES - within, count - done);
      const page = this.#pages.get(Math.floor(at / PAGE_BYTES));
      if (page === undefined) buffer.fill(0, done, done + take);
      else buffer.set(page.subarray(within, within + take), done);
      done += take;
    }
    return count;
  }

  write(bytes: Uint8Array, position: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, position + bytes.byteLength);
    this.#writes++;
    for (let done = 0; done < bytes.byteLength; ) {
      const at = position + done;
      const within = at % PAGE_BYTES;
      const take = Math.min(PAGE_BYTES - within, bytes.byteLength - done);
      const index = Math.floor(at / PAGE_BYTES);
      const page = this.#pages.get(index)?.slice() ?? new Uint8Array(PAGE_BYTES);
      page.set(bytes.subarray(done, done + take), within);
      this.#pages.set(index, page);
      this.#writeBack.add(index, page, Math.min(this.#sizeBytes, (index + 1) * PAGE_BYTES), this.#writes);
      done += take;
    }
  }

  truncate(sizeBytes: number): void {
    if (sizeBytes < this.#sizeBytes) {
      this.#beforeCut ??= { writeBack: this.#writeBack.clone(), sizeBytes: this.#sizeBytes };
      cutPages(this.#pages, sizeBytes);
      this.#writeBack.cut(sizeBytes);
      for (const { now } of this.#flushes) {
        cutPages(now.pages, sizeBytes);
        now.sizeBytes = Math.min(now.sizeBytes, sizeBytes);
      }
    }
    this.#sizeBytes = sizeBytes;
  }

  /**
   * fdatasync begins. Until the returned function is called nothing of it is durable for certain: a host
   * that crashes meanwhile may have flushed a part.
   */
  beginSync(): () => void {
    const flush = (): Flush => ({
      upToWrite: this.#writes,
      pages: new Map(
        [...this.#writeBack.versions.keys()].map((page) => [page, this.#pages.get(page) as Uint8Array]),
      ),
      sizeBytes: this.#sizeBytes,
      coversCut: this.#beforeCut !== undefined,
    });
    const flushes = { now: flush(), uncut: flush() };
    this.#flushes.add(flushes);
    return () => {
      if (!this.#flushes.delete(flushes)) return;
      this.#writeBack.settle(flushes.now);
      if (flushes.now.coversCut) this.#beforeCut = undefined;
      else this.#beforeCut?.writeBack.settle(flushes.uncut);
    };
  }

  /** A whole fdatasync, at once. */
  sync(): void {
    this.beginSync()();
  }

  /** A copy that shares the pages; nothing of it is flushed. */
  copy(): FileContent {
    const copy = new FileContent();
    copy.#pages = new Map(this.#pages);
    copy.#sizeBytes = this.#sizeBytes;
    for (const [page, bytes] of this.#pages) copy.#writeBack.add(page, bytes, this.#sizeBytes, 0);
    return copy;
  }

  /** Changes one bit, as a failing disk does: also in whatever a crash may leave of its page. */
  flipBit(position: number): void {
    const index = Math.floor(position / PAGE_BYTES);
    const flip: PageChange = (bytes) => flipped(bytes, position % PAGE_BYTES);
    const flipIn = (pages: Map<number, Uint8Array>) => {
      const bytes = pages.get(index);
      if (bytes !== undefined) pages.set(index, flip(bytes));
    };
    if (!this.#pages.has(index)) {
      // Nothing but zeros had been there.
      this.#pages.set(index, new Uint8Array(PAGE_BYTES));
      this.#writeBack.base.set(index, new Uint8Array(PAGE_BYTES));
    }
    flipIn(this.#pages);
    this.#writeBack.change(index, flip);
    this.#beforeCut?.writeBack.change(index, flip);
    for (const { now, uncut } of this.#flushes) {
      flipIn(now.pages);
      flipIn(uncut.pages);
    }
  }

  /**
   * The host lost its memory. Each page comes back as it was flushed or as any write since left it;
   * an unflushed cut may be undone as a whole; the size follows the pages that made it.
   * @param losesAll nothing survives that was not flushed
   */
  crash(random: FakeRandom, losesAll: boolean): void {
    const isUndone = this.#beforeCut !== undefined && (losesAll || random.chance(0.5));
    const undone = isUndone ? this.#beforeCut : undefined;
    const { base, baseSizeBytes, versions } = undone?.writeBack ?? this.#writeBack;
    const fullSizeBytes = undone?.sizeBytes ?? this.#sizeBytes;
    const pages = new Map(base);
    let sizeBytes = baseSizeBytes;
    const fate = losesAll ? 'none' : random.pick(['none', 'all', 'some', 'some'] as const);
    for (const [page, list] of versions) {
      const kept = fate === 'none' ? 0 : fate === 'all' ? list.length : random.below(list.length + 1);
      const version = list[kept - 1];
      if (version === undefined) continue;
      pages.set(page, version.bytes);
      // The size may have reached the disk with this state of the page or with a later one.
      const pageEnd = Math.min((page + 1) * PAGE_BYTES, fullSizeBytes);
      sizeBytes = Math.max(sizeBytes, fate === 'all' || random.chance(0.5) ? pageEnd : version.fileSizeBytes);
    }
    if (fate === 'all') sizeBytes = Math.max(sizeBytes, fullSizeBytes);
    this.#pages = pages;
    this.#sizeBytes = sizeBytes;
    this.#writeBack = new WriteBack(new Map(pages), sizeBytes, new Map());
    this.#beforeCut = undefined;
    this.#flushes.clear();
  }
}
