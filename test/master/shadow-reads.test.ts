/** What goes on while the master is away: real chunkservers, clients and shadows over fakes. */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import {
  Create,
  FollowLog,
  GetAttributes,
  Lookup,
  PromiseTerm,
  Promote,
  ROOT_ID,
} from '../../protocol/messages/index.js';
import type { Method, Role } from '../../protocol/rpc.js';
import { SimulatedWorld } from '../fakes/index.js';
import { SimulatedCluster } from '../simulator/cluster.js';
import { connectClient } from '../simulator/members.js';
import { clusterDefaults } from '../simulator/shape.js';
import { agrees, askAt, dial, inStep, SHADOW_PORT, ShadowHost, soon, status } from './shadow.js';
import { codeOf, MASTER_PORT, MasterHost } from './support.js';

let seed = 6500;
let asked = 0;
const CONTENT = Buffer.alloc(600_000, 'what was written');

async function cluster(shadows: number) {
  const world = new SimulatedWorld(seed++);
  const options = { ...clusterDefaults, clients: 0, shadows };
  const members = new SimulatedCluster(world, options, async () => undefined);
  members.start();
  await inStep(world, shadows);
  // Clients and chunkservers hear of shadows within two seconds.
  await world.runFor(3_000);
  const client = await world.until(connectClient(world.process('client')));
  return { world, members, client };
}

async function write(world: SimulatedWorld, client: GfsClient, name: string): Promise<number> {
  const body = { parent: ROOT_ID, name, mode: 0o100666, rdev: 0, exclusive: true };
  const { attributes } = await world.until(client.master.mutate(Create, body));
  const file = await world.until(client.open(attributes.id, {}, true));
  await world.until(file.write(0, CONTENT));
  await world.until(file.flush({}));
  await world.until(client.close(file));
  return attributes.id;
}

async function read(world: SimulatedWorld, client: GfsClient, id: number): Promise<Buffer> {
  const file = await world.until(client.open(id, {}));
  const { buffers, release } = await world.until(file.read(0, CONTENT.byteLength, {}));
  const content = Buffer.concat(buffers);
  release();
  await world.until(client.close(file));
  return content;
}

function lookup(world: SimulatedWorld, client: GfsClient, name: string) {
  return world.until(client.master.query(Lookup, { parent: ROOT_ID, name }));
}

for (const how of ['crash', 'pause'] as const) {
  t.test(
    `shadow: names and file data are read while the master is away (${how}), changes wait`,
    async (t) => {
      const { world, members, client } = await cluster(1);
      const id = await write(world, client, 'a');
      members.master.process?.[how]();
      const atMs = world.scheduler.nowMs;
      t.equal((await lookup(world, client, 'a')).attributes?.id, id);
      t.ok(
        (await read(world, client, id)).equals(CONTENT),
        'chunks that were made after the servers had reported',
      );
      const tookMs = world.scheduler.nowMs - atMs;
      t.ok(tookMs < (how === 'crash' ? 1_500 : 5_000), `after ${tookMs} ms`);

      const body = { parent: ROOT_ID, name: 'later', mode: 0o100666, rdev: 0, exclusive: true };
      const changing = client.master.mutate(Create, body);
      await world.runFor(3_000);
      t.equal(await codeOf(lookup(world, client, 'later')), 'NOT_FOUND');
      if (how === 'crash') members.master.start();
      else members.master.process?.resume();
      t.equal((await world.until(changing)).created, true);
      t.ok((await read(world, client, id)).equals(CONTENT));
      t.same(world.failures, []);
    },
  );
}

