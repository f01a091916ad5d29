/** `gfs up`, `gfs down`. */
import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Configuration, DEFAULT_MASTER_PORT } from '../config/keys.js';
import { codeOf, Failure, UsageFailure } from '../failure.js';
import { assignmentsOf, type ConfigurationFlags, loadWith } from '../flags.js';
import { parseMountOptions } from '../mount-options.js';
import { prepareMountPoint } from '../mount-point.js';
import { canonical } from '../mounts.js';
import { endProcess } from '../processes.js';
import { Cluster, chunkserversIn, shadowsIn, tidyUp } from '../up/cluster.js';
import { Layout } from '../up/layout.js';
import { supervisorOf } from '../up/state.js';

export const DEFAULT_MOUNT_POINT = '/mnt/gfs';
export const DEFAULT_DATA_DIRECTORY = '.gfs';
const DEFAULT_SERVERS = 3;
const MAX_SERVERS = 64;
const MAX_SHADOWS = 4;
const DOWN_GRACE_MS = 60_000;

export interface UpFlags extends ConfigurationFlags {
  readonly data: string;
  readonly servers?: string;
  readonly shadows?: string;
  readonly port?: string;
  readonly host?: string;
  readonly chunkSize?: string;
  readonly goal?: string;
  readonly option?: readonly string[];
}

/** One name for each data directory, whichever links lead to it: its leftovers are known by that name. */
function layoutOf(data: string): Layout {
  return new Layout(existsSync(data) ? realpathSync(data) : canonical(data));
}

function tell(line: string): void {
  process.stdout.write(`gfs: ${line}\n`);
}

/** @returns once everything has been stopped */
export async function up(directory: string | undefined, flags: UpFlags): Promise<void> {
  const overrides = assignmentsOf(
    { port: flags.port, host: flags.host, chunkSize: flags.chunkSize, goal: flags.goal },
    {
      port: 'master.port',
      host: 'master.host',
      chunkSize: 'master.chunk_size',
      goal: 'master.replication_factor',
    },
  );
  const { configuration } = await loadWith(flags, overrides);
  parseMountOptions(flags.option ?? [], true);
  const layout = layoutOf(flags.data);
  const unlock = await lockData(layout);
  try {
    await tidyUp(layout, tell);
    const servers = serverCount(flags.servers, layout);
    const shadows = shadowCount(flags.shadows, configuration.shadow.count, layout);
    await runUntilSignal(planOf(layout, { servers, shadows }, directory, flags, configuration, overrides));
  } finally {
    await unlock();
  }
}

type Plan = ConstructorParameters<typeof Cluster>[0];

function planOf(
  layout: Layout,
  counts: { readonly servers: number; readonly shadows: number },
  directory: string | undefined,
  flags: UpFlags,
  configuration: Configuration,
  overrides: readonly { readonly text: string }[],
): Plan {
  const mountPoint = canonical(directory ?? DEFAULT_MOUNT_POINT);
  const mountOptions = flags.option ?? [];
  const config = flags.config ?? process.env.GFS_CONFIG;
  const allowNonEmpty = parseMountOptions(mountOptions, true).nonEmpty;
  return {
    layout,
    ...counts,
    gfs: [process.execPath, process.argv[1] as string],
    flags: [
      ...(config === undefined ? [] : ['--config', resolve(config)]),
      ...[...(flags.set ?? []), ...overrides.map(({ text }) => text)].flatMap((text) => ['--set', text]),
    ],
    host: configuration.master.host,
    port: configuration.master.port,
    chunkserverPort: configuration.chunk_server.port,
    mountPoint,
    mountOptions,
    prepareMountPoint: async () => {
      await prepareMountPoint(mountPoint, { create: true, allowNonEmpty, tell });
    },
    tell,
  };
}

