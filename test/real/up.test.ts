/** `gfs up` as a user meets it: one command for a mounted cluster, whatever happened to the last one. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { mountAt } from '../../cli/mounts.js';
import { Layout } from '../../cli/up/layout.js';
import { leftovers } from '../../cli/up/state.js';
import { cannotMount, eventually } from './cluster.js';
import { type RealProcess, runCommand, Workspace } from './processes.js';

t.setTimeout(600_000);
const skip = cannotMount;

/** A place for one `gfs up`, with its own data, mount point and ports. */
class Place {
  readonly workspace = new Workspace('up');
  readonly layout = new Layout(this.workspace.path('data'));
  readonly mountPoint = this.workspace.path('mnt');
  #runs = 0;

  constructor(t: Test) {
    t.teardown(() => this.workspace.remove());
  }

  words(...more: string[]): string[] {
    return [
      ...['up', this.mountPoint, '--data', this.layout.root, '--port', '0', '--chunk-size', '1MiB'],
      ...['--set', 'chunk_server.reserved=16MiB', ...more],
    ];
  }

  async up(...more: string[]): Promise<RealProcess> {
    const words = [...this.workspace.gfs, ...this.words(...more)];
    const process = this.workspace.spawnProgram(`up-${this.#runs++}`, words);
    await process.says('Ready:', 60_000);
    return process;
  }

  /** One that ends by itself. */
  refused(...more: string[]) {
    return this.workspace.run(this.words(...more));
  }

  file(name: string): string {
    return join(this.mountPoint, name);
  }

  parts(): string[] {
    return leftovers(this.layout)
      .map(({ part }) => part)
      .sort();
  }

  pidOf(part: string): number {
    const found = leftovers(this.layout).find((each) => each.part === part);
    if (found === undefined) throw new Error(`no ${part}`);
    return found.process.pid;
  }
}

const ALL_PARTS = ['chunkserver-1', 'chunkserver-2', 'chunkserver-3', 'master', 'mount', 'shadow-1'];

t.test(
  'up: a cluster of processes, mounted; SIGTERM unmounts and stops them; the data is there again',
  { skip },
  async (t) => {
    const place = new Place(t);
    const first = await place.up();
    t.same(place.parts(), ALL_PARTS);
    t.equal(mountAt(place.mountPoint)?.type, 'fuse.gfs');
    await writeFile(place.file('a'), 'x'.repeat(3_000_000));
    t.match(await first.stop(30_000), { code: 0 });
    t.same(place.parts(), []);
    t.equal(mountAt(place.mountPoint), undefined);
    t.match(first.log, /Stop: Ctrl-C/);

    const second = await place.up();
    t.equal((await readFile(place.file('a'), 'utf8')).length, 3_000_000);
    t.match(await second.stop(30_000), { code: 0 });
  },
);

t.test('up: started twice is an error that names the first, and harms nobody', { skip }, async (t) => {
  const place = new Place(t);
  const first = await place.up();
  const second = await place.refused();
  t.equal(second.status, 1);
  t.match(
    second.stderr,
    `gfs up is running on ${place.layout.root} already (process ${first.pid}, mounted at ${place.mountPoint})`,
  );
  t.match(second.stderr, /gfs down --data/);
  await writeFile(place.file('still'), 'works');
  t.equal(await readFile(place.file('still'), 'utf8'), 'works');

  const other = await place.workspace.run([
    'up',
    place.mountPoint,
    '--data',
    place.workspace.path('data2'),
    '--port',
    '0',
  ]);
  t.equal(other.status, 1);
  t.match(other.stderr, /has a GFS mount .* already/);
  t.same(leftovers(new Layout(place.workspace.path('data2'))), [], 'nothing of the refused one is left');

  const down = await place.workspace.run(['down', '--data', place.layout.root]);
  t.equal(down.status, 0);
  t.match(await first.ended, { code: 0 });
  t.same(place.parts(), []);
});

t.test('up: a port in use is named, with who has it and what to change', async (t) => {
  const place = new Place(t);
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const { status, stderr } = await place.refused('--port', String(port));
  t.equal(status, 1);
  t.match(stderr, `port ${port} on 127.0.0.1 is in use by process ${process.pid}`);
  t.match(stderr, /gfs up --port PORT/);
});

