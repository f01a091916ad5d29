/** What was looked at before is looked at again without asking the master (docs/decisions/0017). */
import t from 'tap';
import { cannotMount, eventually, RealCluster } from './cluster.js';

t.setTimeout(180_000);

t.test(
  'caching: warm stat, ls -lR, find and git status ask the master nothing',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { set: ['client.metrics_port=0'] });
    const { metricsPort } = await cluster.mount.started();
    /** What the master was asked, by method; but times of access, which are told a second later, and the room that
     * there is, which find(1) asks for each time and the mount once a second. */
    const calls = async (): Promise<Map<string, number>> => {
      const page = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      const lines = page.matchAll(/^gfs_client_master_calls_total\{method="(\w+)"\} (\d+)$/gm);
      return new Map(
        [...lines]
          .map(([, method, count]): [string, number] => [String(method), Number(count)])
          .filter(([method]) => method !== 'noteAccess' && method !== 'statCluster'),
      );
    };
    const shell = async (line: string): Promise<string> => {
      const { status, stdout, stderr } = await cluster.shell(line, { timeoutMs: 120_000 });
      if (status !== 0) throw new Error(`${line}: ${stderr}`);
      return stdout;
    };
    await shell(`
    git init -q -b main tree && cd tree
    for d in $(seq 12); do mkdir d$d; for f in $(seq 25); do echo $d $f > d$d/f$f; done; done
    git add . && git -c user.name=A -c user.email=a@b commit -qm first
  `);
    const lines = {
      stat: 'find tree -exec stat {} +',
      ls: 'ls -lR tree',
      find: 'find tree -newermt 2000-01-01 -size -1M',
      // Files that are as old as the index are read again each time.
      git: 'cd tree && git --no-optional-locks status --porcelain',
    };
    await eventually(async () => {
      // Refreshes the index. A second later it is newer than every file.
      await shell('cd tree && git status --porcelain');
      await shell(lines.git);
      const before = await calls();
      await shell(lines.git);
      const asked = [...(await calls())].filter(([method, count]) => before.get(method) !== count);
      return asked.length === 0 || JSON.stringify(asked);
    }, 30_000);
    for (const [name, line] of Object.entries(lines)) {
      // On a machine that stands still for long the session ends, and with it what was promised: then once more.
      await eventually(async () => {
        const first = await shell(line);
        const before = await calls();
        const again = await shell(line);
        const asked = [...(await calls())].filter(([method, count]) => before.get(method) !== count);
        if (name !== 'stat') t.equal(again, first, name);
        return asked.length === 0 || `${name}: ${JSON.stringify(asked)}`;
      }, 30_000);
    }
    // So that it is known that calls are counted at all.
    const before = await calls();
    await shell('touch tree/new');
    t.not((await calls()).get('create'), before.get('create'));
  },
);
