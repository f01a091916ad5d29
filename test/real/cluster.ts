/**
 * A cluster of real processes on free ports of this host, in a temporary directory, mounted: what the
 * real-process tests run on.
 *
 *     t.test('…', { skip: cannotMount }, async (t) => {
 *       const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
 *       await writeFile(join(cluster.mountPoint, 'a'), 'hello');
 *       await cluster.chunkservers[0].kill();
 *
 * Tests must not touch a mount synchronously (`readFileSync`) while something may hang: a test that
 * hangs in the kernel cannot time out.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type MasterStatus, queryLog, queryStatus } from '../../cli/master-query.js';
import { loadAddon } from '../../fuse-client/kernel/addon.js';
import { type CommandResult, type RealProcess, type RunOptions, runCommand, Workspace } from './processes.js';

/** Why no test can mount here; `false` where it can. For tap's `skip`. */
export const cannotMount: string | false = reasonNotToMount();

function reasonNotToMount(): string | false {
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/fuse is not for this user';
  }
  try {
    loadAddon();
    return false;
  } catch {
    return 'the native addon is not built';
  }
}

export interface ClusterOptions {
  /** Default 3. */
  readonly servers?: number;
  /** Default 1MiB, so that small files have several chunks. */
  readonly chunkSize?: string;
  /** Of the first mount; `false` for none. */
  readonly mount?: readonly string[] | false;
  /** More of the configuration, as `--set` has it. */
  readonly set?: readonly string[];
  /** Words for the chunkserver with this index, such as `--rack`. */
  readonly chunkserverWords?: (index: number) => readonly string[];
  /** Shadows, all of them waited for before the rest starts. Default 0. */
  readonly shadows?: number;
  /** Does not wait until every chunkserver has registered. */
  readonly impatient?: boolean;
}

/** What {@link RealCluster.start} needs of a test. */
export interface Teardown {
  teardown(run: () => unknown): void;
}

const READY_TIMEOUT_MS = 60_000;

export class RealCluster {
  readonly workspace: Workspace;
  readonly #options: ClusterOptions;
  readonly #chunkservers: RealProcess[] = [];
  readonly #shadows: RealProcess[] = [];
  readonly #shadowPorts: number[] = [];
  #master: RealProcess | undefined;
  #mount: RealProcess | undefined;
  #port = 0;

  private constructor(workspace: Workspace, options: ClusterOptions) {
    this.workspace = workspace;
    this.#options = options;
  }

  /** Starts it, and has it removed when the test ends. */
  static async start(t: Teardown, options: ClusterOptions = {}): Promise<RealCluster> {
    const cluster = new RealCluster(new Workspace('cluster'), options);
    t.teardown(() => cluster.remove());
    await cluster.startAll();
    return cluster;
  }

