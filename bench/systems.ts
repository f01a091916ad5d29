/** The file systems that the benchmark compares: each a cluster of real processes with a mount. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const CHUNKSERVERS = 3;
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 20_000;

export interface System {
  readonly name: string;
  readonly mountPoint: string;
  /** One file for each daemon, named after it, with its pid: for CPU seconds. */
  readonly pidDirectory: string;
  /** A shell command that unmounts and mounts again. */
  readonly remount: string;
  /** Its own snapshot: `COMMAND SRC DST`. */
  readonly snapshot: string;
  up(): Promise<void>;
  down(): Promise<void>;
}

/** The repository's root: from the source and from `dist/` alike. */
export function repositoryRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** Ours: a master, three chunkservers and a mount, started one by one. */
export class GfsSystem implements System {
  readonly name: string;
  readonly mountPoint: string;
  readonly pidDirectory: string;
  readonly remount: string;
  readonly snapshot: string;
  readonly #base: string;
  readonly #gfs = join(repositoryRoot(), 'scripts/gfs');
  readonly #environment: Readonly<Record<string, string>>;
  readonly #daemons: ChildProcess[] = [];

  /** @param environment configuration, as GFS_SECTION_KEY variables */
  constructor(name: string, base: string, environment: Readonly<Record<string, string>>) {
    this.name = name;
    this.#base = resolve(base);
    this.#environment = environment;
    this.mountPoint = join(this.#base, 'mnt');
    this.pidDirectory = join(this.#base, 'pids');
    this.remount = join(this.#base, 'remount.sh');
    this.snapshot = `sh ${join(repositoryRoot(), 'bench/load/snapshot.sh')} ${this.#gfs}`;
  }

  async up(): Promise<void> {
    rmSync(this.#base, { recursive: true, force: true });
    for (const directory of [this.mountPoint, this.pidDirectory]) mkdirSync(directory, { recursive: true });
    const master = await this.#start('master', [
      ...['master', '--data', join(this.#base, 'master'), '--host', '127.0.0.1', '--port', '0'],
    ]);
    const address = `127.0.0.1:${master.port}`;
    for (let i = 1; i <= CHUNKSERVERS; i++) {
      const data = join(this.#base, `chunkserver-${i}`);
      await this.#start(`chunkserver-${i}`, [
        'chunkserver',
        '--data',
        data,
        '--port',
        '0',
        '--master',
        address,
      ]);
    }
    const mount = [
      this.#gfs,
      'mount',
      '--address-file',
      join(this.#base, 'mount.json'),
      address,
      this.mountPoint,
    ];
    const pid = `node -p 'require("${this.#base}/mount.json").pid' > ${this.pidDirectory}/mount`;
    const script = `#!/bin/sh\nset -ex\nexec >> ${this.#base}/remount.log 2>&1\n${this.#gfs} umount ${this.mountPoint}\n${mount.join(' ')}\n${pid}\n`;
    writeFileSync(this.remount, script, { mode: 0o755 });
    await this.#start('mount', ['mount', '--foreground', address, this.mountPoint]);
  }

  async down(): Promise<void> {
    // Not mounted any more is as good.
    spawnSync('umount', ['-l', this.mountPoint], { stdio: 'ignore' });
    await delay(1000);
    for (const daemon of this.#daemons.reverse()) {
      daemon.kill('SIGTERM');
      const killer = setTimeout(() => daemon.kill('SIGKILL'), STOP_TIMEOUT_MS);
      while (daemon.exitCode === null && daemon.signalCode === null) await delay(50);
      clearTimeout(killer);
    }
    rmSync(this.#base, { recursive: true, force: true });
  }

  async #start(name: string, words: readonly string[]): Promise<{ port: number }> {
    const addressFile = join(this.#base, `${name}.json`);
    const log = openSync(join(this.#base, `${name}.log`), 'a');
    const node =
      process.env['BENCH_CPU_PROF'] === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${this.#base}.prof`];
    const script = this.#gfs;
    const daemon = spawn(process.execPath, [...node, script, ...words, '--address-file', addressFile], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#environment },
    });
    this.#daemons.push(daemon);
    for (const endMs = performance.now() + START_TIMEOUT_MS; !existsSync(addressFile); await delay(20)) {
      if (daemon.exitCode === null && performance.now() < endMs) continue;
      throw new Error(
        `${this.name}: ${name} did not start:\n${readFileSync(join(this.#base, `${name}.log`))}`,
      );
    }
    writeFileSync(join(this.pidDirectory, name), String(daemon.pid));
    return JSON.parse(readFileSync(addressFile, 'utf8'));
  }
}

/** MooseFS 3 from Debian's packages, goal 3. */
export class MooseFs implements System {
  readonly name = 'moosefs';
  readonly mountPoint: string;
  readonly pidDirectory: string;
  readonly remount: string;
  readonly snapshot = 'mfsmakesnapshot';
  readonly #base: string;
  readonly #scripts = join(repositoryRoot(), 'bench/moosefs');

  /** @param base below a folder named gfs-peers: its scripts delete nothing elsewhere */
  constructor(base: string) {
    this.#base = resolve(base);
    this.mountPoint = join(this.#base, 'mnt');
    this.pidDirectory = join(this.#base, 'pids');
    this.remount = `bash ${this.#scripts}/moosefs-remount.sh ${this.#base}`;
  }

  async up(): Promise<void> {
    for (const tool of ['mfsmaster', 'mfschunkserver', 'mfsmount', 'mfscli']) {
      if (!onPath(tool)) {
        throw new Error(
          `${tool} is missing: apt-get install moosefs-master moosefs-chunkserver moosefs-client moosefs-cli`,
        );
      }
    }
    mkdirSync(dirname(this.#base), { recursive: true });
    execFileSync('bash', [join(this.#scripts, 'moosefs-up.sh'), this.#base], {
      stdio: 'ignore',
      timeout: 60_000,
    });
  }

  async down(): Promise<void> {
    execFileSync('bash', [join(this.#scripts, 'moosefs-down.sh'), this.#base], {
      stdio: 'ignore',
      timeout: 60_000,
    });
  }
}

/** A folder of the local disk: what a distributed file system can hope for. */
export class LocalDisk implements System {
  readonly name = 'local';
  readonly mountPoint: string;
  readonly pidDirectory: string;
  readonly remount = 'true';
  readonly snapshot = '';

  constructor(base: string) {
    this.mountPoint = join(resolve(base), 'mnt');
    this.pidDirectory = join(resolve(base), 'pids');
  }

  async up(): Promise<void> {
    for (const directory of [this.mountPoint, this.pidDirectory]) mkdirSync(directory, { recursive: true });
  }

  async down(): Promise<void> {
    rmSync(dirname(this.mountPoint), { recursive: true, force: true });
  }
}

function onPath(tool: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((directory) => {
    return existsSync(directory) && readdirSync(directory).includes(tool);
  });
}
