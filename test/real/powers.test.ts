/** Snapshot, record append and a look at the chunks: by extended attribute, by ioctl from C, by command. */
import { join } from 'node:path';
import t from 'tap';
import { repositoryPath } from '../repository.js';
import { cannotMount, RealCluster } from './cluster.js';
import { runCommand, type Workspace } from './processes.js';

t.setTimeout(0);

const BINDINGS = ['kernel', 'fuse-native'] as const;

/** The examples compiled, as a user would. */
async function compileExamples(workspace: Workspace): Promise<{ append: string; snapshot: string }> {
  const compiled = { append: workspace.path('append'), snapshot: workspace.path('snapshot') };
  const flags = ['-O2', '-Wall', '-Werror', '-I', repositoryPath('fuse-client/include')];
  for (const [name, output] of Object.entries(compiled)) {
    const source = repositoryPath(`examples/c/${name}.c`);
    const { status, stderr } = await runCommand(['gcc', ...flags, '-o', output, source]);
    if (status !== 0) throw new Error(stderr);
  }
  return compiled;
}

t.test(
  'powers: a right that comes from an ACL or a supplementary group counts',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t);
    const as = async (line: string, groups = '--clear-groups') => {
      const command = `setpriv --reuid 2001 --regid 2001 ${groups} sh -c '${line}'`;
      return (await cluster.shell(command)).status;
    };
    const snapshot = (name: string) => `setfattr -n user.gfs.snapshot -v ${name} d/f`;
    await cluster.shell('mkdir -m 0770 d && touch d/f && chmod 0660 d/f && chgrp 2999 d d/f');
    t.equal(await as(snapshot('one'), '--groups 2500,2999'), 0);
    t.not(await as(snapshot('two')), 0);
    // u::rwx, u:2001:rwx, g::---, m::rwx, o::---, as setfacl(1) would.
    const acl = '0x0200000001000700ffffffff02000700d107000004000000ffffffff10000700ffffffff20000000ffffffff';
    t.equal((await cluster.shell(`setfattr -n system.posix_acl_access -v ${acl} d d/f`)).status, 0);
    t.equal(await as(snapshot('three')), 0);
    t.equal((await cluster.shell('ls d')).stdout, 'f\none\nthree\n');
  },
);

t.test(
  'copy_file_range: cp copies metadata alone, and the copy is independent',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
    const chunks = async (name: string) => {
      const { stdout } = await cluster.gfs(['fileinfo', '--json', `${cluster.mountPoint}/${name}`]);
      return (JSON.parse(stdout).chunks as { handle: number }[]).map(({ handle }) => handle);
    };
    const line = async (text: string) => {
      const { status, stderr } = await cluster.shell(text);
      t.equal(status, 0, `${text}: ${stderr}`);
    };
    await line('head -c 5000000 /dev/urandom > a && cp a b && cmp a b');
    t.equal((await chunks('a')).length, 5);
    t.strictSame(await chunks('b'), await chunks('a'), 'no data was moved');
    await line(
      'cp a c && sha256sum < a > sum && printf X | dd of=a bs=1 seek=1048577 conv=notrunc status=none',
    );
    const [, changed, ...others] = await chunks('a');
    t.not(changed, (await chunks('b'))[1], 'a write copies one chunk');
    t.strictSame(others, (await chunks('b')).slice(2));
    await line('sha256sum < b | cmp - sum && rm a && sha256sum < c | cmp - sum');
  },
);

