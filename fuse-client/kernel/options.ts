/** Mount options: which are flags of mount(2), which the kernel's FUSE takes, and how fusermount3 wants them. */
import type { MountOptions } from '../handler.js';

export const FILE_SYSTEM_TYPE = 'fuse.gfs';

/** MS_…: flags of mount(2). */
const MountFlag = {
  READ_ONLY: 1 << 0,
  NO_SUID: 1 << 1,
  NO_DEVICES: 1 << 2,
} as const;

/** Options that set a flag of mount(2), or clear it (negative). */
const flagOptions: Readonly<Record<string, number>> = {
  ro: MountFlag.READ_ONLY,
  rw: -MountFlag.READ_ONLY,
  nosuid: MountFlag.NO_SUID,
  suid: -MountFlag.NO_SUID,
  nodev: MountFlag.NO_DEVICES,
  dev: -MountFlag.NO_DEVICES,
  noexec: 1 << 3,
  exec: -(1 << 3),
  sync: 1 << 4,
  async: -(1 << 4),
  dirsync: 1 << 7,
  noatime: 1 << 10,
  atime: -(1 << 10),
  nodiratime: 1 << 11,
  diratime: -(1 << 11),
  relatime: 1 << 21,
  norelatime: -(1 << 21),
  strictatime: 1 << 24,
  nostrictatime: -(1 << 24),
  lazytime: 1 << 25,
  nolazytime: -(1 << 25),
};

/** In /etc/fstab for others than the file system. */
const fstabOptions = new Set([
  'defaults',
  'auto',
  'noauto',
  'nofail',
  '_netdev',
  'user',
  'users',
  'nouser',
  'owner',
  'group',
]);

export interface ParsedOptions {
  readonly flags: number;
  /** For the kernel's FUSE itself. */
  readonly kernel: readonly string[];
  /** For fusermount3: the flags' names too. */
  readonly helper: readonly string[];
  /** fusermount3 stays, and unmounts when this process is gone. */
  readonly autoUnmount: boolean;
}

/** @throws an Error that names an unknown option */
export function parseOptions(options: MountOptions): ParsedOptions {
  let flags: number = MountFlag.NO_SUID | MountFlag.NO_DEVICES;
  const kernel = new Set<string>();
  const helper = new Set<string>();
  let autoUnmount = false;
  const all = [
    ...(options.readOnly ? ['ro'] : []),
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
    ...options.extra,
  ];
  for (const option of all) {
    const flag = flagOptions[option];
    if (flag !== undefined) {
      flags = flag > 0 ? flags | flag : flags & ~-flag;
      helper.add(option);
    } else if (/^(allow_other|default_permissions|max_read=\d+)$/.test(option)) {
      kernel.add(option);
      helper.add(option);
    } else if (option === 'auto_unmount') {
      autoUnmount = true;
      helper.add(option);
    } else if (!fstabOptions.has(option) && !/^x-/i.test(option)) {
      throw new Error(`The mount option "${option}" is not known. See mount(8) and mount.fuse3(8).`);
    }
  }
  return { flags, kernel: [...kernel], helper: [...helper], autoUnmount };
}

/** The data argument of mount(2), without the descriptor. */
export function kernelOptions(parsed: ParsedOptions, uid: number, gid: number): string {
  // 40000 is S_IFDIR in octal: the root is a directory.
  return ['rootmode=40000', `user_id=${uid}`, `group_id=${gid}`, ...parsed.kernel].join(',');
}

/** What stands behind fusermount3's `-o`. */
export function helperOptions(parsed: ParsedOptions, source: string): string {
  const escaped = source.replace(/[\\,]/g, (character) => `\\${character}`);
  return [`fsname=${escaped}`, 'subtype=gfs', ...parsed.helper].join(',');
}
