/** Random operations by seed on a local directory and on a mount, side by side (oracle.py). */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { RealCluster } from '../real/cluster.js';
import { repositoryPath } from '../repository.js';

/**
 * @param second another mount of the cluster, which the operations go through in turn
 * @returns what it printed, and its exit code: 0 when both sides behaved the same
 */
export async function compareWithLocalDisk(
  cluster: RealCluster,
  words: readonly string[],
  second?: string,
): Promise<{ readonly code: number; readonly output: string }> {
  const oracle = cluster.workspace.path('oracle');
  const tested = join(cluster.mountPoint, 'tested');
  // Both are entered by another user too.
  for (const directory of [oracle, tested]) {
    await mkdir(directory, { recursive: true });
    await chmod(directory, 0o777);
  }
  const program = repositoryPath('test/oracle/oracle.py');
  const through = second === undefined ? [] : ['--second', join(second, 'tested')];
  const child = spawn('python3', [program, oracle, tested, ...through, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const take = (text: Buffer) => {
    output += text.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, output };
}
