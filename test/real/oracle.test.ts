/** The mount beside the local disk: what random operations do must be the same on both. */
import t from 'tap';
import { compareWithLocalDisk } from '../oracle/run.js';
import { cannotMount, RealCluster } from './cluster.js';

t.setTimeout(600_000);
const skip = cannotMount !== false ? cannotMount : process.geteuid?.() === 0 ? false : 'needs root';

t.test('oracle: random operations do what they do on the local disk', { skip }, async (t) => {
  const cluster = await RealCluster.start(t, { mount: ['-o', 'suid,dev'] });
  const { code, output } = await compareWithLocalDisk(cluster, [
    ...['--seed', '1', '--count', '400', '--histories', '10'],
    ...['--seconds', '6', '--minimise', '20'],
  ]);
  t.equal(code, 0, output);
  t.match(output, /^fuse\.gfs beside (?!fuse)\w+/, 'it is known beside what');
});
