/** Ordinary programs on a mounted cluster of real processes, on both bindings. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cannotMount, RealCluster } from './cluster.js';
import { runCommand } from './processes.js';

const BINDINGS = ['kernel', 'fuse-native'] as const;
type BindingName = (typeof BINDINGS)[number];

t.setTimeout(0);

/** Enough for CI; `TEST_TREE_FILES=5000` for a large one. */
const TREE_FILES: Readonly<Record<BindingName, number>> = { kernel: 800, 'fuse-native': 200 };

function start(t: Test, binding: BindingName): Promise<RealCluster> {
  return RealCluster.start(t, { chunkSize: '4MiB', mount: ['-o', `binding=${binding}`] });
}

/** A tree of real files with links and odd modes, made once; returns its path. */
async function makeTree(cluster: RealCluster, files: number): Promise<string> {
  const tree = cluster.workspace.makeDirectory('tree');
  const script = `
    set -e
    find /usr/include -type f | LC_ALL=C sort | head -${files} | tar cf - -T - 2>/dev/null | tar xf - -C ${tree}
    cd ${tree}
    ln -s usr/include/stdio.h to-a-file; ln -s nowhere dangling; ln -s usr to-a-directory
    mkdir -m 1777 sticky; mkdir -m 2750 setgid; mkdir empty
    echo a > "name with spaces"; echo b > $'new\\nline'; echo c > "$(printf 'x%.0s' $(seq 255))"
    echo script > script; chmod 750 script; echo secret > secret; chmod 600 secret; chown 1234:4321 secret
    touch -d '1969-07-20 20:17:40.123456789 UTC' before-the-epoch
    touch -d '2040-01-01 00:00:00.5 UTC' after-2038
    ln secret hard-link; : > nothing; mkfifo fifo
    head -c 5000000 /dev/urandom > large
  `;
  const { status, stderr } = await runCommand(['/bin/bash', '-c', script], { timeoutMs: 120_000 });
  if (status !== 0) throw new Error(stderr);
  return tree;
}

/** Everything that `find` can tell of a tree, and every byte; two equal trees give equal text. */
async function describeTree(directory: string): Promise<string> {
  const script = `
    find . -printf '%P %y %m %U %G %s %T@ %l %n\\0' | grep -zv '^ ' | awk -v RS='\\0' -v ORS='\\0' '{
      if ($0 ~ / d [0-9]+ [0-9]+ [0-9]+ [0-9]+ /) sub(/ [0-9]+ ([-0-9.]+)  [0-9]+$/, " dir"); print }' | LC_ALL=C sort -z
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  `;
  const { status, stdout, stderr } = await runCommand(['/bin/bash', '-c', script], {
    cwd: directory,
    timeoutMs: 120_000,
  });
  if (status !== 0 || stderr !== '') throw new Error(`${directory}: ${stderr}`);
  return stdout;
}