/** The kernel frees the lock however we die, so it is never stale. @throws Failure when another has it */
async function lockData(layout: Layout): Promise<() => Promise<void>> {
  try {
    mkdirSync(layout.run, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new Failure(`cannot make the data directory ${layout.root}: ${(error as Error).message}`);
  }
  const { NodeDisk } = await import('../../environment/node/disk.js');
  try {
    return await new NodeDisk().lock(layout.lock);
  } catch (error) {
    if (codeOf(error) !== 'EBUSY') throw error;
    const running = supervisorOf(layout);
    const where = running?.mountPoint === undefined ? '' : `, mounted at ${running.mountPoint}`;
    const who = running === undefined ? '' : ` (process ${running.supervisor.pid}${where})`;
    throw new Failure(
      `gfs up is running on ${layout.root} already${who}`,
      `Use that one, stop it with \`gfs down --data ${layout.root}\`, or give other data with --data DIR.`,
    );
  }
}

function serverCount(wanted: string | undefined, layout: Layout): number {
  const there = chunkserversIn(layout);
  if (wanted === undefined) return there > 0 ? there : DEFAULT_SERVERS;
  const count = Number(wanted);
  if (!/^\d+$/.test(wanted) || count < 1 || count > MAX_SERVERS) {
    throw new UsageFailure(`--servers must be a whole number from 1 to ${MAX_SERVERS}, not ${wanted}`);
  }
  if (count < there) tell(`${layout.root} has the data of ${there} chunkservers: starting all of them`);
  return Math.max(count, there);
}

/** As many as are wanted; as many as there are, or as configured, where nobody says. */
function shadowCount(wanted: string | undefined, configured: number, layout: Layout): number {
  if (wanted === undefined) return Math.max(shadowsIn(layout), configured);
  const count = Number(wanted);
  if (!/^\d+$/.test(wanted) || count > MAX_SHADOWS) {
    throw new UsageFailure(`--shadows must be a whole number from 0 to ${MAX_SHADOWS}, not ${wanted}`);
  }
  return count;
}

async function runUntilSignal(plan: Plan): Promise<void> {
  const cluster = new Cluster(plan);
  let stopping = false;
  const stopped = new Promise<void>((resolve) => {
    const stop = (name: string) => {
      if (stopping) return;
      stopping = true;
      tell(`${name}: unmounting and stopping`);
      void cluster.stop().then(resolve);
    };
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop(name));
  });
  try {
    const master = await cluster.start();
    process.stdout.write(welcome(plan, master));
  } catch (error) {
    await cluster.stop();
    if (!stopping) throw error;
  }
  await stopped;
  tell('stopped; the data stays for the next start');
}

function shadowsOf({ shadows }: Plan): string {
  if (shadows === 0) return '';
  return shadows === 1 ? 'a shadow, ' : `${shadows} shadows, `;
}

function welcome(plan: Plan, master: { host: string; port: number }): string {
  const gfs = process.env.npm_lifecycle_event === undefined ? 'gfs' : 'npx gfs';
  const at = plan.mountPoint;
  const on = `${master.host}:${master.port}`;
  const isDefault = on === `127.0.0.1:${DEFAULT_MASTER_PORT}`;
  return `
Ready: a master at ${on}, ${shadowsOf(plan)}${plan.servers} chunkservers, mounted at ${at}

  files, as on any disk      cp -a /etc/skel ${at}/tree
  a snapshot of a tree       setfattr -n user.gfs.snapshot -v copy ${at}/tree
  an atomic record append    ${gfs} append ${at}/log 'a record'
  where a file's chunks are  ${gfs} fileinfo ${at}/log
  servers, space, chunks     ${gfs} status${isDefault ? '' : ` ${on}`}

Data: ${plan.layout.root}   Logs: ${plan.layout.log}
Stop: Ctrl-C here, or \`${gfs} down\`. The data is there at the next start.

`;
}

/** Stops a `gfs up`, or what a killed one left behind. */
export async function down(flags: { readonly data: string }): Promise<void> {
  const layout = layoutOf(flags.data);
  if (!existsSync(layout.root))
    throw new Failure(`${layout.root}: there is no such data directory`, 'Name it: gfs down --data DIR');
  const running = supervisorOf(layout);
  if (running !== undefined) {
    await endProcess(running.supervisor, DOWN_GRACE_MS);
    return;
  }
  const unlock = await lockData(layout);
  try {
    await tidyUp(layout, tell);
  } finally {
    await unlock();
  }
}
