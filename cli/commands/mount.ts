/** `gfs mount`, `gfs umount`. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { MountProgramOptions } from '../../fuse-client/options.js';
import type { Configuration } from '../config/keys.js';
import { clientOptions, mastersOf, processOptions } from '../config/options.js';
import { showHostPort } from '../config/values.js';
import { Failure, UsageFailure } from '../failure.js';
import { assignmentsOf, type DaemonFlags, loadWith } from '../flags.js';
import { type MountOptions, parseMountOptions } from '../mount-options.js';
import { prepareMountPoint } from '../mount-point.js';
import { MountSupervisor } from '../mount-supervisor.js';
import { canonical, detach, isGfs, mountAt, probeMount, unmount, waitForMount } from '../mounts.js';
import { readAddress } from '../up/part.js';
import { mastersAssignment } from './masters.js';

const MOUNT_TIMEOUT_MS = 60_000;
const UMOUNT_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 3000;
/** How long the kernel's own caches are believed, unless -o says otherwise. */
const DEFAULT_TTL_MS = 2000;

/** `HOST:PORT`, `HOST:/PATH`. */
const LOOKS_LIKE_SOURCE = /^[^/]+:(\d+|\/|\d+:\/)/;

export interface MountFlags extends DaemonFlags {
  readonly foreground?: boolean;
  /** Not given: in the background, not in the foreground. */
  readonly supervise?: boolean;
  readonly option?: readonly string[];
}

/** `HOST[:PORT][,HOST…][:/PATH]` in its two parts. */
export function splitSource(source: string): { readonly masters: string; readonly path: string } {
  const at = source.indexOf(':/');
  return at === -1
    ? { masters: source, path: '/' }
    : { masters: source.slice(0, at), path: source.slice(at + 1) };
}

/** @param words `[source, directory]`, or `[directory]` when the configuration tells where the masters are */
export async function mount(words: readonly string[], flags: MountFlags): Promise<void> {
  const directory = words.at(-1);
  const source = words.length > 1 ? splitSource(words[0] as string) : { masters: undefined, path: '/' };
  if (directory === undefined || words.length > 2) {
    throw new UsageFailure('say what to mount, and where', 'As in: gfs mount HOST:5000 /mnt/gfs');
  }
  if (words.length === 1 && LOOKS_LIKE_SOURCE.test(directory) && !existsSync(directory))
    throw new UsageFailure(`say where to mount ${directory}`, `As in: gfs mount ${directory} /mnt/gfs`);
  const options = parseMountOptions(flags.option ?? [], process.getuid?.() === 0);
  const { configuration } = await loadWith(flags, [
    ...(source.masters === undefined ? [] : mastersAssignment([source.masters])),
    ...assignmentsOf({ metricsPort: flags.metricsPort }, { metricsPort: 'client.metrics_port' }),
  ]);
  const tell = (line: string) => process.stderr.write(`gfs mount: ${line}\n`);
  const mountPoint = await prepareMountPoint(directory, {
    create: false,
    allowNonEmpty: options.nonEmpty,
    tell,
  });
  if (flags.foreground === true && flags.supervise === true) {
    process.exitCode = await supervise(configuration.client.watchdog, flags.addressFile, tell);
  } else if (flags.foreground === true) {
    const { runMount } = await import('../../fuse-client/main.js');
    const binding = options.binding ?? (await defaultBinding(tell));
    const program = programOptions(configuration, { ...options, binding }, mountPoint, source.path);
    const processes = processOptions(configuration, configuration.client.metrics_port, flags.addressFile);
    // A mount lives long: it must not keep the directory busy that it was started in.
    process.chdir('/');
    await runMount(program, processes);
  } else {
    const supervised = flags.supervise === false ? '--no-supervise' : '--supervise';
    await mountInBackground(mountPoint, configuration.log.file, flags.addressFile, supervised);
  }
}

