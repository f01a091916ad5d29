/** `-o` of `gfs mount`: comma-separated, as mount(8) and mount.fuse(8) have them. */

import type { Location } from '../protocol/messages/types.js';
import { nearest } from './config/nearest.js';
import { BadValue, duration, location, rack, type ValueType } from './config/values.js';
import { UsageFailure } from './failure.js';

export interface MountOptions {
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  /** Not given: `kernel`, or `fuse-native` where the addon is not built. */
  readonly binding: 'kernel' | 'fuse-native' | undefined;
  readonly nonEmpty: boolean;
  /** POSIX ACLs. */
  readonly acls: boolean;
  readonly hard: boolean | undefined;
  readonly location: Location | undefined;
  readonly rack: string | undefined;
  readonly attributeTtlMs: number | undefined;
  readonly entryTtlMs: number | undefined;
  /** What is mount(2)'s business: nosuid, noatime, … */
  readonly extra: readonly string[];
}

type Building = { -readonly [K in keyof MountOptions]: MountOptions[K] };
type Reader = (options: Building, value: string | undefined, name: string) => void;

/** mount(2) flags, handed on. */
const KERNEL_FLAGS = [
  ...['suid', 'nosuid', 'dev', 'nodev', 'exec', 'noexec', 'atime', 'noatime', 'relatime', 'norelatime'],
  ...['strictatime', 'nostrictatime', 'diratime', 'nodiratime', 'lazytime', 'nolazytime'],
  ...['sync', 'async', 'dirsync', 'auto_unmount'],
];
/** What fstab holds for others than us. */
/** `x-systemd.…`, `X-mount.…`, `comment=…`, and who a `user` mount is for. */
const IGNORED_WITH_VALUE = /^(x-|X-|comment=|user=|uhelper=)/;
const IGNORED = [
  'defaults',
  'auto',
  'noauto',
  'user',
  'nouser',
  'users',
  'owner',
  'group',
  '_netdev',
  'nofail',
];

function without(name: string, value: string | undefined): void {
  if (value !== undefined) throw new UsageFailure(`mount option ${name} takes no value`);
}

function needed<T>(type: ValueType<T>, name: string, raw: unknown): T {
  try {
    return type.parse(raw);
  } catch (error) {
    if (error instanceof BadValue) throw new UsageFailure(`mount option ${name} must be ${error.message}`);
    throw error;
  }
}

function flagOf(set: (options: Building) => void): Reader {
  return (options, value, name) => {
    without(name, value);
    set(options);
  };
}

/** mount.fuse(8) has seconds, with a fraction; "500ms" is understood too. */
const ttl = duration(0, 86_400_000);
function ttlOf(name: string, value: string | undefined): number {
  return needed(ttl, name, value !== undefined && /^[\d.]+$/.test(value) ? Number(value) : value);
}

const READERS: Readonly<Record<string, Reader>> = {
  ro: flagOf((options) => {
    options.readOnly = true;
  }),
  rw: flagOf((options) => {
    options.readOnly = false;
  }),
  allow_other: flagOf((options) => {
    options.allowOther = true;
  }),
  noallow_other: flagOf((options) => {
    options.allowOther = false;
  }),
  default_permissions: flagOf((options) => {
    options.defaultPermissions = true;
  }),
  nodefault_permissions: flagOf((options) => {
    options.defaultPermissions = false;
  }),
  acl: flagOf((options) => {
    options.acls = true;
  }),
  noacl: flagOf((options) => {
    options.acls = false;
  }),
  nonempty: flagOf((options) => {
    options.nonEmpty = true;
  }),
  hard: flagOf((options) => {
    options.hard = true;
  }),
  soft: flagOf((options) => {
    options.hard = false;
  }),
  binding: (options, value) => {
    if (value !== 'kernel' && value !== 'fuse-native') {
      throw new UsageFailure(`mount option binding must be kernel or fuse-native, not ${value ?? 'empty'}`);
    }
    options.binding = value;
  },
  location: (options, value, name) => {
    const numbers = value?.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
    if (numbers?.length !== 2 || numbers.some(Number.isNaN)) {
      throw new UsageFailure(
        `mount option location must be coordinates as location=X,Y, not ${value ?? 'empty'}`,
      );
    }
    options.location = needed(location, name, numbers);
  },
  rack: (options, value, name) => {
    options.rack = needed(rack, name, value);
  },
  attr_timeout: (options, value, name) => {
    options.attributeTtlMs = ttlOf(name, value);
  },
  entry_timeout: (options, value, name) => {
    options.entryTtlMs = ttlOf(name, value);
  },
};

/** `location=X,Y` has a comma of its own: a bare number belongs to what stands before it. */
function split(text: string): string[] {
  const words: string[] = [];
  for (const word of text.split(',')) {
    const last = words.length - 1;
    if (/^\s*[-+.\d]/.test(word) && words[last]?.startsWith('location=')) words[last] += `,${word}`;
    else if (word !== '') words.push(word);
  }
  return words;
}

/**
 * @param texts each `-o`, in order; later ones win
 * @throws UsageFailure for what nobody knows, with the name that was probably meant
 */
export function parseMountOptions(texts: readonly string[], allowOther: boolean): MountOptions {
  const extra: string[] = [];
  const options: Building = {
    readOnly: false,
    allowOther,
    defaultPermissions: true,
    binding: undefined,
    nonEmpty: false,
    acls: true,
    hard: undefined,
    location: undefined,
    rack: undefined,
    attributeTtlMs: undefined,
    entryTtlMs: undefined,
    extra,
  };
  for (const word of texts.flatMap(split)) {
    const equals = word.indexOf('=');
    const name = equals === -1 ? word : word.slice(0, equals);
    const value = equals === -1 ? undefined : word.slice(equals + 1);
    const reader = Object.hasOwn(READERS, name) ? READERS[name] : undefined;
    if (reader !== undefined) reader(options, value, name);
    else if (KERNEL_FLAGS.includes(word)) extra.push(word);
    else if (!IGNORED.includes(word) && !IGNORED_WITH_VALUE.test(word)) refuseOption(name);
  }
  return options;
}

function refuseOption(name: string): never {
  const near = nearest(name, [...Object.keys(READERS), ...KERNEL_FLAGS, ...IGNORED]);
  const hint =
    near === undefined
      ? `known are ${Object.keys(READERS).join(', ')}, and those of mount(8) such as noatime`
      : `did you mean ${near}?`;
  throw new UsageFailure(`unknown mount option ${name}: ${hint}`);
}
