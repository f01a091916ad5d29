/** `gfs up`: a master, chunkservers and a mount on this host, each a process, kept alive until it is told to stop. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { GfsError } from '../../protocol/errors.js';
import { RemoveLogReplica } from '../../protocol/messages/index.js';
import { type HostPort, showHostPort } from '../config/values.js';
import { Failure } from '../failure.js';
import { queryMaster } from '../master-query.js';
import { detach, isGfs, mountAt, probeMount } from '../mounts.js';
import { checkPort } from '../ports.js';
import { identityOf, type ProcessIdentity } from '../processes.js';
import type { Layout } from './layout.js';
import { type Address, Part, type PartOptions } from './part.js';
import { endLeftovers, leftovers, readState, writeState } from './state.js';

const START_TIMEOUT_MS = 30_000;
const STOP_GRACE_MS = 10_000;
const LEFTOVER_GRACE_MS = 5000;
const PROBE_TIMEOUT_MS = 3000;

export interface ClusterPlan {
  readonly layout: Layout;
  readonly servers: number;
  /** Log replicas; those above that the data has are given up. */
  readonly shadows: number;
  /** `node` and the script that is `gfs`. */
  readonly gfs: readonly string[];
  /** Configuration flags that every part gets. */
  readonly flags: readonly string[];
  readonly host: string;
  /** The master's; 0 for a free one. */
  readonly port: number;
  /** The first chunkserver's, the others follow; 0 for free ones. */
  readonly chunkserverPort: number;
  readonly mountPoint: string;
  readonly mountOptions: readonly string[];
  /** Makes the mount point usable; before each mount. */
  readonly prepareMountPoint: () => Promise<void>;
  readonly tell: (line: string) => void;
}

