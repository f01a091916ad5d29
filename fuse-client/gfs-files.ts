/** The open-file half of the mount: what comes after open(2), until release. */
import { copyRange, type GfsClient, type OpenFile, punchHole } from '../client/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES } from '../protocol/limits.js';
import { callContext } from './access.js';
import type { Context, ReadReply } from './handler.js';
import { OpenFlags } from './handler.js';
import { type FileHandle, HandleTable } from './handles.js';
import type { Powers } from './powers.js';
import type { Room } from './room.js';

/** Bits of fallocate(2)'s mode. */
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;

export class GfsFiles {
  readonly #client: GfsClient;
  readonly #powers: Powers;
  readonly #room: Room;
  readonly #handles = new HandleTable<FileHandle>();

  constructor(client: GfsClient, powers: Powers, room: Room) {
    this.#room = room;
    this.#client = client;
    this.#powers = powers;
  }

  add(file: OpenFile, flags: number): number {
    return this.#handles.add({ file, flags, record: undefined });
  }

  get(handle: number): FileHandle {
    return this.#handles.get(handle);
  }

  read(context: Context, handle: number, offset: number, length: number): Promise<ReadReply> {
    return this.#handles.get(handle).file.read(offset, length, callContext(context));
  }

  /** @param flags the file's flags now: fcntl(2) may have set O_APPEND since it was opened */
  async write(handle: number, offset: number, data: Uint8Array, flags: number): Promise<number> {
    const opened = this.#handles.get(handle);
    if (opened.record !== undefined) return this.#collect(opened.record, data);
    if ((flags & OpenFlags.APPEND) === 0) {
      // With O_DIRECT the return says that it is written; without, close and fsync say so.
      if ((flags & OpenFlags.DIRECT) !== 0) await opened.file.writeThrough(offset, data);
      else await opened.file.write(offset, data);
      return data.byteLength;
    }
    const { id } = opened.file;
    const shown = { offset, length: data.byteLength };
    const at = await opened.file.append(Uint8Array.from(data), (trueOffset) => {
      this.#powers.noteMoved(id, trueOffset, shown);
    });
    this.#powers.noteAppend(id, at);
    return data.byteLength;
  }

  #collect(record: { parts: Uint8Array[]; bytes: number }, data: Uint8Array): number {
    const limitBytes = this.#client.chunkBytes / 4;
    if (record.bytes + data.byteLength > limitBytes)
      throw new GfsError('TOO_BIG', `records are ${limitBytes} at most`);
    record.parts.push(Uint8Array.from(data));
    record.bytes += data.byteLength;
    return data.byteLength;
  }

  async flush(context: Context, handle: number): Promise<void> {
    await this.#handles.get(handle).file.flush(callContext(context));
  }

  async sync(context: Context, handle: number, dataOnly: boolean): Promise<void> {
    await this.#handles.get(handle).file.sync(callContext(context), dataOnly);
  }

  /** @returns undefined where nothing has to be waited for */
  release(handle: number): Promise<void> | undefined {
    const opened = this.#handles.take(handle);
    if (opened === undefined || this.#client.closeSettled(opened.file)) return undefined;
    return this.#client.close(opened.file);
  }

  /** A flush would have nothing to do. */
  isSettled(handle: number): boolean {
    return this.#handles.get(handle).file.isSettled;
  }

  async allocate(
    context: Context,
    handle: number,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void> {
    const { file } = this.#handles.get(handle);
    if ((mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) !== 0)
      throw new GfsError('NOT_SUPPORTED');
    const end = offset + length;
    if (end > MAX_FILE_BYTES) throw new GfsError('FILE_TOO_BIG');
    await file.revalidate(callContext(context));
    if ((mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) !== 0) {
      const zerosTo = Math.min(end, file.size);
      if (offset < zerosTo) await punchHole(this.#client, file, offset, zerosTo, callContext(context));
    }
    if ((mode & FALLOC_PUNCH_HOLE) === 0 && end > file.size)
      await this.#room.require(end - Math.max(offset, file.size), file.id, callContext(context));
    if ((mode & FALLOC_KEEP_SIZE) === 0 && end > file.size) {
      await file.setAttributes({ size: end }, callContext(context));
    } else {
      // Also when there was nothing to do: as on a local disk.
      file.touch();
    }
  }

  /** SEEK_DATA and SEEK_HOLE: a chunk that the file does not have is a hole, and so is the end. */
  async seek(context: Context, handle: number, offset: number, whence: 'data' | 'hole'): Promise<number> {
    const { file } = this.#handles.get(handle);
    const call = callContext(context);
    await file.flush(call);
    await file.revalidate(call);
    if (offset < 0 || offset >= file.size) throw new GfsError('NO_SUCH_OFFSET');
    const { chunkBytes, locations, master } = this.#client;
    for (let at = offset; at < file.size; ) {
      const index = Math.floor(at / chunkBytes);
      const chunk = await locations.chunk(file.id, index, call, master.deadline());
      if ((chunk.handle === 0) === (whence === 'hole')) return at;
      at = (index + 1) * chunkBytes;
    }
    if (whence === 'hole') return file.size;
    throw new GfsError('NO_SUCH_OFFSET');
  }

  async copyRange(
    context: Context,
    from: { readonly handle: number; readonly offset: number },
    to: { readonly handle: number; readonly offset: number },
    length: number,
  ): Promise<number> {
    const source = { file: this.#handles.get(from.handle).file, offset: from.offset };
    const target = { file: this.#handles.get(to.handle).file, offset: to.offset };
    return copyRange(this.#client, source, target, length, callContext(context));
  }
}