t.test('promote: clients and chunkservers find the new master, and files are written on', async (t) => {
  const { world, members, client } = await cluster(1);
  const id = await write(world, client, 'a');
  const session = client.master.id;
  members.master.process?.crash();
  await askAt(world, 'shadow1', SHADOW_PORT, Promote, {});
  const other = await write(world, client, 'b');
  t.equal(client.master.id, session, 'with the same session');
  t.ok((await read(world, client, other)).equals(CONTENT));
  t.ok((await read(world, client, id)).equals(CONTENT));
  const { attributes } = await world.until(client.master.query(GetAttributes, { id: other }));
  t.equal(attributes.size, CONTENT.byteLength);

  // A chunkserver remembers the term: an older master is none to it, also after a restart.
  const [chunkserver] = members.chunkservers;
  chunkserver?.process?.crash();
  members.master.start();
  await soon(world, () => members.master.shadow !== undefined);
  t.same(world.failures, [], 'it finds that it was replaced, and follows');
});

const nothing = { parent: ROOT_ID, name: 'nothing' };

t.test(
  'shadow: it says how far behind it is, and with the rule all lacks nothing when it is cut off',
  async (t) => {
    const { world } = await cluster(2);
    const ask = () => codeOf(askAt(world, 'shadow1', SHADOW_PORT, Lookup, nothing));
    t.equal(await ask(), 'NOT_FOUND', 'while it follows, it answers');
    t.ok((await status(world, 'shadow1', SHADOW_PORT)).behindMs <= 1_000);
    world.network.cut('master', 'shadow1');
    await world.runFor(5_000);
    t.equal(await ask(), 'NOT_FOUND');
    const { standsIn, silentMs } = await status(world, 'shadow1', SHADOW_PORT);
    t.equal(standsIn, true);
    t.ok(silentMs >= 4_000);
  },
);

t.test('shadow: majority: one that may lack what was acknowledged does not answer', async (t) => {
  const world = new SimulatedWorld(seed++);
  const master = await new MasterHost(world, { logCommit: 'majority' }).start();
  for (const name of ['shadow1', 'shadow2'])
    await new ShadowHost(world, name, { logCommit: 'majority' }).start();
  await inStep(world, 2);
  const ask = () => codeOf(askAt(world, 'shadow1', SHADOW_PORT, Lookup, nothing));
  world.network.cut('master', 'shadow1');
  await world.runFor(5_000);
  t.equal(await ask(), 'NOT_READY', 'the master goes on with the other one');
  master.process.crash();
  await world.runFor(5_000);
  t.equal(await ask(), 'NOT_FOUND', 'the other one has nobody either, and no more than this one');
});

t.test(
  'shadow: who is no shadow cannot follow, who is no master cannot ask for a term, and nobody by garbage',
  async (t) => {
    const world = new SimulatedWorld(seed++);
    const master = await new MasterHost(world).start();
    const shadow = await new ShadowHost(world, 'shadow1').start();
    await inStep(world, 1);
    const member = { id: 'stranger', host: 'stranger', port: 1 };
    const request = { shadow: member, term: 1, lastTerm: 1, nextSequence: 1, waitMs: 0 };
    const asStranger = (
      role: Role,
      method: Method<unknown, unknown>,
      body: unknown,
      host = 'master',
      port = MASTER_PORT,
    ) =>
      dial(world, world.process(`stranger ${role} ${asked++}`), host, port, role).then((peer) =>
        codeOf(world.until(peer.call(method, body))),
      );
    const follow = FollowLog as Method<unknown, unknown>;
    t.equal(await asStranger('client', follow, request), 'NOT_PERMITTED');
    t.equal(await asStranger('shadow', follow, { ...request, term: 9 }), 'STALE_TERM');
    t.equal(
      await asStranger('shadow', follow, { ...request, lastTerm: 7, nextSequence: 2 ** 52 }),
      'none',
      'told to cut',
    );
    t.equal(await asStranger('shadow', follow, { ...request, nextSequence: -1 }), 'MALFORMED');
    const promise = { term: 5, candidate: member };
    t.equal(
      await asStranger('client', PromiseTerm as Method<unknown, unknown>, promise, 'shadow1', SHADOW_PORT),
      'NOT_PERMITTED',
    );
    await world.runFor(3_000);
    t.ok(agrees(master, shadow));
    t.equal((await status(world)).writable, true, 'the master serves on');
  },
);
