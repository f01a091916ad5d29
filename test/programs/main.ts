/**
 * `npm run test:programs [-- NAME…]`: real programs on the mount of a cluster with three chunkservers. Each is a
 * shell script beside this file, with MNT (empty, on the mount), WORK (empty, not on it) and REPOSITORY; what it
 * says is shown when it fails.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { RealCluster } from '../real/cluster.js';
import { repositoryPath } from '../repository.js';

const TIMEOUT_SECONDS = 600;

async function run(cluster: RealCluster, name: string): Promise<boolean> {
  const mounted = join(cluster.mountPoint, name);
  const work = cluster.workspace.path(name);
  mkdirSync(mounted);
  mkdirSync(work);
  const startedAt = performance.now();
  // timeout(1) ends all that the script has started.
  const script = join(repositoryPath('test/programs'), `${name}.sh`);
  const child = spawn('timeout', ['-k', '10', String(TIMEOUT_SECONDS), 'bash', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: work,
    env: { ...process.env, MNT: mounted, WORK: work, REPOSITORY: repositoryPath('.') },
  });
  let output = '';
  const take = (text: Buffer) => {
    output += text.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const [code] = (await once(child, 'close')) as [number | null];
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)\n`);
  if (code !== 0) process.stdout.write(`${output.replaceAll(/^/gm, '    ')}\n`);
  return code === 0;
}

const all = readdirSync(repositoryPath('test/programs'))
  .filter((name) => name.endsWith('.sh'))
  .map((name) => name.slice(0, -'.sh'.length));
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`no program ${unknown.join(', ')}; there are ${all.join(', ')}`);
const removals: (() => unknown)[] = [];
let failed = 0;
try {
  const cluster = await RealCluster.start(
    { teardown: (remove) => removals.push(remove) },
    { chunkSize: '4MiB', mount: ['-o', 'suid,dev'] },
  );
  for (const name of wanted.length > 0 ? wanted : all) if (!(await run(cluster, name))) failed++;
} finally {
  for (const remove of removals) await remove();
}
process.stdout.write(failed === 0 ? 'all passed\n' : `${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