/** Runs this same command without a supervisor, for as long as it takes. @returns the exit code */
async function supervise(
  watchdogMs: number,
  addressFile: string | undefined,
  tell: (line: string) => void,
): Promise<number> {
  const words = process.argv.slice(1).filter((word) => word !== '--supervise');
  // Who waited in the background for the first start took the directory of the address away with him.
  const isWaitedFor = () => addressFile === undefined || existsSync(dirname(addressFile));
  const supervisor = new MountSupervisor({
    command: () => [
      process.execPath,
      ...(isWaitedFor() ? words : withoutAddressFile(words)),
      '--no-supervise',
    ],
    watchdogMs,
    tell,
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => supervisor.stop());
  return await supervisor.run();
}

/** As `mountInBackground` gives it. */
function withoutAddressFile(words: readonly string[]): string[] {
  const at = words.lastIndexOf('--address-file');
  return words.filter((_, index) => at === -1 || (index !== at && index !== at + 1));
}

/** What needs no compiler, where there was none. */
async function defaultBinding(tell: (line: string) => void): Promise<'kernel' | 'fuse-native'> {
  const { loadAddon } = await import('../../fuse-client/kernel/addon.js');
  try {
    loadAddon();
    return 'kernel';
  } catch {
    tell(
      'the native addon is not built (see native-deps.md): mounting through fuse-native, which can do less',
    );
    return 'fuse-native';
  }
}

function programOptions(
  configuration: Configuration,
  options: MountOptions & { readonly binding: 'kernel' | 'fuse-native' },
  mountPoint: string,
  path: string,
): MountProgramOptions {
  const client = clientOptions(configuration);
  return {
    client: {
      ...client,
      ...(options.hard === undefined ? {} : { hard: options.hard }),
      ...(options.location === undefined ? {} : { location: options.location }),
      ...(options.rack === undefined ? {} : { rack: options.rack }),
    },
    source: `${mastersOf(configuration).map(showHostPort).join(',')}:${path}`,
    path: Buffer.from(path).toString('latin1'),
    directory: mountPoint,
    entryTtlMs: options.entryTtlMs ?? DEFAULT_TTL_MS,
    attributeTtlMs: options.attributeTtlMs ?? DEFAULT_TTL_MS,
    // The kernel that enforces ACLs checks permissions altogether; fuse-native cannot tell it to.
    acls: options.acls && options.defaultPermissions && options.binding === 'kernel',
    ...accessTimesOf(options),
    binding: options.binding,
    readOnly: options.readOnly,
    allowOther: options.allowOther,
    defaultPermissions: options.defaultPermissions,
    extra: options.extra,
  };
}

/** mount(8): relatime, unless the last that is said of atime is something else. */
function accessTimesOf({
  extra,
  readOnly,
}: MountOptions): Pick<MountProgramOptions, 'accessTimes' | 'directoryAccessTimes'> {
  const last = (...names: string[]) => extra.findLast((option) => names.includes(option));
  const said = last('atime', 'noatime', 'relatime', 'norelatime', 'strictatime', 'lazytime');
  const policy = said === 'noatime' || said === 'strictatime' ? said : 'relatime';
  return {
    accessTimes: readOnly ? 'noatime' : policy,
    directoryAccessTimes: last('diratime', 'nodiratime') !== 'nodiratime',
  };
}

/** Where a mount that nobody watches tells what happens to it. */
function backgroundLog(mountPoint: string): string {
  const name = `gfs-mount${mountPoint.replaceAll('/', '-')}.log`;
  return process.getuid?.() === 0 ? join('/var/log', name) : join(homedir(), '.local/state/gfs', name);
}

/** Runs this same command in the foreground of a process of its own, and returns once it is mounted. */
async function mountInBackground(
  mountPoint: string,
  configuredLog: string | undefined,
  wantedAddressFile: string | undefined,
  supervised: '--supervise' | '--no-supervise',
): Promise<void> {
  const logFile = resolve(configuredLog ?? backgroundLog(mountPoint));
  const directory = mkdtempSync(join(tmpdir(), 'gfs-mount-'));
  const addressFile = wantedAddressFile ?? join(directory, 'address.json');
  rmSync(addressFile, { force: true });
  try {
    mkdirSync(dirname(logFile), { recursive: true });
    const log = openSync(logFile, 'a', 0o600);
    const logFrom = fstatSync(log).size;
    const child = spawn(
      process.execPath,
      [
        ...process.argv.slice(1).filter((word) => word !== '--supervise' && word !== '--no-supervise'),
        ...['--foreground', supervised, '--log-file', logFile, '--address-file', addressFile],
      ],
      { stdio: ['ignore', log, log], detached: true },
    );
    closeSync(log);
    const endMs = performance.now() + MOUNT_TIMEOUT_MS;
    while (readAddress(addressFile) === undefined) {
      if (child.exitCode !== null || child.signalCode !== null) throw mountFailure(logFile, logFrom);
      if (performance.now() > endMs) {
        child.kill('SIGKILL');
        throw new Failure(
          `the mount was not there after ${MOUNT_TIMEOUT_MS / 1000} s; its log is ${logFile}`,
        );
      }
      await delay(20);
    }
    child.unref();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the process said before it ended; the lines of its log are JSON. */
function mountFailure(logFile: string, logFrom: number): Failure {
  const said = readFileSync(logFile)
    .subarray(logFrom)
    .toString()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('{'));
  return new Failure(
    said.length === 0 ? `the mount failed; its log is ${logFile}` : said.join('\n').replace(/^gfs: /, ''),
  );
}

export async function umount(directory: string, flags: { readonly force?: boolean }): Promise<void> {
  const mountPoint = canonical(directory);
  const mount = mountAt(mountPoint);
  if (mount === undefined)
    throw new Failure(`nothing is mounted at ${mountPoint}`, 'See: findmnt -t fuse.gfs');
  if (!isGfs(mount)) {
    throw new Failure(
      `${mountPoint} is a mount of ${mount.source} (${mount.type}), not of GFS`,
      `Use: umount ${mountPoint}`,
    );
  }
  const health = await probeMount(mountPoint, PROBE_TIMEOUT_MS);
  if (flags.force === true || health === 'stale') {
    // What was written and is not flushed goes with the mount's process, where that answers.
    const { status, error } = await detach(mountPoint, health !== 'answers');
    if (status !== 0) throw new Failure(`cannot unmount ${mountPoint}: ${error}`);
    return;
  }
  if (health === 'hung') {
    throw new Failure(
      `the mount at ${mountPoint} does not answer`,
      `To give up what waits in it: gfs umount --force ${mountPoint}`,
    );
  }
  const { status, error } = await unmount(mountPoint, UMOUNT_TIMEOUT_MS);
  if (status !== 0) {
    throw new Failure(
      `cannot unmount ${mountPoint}: ${error}`,
      `Who uses it: fuser -vm ${mountPoint}. All the same: gfs umount --force ${mountPoint}`,
    );
  }
  await waitForMount(mountPoint, (now) => now?.minor !== mount.minor, UMOUNT_TIMEOUT_MS);
}
