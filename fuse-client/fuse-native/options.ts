import type { MountOptions } from '../handler.js';

/** The package copies both into 1,024 bytes and cuts what is longer without a word. */
const MAX_TEXT_BYTES = 1023;
/** The most that libfuse 2 takes in one request. */
const MAX_WRITE_BYTES = 131_072;

/**
 * Options for the package's constructor. It knows few of libfuse's, but puts `fsname` in as it is: the
 * rest goes in behind it.
 *
 * The kernel may believe names and attributes for no time at all, because this binding cannot tell it
 * of changes. (As strings: the package takes a 0 for "not given".)
 *
 * @throws an Error when it is more than the package can carry
 */
export function packageOptions(
  directory: string,
  options: MountOptions,
  module: boolean,
): Readonly<Record<string, unknown>> {
  const behindName = [
    'big_writes',
    `max_write=${MAX_WRITE_BYTES}`,
    // The cluster's inode numbers, so that two names of one file are seen to be that.
    'use_ino',
    // As fusermount3 and mount(8) do by themselves.
    'nonempty',
    options.readOnly ? 'ro' : 'rw',
    ...options.extra,
  ];
  const fsname = [escapeCommas(options.source), ...behindName].join(',');
  if (Buffer.byteLength(directory) > MAX_TEXT_BYTES)
    throw new Error(`fuse-native: the path ${directory} is too long`);
  // 256 for what the package adds.
  if (Buffer.byteLength(fsname) > MAX_TEXT_BYTES - 256)
    throw new Error('fuse-native: the mount options are too long');
  return {
    fsname,
    subtype: 'gfs',
    allowOther: options.allowOther,
    defaultPermissions: options.defaultPermissions,
    entryTimeout: '0',
    attrTimeout: '0',
    /** The handler has its own deadlines: an operation that the package gave up would go on unseen. */
    timeout: false,
    ...(module ? { modules: 'gfs' } : {}),
  };
}

function escapeCommas(source: string): string {
  return source.replace(/[\\,]/g, (character) => `\\${character}`);
}
