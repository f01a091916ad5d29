/** Looking into a cluster of real processes: fsck, checkfile, dirinfo, status, trace, metrics, backup. */
import { cp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { repositoryPath } from '../repository.js';
import { cannotMount, eventually, RealCluster } from './cluster.js';

t.setTimeout(0);

async function metricsOf(addressFile: string): Promise<string> {
  const { metricsPort } = JSON.parse(await readFile(addressFile, 'utf8')) as { metricsPort: number };
  return (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
}

t.test(
  'command: fsck, checkfile, dirinfo and status tell a healthy cluster from one that lacks a server',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, {
      chunkSize: '1MiB',
      set: ['master.metrics_port=0', 'client.metrics_port=0'],
    });
    const at = (name: string) => join(cluster.mountPoint, name);
    await cluster.shell(
      'mkdir -p d/e; head -c 2500000 /dev/urandom > d/a; echo x > d/e/b; truncate -s 5G d/hole; ln -s a d/l; echo y > gone; rm gone',
    );
    const checked = await cluster.gfs(['checkfile', at('d/a'), at('d/e/b')]);
    t.match(checked.stdout, /chunks with 3 copies: 3[\s\S]*chunks with 3 copies: 1/, checked.stderr);
    t.equal(checked.status, 0);
    const info = await cluster.gfs(['dirinfo', '--json', at('d')]);
    t.match(JSON.parse(info.stdout), [
      { files: 3, directories: 2, others: 1, chunks: 5, healthy: 5, lost: 0 },
    ]);
    const well = await cluster.gfs(['fsck', '--master', cluster.address]);
    t.match(well.stdout, /deleted files +1[\s\S]*every chunk has its copies/, well.stderr);
    t.equal(well.status, 0);
    t.match((await cluster.gfs(['fileinfo', at('d/hole')])).stdout, /a hole of \d+ chunks/);
    t.equal((await cluster.gfs(['fsck', '--master', '127.0.0.1:1'])).status, 8);
    t.equal((await cluster.gfs(['checkfile', at('nothing')])).status, 1);

    const traced = await cluster.gfs(['trace', '--json', '--daemon', cluster.address, '--method', 'unlink']);
    const unlinked = JSON.parse(traced.stdout.trim()) as object;
    t.match(unlinked, { method: 'unlink', outcome: 'OK', request: { name: 'gone' } }, traced.stderr);
    await eventually(async () => {
      const files = await cluster.gfs(['trace', cluster.workspace.path('master/trace/trace-00000001')]);
      return /registerClient/.test(files.stdout) || files.stderr;
    }, 10_000);

    const master = await metricsOf(cluster.workspace.path('master.address.json'));
    for (const name of [
      'heartbeat_late_ms',
      'log_flush_ms',
      'mutation_ms',
      'event_loop_delay_ms',
      'lock_wait_ms',
    ])
      t.match(master, new RegExp(`gfs_master_${name}_bucket`), name);
    t.match(master, /gfs_master_requests_total\{method="create"\} [1-9]/);
    t.match(master, /gfs_master_deleted_files 1/);
    const mount = await metricsOf(cluster.workspace.path('mount-mnt.address.json'));
    t.match(mount, /gfs_client_operation_ms_bucket\{le="1",operation="create"\}/);
    t.match(mount, /gfs_client_written_bytes_total 2500/);

    const manual = await readFile(repositoryPath('docs/metrics.md'), 'utf8');
    for (const [, name] of `${master}\n${mount}`.matchAll(/^# HELP (gfs_\w+)/gm))
      t.ok(manual.includes(`\`${name}`), `docs/metrics.md has ${name}`);

    const backed = await cluster.gfs([
      ...[
        'config',
        'backup',
        '--json',
        '--data',
        cluster.workspace.path('master'),
        cluster.workspace.path('backups'),
      ],
    ]);
    const { directory } = JSON.parse(backed.stdout) as { directory: string };
    t.strictSame((await readdir(directory)).sort(), [
      'MANIFEST.json',
      'effective.toml',
      'log',
      'superblock.json',
    ]);

    for (const server of cluster.chunkservers) await server.kill();
    await eventually(async () => {
      const { status, stdout } = await cluster.gfs(['fsck', at('d')]);
      return (status === 4 && /d\/a: chunk 2 \([0-9a-f]+\): LOST/.test(stdout)) || `${status} ${stdout}`;
    }, 10_000);
    t.match((await cluster.gfs(['status', cluster.address])).stdout, /chunks +.* LOST/);
    t.match(
      (await cluster.gfs(['checkfile', at('d/e/b')])).stdout,
      /chunks with 0 copies: 1 +\(the goal is 3\)/,
    );

    // What was backed up is a master's data directory again.
    const restored = cluster.workspace.path('restored');
    await cp(directory, restored, { recursive: true });
    await cluster.mount.stop();
    await cluster.master.kill();
    const again = cluster.workspace.spawn('restored', ['master', '--data', restored, '--port', '0']);
    const { port } = await again.started();
    const found = await cluster.gfs(['dirinfo', '--json', '--master', `127.0.0.1:${port}`, '/d']);
    t.match(JSON.parse(found.stdout), [{ files: 3, chunks: 5 }], found.stderr);
  },
);
