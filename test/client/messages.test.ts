/** Who sends what to whom: messages on the wire between real parts, counted. */
import t from 'tap';
import { clientDefaults, GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from '../simulator/cluster.js';
import { clusterDefaults } from '../simulator/shape.js';
import { WireTap } from '../simulator/wire-tap.js';
import { startTwoClients } from './two-clients.js';

let seed = 24_500;
const LEASE_MS = 60_000;

interface Message {
  readonly from: string;
  readonly to: string;
  readonly method: string;
}

/** Requests from now on. */
function listen(world: SimulatedWorld): Message[] {
  const sent: Message[] = [];
  const tap = new WireTap(world.network, (what) => t.fail(what));
  tap.onMessage = (line) => {
    const request = /^\d+ (\S+) > (\S+) #\d+ (\w+) \d+\/\d+ /.exec(line);
    if (request === null) return;
    const [, from, to, method] = request as unknown as [string, string, string, string];
    sent.push({ from, to, method });
  };
  return sent;
}

/** What keeps sessions and servers alive, whatever is written. */
const KEEPING_ALIVE = new Set(['renew', 'renewChunkserver', 'heartbeat', 'reportChunks']);

async function create(world: SimulatedWorld, client: GfsClient, name: string): Promise<number> {
  const request = { parent: m.ROOT_ID, name, mode: 0o100644, rdev: 0, exclusive: true };
  return (await world.until(client.master.mutate(m.Create, request))).attributes.id;
}

t.test(
  'append: within a chunk no exact append asks the master for anything while the lease lives',
  async (t) => {
    const { world, a, b, sleep } = await startTwoClients(seed++, { leaseDurationMs: LEASE_MS });
    const sent = listen(world);
    const id = await create(world, a, 'log');
    const [mine, theirs] = [await world.until(a.open(id, {})), await world.until(b.open(id, {}))];
    const append = async (file: OpenFile) => {
      const before = sent.length;
      await world.until(file.append(Buffer.from('a line\n')));
      const appends = sent.slice(before).filter(({ method }) => !KEEPING_ALIVE.has(method));
      // Lengths are told beside the appends, whenever 20 ms have passed, and nobody waits for that.
      return appends.filter(({ to, method }) => to === 'master' && method !== 'extendFile').length;
    };
    // The first ones bring the lease to each, and what each believed of the file is taken back.
    for (const file of [mine, theirs, mine, theirs]) await append(file);
    const before = sent.length;
    const startedMs = world.scheduler.nowMs;
    let toMaster = 0;
    for (let i = 0; i < 200; i++) {
      toMaster += await append(i % 2 === 0 ? mine : theirs);
      if (i % 10 === 0) await sleep(50);
    }
    t.equal(toMaster, 0, 'for 200 appends by two clients in turn');
    const after = sent.slice(before);
    t.equal(after.filter(({ method }) => method === 'appendChunk').length, 200, 'each was sent by itself');
    t.equal(
      after
        .filter(({ from, to }) => from.startsWith('chunkserver') && to === 'master')
        .filter(({ method }) => !KEEPING_ALIVE.has(method)).length,
      0,
      'nor does a primary',
    );
    const lengths = after.filter(({ method }) => method === 'extendFile').length;
    const mostLengths = 2 * (1 + (world.scheduler.nowMs - startedMs) / 20);
    t.ok(lengths > 0 && lengths <= mostLengths, `${lengths} messages of lengths, in the background`);
    await world.until(mine.flush({}));
    await world.until(theirs.flush({}));
    t.equal((await world.until(a.metadata.attributes(id, {}))).size, 204 * 'a line\n'.length);
  },
);

t.test(
  'push: data goes from one replica to the next nearest, from the nearest to the client on',
  async (t) => {
    const world = new SimulatedWorld(seed++);
    // chunkserver1 and 3 stand apart, 2 between them; the order of their names is not that of their places.
    const locations = [
      { x: 0, y: 0 },
      { x: 6, y: 0 },
      { x: 30, y: 0 },
    ];
    const options = { ...clusterDefaults, locations, clients: 0 };
    const cluster = new SimulatedCluster(world, options, async () => undefined);
    cluster.start();
    const sent = listen(world);
    /** Who handed data to whom, when a client there wrote a file. */
    const chain = async (name: string, x: number, y: number): Promise<string[]> => {
      const masters = [{ host: 'master', port: 5000 }];
      const client = await world.until(
        GfsClient.connect(world.process(name).environment, {
          ...clientDefaults,
          masters,
          location: { x, y },
        }),
      );
      const id = await create(world, client, name);
      const file = await world.until(client.open(id, {}));
      const before = sent.length;
      await world.until(file.write(0, Buffer.alloc(200_000, 1)));
      await world.until(file.flush({}));
      const hops = sent.slice(before).filter(({ method }) => method === 'pushData');
      await world.until(client.shutdown());
      return [...new Set(hops.map(({ from, to }) => `${from} > ${to}`))];
    };
    t.strictSame(await chain('west', -1, 0), [
      'west > chunkserver1',
      'chunkserver1 > chunkserver2',
      'chunkserver2 > chunkserver3',
    ]);
    t.strictSame(await chain('east', 31, 5), [
      'east > chunkserver3',
      'chunkserver3 > chunkserver2',
      'chunkserver2 > chunkserver1',
    ]);
    t.strictSame(await chain('middle', 7, 1), [
      'middle > chunkserver2',
      'chunkserver2 > chunkserver1',
      'chunkserver1 > chunkserver3',
    ]);
  },
);
