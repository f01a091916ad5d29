/**
 * `npm run test:oracle -- --seed N --count C [--histories H] [--seconds S] [--without NAME,…]
 * [--second]`: a cluster with a mount, or two, and random operations on it and on the local disk. `--help` tells the rest.
 */
import { RealCluster } from '../real/cluster.js';
import { compareWithLocalDisk } from './run.js';

const removals: (() => unknown)[] = [];
try {
  const mount = ['-o', 'suid,dev'];
  const cluster = await RealCluster.start({ teardown: (run) => removals.push(run) }, { mount });
  const words = process.argv.slice(2);
  const isSecond = words.includes('--second');
  const second = isSecond ? await cluster.addMount('second', mount) : undefined;
  const { code, output } = await compareWithLocalDisk(
    cluster,
    words.filter((word) => word !== '--second'),
    isSecond ? cluster.workspace.path('second') : undefined,
  );
  process.stdout.write(output);
  // Whether a mount was cut off from the master in between is said there.
  if (code !== 0)
    for (const { name, log } of second === undefined ? [cluster.mount] : [cluster.mount, second])
      process.stdout.write(`${name}:\n${log}`);
  process.exitCode = code;
} finally {
  for (const remove of removals) await remove();
}
