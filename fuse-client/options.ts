import type { ClientOptions } from '../client/index.js';
import type { AccessTimePolicy } from './access-times.js';

export interface HandlerOptions {
  /** The directory of the cluster that the mount shows, as a path from its root. */
  readonly path: string;
  /** Where it is mounted: absolute, as the user sees it. */
  readonly directory: string;
  /** How long the kernel may believe names and attributes, at most: never longer than the session surely lives. */
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
  /** POSIX ACLs are stored and, by the kernel, enforced. */
  readonly acls: boolean;
  readonly accessTimes: AccessTimePolicy;
  /** Those of directories too. */
  readonly directoryAccessTimes: boolean;
}

export interface MountProgramOptions extends HandlerOptions {
  readonly client: ClientOptions;
  /** As shown in /proc/mounts, such as `host:5000:/`. */
  readonly source: string;
  readonly binding: 'kernel' | 'fuse-native';
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  /** Further options for mount(2). */
  readonly extra: readonly string[];
}

export const mountDefaults = {
  path: '/',
  entryTtlMs: 2_000,
  attributeTtlMs: 2_000,
  acls: true,
  accessTimes: 'relatime',
  directoryAccessTimes: true,
  binding: 'kernel',
  readOnly: false,
  allowOther: true,
  defaultPermissions: true,
  extra: [],
} as const satisfies Partial<MountProgramOptions>;
