/** The ioctls of `include/gfs_ioctl.h`, carried out. */
import type { GfsClient } from '../client/index.js';
import { GfsError } from '../protocol/errors.js';
import type { Context, IoctlReply } from './handler.js';
import { OpenFlags } from './handler.js';
import { type FileHandle, isWritable } from './handles.js';
import {
  CHUNK_INFO_TEXT_MAX_BYTES,
  decodeChunkInfo,
  decodeRecordAppend,
  decodeSnapshot,
  encodeChunkInfoReply,
  encodeOffset,
  Ioctl,
} from './ioctl.js';
import type { Powers } from './powers.js';

/** The file or directory that an ioctl is made on. */
export interface IoctlTarget {
  readonly id: number;
  /** Absent for a directory. */
  readonly handle: FileHandle | undefined;
}

/** Carries out one ioctl. @throws NOT_AN_IOCTL for every command that is not in the header */
export async function runIoctl(
  client: GfsClient,
  powers: Powers,
  context: Context,
  target: IoctlTarget,
  command: number,
  input: Uint8Array,
): Promise<IoctlReply> {
  const { id } = target;
  switch (command) {
    case Ioctl.RECORD_APPEND: {
      const record = Uint8Array.from(decodeRecordAppend(input));
      return done(encodeOffset(await powers.appendRecord(context, id, record)));
    }
    case Ioctl.LAST_APPEND:
      return done(encodeOffset(await powers.lastAppend(id)));
    case Ioctl.SNAPSHOT:
      await powers.snapshot(context, id, decodeSnapshot(input));
      return done();
    case Ioctl.CHUNK_INFO: {
      const first = decodeChunkInfo(input);
      return done(
        encodeChunkInfoReply(first, await powers.chunkInfo(context, id, first, CHUNK_INFO_TEXT_MAX_BYTES)),
      );
    }
    case Ioctl.DROP_CACHES:
      if (target.handle === undefined) client.locations.dropAll();
      else await powers.dropCaches(id);
      return done();
    case Ioctl.APPEND_BEGIN: {
      const handle = writableHandle(target);
      if ((handle.flags & OpenFlags.APPEND) === 0)
        throw new GfsError('INVALID', 'the file is not open with O_APPEND');
      if (handle.record !== undefined) throw new GfsError('INVALID', 'a record is begun already');
      handle.record = { parts: [], bytes: 0 };
      return done();
    }
    case Ioctl.APPEND_COMMIT: {
      const handle = writableHandle(target);
      const { record } = handle;
      if (record === undefined || record.bytes === 0) throw new GfsError('INVALID', 'no record is begun');
      const offset = await powers.appendRecord(context, id, Buffer.concat(record.parts));
      handle.record = undefined;
      return done(encodeOffset(offset));
    }
    case Ioctl.APPEND_ABORT: {
      const handle = writableHandle(target);
      if (handle.record === undefined) throw new GfsError('INVALID', 'no record is begun');
      handle.record = undefined;
      return done();
    }
    default:
      throw new GfsError('NOT_AN_IOCTL');
  }
}

function done(output?: Uint8Array): IoctlReply {
  return output === undefined ? { result: 0 } : { result: 0, output };
}

/** @throws IS_DIRECTORY, BAD_HANDLE */
function writableHandle(target: IoctlTarget): FileHandle {
  if (target.handle === undefined) throw new GfsError('IS_DIRECTORY');
  if (!isWritable(target.handle.flags)) throw new GfsError('BAD_HANDLE', 'not open for writing');
  return target.handle;
}