for (const binding of BINDINGS) {
  t.test(`${binding}: snapshot and append by extended attribute`, { skip: cannotMount }, async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB', mount: ['-o', `binding=${binding}`] });
    const check = async (line: string, expected: string | RegExp) => {
      const { stdout, stderr } = await cluster.shell(line);
      t.match(stdout + stderr, expected, line);
    };
    await check(
      'head -c 3500000 /dev/urandom > a && md5sum < a > sum && setfattr -n user.gfs.snapshot -v a.snap a && cmp a a.snap',
      /^$/,
    );
    await check(
      'printf changed | dd of=a bs=1 seek=1048570 conv=notrunc status=none && md5sum < a.snap | diff - sum && cmp -s a a.snap; echo $?',
      /^1\n$/,
    );
    await check(
      'mkdir -p tree/x && echo one > tree/x/f && ln -s f tree/x/l && setfattr -n user.gfs.snapshot -v copy tree && diff -r tree copy && echo two >> tree/x/f && cat copy/x/f && rm -r tree && cat copy/x/l',
      /^one\none\n$/,
    );
    await check(
      'mkdir sub && setfattr -n user.gfs.snapshot -v ../a2 copy/x/f; setfattr -n user.gfs.snapshot -v "$PWD/sub/f" copy/x/f && cat sub/f copy/a2',
      /one\n.*one/s,
    );
    await check(
      'touch log && setfattr -n user.gfs.append -v first log && setfattr -n user.gfs.append -v second log && cat log && getfattr --only-values -n user.gfs.append.offset log',
      /^firstsecond5$/,
    );
    await check(
      'getfattr --only-values -n user.gfs.chunks a',
      /"handle":[0-9]+.*"version":[0-9]+.*"replicas":\[\{.*\},\{.*\},\{/,
    );
    await check('getfattr -d -m - a; cp --preserve=xattr a a3 && getfattr -d -m - a3', /^$/);
  });

  t.test(`${binding}: what is asked wrongly is refused by name`, { skip: cannotMount }, async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB', mount: ['-o', `binding=${binding}`] });
    const refused = async (line: string, message: string) => {
      const { status, stderr } = await cluster.shell(line);
      t.not(status, 0, line);
      t.match(stderr, message, line);
    };
    await cluster.shell('mkdir -p d/e; echo x > f; echo y > g');
    await refused('setfattr -n user.gfs.snapshot -v g f', 'File exists');
    await refused('setfattr -n user.gfs.snapshot -v d/e/copy d', 'Invalid argument');
    await refused('setfattr -n user.gfs.snapshot -v /tmp/elsewhere f', 'Invalid cross-device link');
    await refused('setfattr -n user.gfs.snapshot -v nowhere/f f', 'No such file');
    await refused('setfattr -n user.gfs.unknown -v 1 f', 'Operation not supported');
    await refused('getfattr -n user.gfs.unknown f', 'Operation not supported');
    await refused('getfattr -n user.gfs.append.offset f', 'No such attribute');
    await refused(
      `python3 -c 'import os; os.setxattr("f", "user.gfs.append", b"x" * 65537)'`,
      'Argument list too long',
    );
    await refused(`python3 -c 'import os; os.setxattr("d", "user.gfs.append", b"x")'`, 'Is a directory');
    await refused(
      `python3 -c 'import fcntl; fcntl.ioctl(open("f"), 0x5a01, 0)'`,
      binding === 'kernel' ? 'Inappropriate ioctl' : 'OSError',
    );
  });

  t.test(`${binding}: snapshot and append by ioctl, from C`, { skip: cannotMount }, async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB', mount: ['-o', `binding=${binding}`] });
    const { append, snapshot } = await compileExamples(cluster.workspace);
    const first = await cluster.shell(
      `touch log && printf hello | ${append} log && printf world | ${append} log && cat log`,
    );
    t.equal(first.stdout.replaceAll(/\s/g, ' ').trim(), '0 5 helloworld', first.stderr);
    const long = await cluster.shell(
      `head -c 200000 /dev/urandom > r && touch long && ${append} long < r && cmp r long`,
    );
    t.equal(long.stdout.trim(), '0', long.stderr);
    const copied = await cluster.shell(`${snapshot} r copy && cmp r copy`);
    t.equal(copied.status, 0, copied.stderr);
    const exists = await cluster.shell(`${snapshot} r copy`);
    t.match(exists.stderr, 'File exists');
  });
}

t.test(
  'command: gfs snapshot, append, fileinfo and status do what the mount does',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
    const at = (name: string) => join(cluster.mountPoint, name);
    await cluster.shell('head -c 2500000 /dev/urandom > a; touch log');
    const snapshot = await cluster.gfs(['snapshot', at('a'), at('b')]);
    t.equal(snapshot.status, 0, snapshot.stderr);
    t.equal((await cluster.shell('cmp a b')).status, 0);
    const appended = await cluster.gfs(['append', '--offset', at('log'), 'a record']);
    t.equal(appended.stdout.trim(), '0', appended.stderr);
    const piped = await cluster.gfs(['append', '--offset', at('log')], { input: 'another' });
    t.equal(piped.stdout.trim(), '8', piped.stderr);
    t.equal((await cluster.shell('cat log')).stdout, 'a recordanother');
    const info = await cluster.gfs(['fileinfo', '--json', at('a')]);
    t.match(info.stdout, /"handle"/, info.stderr);
    const status = await cluster.gfs(['status', '--json', cluster.address]);
    const told = JSON.parse(status.stdout === '' ? '{}' : status.stdout) as { servers?: unknown[] };
    t.equal(told.servers?.length, 3, status.stderr);
    const again = await cluster.gfs(['snapshot', at('a'), at('b')]);
    t.not(again.status, 0);
    t.match(again.stderr, /EEXIST/);
  },
);
