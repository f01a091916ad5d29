/** A cluster over several hosts: what one writes another reads, and appends of two are whole. */
import t from 'tap';
import { cannotMakeHosts, HostCluster } from './host-cluster.js';
import { runCommand } from './processes.js';

// Each command has its own time limit.
t.setTimeout(0);

t.test(
  'hosts: master, chunkservers and two mounts on hosts of their own, from TOML files',
  { skip: cannotMakeHosts() },
  async (t) => {
    const cluster = await HostCluster.start(t, 2);
    const [first, second] = cluster.mountPoints as [string, string];
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