/** The chunkservers that a data directory has; all of them are started, or their replicas would be missing. */
export function chunkserversIn(layout: Layout): number {
  if (!existsSync(layout.root)) return 0;
  const numbers = readdirSync(layout.root).map((name) => Number(/^chunkserver-(\d+)$/.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers);
}

/** The shadows that a data directory has. */
export function shadowsIn(layout: Layout): number {
  if (!existsSync(layout.root)) return 0;
  const numbers = readdirSync(layout.root).map((name) => Number(/^shadow-(\d+)$/.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers);
}

/**
 * Ends what a killed `gfs up` left behind: its processes, its mount. For the holder of the lock alone.
 */
export async function tidyUp(layout: Layout, tell: (line: string) => void): Promise<void> {
  const found = leftovers(layout);
  if (found.length > 0) {
    tell(`ending ${found.length} processes that an earlier run left behind`);
    await endLeftovers(found, LEFTOVER_GRACE_MS);
  }
  const mountPoint = readState(layout)?.mountPoint;
  const mount = mountPoint === undefined ? undefined : mountAt(mountPoint);
  if (mountPoint === undefined || mount === undefined || !isGfs(mount)) return;
  // Somebody else may have mounted there since: what answers is not ours to take away.
  if ((await probeMount(mountPoint, PROBE_TIMEOUT_MS)) === 'answers') return;
  tell(`unmounting the dead mount at ${mountPoint}`);
  await detach(mountPoint, true);
}

export class Cluster {
  readonly #plan: ClusterPlan;
  readonly #chunkservers: Part[] = [];
  readonly #shadows: Part[] = [];
  #master: Part | undefined;
  #mount: Part | undefined;
  #stopped: Promise<void> | undefined;

  constructor(plan: ClusterPlan) {
    this.#plan = plan;
  }

  /** @returns the master's address @throws Failure; what was started until then is stopped by {@link stop} */
  async start(): Promise<{ host: string; port: number }> {
    const { layout, tell, servers, shadows } = this.#plan;
    for (const directory of [layout.root, layout.run, layout.log]) {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    }
    const supervisor = identityOf(process.pid) as ProcessIdentity;
    writeState(layout, { supervisor });
    // What can be refused is refused before anything runs.
    await this.#plan.prepareMountPoint();
    await checkPort(this.#plan.host, this.#plan.port, 'gfs up --port PORT');
    tell('starting the master');
    const master = await this.#startMaster();
    const starting: Promise<Address>[] = [];
    if (shadows > 0) tell(`starting ${shadows === 1 ? 'a shadow' : `${shadows} shadows`}`);
    for (let index = 1; index <= shadows; index++) starting.push(this.#startShadow(index, master));
    await allOrFirstFailure(starting.splice(0));
    await this.#giveUpShadows(master);
    tell(`starting ${servers} chunkservers`);
    for (let index = 1; index <= servers; index++) starting.push(this.#startChunkserver(index, master));
    await allOrFirstFailure(starting);
    tell(`mounting at ${this.#plan.mountPoint}`);
    writeState(layout, { supervisor, mountPoint: this.#plan.mountPoint });
    await this.#startMount(master);
    return master;
  }

  #part(
    name: string,
    words: () => readonly string[],
    more: Pick<PartOptions, 'prepare' | 'mayEnd'> = {},
  ): Part {
    const { layout, gfs, flags, tell } = this.#plan;
    if (this.#stopped !== undefined) throw new Failure('it was stopped while it was starting');
    return new Part({
      name,
      command: () => [...gfs, ...words(), ...flags],
      addressFile: layout.addressFileOf(name),
      logFile: layout.logOf(name),
      tell,
      ...more,
    });
  }

  async #startMaster(): Promise<{ host: string; port: number }> {
    const { layout, host } = this.#plan;
    // Once the system has chosen a port it stays: everybody else has been told.
    let port = this.#plan.port;
    this.#master = this.#part('master', () => [
      ...['master', '--data', layout.dataOf('master'), '--host', host, '--port', String(port)],
    ]);
    const address = await this.#master.start(START_TIMEOUT_MS);
    port = address.port ?? port;
    return { host: address.host === undefined || isAny(address.host) ? '127.0.0.1' : address.host, port };
  }

  /** The copy is beside what it is a copy of: nothing is lost with it. */
  async #giveUpShadows(master: HostPort): Promise<void> {
    const { layout, shadows, tell } = this.#plan;
    const givenUp: Promise<void>[] = [];
    for (let index = shadowsIn(layout); index > shadows; index--) {
      tell(`giving up ${layout.shadow(index)}`);
      givenUp.push(giveUpShadow(master, layout.dataOf(layout.shadow(index))));
    }
    // All at once: the removal of one waits for none of the others.
    await allOrFirstFailure(givenUp);
  }

  async #startShadow(index: number, master: HostPort): Promise<Address> {
    const { layout, host } = this.#plan;
    const name = layout.shadow(index);
    // Next to the master's; its own port stays, so that the master finds it after a restart.
    let port = this.#plan.port === 0 ? 0 : this.#plan.port + index;
    await checkPort(host, port, '').catch(() => {
      port = 0;
    });
    const part = this.#part(name, () => [
      ...['shadow', '--data', layout.dataOf(name), '--host', host, '--port', String(port)],
      ...['--master', showHostPort(master)],
    ]);
    this.#shadows.push(part);
    const address = await part.start(START_TIMEOUT_MS);
    port = address.port ?? port;
    return address;
  }

  async #startChunkserver(index: number, master: { host: string; port: number }): Promise<Address> {
    const { layout, chunkserverPort } = this.#plan;
    const name = `chunkserver-${index}`;
    const port = chunkserverPort === 0 ? 0 : chunkserverPort + index - 1;
    const part = this.#part(name, () => [
      ...['chunkserver', '--data', layout.dataOf(name), '--port', String(port)],
      ...['--master', `${master.host}:${master.port}`],
    ]);
    this.#chunkservers.push(part);
    return part.start(START_TIMEOUT_MS);
  }

  async #startMount(master: { host: string; port: number }): Promise<void> {
    const { mountPoint, mountOptions, prepareMountPoint } = this.#plan;
    const options = mountOptions.flatMap((option) => ['-o', option]);
    const source = `${master.host}:${master.port}`;
    this.#mount = this.#part('mount', () => ['mount', '--foreground', ...options, source, mountPoint], {
      prepare: prepareMountPoint,
      mayEnd: true,
    });
    await this.#mount.start(START_TIMEOUT_MS);
  }

  /** In order: the mount, which flushes; the chunkservers; the master; the shadows. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const { mountPoint, tell } = this.#plan;
    if (this.#mount !== undefined) {
      const inOrder = await this.#mount.stop(STOP_GRACE_MS);
      if (!inOrder) tell(`the mount did not end by itself within ${STOP_GRACE_MS / 1000} s and was killed`);
      const mount = mountAt(mountPoint);
      if (mount !== undefined && isGfs(mount)) {
        await detach(mountPoint, true);
      }
    }
    await Promise.all(this.#chunkservers.map((part) => part.stop(STOP_GRACE_MS)));
    // It still logs the end of the sessions, for which it needs its log replicas.
    await this.#master?.stop(STOP_GRACE_MS);
    await Promise.all(this.#shadows.map((part) => part.stop(STOP_GRACE_MS)));
  }
}

async function giveUpShadow(master: HostPort, directory: string): Promise<void> {
  const id = shadowId(directory);
  if (id !== undefined) {
    // One that the master has never waited for is none to it.
    await queryMaster([master], (peer) => peer.call(RemoveLogReplica, { id })).catch((error) => {
      if (!(error instanceof GfsError && error.code === 'NOT_FOUND')) throw error;
    });
  }
  rmSync(directory, { recursive: true, force: true });
}

function shadowId(directory: string): string | undefined {
  try {
    const { id } = JSON.parse(readFileSync(join(directory, 'superblock.json'), 'utf8')) as { id?: unknown };
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined;
  }
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** All, or the first to fail once none is under way any more, so that each can be stopped. */
async function allOrFirstFailure(promises: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
