/** Open chunk files: opening one costs more than reading a block from it. */
import type { Disk, DiskFile } from '../../environment/ports/index.js';
import type { Chunk } from './chunk.js';
import type { Layout } from './layout.js';

const MAX_OPEN_FILES = 512;

interface OpenFile {
  readonly file: Promise<DiskFile>;
  /** Once it is open. */
  opened: DiskFile | undefined;
  users: number;
  /** Out of the cache: closed when its last user is done. */
  retired: boolean;
}

export class FileCache {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #onOpened: (handle: number) => void;
  /** In order of use, the longest unused first. */
  readonly #open = new Map<number, OpenFile>();

  /** @param onOpened called for every opening, which may have made the file */
  constructor(disk: Disk, layout: Layout, onOpened: (handle: number) => void) {
    this.#disk = disk;
    this.#layout = layout;
    this.#onOpened = onOpened;
  }

  /** Begins to open the chunk's file, for a use that follows soon. */
  open(chunk: Chunk): void {
    // What goes wrong shows when it is used.
    this.#entry(chunk.handle).file.catch(() => undefined);
  }

  /** Lends the chunk's file, which is made when it is not there. */
  async use<T>(chunk: Chunk, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const entry = this.#entry(chunk.handle);
    entry.users++;
    try {
      return await work(await entry.file);
    } catch (error) {
      // Whatever went wrong, the next user opens it afresh.
      if (this.#open.get(chunk.handle) === entry) this.#retire(chunk.handle, entry);
      throw error;
    } finally {
      entry.users--;
      if (entry.retired && entry.users === 0) await close(entry);
    }
  }

  /** As {@link DiskFile.readNow}; undefined also where it would have to be opened, or fails. */
  readNow(chunk: Chunk, buffer: Uint8Array, position: number): number | undefined {
    const entry = this.#open.get(chunk.handle);
    if (entry?.opened?.readNow === undefined) return undefined;
    try {
      return entry.opened.readNow(buffer, position);
    } catch {
      return undefined;
    }
  }

  #entry(handle: number): OpenFile {
    let entry = this.#open.get(handle);
    if (entry === undefined) {
      this.#onOpened(handle);
      const file = this.#disk.open(this.#layout.chunkFile(handle), 'create');
      const opening: OpenFile = { file, opened: undefined, users: 0, retired: false };
      file.then(
        (opened) => {
          opening.opened = opened;
        },
        () => undefined,
      );
      entry = opening;
    } else {
      this.#open.delete(handle);
    }
    this.#open.set(handle, entry);
    if (this.#open.size > MAX_OPEN_FILES) this.#retireOldest(entry);
    return entry;
  }

  #retireOldest(wanted: OpenFile): void {
    for (const [handle, entry] of this.#open) {
      if (entry.users > 0 || entry === wanted) continue;
      this.#retire(handle, entry);
      void close(entry);
      return;
    }
  }

  #retire(handle: number, entry: OpenFile): void {
    this.#open.delete(handle);
    entry.retired = true;
  }

  /** Lets go of a chunk's file. */
  async forget(handle: number): Promise<void> {
    const entry = this.#open.get(handle);
    if (entry === undefined) return;
    this.#retire(handle, entry);
    if (entry.users === 0) await close(entry);
  }

  async closeAll(): Promise<void> {
    for (const handle of [...this.#open.keys()]) await this.forget(handle);
  }
}

async function close(entry: OpenFile): Promise<void> {
  const file = await entry.file.catch(() => undefined);
  await file?.close();
}
