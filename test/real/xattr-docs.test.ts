/** docs/xattrs-and-ioctls.md does what it says: every shell, C and Python example on it is run on a mount. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import t from 'tap';
import { repositoryPath } from '../repository.js';
import { cannotMount, RealCluster } from './cluster.js';
import { runCommand } from './processes.js';

t.setTimeout(0);

/** The code of one language, in the order of the page. */
function examplesOf(page: string, language: string): string[] {
  const blocks = page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'));
  return [...blocks].map(([, code]) => code as string);
}

t.test('docs: every example of the attributes and ioctls works', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
  const { workspace, mountPoint } = cluster;
  const page = (await readFile(repositoryPath('docs/xattrs-and-ioctls.md'), 'utf8')).replaceAll(
    '/mnt/gfs',
    mountPoint,
  );
  await cluster.shell('mkdir shell c python');

  const gfs = workspace.path('gfs');
  await writeFile(gfs, `#!/bin/sh\nexec ${workspace.gfs.map((word) => `'${word}'`).join(' ')} "$@"\n`);
  await chmod(gfs, 0o755);
  const shell = examplesOf(page, 'sh');
  const script = `PATH=${dirname(gfs)}:$PATH; set -ex; cd shell\n${shell.join('\n')}`;
  const ran = await cluster.shell(script);
  t.equal(ran.status, 0, ran.stderr.slice(-2000));
  t.match(ran.stdout, /^one\none\n0/);

  const c = examplesOf(page, 'c').map((body) => `{\n${body}}\n`);
  const program = `${examplesOf(page, 'c-prelude').join('')}\nint main(void)\n{\n${c.join('')}return 0;\n}\n`;
  await writeFile(workspace.path('examples.c'), program);
  const flags = ['-O1', '-Wall', '-Werror', '-I', repositoryPath('fuse-client/include')];
  const built = await runCommand([
    'gcc',
    ...flags,
    '-o',
    workspace.path('examples'),
    workspace.path('examples.c'),
  ]);
  t.equal(built.status, 0, built.stderr);
  const compiled = await cluster.shell(`cd c && ${workspace.path('examples')}`);
  t.equal(compiled.status, 0, compiled.stderr);
  t.equal((await cluster.shell('cat c/events')).stdout, 'firstseconda line\na line\na line\n');

  await writeFile(workspace.path('examples.py'), examplesOf(page, 'python').join('\n'));
  const python = await cluster.shell(`cd python && python3 ${workspace.path('examples.py')}`);
  t.equal(python.status, 0, python.stderr);
  t.ok(shell.length >= 9 && c.length >= 9);
});
