import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { NodeDisk } from '../../environment/node/disk.js';
import { SimulatedWorld } from '../fakes/index.js';
import { diskContract } from './disk.contract.js';

const temporary = mkdtempSync(join(tmpdir(), 'gfs-disk-'));
t.teardown(() => rmSync(temporary, { recursive: true, force: true }));
let directories = 0;

diskContract(t, 'node disk', async () => {
  const disk = new NodeDisk();
  const root = join(temporary, String(directories++));
  await disk.makeDirectory(root);
  return { disk, other: new NodeDisk(), root, run: (test) => test() };
});

diskContract(t, 'fake disk', async () => {
  const world = new SimulatedWorld(directories);
  const host = world.host('a');
  const { disk } = host.start('one').environment;
  await world.until(disk.makeDirectory('/data'));
  return {
    disk,
    other: host.start('two').environment.disk,
    root: '/data',
    run: (test) => world.until(test()),
    limit: (bytes) => {
      host.disk.limitBytes = host.disk.usedBytes() + bytes;
    },
  };
});

t.test('node disk: a killed process frees its locks, and its children do not keep them', async (t) => {
  const path = join(temporary, 'lock');
  const module = new URL('../../environment/node/disk.js', import.meta.url).href;
  const program = `
    const { NodeDisk } = await import('${module}');
    await new NodeDisk().lock('${path}');
    const { spawn } = await import('node:child_process');
    const child = spawn('sleep', ['30'], { stdio: 'ignore' });
    process.stdout.write(String(child.pid));
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [childPid] = await once(holder.stdout, 'data');
  t.teardown(() => process.kill(Number(childPid)));
  const disk = new NodeDisk();
  await t.rejects(disk.lock(path), { code: 'EBUSY' });
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await (await disk.lock(path))();
});
