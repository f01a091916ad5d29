/** Deleted files and `.gfs`, through a mount and by command. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { cannotMount, eventually, RealCluster } from './cluster.js';

t.setTimeout(0);

for (const binding of ['kernel', 'fuse-native'] as const) {
  t.test(
    `${binding}: .gfs/trash: look at, read, move out to restore, remove to purge`,
    { skip: cannotMount },
    async (t) => {
      const cluster = await RealCluster.start(t, { chunkSize: '1MiB', mount: ['-o', `binding=${binding}`] });
      const check = async (line: string, expected: string | RegExp) => {
        const { stdout, stderr } = await cluster.shell(line);
        t.match(stdout + stderr, expected, line);
      };
      await check('ls -a | tr "\\n" " "; ls .gfs | tr "\\n" " "', /^\. \.\. config oplog stats trash $/);
      await check(
        'head -c 2500000 /dev/urandom > a; chmod 640 a; md5sum < a > sum; rm a; ls .gfs/trash',
        /^\d{8}-\d{6}\.\d+\.a\n$/,
      );
      await check('md5sum < .gfs/trash/*.a | diff - sum && stat -c %A .gfs/trash/*.a', /^-rw-------\n$/);
      await check(
        'mkdir d; mv .gfs/trash/*.a d/back && md5sum < d/back | diff - sum; stat -c %a d/back; ls .gfs/trash',
        /^640\n$/,
      );
      await check('echo old > x; echo new > y; mv y x; cat .gfs/trash/*.x; touch z', /^old\n$/);
      await check(
        'mv -T .gfs/trash/*.x z 2>&1; cat x',
        binding === 'kernel' ? /File exists[\s\S]*new/ : /new/,
      );
      await check('rm .gfs/trash/*.x; ls .gfs/trash', /^$/);
      await check(
        'getfattr --only-values -n user.gfs.deleted_at x; rm x; getfattr --only-values -n user.gfs.deleted_at .gfs/trash/*.x',
        /No such attribute[\s\S]*^20\d\d-\d\d-\d\dT[\d:.]+Z$|20\d\d-/m,
      );
      await check('setfattr -n user.gfs.undelete -v d/x2 .gfs/trash/*.x && cat d/x2', /^new\n$/);
      await check('rm d/x2; setfattr -n user.gfs.undelete -v "" .gfs/trash/*.x2 && cat d/x2', /^new\n$/);
      for (const line of [
        'mkdir .gfs',
        'rmdir .gfs',
        'mv d .gfs/',
        'touch .gfs/x',
        'echo x > .gfs/stats',
        'mv d .gfs2 && mv .gfs2 d && rm -r .gfs/trash',
      ])
        t.not((await cluster.shell(line)).status, 0, line);
      await check('cat .gfs/stats', /uptime_seconds[\s\S]*operation +count[\s\S]*create +\d/);
      await check('cat .gfs/config', /"binding": "(kernel|fuse-native)"/);
    },
  );
}

t.test(
  '.gfs/oplog: a reader follows the operations as they happen, and can be interrupted',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t);
    const reader = spawn('cat', [join(cluster.mountPoint, '.gfs/oplog')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let seen = '';
    reader.stdout.on('data', (bytes: Buffer) => {
      seen += bytes.toString();
    });
    // What happens before it is open for reading is not kept.
    let made = 0;
    await eventually(async () => {
      await cluster.shell(`mkdir made${made++}`);
      return (
        /\[uid:0,gid:0,pid:\d+\] mkdir \(1,"made\d+",0\d+\): OK <0\.\d{6}>\n/.test(seen) || seen.slice(-200)
      );
    }, 20_000);
    const ended = once(reader, 'exit');
    reader.kill('SIGINT');
    t.same(await ended, [null, 'SIGINT']);
  },
);

t.test(
  '.gfs: an ordinary user sees, restores and purges what is his, and nothing else',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { mount: ['-o', 'allow_other'] });
    await cluster.shell('chmod 777 .; echo root > r; rm r');
    const user = async (line: string) => {
      const result = await cluster.shell(
        `setpriv --reuid 65534 --regid 65534 --clear-groups bash -c '${line}'`,
      );
      return { status: result.status, text: result.stdout + result.stderr };
    };
    t.match((await user('echo mine > m; rm m; ls .gfs/trash')).text, /^\S+\.m\n$/);
    t.match(
      (await user('cat .gfs/stats; cat .gfs/oplog')).text,
      /uptime_seconds[\s\S]*oplog: Permission denied/,
    );
    const [root] = (await cluster.shell('ls .gfs/trash')).stdout.split('\n');
    for (const command of [`cat .gfs/trash/${root}`, `mv .gfs/trash/${root} r`, `rm -f .gfs/trash/${root}`])
      t.not((await user(command)).status, 0, command);
    t.match(
      (await user('mv .gfs/trash/*.m back && cat back && rm back && rm .gfs/trash/*.back && ls .gfs/trash'))
        .text,
      /^mine\n$/,
    );
    t.match((await cluster.shell('ls .gfs/trash')).stdout, /^\S+\.r\n$/);
  },
);

t.test(
  'command: gfs trash and gfs undelete list, restore and purge, and say what to do next',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t);
    const at = (name: string) => join(cluster.mountPoint, name);
    await cluster.shell('mkdir d; echo one > d/a; rm d/a; echo two > d/a; rm d/a; echo three > d/b; rm d/b');
    const listed = await cluster.gfs(['trash', 'list', '--json', at('')]);
    const files = JSON.parse(listed.stdout) as { id: number; path: string; expires: string }[];
    t.strictSame(
      files.map(({ path }) => path),
      ['/d/a', '/d/a', '/d/b'],
      listed.stderr,
    );
    t.match(
      (await cluster.gfs(['trash', 'list', '--master', cluster.address])).stdout,
      /ID +DELETED[\s\S]*\/d\/b/,
    );
    const newest = await cluster.gfs(['undelete', at('d/a')]);
    t.match(newest.stderr, /2 deleted files had this path; taking the newest/);
    t.equal((await cluster.shell('cat d/a')).stdout, 'two\n');
    const taken = await cluster.gfs(['undelete', String(files[0]?.id), '--master', cluster.address]);
    t.equal(taken.status, 1);
    t.match(taken.stderr, /taken \(EEXIST\)[\s\S]*--to PATH/);
    t.equal((await cluster.gfs(['undelete', '--to', at('d/older'), String(files[0]?.id)])).status, 0);
    t.equal((await cluster.shell('cat d/older; rm -r d')).stdout, 'one\n');
    const gone = await cluster.gfs(['undelete', at('d/b')]);
    t.match(gone.stderr, /no directory \/d \(ENOENT\)[\s\S]*--parents/);
    t.equal((await cluster.gfs(['trash', 'restore', '--parents', at('d/b')])).status, 0);
    t.equal((await cluster.shell('cat d/b')).stdout, 'three\n');
    const purged = await cluster.gfs(['trash', 'purge', '--all', '--json', '--master', cluster.address]);
    t.same(JSON.parse(purged.stdout), { purged: 2 }, purged.stderr);
    t.match((await cluster.gfs(['trash', 'list', at('')])).stdout, 'No deleted file is kept.');
    t.equal((await cluster.gfs(['trash', 'purge', '--master', cluster.address])).status, 2);
    t.equal((await cluster.gfs(['undelete', at('never')])).status, 1);
  },
);
