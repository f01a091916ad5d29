import { endianness } from 'node:os';
import type { Logger } from '../../environment/ports/index.js';
import { ERRNO } from '../../protocol/errno.js';
import type { Attributes } from '../../protocol/messages/index.js';
import type { Codec } from './codec.js';
import { isModuleCall, runModuleCall } from './module-calls.js';
import type { PackageDriver, PackageInternals } from './package.js';
import type { PathFiles } from './path-files.js';
import type { Requests } from './requests.js';

const TWO_TO_32 = 2 ** 32;
/** The package's answer to getattr: `populate_stat` of its fuse-native.c. */
const STAT_WORDS = 18;
const NO_STAT = new Uint32Array(STAT_WORDS);
/** In `fuse_thread_locals_t` of its fuse-native.c, with 64-bit pointers: milliseconds since 1970. */
const ATIME_OFFSET = 104;
const MTIME_OFFSET = 112;

/** Puts right what the package's public interface gets wrong. To be called before the driver mounts. */
export function replaceInternals(
  driver: PackageDriver,
  files: PathFiles,
  requests: Requests,
  codec: Codec,
  module: boolean,
  logger: Logger,
): void {
  const thread = trackThread(driver);
  const internals: PackageInternals = {
    _op_getattr: (signal, path) =>
      requests.run(
        path,
        (c, p) => files.getattr(c, p),
        (attributes) => signal(0, statWords(attributes)),
        (result) => signal(result, NO_STAT),
      ),
    _op_fgetattr: (signal, path, fd) =>
      requests.run(
        path,
        (c) => files.fgetattr(c, fd),
        (attributes) => signal(0, statWords(attributes)),
        (result) => signal(result, NO_STAT),
      ),
    _op_utimens(signal, path, atimeLow, atimeHigh) {
      const atimeMs = atimeLow + atimeHigh * TWO_TO_32;
      const times = timesOf(thread(), atimeMs, logger);
      requests.run(
        path,
        (c, p) => files.setattr(c, p, times),
        () => signal(0),
        signal,
      );
    },
    _op_getxattr(signal, path, name, buffer) {
      // The array buffer must be there when the answer is given: the package takes the memory back by it.
      const memory = buffer.buffer;
      const answer = (result: number) => signal(result, memory);
      if (module && isModuleCall(name)) {
        requests.run(path, (c, p) => runModuleCall(files, c, p, name, buffer), answer, answer);
        return;
      }
      requests.run(
        path,
        async (c, p) => files.getxattr(c, p, codec.bytes(name)),
        (value) => answer(fillOrMeasure(buffer, value)),
        answer,
      );
    },
    _op_listxattr(signal, path, buffer) {
      const memory = buffer.buffer;
      const answer = (result: number) => signal(result, memory);
      requests.run(
        path,
        (c, p) => files.listxattr(c, p),
        (names) =>
          answer(fillOrMeasure(buffer, Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1'))),
        answer,
      );
    },
  };
  Object.assign(driver, internals);
}

/** getxattr(2), listxattr(2): a buffer of no bytes asks for the size. */
function fillOrMeasure(buffer: Buffer, value: Uint8Array): number {
  if (buffer.length === 0) return value.length;
  if (value.length > buffer.length) return -ERRNO.ERANGE;
  buffer.set(value);
  return value.length;
}

/** What the package passes on of a stat: 32 bits of the inode's number, milliseconds from 1970 on. */
function statWords(a: Attributes): Uint32Array {
  const words = new Uint32Array(STAT_WORDS);
  words.set([a.mode, a.uid, a.gid], 0);
  setWide(words, 3, a.size);
  words.set([0, a.nlink, a.id, a.rdev, 4096], 5);
  setWide(words, 10, Math.ceil(a.size / 512));
  setWide(words, 12, msOf(a.atimeSec, a.atimeNsec));
  setWide(words, 14, msOf(a.mtimeSec, a.mtimeNsec));
  setWide(words, 16, msOf(a.ctimeSec, a.ctimeNsec));
  return words;
}

function setWide(words: Uint32Array, index: number, value: number): void {
  words[index] = value % TWO_TO_32;
  words[index + 1] = Math.floor(value / TWO_TO_32);
}

/** The package has no times before 1970: they would come out far in the future. */
function msOf(sec: number, nsec: number): number {
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1e6));
}

/** @returns a function that tells the memory of the library thread whose operation is being started */
function trackThread(driver: PackageDriver): () => Buffer {
  let current: Buffer;
  driver._handlers = driver._handlers.map((handler) => (thread, ...rest) => {
    current = thread;
    handler(thread, ...rest);
  });
  return () => current;
}

/**
 * The package hands the access time over twice (`l->atime` in its utimens), but what it calls with has
 * the modification time in it. Where the access time is not found at its place there, the layout is
 * another one, and the time it gives is all there is.
 */
function timesOf(thread: Buffer, atimeMs: number, logger: Logger) {
  const read = (offset: number) =>
    Number(
      BigInt.asIntN(
        64,
        endianness() === 'LE' ? thread.readBigUInt64LE(offset) : thread.readBigUInt64BE(offset),
      ),
    );
  const known = thread.length >= MTIME_OFFSET + 8 && wraps(read(ATIME_OFFSET), atimeMs);
  if (!known) logger.warn({}, 'fuse-native: the modification time is lost, the access time is taken for it');
  return {
    atime: timeOf(known ? read(ATIME_OFFSET) : atimeMs),
    mtime: timeOf(known ? read(MTIME_OFFSET) : atimeMs),
  };
}

/** A time before 1970 reaches JavaScript as an unsigned number, rounded. */
function wraps(signed: number, unsigned: number): boolean {
  return signed < 0 ? unsigned >= 2 ** 63 : signed === unsigned;
}

function timeOf(ms: number): { sec: number; nsec: number } {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (ms - sec * 1000) * 1e6 };
}
