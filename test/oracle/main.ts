/**
 * `npm run test:oracle -- --seed N --count C [--histories H] [--seconds S] [--without NAME,…]`: a cluster with
 * a mount, and random operations on it and on the local disk. `--help` tells the rest.
 */
import { RealCluster } from '../real/cluster.js';
import { compareWithLocalDisk } from './run.js';

const removals: (() => unknown)[] = [];
try {
  const cluster = await RealCluster.start(
    { teardown: (run) => removals.push(run) },
    { mount: ['-o', 'suid,dev'] },
  );
  const { code, output } = await compareWithLocalDisk(cluster, process.argv.slice(2));
  process.stdout.write(output);
  process.exitCode = code;
} finally {
  for (const remove of removals) await remove();
}
