/** The operation log on a real disk: full, killed in the middle, damaged and salvaged. */
import { open, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { connect, type FileSystem } from '../../client/main.js';
import { type RealProcess, runCommand, Workspace } from './processes.js';

t.setTimeout(0);

const notRoot = process.getuid?.() === 0 ? false : 'loop devices need root';

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
}

async function startMaster(
  workspace: Workspace,
  data: string,
): Promise<{ master: RealProcess; port: number }> {
  const words = ['master', '--data', data, '--host', '127.0.0.1', '--port', '0'];
  const master = workspace.spawn('master', words);
  return { master, port: (await master.started()).port as number };
}

t.test(
  'log space: a small disk that fills up turns the master read-only until there is room',
  { skip: notRoot },
  async (t) => {
    const workspace = new Workspace('log-space');
    t.teardown(() => workspace.remove());
    const disk = workspace.makeDirectory('disk');
    const image = workspace.path('image');
    const make = `truncate -s 24M ${image} && mkfs.ext4 -q -m 0 ${image} && mount -o loop ${image} ${disk}`;
    const mounted = await runCommand(['sh', '-c', make]);
    t.equal(mounted.status, 0, mounted.stderr);
    const data = join(disk, 'm');
    let { master, port } = await startMaster(workspace, data);
    const reach = () => connect(`127.0.0.1:${port}`, { deadlineMs: 15_000 });
    let gfs = await reach();
    await gfs.mkdir('/before');
    const filler = join(disk, 'filler');
    // Until the very last block is taken.
    for (const size of [1024 * 1024, 4096]) {
      const handle = await open(filler, 'a');
      for (let full = false; !full; )
        full = (await codeOf(handle.appendFile(Buffer.alloc(size, 1)))) === 'ENOSPC';
      await handle.close();
    }
    const made = await fillUp(gfs);
    t.ok(made.length > 0, `${made.length} directories fitted into the reserve`);
    t.equal((await gfs.stat('/before')).kind, 'directory', 'reads go on');
    t.equal(await codeOf(gfs.rmdir('/before')), 'NO_SPACE');
    await gfs.close();
    await master.kill();
    ({ master, port } = await startMaster(workspace, data));
    gfs = await reach();
    t.equal((await gfs.stat(made.at(-1) as string)).kind, 'directory', 'what was acknowledged is there');
    await rm(filler);
    await delay(2_500);
    t.equal(await codeOf(gfs.mkdir('/after')), 'none', 'it heals by itself');
    await gfs.close();
    await master.stop();
  },
);

/** Makes directories, some at a time, until there is no space. @returns those that were acknowledged */
async function fillUp(gfs: FileSystem): Promise<string[]> {
  const made: string[] = [];
  for (let at = 0; ; at += 32) {
    const names = Array.from({ length: 32 }, (_, i) => `/${at + i} ${'x'.repeat(200)}`);
    const codes = await Promise.all(names.map((name) => codeOf(gfs.mkdir(name))));
    made.push(...names.filter((_, i) => codes[i] === 'none'));
    if (codes.includes('NO_SPACE')) return made;
  }
}

t.test('checkpoints: a master killed while its thread makes one starts with all of it', async (t) => {
  const workspace = new Workspace('checkpoints');
  t.teardown(() => workspace.remove());
  const data = workspace.path('m');
  let made = 0;
  for (let round = 0; round < 3; round++) {
    const { master, port } = await startMaster(workspace, data);
    const gfs = await connect(`127.0.0.1:${port}`, { deadlineMs: 15_000 });
    for (let at = 0; at < made; at += 37) await gfs.stat(`/${at}`);
    await Promise.all(Array.from({ length: 200 }, (_, at) => gfs.mkdir(`/${made + at}`)));
    made += 200;
    const asked = workspace.run(['log', 'checkpoint', '--master', `127.0.0.1:${port}`]);
    if (round < 2) {
      await delay(150 * round + 100);
      await master.kill();
    }
    await gfs.close();
    const { status, stdout } = await asked;
    if (round < 2) continue;
    t.equal(status, 0);
    t.match(stdout, /A checkpoint of \d+ records/);
    await master.stop();
  }
  const check = await workspace.run(['log', 'check', data, '--json']);
  t.equal(check.status, 0, check.stdout);
});

t.test('gfs log: a damaged log is told, salvaged, and served again', async (t) => {
  const workspace = new Workspace('salvage');
  t.teardown(() => workspace.remove());
  const data = workspace.path('m');
  const { master, port } = await startMaster(workspace, data);
  const gfs = await connect(`127.0.0.1:${port}`);
  for (let at = 0; at < 50; at++) await gfs.mkdir(`/${at}`);
  const running = await workspace.run(['log', 'check', data]);
  t.equal(running.status, 1);
  t.match(running.stderr, /a master is running/);
  await gfs.close();
  await master.stop();
  const [segment] = (await readdir(join(data, 'log'))).filter((name) => name.startsWith('segment'));
  const file = await open(join(data, 'log', segment as string), 'r+');
  await file.write('damage', 2_000);
  await file.close();

  const refused = await workspace.run(['master', '--data', data, '--port', '0']);
  t.equal(refused.status, 1);
  t.match(refused.stderr, /segment-\d+: damaged at offset \d+/);
  t.match(refused.stderr, `gfs log check ${data}`);
  const check = await workspace.run(['log', 'check', data]);
  t.equal(check.status, 1);
  t.match(check.stdout, /Can be saved: \d+ records, from the log alone. Lost: \d+ records/);
  t.same(await workspace.run(['fsck', '--log', data]), check, 'as gfs fsck --log');
  const target = workspace.path('saved');
  const saved = await workspace.run(['log', 'salvage', data, target]);
  t.equal(saved.status, 0, saved.stderr);
  const again = await startMaster(workspace, target);
  const reader = await connect(`127.0.0.1:${again.port}`);
  t.equal((await reader.stat('/0')).kind, 'directory');
  t.equal(await codeOf(reader.stat('/49')), 'NOT_FOUND', 'what came after the damage is lost');
  await reader.close();
  await again.master.stop();
  const dump = await workspace.run(['log', 'dump', data, '--count', '2']);
  t.match(JSON.parse(dump.stdout.split('\n')[0] as string), { record: 1, event: { type: 'sessionOpened' } });
  await writeFile(workspace.path('other'), '');
  t.equal((await workspace.run(['log', 'check', workspace.path('other')])).status, 1);
});
