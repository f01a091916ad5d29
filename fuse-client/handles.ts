/** What is open through the mount: file handles and directory handles, by the numbers the kernel has. */
import type { OpenFile } from '../client/index.js';
import { GfsError } from '../protocol/errors.js';
import type { DirectoryEntry } from '../protocol/messages/index.js';
import { OpenFlags } from './handler.js';

export interface FileHandle {
  readonly file: OpenFile;
  readonly flags: number;
  /** A record that is being collected (ioctl APPEND_BEGIN): what is written joins it. */
  record: { readonly parts: Uint8Array[]; bytes: number } | undefined;
}

export interface DirectoryHandle {
  readonly id: number;
  /** The page of the directory that was fetched last, in cookie order. */
  page: readonly DirectoryEntry[];
  /** The cookie after which it was fetched. */
  pageFrom: number;
  isLastPage: boolean;
  /** The directory's parent, told with every page. */
  parent: number;
  /** The listing that the page is of, if that is known. */
  listing: object | undefined;
}

/** Numbers open things; a number is not used again. */
export class HandleTable<T> {
  readonly #open = new Map<number, T>();
  #next = 1;

  add(value: T): number {
    const handle = this.#next++;
    this.#open.set(handle, value);
    return handle;
  }

  /** @throws BAD_HANDLE */
  get(handle: number): T {
    const value = this.#open.get(handle);
    if (value === undefined) throw new GfsError('BAD_HANDLE', `handle ${handle}`);
    return value;
  }

  take(handle: number): T | undefined {
    const value = this.#open.get(handle);
    this.#open.delete(handle);
    return value;
  }
}

export function isWritable(flags: number): boolean {
  return (flags & OpenFlags.ACCMODE) !== OpenFlags.RDONLY;
}
