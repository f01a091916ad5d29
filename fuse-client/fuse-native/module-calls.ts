/**
 * The other end of native-module/gfs_module.c: the operations that the package does not carry, as calls
 * of getxattr whose buffer is argument and result. Numbers in it are doubles, in the module's order.
 */
import { GfsError } from '../../protocol/errors.js';
import type { Attributes } from '../../protocol/messages/index.js';
import type { ByteString, Context, OpenReply } from '../handler.js';
import type { PathFiles } from './path-files.js';

const PREFIX = 'gfs:';
/** `_IOC_WRITE`: the caller's memory is read. `_IOC_READ`: it is written. */
const IOC_WRITE = 1;
const IOC_READ = 2;
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;

export function isModuleCall(name: string): boolean {
  return name.startsWith(PREFIX);
}

/**
 * @param buffer the module's memory, to be used until the call is answered
 * @returns what the operation returns
 */
export async function runModuleCall(
  files: PathFiles,
  context: Context,
  path: ByteString,
  name: string,
  buffer: Buffer,
): Promise<number> {
  const [call, ...numbers] = name.slice(PREFIX.length).split(':');
  const [first = 0, second = 0, third = 0] = numbers.map(Number);
  switch (call) {
    case 'getattr': {
      const attributes = first === 0 ? files.getattr(context, path) : files.fgetattr(context, first);
      return fill(buffer, statNumbers(await attributes));
    }
    case 'statfs': {
      const s = await files.statfs(context, path);
      return fill(buffer, [
        s.blockBytes,
        s.blocks,
        s.blocksFree,
        s.blocksAvailable,
        s.files,
        s.filesFree,
        s.nameMaxBytes,
      ]);
    }
    case 'utimens': {
      const [atimeSec, atimeNsec, mtimeSec, mtimeNsec] = doubles(buffer, 4);
      const atime = timeOf(atimeSec!, atimeNsec!);
      const mtime = timeOf(mtimeSec!, mtimeNsec!);
      const update = { ...(atime === undefined ? {} : { atime }), ...(mtime === undefined ? {} : { mtime }) };
      await files.setattr(context, path, update);
      return 0;
    }
    case 'open': {
      const [flags] = doubles(buffer, 1);
      return fill(buffer, openNumbers(await files.open(context, path, flags!)));
    }
    case 'create': {
      const [flags, mode] = doubles(buffer, 2);
      return fill(buffer, openNumbers(await files.create(context, path, mode!, flags!)));
    }
    case 'readlink': {
      const target = await files.readlink(context, path);
      if (target.length > buffer.length)
        throw new GfsError('NAME_TOO_LONG', `a target of ${target.length} bytes`);
      return buffer.write(target, 'latin1');
    }
    case 'ioctl':
      return ioctl(files, context, path, first, second, third !== 0, buffer);
    default:
      throw new Error(`the libfuse module made the unknown call ${name}: it is of another version`);
  }
}

async function ioctl(
  files: PathFiles,
  context: Context,
  path: ByteString,
  command: number,
  handle: number,
  isDirectory: boolean,
  buffer: Buffer,
): Promise<number> {
  const direction = command >>> 30;
  const input = direction & IOC_WRITE ? Uint8Array.from(buffer) : new Uint8Array(0);
  const outputBytes = direction & IOC_READ ? buffer.length : 0;
  const { result, output } = await files.ioctl(
    context,
    path,
    isDirectory ? undefined : handle,
    command,
    input,
    outputBytes,
  );
  if (outputBytes > 0) {
    // All of it goes back to the caller: what libfuse allocated for an output alone is not cleared.
    if (input.length === 0) buffer.fill(0);
    if (output !== undefined) buffer.set(output);
  }
  return result;
}

/** As utimensat(2) has it; undefined leaves the time as it is. */
function timeOf(sec: number, nsec: number): { sec: number; nsec: number } | 'now' | undefined {
  if (nsec === UTIME_OMIT) return undefined;
  return nsec === UTIME_NOW ? 'now' : { sec, nsec };
}

function statNumbers(a: Attributes): number[] {
  const blocks = Math.ceil(a.size / 512);
  return [
    ...[a.id, a.mode, a.nlink, a.uid, a.gid, a.rdev, a.size, blocks],
    ...[a.atimeSec, a.atimeNsec, a.mtimeSec, a.mtimeNsec, a.ctimeSec, a.ctimeNsec],
  ];
}

function openNumbers({ handle, directIo, keepCache }: OpenReply): number[] {
  return [handle, Number(directIo), Number(keepCache)];
}

function doubles(buffer: Buffer, count: number): number[] {
  return [...new Float64Array(buffer.buffer, buffer.byteOffset, count)];
}

function fill(buffer: Buffer, numbers: readonly number[]): number {
  new Float64Array(buffer.buffer, buffer.byteOffset, numbers.length).set(numbers);
  return 0;
}
