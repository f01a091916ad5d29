/** Location awareness with real processes: five chunkservers at known places, and who serves whom. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cannotMount, RealCluster } from './cluster.js';
import type { RealProcess } from './processes.js';

// Each step has its own time limit.
t.setTimeout(0);

const FILES = 8;
const FILE_BYTES = 300_000;

/** Bytes that each server has given to readers. */
async function servedBytes(servers: readonly RealProcess[]): Promise<number[]> {
  return Promise.all(
    servers.map(async (server) => {
      const { metricsPort } = await server.started();
      const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      return Number(/^gfs_chunkserver_read_bytes_total(?:\{[^}]*\})? (\d+)/m.exec(text)?.[1] ?? 0);
    }),
  );
}

t.test(
  'locations: the nearest servers get the data, and the nearest of them serve it',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, {
      servers: 5,
      mount: ['-o', 'location=0,0'],
      chunkserverWords: (index) => ['--location', `${index * 10},0`, '--metrics-port', '0'],
    });
    const directory = join(cluster.mountPoint, 'd');
    mkdirSync(directory);
    const content = Buffer.alloc(FILE_BYTES, 'near');
    for (let at = 0; at < FILES; at++) writeFileSync(join(directory, `file-${at}`), content);
    const { servers } = await cluster.status();
    const chunksAt = (x: number) => servers.find(({ location }) => location?.x === x)?.chunks;
    t.same([0, 10, 20, 30, 40].map(chunksAt), [FILES, FILES, FILES, 0, 0], 'written near the writer');

    const readAll = async (name: string, location: string): Promise<number[]> => {
      await cluster.addMount(name, ['-o', `location=${location}`]);
      const before = await servedBytes(cluster.chunkservers);
      for (let at = 0; at < FILES; at++)
        t.ok(readFileSync(join(cluster.workspace.path(name), 'd', `file-${at}`)).equals(content));
      const after = await servedBytes(cluster.chunkservers);
      return after.map((bytes, at) => bytes - (before[at] as number));
    };
    const whole = FILES * FILE_BYTES;
    t.same(await readAll('left', '1,0'), [whole, 0, 0, 0, 0]);
    t.same(await readAll('right', '99,5'), [0, 0, whole, 0, 0], 'the nearest that has it');

    const { stdout } = await cluster.gfs(['priorities', '--json', '--master', cluster.address]);
    const { clients } = JSON.parse(stdout) as {
      clients: { location?: { x: number }; servers: { distance: number }[] }[];
    };
    const left = clients.find(({ location }) => location?.x === 1);
    t.same(
      left?.servers.map(({ distance }) => distance),
      [1, 9, 19, 29, 39],
      'kept current by registrations',
    );
    const other = await cluster.gfs(['priorities', '--weights', '0,1', '--master', cluster.address]);
    t.match(other.stdout, /^score = 0 .*\+ 1 .*lowest first/);
    for (const weights of ['1', 'a,b', '-1,2', '1,2,3'])
      t.equal((await cluster.gfs(['priorities', '--weights', weights])).status, 2, weights);
    const nobody = await cluster.gfs(['priorities', 'nobody', '--master', cluster.address]);
    t.equal(nobody.status, 1);
    const listed = await cluster.gfs(['ls-servers', cluster.address]);
    t.match(listed.stdout, /LOCATION.*USED/);
    t.match(listed.stdout, / 40,0 /);
  },
);

t.test('locations: coordinates that are missing, or are not numbers: a clear error', async (t) => {
  const cluster = await RealCluster.start(t, { servers: 1, mount: false });
  for (const location of ['1', '1,b', '1,2,3', ',', 'Infinity,0']) {
    const words = ['chunkserver', '--master', cluster.address, '--data', cluster.workspace.path('other')];
    const { status, stderr } = await cluster.gfs([...words, '--location', location]);
    t.not(status, 0, location);
    t.match(stderr, /coordinates/, location);
    const mounted = await cluster.gfs(['mount', '-o', `location=${location}`, cluster.address, '/nowhere']);
    t.not(mounted.status, 0, location);
    t.match(mounted.stderr, /coordinates|location/, location);
  }
  const { servers } = await cluster.status();
  t.equal(servers.length, 1, 'nobody registered');
  const { stdout } = await cluster.gfs(['priorities', '--master', cluster.address]);
  t.match(stdout, /no coordinates/);
});
