export type OpenMode =
  /** Existing file, reading only. */
  | 'read'
  /** Existing file, reading and writing. */
  | 'write'
  /** Reading and writing; made when it is not there. */
  | 'create'
  /** Reading and writing; EEXIST when it is there. */
  | 'create-new';

/**
 * One open file. Calls may overlap; two writes to the same bytes are ordered by the caller.
 * Errors are Node's: an `Error` with `code` `'ENOSPC'`, `'EIO'`, `'ENOENT'`, …
 */
export interface DiskFile {
  /**
   * Fills `buffer` from `position`; returns the bytes read, fewer than asked only at the end of the file.
   * @param isOneOfMany its caller asks for others at the same time
   */
  read(buffer: Uint8Array, position: number, isOneOfMany?: boolean): Promise<number>;
  /** As {@link read} without waiting; undefined where that may hold up everything else. */
  readNow?(buffer: Uint8Array, position: number): number | undefined;
  /**
   * Writes the buffers one after another at `position`, all of them or an error. The bytes are in the
   * page cache on return: they outlive this process, not the host, until {@link sync}.
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** As {@link write} without waiting, where that takes no longer than waiting would. @returns whether it did it */
  writeNow?(buffers: readonly Uint8Array[], position: number): boolean;
  /**
   * fdatasync(2): everything written before the call survives the host. A failure poisons the file: do not retry.
   * @param isAlone its caller has nothing else to do meanwhile: a quick device may have this process wait for it
   */
  sync(isAlone?: boolean): Promise<void>;
  sizeBytes(): Promise<number>;
  truncate(sizeBytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface DiskSpace {
  readonly totalBytes: number;
  /** What this process may still use. */
  readonly availableBytes: number;
}

/** Files below directories that belong to this process. Paths are absolute. */
export interface Disk {
  /**
   * Memory of its own that this disk writes from without copying, where it can; for buffers that are
   * kept and used again.
   */
  allocate(sizeBytes: number): Uint8Array;
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** Names in a directory, in no particular order; ENOENT when it is not there. */
  list(directory: string): Promise<string[]>;
  /** As `mkdir -p`. */
  makeDirectory(path: string): Promise<void>;
  /** rename(2): replaces `to` atomically. */
  rename(from: string, to: string): Promise<void>;
  /** unlink(2); ENOENT when it is not there. */
  remove(path: string): Promise<void>;
  /** Copies a file, sharing its blocks where the file system can (reflink), and replaces `to`. */
  copy(from: string, to: string): Promise<void>;
  /** Makes creations, renames and removals in this directory survive the host (fsync of the directory). */
  syncDirectory(path: string): Promise<void>;
  space(directory: string): Promise<DiskSpace>;
  /**
   * Takes the exclusive lock `path` for the life of this process, or until the returned function is
   * called. Held by another process: an error with code `'EBUSY'`. The kernel frees it when the
   * process dies, however it dies.
   */
  lock(path: string): Promise<() => Promise<void>>;
}
