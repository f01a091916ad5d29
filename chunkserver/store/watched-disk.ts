/**
 * A data directory's disk, watched for errors that are the device's: a write or a flush that fails so is the
 * end of the disk (what was acknowledged before may not be on it), a read may be one bad spot; several
 * within a while are the end too.
 */
import type { Clock, Disk, DiskFile, DiskSpace, OpenMode } from '../../environment/ports/index.js';

/** As MooseFS has it: two bad reads are borne within ten minutes. */
const TOLERATED_READ_ERRORS = 2;
const READ_ERROR_MEMORY_MS = 600_000;
const DEVICE_ERRORS: readonly unknown[] = ['EIO', 'EROFS', 'ENODEV', 'ENXIO', 'EUCLEAN', 'EREMOTEIO'];

export function isDeviceError(error: unknown): boolean {
  return DEVICE_ERRORS.includes((error as { code?: unknown } | null)?.code);
}

export class WatchedDisk implements Disk {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #onFailed: (error: Error) => void;
  /** When reads failed, the latest of them. */
  #readErrorsMs: number[] = [];

  /** @param onFailed called for each error after which the disk is not to be used */
  constructor(disk: Disk, clock: Clock, onFailed: (error: Error) => void) {
    this.#disk = disk;
    this.#clock = clock;
    this.#onFailed = onFailed;
  }

  allocate(sizeBytes: number): Uint8Array {
    return this.#disk.allocate(sizeBytes);
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return new WatchedFile(await this.#watch(this.#disk.open(path, mode)), this);
  }

  list(directory: string): Promise<string[]> {
    return this.#watch(this.#disk.list(directory));
  }

  makeDirectory(path: string): Promise<void> {
    return this.#watch(this.#disk.makeDirectory(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#watch(this.#disk.rename(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#watch(this.#disk.remove(path));
  }

  copy(from: string, to: string): Promise<void> {
    return this.#watch(this.#disk.copy(from, to));
  }

  syncDirectory(path: string): Promise<void> {
    return this.#watch(this.#disk.syncDirectory(path));
  }

  space(directory: string): Promise<DiskSpace> {
    return this.#watch(this.#disk.space(directory));
  }

  lock(path: string): Promise<() => Promise<void>> {
    return this.#disk.lock(path);
  }

  #watch<T>(work: Promise<T>): Promise<T> {
    return work.catch((error: unknown) => {
      this.noteWriteError(error);
      throw error;
    });
  }

  noteWriteError(error: unknown): void {
    if (isDeviceError(error)) this.#onFailed(error as Error);
  }

  noteReadError(error: unknown): void {
    if (!isDeviceError(error)) return;
    const nowMs = this.#clock.monotonicMs();
    this.#readErrorsMs = this.#readErrorsMs.filter((atMs) => nowMs - atMs < READ_ERROR_MEMORY_MS);
    this.#readErrorsMs.push(nowMs);
    if (this.#readErrorsMs.length > TOLERATED_READ_ERRORS) this.#onFailed(error as Error);
  }
}

class WatchedFile implements DiskFile {
  readonly #file: DiskFile;
  readonly #disk: WatchedDisk;

  constructor(file: DiskFile, disk: WatchedDisk) {
    this.#file = file;
    this.#disk = disk;
  }

  async read(buffer: Uint8Array, position: number, isOneOfMany?: boolean): Promise<number> {
    try {
      return await this.#file.read(buffer, position, isOneOfMany);
    } catch (error) {
      this.#disk.noteReadError(error);
      throw error;
    }
  }

  readNow(buffer: Uint8Array, position: number): number | undefined {
    return this.#file.readNow?.(buffer, position);
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    try {
      await this.#file.write(buffers, position);
    } catch (error) {
      this.#disk.noteWriteError(error);
      throw error;
    }
  }

  /** Whoever meets an error here writes again, and has it noted then. */
  writeNow(buffers: readonly Uint8Array[], position: number): boolean {
    return this.#file.writeNow?.(buffers, position) ?? false;
  }

  async sync(isAlone?: boolean): Promise<void> {
    try {
      await this.#file.sync(isAlone);
    } catch (error) {
      this.#disk.noteWriteError(error);
      throw error;
    }
  }

  sizeBytes(): Promise<number> {
    return this.#file.sizeBytes();
  }

  async truncate(sizeBytes: number): Promise<void> {
    try {
      await this.#file.truncate(sizeBytes);
    } catch (error) {
      this.#disk.noteWriteError(error);
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