t.test('up: a mount point that cannot be one is refused before anything is left running', async (t) => {
  const place = new Place(t);
  const cases: [string, RegExp][] = [
    [place.workspace.write('file', ''), /is not a directory/],
    [place.workspace.directory, /is not empty/],
    ['/proc', /has a mount of proc \(proc\) already/],
  ];
  for (const [mountPoint, message] of cases) {
    const { status, stderr } = await place.workspace.run([
      'up',
      mountPoint,
      '--data',
      place.layout.root,
      '--port',
      '0',
    ]);
    t.equal(status, 1, mountPoint);
    t.match(stderr, message);
    t.same(place.parts(), []);
  }
});

t.test('up: a wrong configuration is refused with its line, wrong words with exit code 2', async (t) => {
  const place = new Place(t);
  const config = place.workspace.write('gfs.toml', '[master]\nreplication_facto = 3\n');
  const byFile = await place.refused('--config', config);
  t.equal(byFile.status, 1);
  t.match(
    byFile.stderr,
    `${config}:2: unknown key 'replication_facto' in [master]: did you mean 'replication_factor'?`,
  );
  for (const words of [
    ['--servers', '0'],
    ['-o', 'rack'],
    ['--serverz', '3'],
    ['a', 'b'],
  ]) {
    t.equal((await place.refused(...words)).status, 2, words.join(' '));
  }
});

t.test(
  'up: after kill -9 of everything the next start works, and what was synced is there',
  { skip },
  async (t) => {
    const place = new Place(t);
    const first = await place.up();
    const synced = await runCommand([
      'dd',
      'if=/dev/urandom',
      'bs=64K',
      'count=40',
      'conv=fsync',
      `of=${place.file('a')}`,
    ]);
    t.equal(synced.status, 0, synced.stderr);
    const before = await readFile(place.file('a'));
    await first.kill();
    for (const { process: part } of leftovers(place.layout)) process.kill(part.pid, 'SIGKILL');
    await eventually(async () => place.parts().length === 0 || 'still dying', 5000);

    const second = await place.up();
    t.match(second.log, /unmounting the dead mount/);
    t.same(await readFile(place.file('a')), before);
    await second.stop(30_000);
  },
);

t.test(
  'up: after kill -9 of `gfs up` alone, the next start ends what it left behind',
  { skip },
  async (t) => {
    const place = new Place(t);
    const first = await place.up();
    await writeFile(place.file('a'), 'written');
    await first.kill();
    t.same(place.parts(), ALL_PARTS, 'they outlive it');
    t.equal(await readFile(place.file('a'), 'utf8'), 'written');

    const second = await place.up();
    t.match(second.log, /ending 6 processes that an earlier run left behind/);
    t.equal(await readFile(place.file('a'), 'utf8'), 'written');
    await second.stop(30_000);
    t.same(place.parts(), []);
  },
);

t.test('up: `gfs down` tidies up after a killed one', { skip }, async (t) => {
  const place = new Place(t);
  await (await place.up()).kill();
  const { status } = await place.workspace.run(['down', '--data', place.layout.root]);
  t.equal(status, 0);
  t.same(place.parts(), []);
  t.equal(mountAt(place.mountPoint), undefined);
});

t.test('up: a part that is killed is started again', { skip }, async (t) => {
  const place = new Place(t);
  const up = await place.up();
  await writeFile(place.file('a'), 'written');
  for (const part of ['chunkserver-2', 'shadow-1', 'master', 'mount']) {
    process.kill(place.pidOf(part), 'SIGKILL');
    await up.says(`${part} ended (signal SIGKILL): starting it again`);
    await up.says(`${part} is back`);
    await eventually(async () => (await readFile(place.file('a'), 'utf8')) === 'written' || 'other', 30_000);
    await writeFile(place.file(part), part);
  }
  t.same((await readdir(place.mountPoint)).sort(), ['a', 'chunkserver-2', 'master', 'mount', 'shadow-1']);
  t.match(await up.stop(30_000), { code: 0 });
});

t.test('up: somebody unmounts: the cluster goes on without the mount', { skip }, async (t) => {
  const place = new Place(t);
  const up = await place.up();
  const { status, stderr } = await place.workspace.run(['umount', place.mountPoint]);
  t.equal(status, 0, stderr);
  await up.says('mount has ended; the rest goes on');
  t.same(
    place.parts(),
    ALL_PARTS.filter((part) => part !== 'mount'),
  );
  t.match(await up.stop(30_000), { code: 0 });
});

t.test('up: stopped while it starts, nothing is left', async (t) => {
  const place = new Place(t);
  const up = place.workspace.spawnProgram('up', [...place.workspace.gfs, ...place.words()]);
  await up.says('starting the master');
  t.match(await up.stop(30_000), { code: 0 });
  t.same(place.parts(), []);
  t.equal(mountAt(place.mountPoint), undefined);
});
