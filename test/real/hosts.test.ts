/** A cluster over several hosts: network namespaces on one bridge, each part in one of its own. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { queryStatus } from '../../cli/master-query.js';
import { cannotMount, eventually } from './cluster.js';
import { type RealProcess, runCommand, Workspace } from './processes.js';

// Each command has its own time limit.
t.setTimeout(0);

const HOSTS = 6;
const MASTER_HOST = 1;

function netns(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return join(directory, 'scripts/netns.sh');
}

function cannotMakeHosts(): string | false {
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

t.test(
  'hosts: master, chunkservers and two mounts on hosts of their own, from TOML files',
  { skip: cannotMakeHosts() },
  async (t) => {
    const workspace = new Workspace('hosts');
    const { prefix, subnet } = uniquePrefix();
    const shell = (words: readonly string[]) =>
      runCommand(['bash', netns(), ...words], { env: { NET: subnet, PATH: process.env['PATH'] } });
    t.teardown(async () => {
      await workspace.remove();
      await shell(['down', prefix]);
    });
    const made = await shell(['up', prefix, String(HOSTS)]);
    t.equal(made.status, 0, made.stderr);
    const addressOf = (host: number) => `10.77.${subnet}.${host}`;
    const on = (host: number, name: string, words: readonly string[]): RealProcess => {
      const [node, gfs] = workspace.gfs;
      // Not `ip netns exec`: that gives a mount namespace too, in which nobody else sees the mount.
      return workspace.spawnProgram(name, [
        'nsenter',
        `--net=/run/netns/${prefix}${host}`,
        node,
        gfs,
        ...words,
      ]);
    };

    const cluster = workspace.write(
      'cluster.toml',
      `[cluster]\nmasters = ["${addressOf(MASTER_HOST)}:5000"]\n[master]\nhost = "${addressOf(MASTER_HOST)}"\nport = 5000\nchunk_size = "1MiB"\ndata = "master"\n`,
    );
    on(MASTER_HOST, 'master', ['master', '--config', cluster]);
    for (let host = 2; host <= 4; host++) {
      const file = workspace.write(
        `chunkserver-${host}.toml`,
        `[cluster]\nmasters = ["${addressOf(MASTER_HOST)}:5000"]\n[chunk_server]\nhost = "${addressOf(host)}"\nport = 5001\ndisks = ["disk-${host}"]\nrack = "r${host}"\nlocation = [${host}, 0]\nreserved = "16MiB"\n`,
      );
      on(host, `chunkserver-${host}`, ['chunkserver', '--config', file]);
    }
    const mountPoints = [5, 6].map((host) => {
      const directory = workspace.makeDirectory(`mnt-${host}`);
      on(host, `mount-${host}`, ['mount', '--foreground', '--config', cluster, directory]);
      return directory;
    });
    await eventually(async () => {
      const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
      return mountPoints.every((directory) => mounts.includes(` ${directory} `)) || 'not all are mounted';
    }, 30_000);
    await eventually(async () => {
      const { servers } = await queryStatus([{ host: addressOf(MASTER_HOST), port: 5000 }]);
      return servers.filter(({ state }) => state === 'alive').length === 3 || 'not all are alive';
    }, 20_000);

    const [first, second] = mountPoints as [string, string];
    const written = await runCommand(['/bin/bash', '-c', 'head -c 3300000 /dev/urandom > f && md5sum < f'], {
      cwd: first,
    });
    t.equal(written.status, 0, written.stderr);
    const read = await runCommand(['/bin/bash', '-c', 'md5sum < f'], { cwd: second });
    t.equal(read.stdout, written.stdout, 'what one host wrote, another reads');

    const appends = await Promise.all(
      [first, second].map((cwd, mount) =>
        runCommand(
          ['/bin/bash', '-c', `for i in $(seq 200); do echo "mount ${mount} line $i" >> log; done`],
          { cwd },
        ),
      ),
    );
    t.same(
      appends.map(({ status }) => status),
      [0, 0],
    );
    const lines = await runCommand(['/bin/bash', '-c', 'sort log | uniq | wc -l; wc -l < log'], {
      cwd: second,
    });
    t.equal(lines.stdout, '400\n400\n', 'appends of two hosts to one file: no line lost, none twice');
  },
);
