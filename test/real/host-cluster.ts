/** A cluster over several hosts: network namespaces on one bridge, each part in one of its own. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { queryStatus } from '../../cli/master-query.js';
import { cannotMount, eventually } from './cluster.js';
import { type CommandResult, type RealProcess, runCommand, Workspace } from './processes.js';

const MASTER_HOST = 1;
const CHUNKSERVERS = 3;

function netns(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return join(directory, 'scripts/netns.sh');
}

/** Why there can be no hosts here; `false` where there can. For tap's `skip`. */
export function cannotMakeHosts(): string | false {
  if (cannotMount !== false) return cannotMount;
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  return existsSync('/sbin/ip') || existsSync('/usr/sbin/ip') || existsSync('/bin/ip')
    ? false
    : 'there is no ip(8)';
}

/** Letters that no other run of this test has, and a subnet likewise. */
function uniquePrefix(): { prefix: string; subnet: string } {
  let number = process.pid % (26 * 26 * 26);
  let letters = '';
  for (let i = 0; i < 3; i++) {
    letters += String.fromCharCode(97 + (number % 26));
    number = Math.floor(number / 26);
  }
  return { prefix: `gt${letters}`, subnet: String(1 + (process.pid % 250)) };
}

export class HostCluster {
  readonly workspace = new Workspace('hosts');
  /** In the order of their hosts. */
  readonly mountPoints: string[] = [];
  readonly #prefix: string;
  readonly #subnet: string;

  private constructor() {
    const { prefix, subnet } = uniquePrefix();
    this.#prefix = prefix;
    this.#subnet = subnet;
  }

  /**
   * A master, three chunkservers and some mounts, configured by TOML files; removed when the test ends.
   * @param client lines of the section `[client]`
   */
  static async start(t: Test, mounts: number, client = ''): Promise<HostCluster> {
    const cluster = new HostCluster();
    t.teardown(async () => {
      await cluster.workspace.remove();
      await cluster.#netns(['down', cluster.#prefix]);
    });
    const hosts = 1 + CHUNKSERVERS + mounts;
    const made = await cluster.#netns(['up', cluster.#prefix, String(hosts)]);
    t.equal(made.status, 0, made.stderr);
    await cluster.#startAll(mounts, client);
    return cluster;
  }

  /** The link of a mount's host goes down. @param mount from 0 */
  async cut(mount: number): Promise<void> {
    await this.#netns(['cut', this.#prefix, String(2 + CHUNKSERVERS + mount)]);
  }

  async join(mount: number): Promise<void> {
    await this.#netns(['join', this.#prefix, String(2 + CHUNKSERVERS + mount)]);
  }

  async #startAll(mounts: number, client: string): Promise<void> {
    const master = this.#addressOf(MASTER_HOST);
    const config = this.workspace.write(
      'cluster.toml',
      `[cluster]\nmasters = ["${master}:5000"]\n[master]\nhost = "${master}"\nport = 5000\nchunk_size = "1MiB"\ndata = "master"\n[client]\n${client}\n`,
    );
    this.#on(MASTER_HOST, 'master', ['master', '--config', config]);
    for (let host = 2; host < 2 + CHUNKSERVERS; host++) {
      const file = this.workspace.write(
        `chunkserver-${host}.toml`,
        `[cluster]\nmasters = ["${master}:5000"]\n[chunk_server]\nhost = "${this.#addressOf(host)}"\nport = 5001\ndisks = ["disk-${host}"]\nrack = "r${host}"\nlocation = [${host}, 0]\nreserved = "16MiB"\n`,
      );
      this.#on(host, `chunkserver-${host}`, ['chunkserver', '--config', file]);
    }
    for (let mount = 0; mount < mounts; mount++) {
      const host = 2 + CHUNKSERVERS + mount;
      const directory = this.workspace.makeDirectory(`mnt-${host}`);
      this.mountPoints.push(directory);
      this.#on(host, `mount-${host}`, [
        'mount',
        '--foreground',
        '-o',
        'suid,dev',
        '--config',
        config,
        directory,
      ]);
    }
    await eventually(async () => {
      const table = readFileSync('/proc/self/mountinfo', 'utf8');
      return this.mountPoints.every((directory) => table.includes(` ${directory} `)) || 'not all are mounted';
    }, 30_000);
    await eventually(async () => {
      const { servers } = await queryStatus([{ host: master, port: 5000 }]);
      return servers.filter(({ state }) => state === 'alive').length === CHUNKSERVERS || 'not all are alive';
    }, 20_000);
  }

  #addressOf(host: number): string {
    return `10.77.${this.#subnet}.${host}`;
  }

  #on(host: number, name: string, words: readonly string[]): RealProcess {
    const [node, gfs] = this.workspace.gfs;
    // Not `ip netns exec`: that gives a mount namespace too, in which nobody else sees the mount.
    const namespace = `--net=/run/netns/${this.#prefix}${host}`;
    return this.workspace.spawnProgram(name, ['nsenter', namespace, node, gfs, ...words]);
  }

  #netns(words: readonly string[]): Promise<CommandResult> {
    return runCommand(['bash', netns(), ...words], { env: { NET: this.#subnet, PATH: process.env['PATH'] } });
  }
}