  get master(): RealProcess {
    return defined(this.#master);
  }

  get chunkservers(): readonly RealProcess[] {
    return this.#chunkservers;
  }

  get shadows(): readonly RealProcess[] {
    return this.#shadows;
  }

  /** The process of the first mount. */
  get mount(): RealProcess {
    return defined(this.#mount);
  }

  get mountPoint(): string {
    return this.workspace.path('mnt');
  }

  /** The master's, as `HOST:PORT`. */
  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Everything, also after {@link killAll}. */
  async startAll(): Promise<void> {
    await this.startMaster();
    for (let index = 0; index < (this.#options.shadows ?? 0); index++) await this.startShadow(index);
    const count = this.#options.servers ?? 3;
    await Promise.all(Array.from({ length: count }, (_, index) => this.startChunkserver(index)));
    if (this.#options.impatient !== true) await this.ready();
    if (this.#options.mount !== false) await this.startMount();
  }

  /** The first time on a free port, then on the same. */
  async startMaster(): Promise<void> {
    const { set = [], chunkSize = '1MiB' } = this.#options;
    this.#master = this.workspace.spawn('master', [
      ...['master', '--data', this.workspace.path('master'), '--port', String(this.#port)],
      ...settings([`master.chunk_size=${chunkSize}`, ...set]),
    ]);
    this.#port = (await this.#master.started()).port;
  }

  /** @param index from 0; one that was started before gets its data and port again */
  async startShadow(index: number): Promise<void> {
    const process = this.workspace.spawn(`shadow-${index}`, [
      ...['shadow', '--master', this.address, '--data', this.workspace.path(`shadow-${index}`)],
      ...['--port', String(this.#shadowPorts[index] ?? 0)],
      ...settings(this.#options.set ?? []),
    ]);
    this.#shadows[index] = process;
    this.#shadowPorts[index] = (await process.started()).port;
    const { port } = this;
    await eventually(async () => {
      const { replicas } = await queryLog([{ host: '127.0.0.1', port }]);
      const inStep = replicas.filter(({ state, counted }) => counted && state === 'in step').length;
      return inStep > index || `${inStep} shadows are in step`;
    }, READY_TIMEOUT_MS);
  }

  /** A shadow's, as `HOST:PORT`. */
  shadowAddress(index: number): string {
    return `127.0.0.1:${this.#shadowPorts[index]}`;
  }

  /** @param index from 0; one that was started before gets its data again */
  async startChunkserver(index: number): Promise<void> {
    const { set = [], chunkserverWords = () => [] } = this.#options;
    const process = this.workspace.spawn(`chunkserver-${index}`, [
      ...['chunkserver', '--master', this.address, '--data', this.workspace.path(`chunkserver-${index}`)],
      ...settings(['chunk_server.reserved=16MiB', ...set]),
      ...chunkserverWords(index),
    ]);
    this.#chunkservers[index] = process;
    await process.started();
  }

  async startMount(): Promise<void> {
    const words = this.#options.mount === false ? [] : (this.#options.mount ?? []);
    this.#mount = await this.addMount('mnt', words);
  }

  /** One more client. @param name of the directory in the workspace */
  async addMount(name: string, words: readonly string[] = [], source = this.address): Promise<RealProcess> {
    const directory = this.workspace.makeDirectory(name);
    const process = this.workspace.spawn(`mount-${name}`, [
      ...['mount', '--foreground', source, directory],
      ...settings(this.#options.set ?? []),
      ...words,
    ]);
    await process.started();
    return process;
  }

  status(): Promise<MasterStatus> {
    return queryStatus([{ host: '127.0.0.1', port: this.#port }]);
  }

  /** Waits until the master is ready and every chunkserver that runs is alive. */
  async ready(): Promise<void> {
    const wanted = this.#chunkservers.filter((process) => process.isRunning).length;
    await eventually(async () => {
      const { ready, servers } = await this.status();
      const alive = servers.filter(({ state }) => state === 'alive').length;
      return ready && alive >= wanted ? true : `ready: ${ready}, ${alive} of ${wanted} servers alive`;
    }, READY_TIMEOUT_MS);
  }

  /** kill -9 of every process at once. The dead mount is unmounted. */
  async killAll(): Promise<void> {
    const all = [this.#mount, ...this.#chunkservers, ...this.#shadows, this.#master];
    await Promise.all(all.map((process) => process?.kill()));
    if (this.#mount !== undefined)
      await runCommand(['umount', '--lazy', this.mountPoint], { timeoutMs: 10_000 });
  }

  /** In order: mount, chunkservers, master. */
  async stopAll(): Promise<void> {
    await this.#mount?.stop();
    await Promise.all(this.#chunkservers.map((process) => process.stop()));
    await Promise.all(this.#shadows.map((process) => process.stop()));
    await this.#master?.stop();
  }

  /** Runs `gfs` to its end. */
  gfs(words: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return this.workspace.run(words, options);
  }

  /** Runs a line of shell in the mount. */
  shell(line: string, options: RunOptions = {}): Promise<CommandResult> {
    return runCommand(['/bin/bash', '-c', line], { cwd: this.mountPoint, ...options });
  }

  async remove(): Promise<void> {
    await this.workspace.remove();
  }
}

function settings(assignments: readonly string[]): string[] {
  return assignments.flatMap((assignment) => ['--set', assignment]);
}

function defined<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('it was not started');
  return value;
}

/** Asks until the answer is `true`; anything else says why not yet. Errors count as not yet. */
export async function eventually(ask: () => Promise<true | string>, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    let answer: true | string;
    try {
      answer = await ask();
    } catch (error) {
      answer = String(error);
    }
    if (answer === true) return;
    if (performance.now() > endMs) throw new Error(`not after ${timeoutMs} ms: ${answer}`);
    await delay(50);
  }
}
