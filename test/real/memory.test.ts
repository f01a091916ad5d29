/**
 * The memory of a mount is bounded whatever the load: `npm run test:memory` copies 10 GiB, this much less.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { cannotMount, RealCluster } from './cluster.js';
import { type RealProcess, runCommand } from './processes.js';

t.setTimeout(0);

const MAX_RESIDENT_MIB = 256;
/** Of the large file. */
const copyMib = Number(process.env.GFS_COPY_MIB ?? 192);
/** At once. */
const FILES = 64;
/** Of each of them. */
const fileMib = Math.max(3, copyMib / 128);
const COMMAND_MS = 60_000 + copyMib * 1_000;

/** The most that was resident since the process began. */
function peakMib({ pid }: RealProcess): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return Number(kib) / 1024;
}

t.test(
  'memory: a mount stays below 256 MiB over a large copy and 64 files at once',
  {
    skip: cannotMount,
  },
  async (t) => {
    // How many replicas there are makes no difference to a mount, but to the disk of whoever copies 10 GiB.
    const set = copyMib > 1024 ? ['master.replication_factor=1'] : [];
    const cluster = await RealCluster.start(t, { chunkSize: '64MiB', set });
    const reader = await cluster.addMount('reader');
    const source = cluster.workspace.path('source');
    const shell = async (directory: string, line: string) => {
      const options = { cwd: directory, timeoutMs: COMMAND_MS };
      const { status, stderr } = await runCommand(['/bin/bash', '-c', line], options);
      t.equal(status, 0, `${line}: ${stderr}`);
    };
    const bounded = (process: RealProcess, what: string) => {
      const peak = peakMib(process);
      t.ok(peak <= MAX_RESIDENT_MIB, `${what}: ${peak.toFixed(0)} MiB`);
      t.comment(`${what}: ${peak.toFixed(0)} MiB`);
    };
    const each = (line: string) =>
      `pids=; for i in $(seq ${FILES}); do ${line} & pids="$pids $!"; done; for p in $pids; do wait $p || exit; done`;
    const dd = 'dd status=none bs=1M';

    await shell(cluster.workspace.directory, `truncate -s ${copyMib}M source`);
    await shell(cluster.mountPoint, `cp --sparse=never ${source} copy && sync copy`);
    bounded(cluster.mount, 'written by one');
    await shell(cluster.mountPoint, each(`${dd} if=/dev/zero of=f$i count=${fileMib} conv=fsync`));
    bounded(cluster.mount, `written by ${FILES}`);
    const readers = cluster.workspace.path('reader');
    await shell(readers, `${dd} if=copy of=/dev/null`);
    bounded(reader, 'read by one');
    await shell(readers, each(`${dd} if=f$i of=/dev/null`));
    bounded(reader, `read by ${FILES}`);
    await shell(readers, 'rm copy f*');
  },
);
