/** A cluster whose parts are on hosts of their own: network namespaces on one bridge, disks of their own if asked for. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type MasterStatus, queryLog, queryStatus } from '../../cli/master-query.js';
import { cannotMount, eventually } from '../real/cluster.js';
import { type CommandResult, type RealProcess, runCommand, Workspace } from '../real/processes.js';

const MASTER_PORT = 5000;
const SHADOW_PORT = 5001;
const READY_TIMEOUT_MS = 60_000;
const COMMAND_MS = 30_000;
const TAIL_LINES = 25;

export interface HostClusterOptions {
  readonly servers: number;
  readonly mounts: number;
  /** As `--set` has it, for every part. */
  readonly set?: readonly string[];
  /** A shadow too, in step before the chunkservers start. */
  readonly shadow?: boolean;
  /** Chunkservers keep their chunks on loop-mounted disks of this size. */
  readonly diskMib?: number;
}

/** Why there can be no such hosts here; `false` where there can. */
export function cannotMakeHosts(): string | false {
  if (cannotMount !== false) return cannotMount;
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const has = (program: string) => ['/sbin', '/usr/sbin', '/bin'].some((at) => existsSync(join(at, program)));
  if (!has('ip')) return 'there is no ip(8)';
  return has('tc') ? false : 'there is no tc(8)';
}

function netnsScript(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return join(directory, 'scripts/netns.sh');
}

let clusters = 0;

export class HostCluster {
  readonly workspace = new Workspace('faults');
  readonly options: HostClusterOptions;
  readonly chunkservers: RealProcess[] = [];
  readonly mounts: RealProcess[] = [];
  master!: RealProcess;
  shadow: RealProcess | undefined;
  readonly #prefix: string;
  readonly #subnet: string;
  readonly #loops: string[] = [];

  /** However this process ends. */
  readonly #onExit = () => {
    for (const directory of this.#loops) spawnSync('umount', ['--lazy', directory], { timeout: COMMAND_MS });
    const env = { NET: this.#subnet, PATH: process.env.PATH };
    spawnSync('bash', [netnsScript(), 'down', this.#prefix], { env, timeout: COMMAND_MS });
  };

  private constructor(options: HostClusterOptions) {
    this.options = options;
    process.once('exit', this.#onExit);
    const number = process.pid * 7 + clusters++;
    const letter = (place: number) => String.fromCharCode(97 + (Math.floor(number / 26 ** place) % 26));
    this.#prefix = `gf${letter(0)}${letter(1)}${letter(2)}`;
    this.#subnet = String(1 + (number % 250));
  }

  static async start(options: HostClusterOptions): Promise<HostCluster> {
    const cluster = new HostCluster(options);
    try {
      await cluster.#make();
    } catch (error) {
      await cluster.remove();
      throw error;
    }
    return cluster;
  }

  get masterAddress(): string {
    return `${this.addressOf(1)}:${MASTER_PORT}`;
  }

  addressOf(host: number): string {
    return `10.77.${this.#subnet}.${host}`;
  }

  /** Host 1 is the master's, then come the chunkservers', then the mounts'; the shadow's is the last. */
  hostOfServer(index: number): number {
    return 2 + index;
  }

  mountPoint(index = 0): string {
    return this.workspace.path(`mnt-${index}`);
  }

  dataOf(index: number): string {
    return this.workspace.path(`disk-${index}`, 'data');
  }

  async #make(): Promise<void> {
    const { servers, mounts } = this.options;
    await this.#netns(['up', this.#prefix, String(2 + servers + mounts)]);
    this.startMaster();
    if (this.options.shadow === true) await this.startShadow();
    for (let index = 0; index < servers; index++) {
      await this.#makeDisk(index);
      this.startServer(index);
    }
    await this.ready(servers);
    for (let index = 0; index < mounts; index++) await this.startMount(index);
  }

  async #makeDisk(index: number): Promise<void> {
    const directory = this.workspace.makeDirectory(`disk-${index}`);
    const { diskMib } = this.options;
    if (diskMib === undefined) return;
    const image = this.workspace.path(`disk-${index}.img`);
    await this.#run(['truncate', '-s', `${diskMib}M`, image]);
    await this.#run(['mkfs.ext4', '-q', '-m', '0', image]);
    await this.#run(['mount', '-o', 'loop', image, directory]);
    this.#loops.push(directory);
  }

  startMaster(): RealProcess {
    const data = this.workspace.path('master');
    const words = ['master', '--data', data, '--host', this.addressOf(1), '--port', String(MASTER_PORT)];
    this.master = this.#on(1, 'master', words);
    return this.master;
  }

  /** Waits until it has the whole log. */
  async startShadow(): Promise<void> {
    const { servers, mounts } = this.options;
    const host = 2 + servers + mounts;
    this.shadow = this.#on(host, 'shadow', [
      ...['shadow', '--master', this.masterAddress, '--data', this.workspace.path('shadow')],
      ...['--host', this.addressOf(host), '--port', String(SHADOW_PORT)],
    ]);
    await eventually(async () => {
      const { replicas } = await queryLog([{ host: this.addressOf(1), port: MASTER_PORT }]);
      return replicas.some(({ state, counted }) => counted && state === 'in step') || 'it is not in step';
    }, READY_TIMEOUT_MS);
  }

