/** Damage on the disks of a real cluster: found by scrubbing, healed, never read. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { cannotMount, eventually, RealCluster } from './cluster.js';

t.setTimeout(600_000);

async function chunkFiles(cluster: RealCluster, index: number): Promise<string[]> {
  const root = cluster.workspace.path(`chunkserver-${index}`, 'chunks');
  const shards = await readdir(root);
  const names = await Promise.all(shards.map((shard) => readdir(join(root, shard))));
  const paths = names.flatMap((each, i) => each.map((name) => join(root, shards[i] as string, name)));
  return paths.filter((path) => path.endsWith('.chunk'));
}

/** Of all servers. */
async function allChunkFiles(cluster: RealCluster): Promise<string[]> {
  return (await Promise.all([0, 1, 2, 3].map((index) => chunkFiles(cluster, index)))).flat();
}

async function flipBit(path: string): Promise<void> {
  const raw = await readFile(path);
  raw[500_000] = (raw[500_000] as number) ^ 1;
  await writeFile(path, raw);
}

t.test(
  'scrub: a flipped bit is found when asked for, healed from another replica, and the bad one deleted',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { servers: 4 });
    const content = Buffer.alloc(6 << 20, 'integrity');
    await writeFile(join(cluster.mountPoint, 'f'), content);
    const [bad] = await allChunkFiles(cluster);
    await flipBit(bad as string);
    const words = ['scrub', '--all', '--now', '--wait', '--json', '--master', cluster.address];
    const scrubbed = await cluster.gfs(words);
    t.equal(scrubbed.status, 1, 'damage was found');
    const rows = JSON.parse(scrubbed.stdout) as { damaged: number }[];
    t.equal(
      rows.reduce((sum, { damaged }) => sum + damaged, 0),
      1,
    );
    await eventually(async () => {
      const { chunksBelowGoal } = await cluster.status();
      const isThere = (await allChunkFiles(cluster)).includes(bad as string);
      return (chunksBelowGoal === 0 && !isThere) || `${chunksBelowGoal} below goal, still there: ${isThere}`;
    }, 10_000);
    t.ok((await readFile(join(cluster.mountPoint, 'f'))).equals(content));

    const paths = await allChunkFiles(cluster);
    const name = paths[0]?.split('/').at(-1) as string;
    for (const path of paths) if (path.endsWith(name)) await flipBit(path);
    const fresh = cluster.workspace.path('fresh');
    await cluster.addMount('fresh');
    await t.rejects(
      readFile(join(fresh, 'f')),
      { code: 'EIO' },
      'with every replica damaged: EIO, not the bytes',
    );
    t.match(cluster.master.log, /every replica of a chunk is damaged/);
  },
);