for (const binding of BINDINGS) {
  t.test(
    `${binding}: a tree copied in by cp -a and by tar comes back identical, also after kill -9 of all`,
    { skip: cannotMount },
    async (t) => {
      const cluster = await start(t, binding);
      const tree = await makeTree(cluster, Number(process.env['TEST_TREE_FILES'] ?? TREE_FILES[binding]));
      const expected = await describeTree(tree);
      const copied = await cluster.shell(`cp -a ${tree} copied`, { timeoutMs: 200_000 });
      t.same(copied, { status: 0, stdout: '', stderr: '' });
      const untarred = await cluster.shell(
        `mkdir untarred && tar --format=posix -cf - -C ${tree} . | tar --warning=no-timestamp -xpf - -C untarred`,
        { timeoutMs: 200_000 },
      );
      t.same(untarred, { status: 0, stdout: '', stderr: '' });
      const compare = async () => {
        for (const copy of ['copied', 'untarred']) {
          t.equal(await describeTree(join(cluster.mountPoint, copy)), expected, copy);
        }
        t.same(
          await cluster.shell(`diff -r --no-dereference --exclude=fifo ${tree} copied`, {
            timeoutMs: 120_000,
          }),
          {
            status: 0,
            stdout: '',
            stderr: '',
          },
        );
      };
      await compare();
      await cluster.killAll();
      await cluster.startAll();
      await compare();
    },
  );

  t.test(`${binding}: the tools of every day work`, { skip: cannotMount }, async (t) => {
    const cluster = await start(t, binding);
    const check = async (line: string, expected: string) => {
      const { status, stdout, stderr } = await cluster.shell(line);
      t.equal(status, 0, `${line}: ${stderr}`);
      t.equal(stdout, expected, line);
    };
    await check('echo hello > a && cat a', 'hello\n');
    await check('echo more >> a && cat a', 'hello\nmore\n');
    await check('cp a b && mv b c && ls', 'a\nc\n');
    await check('mkdir -p d/e/f && mv c d/e/f/ && find d | sort', 'd\nd/e\nd/e/f\nd/e/f/c\n');
    await check('ln -s a link && readlink link && cat link', 'a\nhello\nmore\n');
    await check('ln a hard && stat -c %h a', '2\n');
    await check('rm hard && stat -c %h a', '1\n');
    await check('sed -i s/hello/bye/ a && cat a', 'bye\nmore\n');
    await check('chmod 4751 a && stat -c %a a && chown 5:6 a && stat -c "%u %g %a" a', '4751\n5 6 751\n');
    await check('touch -d "2001-02-03 04:05:06.7 UTC" a && stat -c %Y a', '981173106\n');
    await check(
      'truncate -s 3 a && cat a && truncate -s 10M a && stat -c %s a && head -c 5 a | od -An -c',
      'bye10485760\n   b   y   e  \\0  \\0\n',
    );
    await check(
      'dd if=/dev/urandom of=r bs=64k count=40 status=none && dd if=r of=s bs=1M status=none && cmp r s',
      '',
    );
    await check(
      'dd if=r of=s bs=4096 seek=3 skip=100 count=7 conv=notrunc status=none && cmp <(dd if=r bs=4096 skip=100 count=7 status=none) <(dd if=s bs=4096 skip=3 count=7 status=none)',
      '',
    );
    await check('tail -c 3 <(seq 5) > t && tail -n 1 t', '5\n');
    await check('grep -rl more . | sort', './d/e/f/c\n');
    await check(
      'du -s --apparent-size d | cut -f1 | grep -qE "^[0-9]+$" && df . | tail -1 | awk "{print (\\$2 > 0)}"',
      '1\n',
    );
    await check('rsync -a d/ d2/ && diff -r d d2 && rmdir d2 2>&1 | grep -c "not empty"', '1\n');
    await check('echo b > v.txt && printf "%%s/b/c/\\nwq\\n" | vi -e -s v.txt; cat v.txt', 'c\n');
    await check("printf 'int main(){return 42;}' > p.c && gcc -o p p.c && ./p; echo $?", '42\n');
    await check('rm -rf d d2 && ls -d d* 2>&1 | grep -c "No such file"', '1\n');
  });
}

t.test('kernel: git works', { skip: cannotMount }, async (t) => {
  const cluster = await start(t, 'kernel');
  const script = `
    set -e
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org HOME=$PWD
    git init -q -b main origin; cd origin
    for i in $(seq 40); do mkdir -p d$i; seq $i 300 > d$i/f; done; git add .; git commit -qm one
    for i in $(seq 10); do echo $i >> d$i/f; done; git commit -qam two
    cd ..; git clone -q origin clone; cd clone; git status --porcelain; echo x > d1/f; git status --porcelain
    git checkout -q d1/f; git gc -q; git fsck --strict 2>&1; git log --oneline | wc -l
  `;
  const { status, stdout, stderr } = await cluster.shell(script, { timeoutMs: 120_000 });
  t.equal(status, 0, stderr);
  t.equal(stdout, ' M d1/f\n2\n');
});

t.test('kernel: names are bytes', { skip: cannotMount }, async (t) => {
  const cluster = await start(t, 'kernel');
  const line = `printf v > $'caf\\xe9 \\xff\\xfe' && ls | od -An -tx1 && cat $'caf\\xe9 \\xff\\xfe' && mv $'caf\\xe9 \\xff\\xfe' $'\\x80' && ls | od -An -tx1`;
  const { stdout } = await cluster.shell(line);
  t.equal(stdout, ' 63 61 66 e9 20 ff fe 0a\nv 80 0a\n');
  const long = await cluster.shell(`touch "$(printf 'x%.0s' $(seq 256))"`);
  t.match(long.stderr, 'File name too long');
});

t.test('kernel: files beyond 4 GiB, sparse and written through', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { chunkSize: '64MiB' });
  const sparse = await cluster.shell(
    'truncate -s 5G s && echo end >> s && stat -c %s s && tail -c 4 s && dd if=s bs=1M skip=5119 count=1 status=none | tr -d "\\0" | wc -c && du -B1M s | cut -f1',
  );
  t.equal(sparse.stdout.split('\n').slice(0, 3).join(' '), '5368709124 end 0', sparse.stderr);
  const written = await cluster.shell(
    'dd if=/dev/urandom of=w bs=1M seek=4094 count=6 status=none && stat -c %s w && cp --sparse=always w w2 && cmp w w2 && md5sum < w2 | wc -l',
    { timeoutMs: 120_000 },
  );
  t.equal(written.stdout, `${4100 * 1024 * 1024}\n1\n`, written.stderr);
});