  startServer(index: number): RealProcess {
    const host = this.hostOfServer(index);
    const process = this.#on(host, `chunkserver-${index}`, [
      ...['chunkserver', '--master', this.masterAddress, '--data', this.dataOf(index)],
      ...['--host', this.addressOf(host), '--set', 'chunk_server.reserved=16MiB'],
    ]);
    this.chunkservers[index] = process;
    return process;
  }

  async startMount(index: number): Promise<RealProcess> {
    const directory = this.workspace.makeDirectory(`mnt-${index}`);
    const host = 2 + this.options.servers + index;
    const words = ['mount', '--foreground', this.masterAddress, directory];
    const process = this.#on(host, `mount-${index}`, words);
    this.mounts[index] = process;
    await eventually(async () => {
      if (!process.isRunning) throw new Error(`the mount ended:\n${process.log}`);
      return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory} `) || 'not mounted yet';
    }, READY_TIMEOUT_MS);
    return process;
  }

  /** Not `ip netns exec`: that gives a mount namespace too, in which nobody else sees the mount. */
  #on(host: number, name: string, words: readonly string[]): RealProcess {
    const settings = (this.options.set ?? []).flatMap((assignment) => ['--set', assignment]);
    const command = [...this.workspace.gfs, ...words, ...settings];
    return this.workspace.spawnProgram(name, [
      'nsenter',
      `--net=/run/netns/${this.#prefix}${host}`,
      ...command,
    ]);
  }

  status(): Promise<MasterStatus> {
    return queryStatus([{ host: this.addressOf(1), port: MASTER_PORT }]);
  }

  /** Waits until so many chunkservers are alive, and the master serves. */
  async ready(alive: number): Promise<void> {
    await eventually(async () => {
      const { ready, servers } = await this.status();
      const living = servers.filter(({ state }) => state === 'alive').length;
      return (ready && living >= alive) || `ready: ${ready}, ${living} of ${alive} servers alive`;
    }, READY_TIMEOUT_MS);
  }

  /** Waits until every chunk has its replicas. @returns how long that took */
  async healed(timeoutMs: number): Promise<number> {
    const startMs = performance.now();
    await eventually(async () => {
      const { chunksBelowGoal, chunksUnavailable } = await this.status();
      const missing = chunksBelowGoal + chunksUnavailable;
      return missing === 0 || `${chunksBelowGoal} chunks below goal, ${chunksUnavailable} unavailable`;
    }, timeoutMs);
    return performance.now() - startMs;
  }

  cutLink(host: number): Promise<void> {
    return this.#netns(['cut', this.#prefix, String(host)]);
  }

  joinLink(host: number): Promise<void> {
    return this.#netns(['join', this.#prefix, String(host)]);
  }

  /** @param rate as tc(8) has it, such as `40mbit` */
  slowLink(host: number, rate: string): Promise<void> {
    return this.#netns(['rate', this.#prefix, String(host), rate]);
  }

  gfs(words: readonly string[]): Promise<CommandResult> {
    return this.workspace.run([...words, '--master', this.masterAddress]);
  }

  async #netns(words: readonly string[]): Promise<void> {
    const env = { NET: this.#subnet, PATH: process.env['PATH'] };
    const { status, stderr } = await runCommand(['bash', netnsScript(), ...words], {
      env,
      timeoutMs: COMMAND_MS,
    });
    if (status !== 0) throw new Error(`netns ${words.join(' ')}: ${stderr}`);
  }

  async #run(command: readonly string[]): Promise<void> {
    const { status, stderr } = await runCommand(command, { timeoutMs: COMMAND_MS });
    if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
  }

  get #processes(): readonly RealProcess[] {
    const shadows = this.shadow === undefined ? [] : [this.shadow];
    return [this.master, ...shadows, ...this.chunkservers, ...this.mounts];
  }

  /** The last that each part has logged, for whoever looks into a broken promise. */
  tails(): string {
    const tail = ({ name, log }: RealProcess) =>
      `--- ${name}\n${log.split('\n').slice(-TAIL_LINES).join('\n')}\n`;
    return this.#processes.map(tail).join('');
  }

  /** Whatever hangs is killed first, so that nothing waits for it. */
  async remove(): Promise<void> {
    await Promise.all(this.#processes.map((process) => process?.kill()));
    for (let index = 0; index < this.mounts.length; index++) {
      await runCommand(['umount', '--lazy', this.mountPoint(index)], { timeoutMs: COMMAND_MS });
    }
    for (const directory of this.#loops) {
      await runCommand(['umount', '--lazy', directory], { timeoutMs: COMMAND_MS });
    }
    await delay(100);
    await this.workspace.remove();
    await this.#netns(['down', this.#prefix]).catch(() => undefined);
    process.removeListener('exit', this.#onExit);
  }
}
