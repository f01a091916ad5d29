import t from 'tap';
import { digestState } from '../../master/dump.js';
import * as m from '../../protocol/messages/index.js';
import type { Method } from '../../protocol/rpc.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, connect, MasterHost, TestClient } from './support.js';

let seed = 2000;

async function started(changes = {}) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  return { world, host, client: await TestClient.start(world) };
}

const ROOT = m.ROOT_ID;
const create = (name: string) => ({ parent: ROOT, name, mode: 0o100644, rdev: 0, exclusive: true });

t.test('exactly once: a retry gets the first result, also after a restart of the master', async (t) => {
  const { host, client } = await started();
  const first = await client.call(m.Create, create('a'), { sequence: 1 });
  t.same(await client.call(m.Create, create('a'), { sequence: 1 }), first);
  await host.restart();
  await client.register(client.session);
  t.same(await client.call(m.Create, create('a'), { sequence: 1 }), first);
  await host.powerCycle();
  await client.register(client.session);
  t.same(await client.call(m.Create, create('a'), { sequence: 1 }), first);
  t.strictSame(await client.names(ROOT), ['a']);
  t.equal(
    await codeOf(client.call(m.Unlink, { parent: ROOT, name: 'a', directory: false }, { sequence: 1 })),
    'MALFORMED',
  );
});

t.test('exactly once: copies of a mutation that arrive together happen once', async (t) => {
  const { world, client } = await started();
  const copies = [1, 2, 3].map(() => client.send(m.Create, create('a'), { sequence: 1 }));
  const results = await world.until(Promise.all(copies));
  t.same(results[1], results[0]);
  t.same(results[2], results[0]);
});

t.test('exactly once: a mutation that failed may be tried again under its sequence', async (t) => {
  const { client } = await started();
  await client.create(ROOT, 'a');
  t.equal(await codeOf(client.call(m.Create, create('a'), { sequence: 50 })), 'EXISTS');
  await client.call(m.Unlink, { parent: ROOT, name: 'a', directory: false }, { sequence: 51 });
  t.equal(await codeOf(client.call(m.Create, create('a'), { sequence: 50 })), 'none');
});

t.test('exactly once: a result too old to be remembered is an unknown outcome', async (t) => {
  const { host, client } = await started();
  for (let at = 0; at < 66; at++) await client.create(ROOT, `${at}`);
  t.equal(await codeOf(client.call(m.Create, create('0'), { sequence: 1 })), 'UNKNOWN_OUTCOME');
  t.equal(await codeOf(client.call(m.Create, create('2'), { sequence: 3 })), 'none');
  await host.restart();
  await client.register(client.session);
  t.equal(await codeOf(client.call(m.Create, create('0'), { sequence: 1 })), 'UNKNOWN_OUTCOME');
  t.equal(await codeOf(client.call(m.Create, create('2'), { sequence: 3 })), 'none');
});

t.test('exactly once: a retry on a new connection goes on where the broken one left off', async (t) => {
  const { world, client } = await started();
  const lost = client.send(m.Create, create('a'), { sequence: 1 }).catch(() => undefined);
  client.peer.close();
  await lost;
  await client.register(client.session);
  const { attributes } = await client.call(m.Create, create('a'), { sequence: 1 });
  t.equal(attributes.id, (await client.lookup('/a')).id);
  await world.runFor(1);
});

t.test('session: mutations need the connection that it was opened on', async (t) => {
  const { world, client } = await started();
  const stranger = await TestClient.start(world, 'stranger');
  t.equal(
    await codeOf(stranger.call(m.Create, create('a'), { session: client.session, sequence: 1 })),
    'SESSION_UNKNOWN',
  );
  t.equal(await codeOf(client.call(m.Create, create('a'), { session: 0, sequence: 1 })), 'SESSION_UNKNOWN');
  t.equal(await codeOf(client.call(m.Create, create('a'))), 'MALFORMED', 'a mutation without a sequence');
  t.equal(
    await codeOf(stranger.register(client.session)),
    'SESSION_UNKNOWN',
    'nor can another client take it up',
  );
});

t.test('session: a silent client lapses after its timeout, and may come back', async (t) => {
  const { world, client } = await started();
  await client.create(ROOT, 'a');
  client.process.pause();
  await world.runFor(4_000);
  client.process.resume();
  await world.runFor(1_000);
  t.ok(client.peer.closed, 'the master gave its connection up');
  await client.register(client.session);
  t.equal(
    await codeOf(client.call(m.Create, create('a'), { sequence: 1 })),
    'none',
    'its results are still there',
  );
});

t.test('session: one that ended, or that nobody came back for, is over', async (t) => {
  const { world, host, client } = await started();
  const id = client.session;
  await client.call(m.EndSession, {});
  client.peer.close();
  t.equal(await codeOf(client.register(id)), 'SESSION_UNKNOWN');
  await client.register();
  const second = client.session;
  client.peer.close();
  await world.runFor(3_700_000);
  t.equal(await codeOf(client.register(second)), 'SESSION_UNKNOWN');
  t.notOk(host.master.state.sessions.has(second));
});

t.test('deleted files: given up after their retention, but never while somebody has them open', async (t) => {
  const { world, host, client } = await started({ retentionMs: 10_000 });
  const open = await client.create(ROOT, 'open');
  const shut = await client.create(ROOT, 'shut');
  await client.call(m.Renew, { opened: [open, shut], closed: [] });
  await client.call(m.Renew, { opened: [], closed: [shut] });
  await client.unlink(ROOT, 'open');
  await client.unlink(ROOT, 'shut');
  await world.runFor(8_000);
  t.ok(host.master.state.deleted.has(shut), 'not before its time');
  await world.runFor(5_000);
  t.notOk(host.master.state.nodes.has(shut));
  t.ok(host.master.state.nodes.has(open));
  await host.restart();
  await world.runFor(20_000);
  t.ok(host.master.state.nodes.has(open), 'a restarted master waits to hear what is open');
  await client.register(client.session);
  await client.call(m.Renew, { opened: [open], closed: [] });
  await world.runFor(5_000);
  t.ok(host.master.state.nodes.has(open));
  await client.call(m.Renew, { opened: [], closed: [open] });
  await world.runFor(5_000);
  t.notOk(host.master.state.nodes.has(open));
});

t.test(
  'messages out of order: before a registration, from the wrong role or twice, each is refused and changes nothing',
  async (t) => {
    const { world, host } = await started();
    const before = digestState(host.master.state);
    const { environment } = world.process('stray');
    const peer = await connect(world, environment, 'chunkserver', 'stray');
    const ask = <Q, R>(method: Method<Q, R>, body: Q) => codeOf(world.until(peer.call(method, body)));
    const space = { totalBytes: 1, availableBytes: 1, usedBytes: 0 };
    t.equal(await ask(m.ReportChunks, { chunks: [], last: true }), 'SESSION_UNKNOWN');
    t.equal(await ask(m.RenewChunkserver, {}), 'SESSION_UNKNOWN');
    t.equal(await ask(m.Heartbeat, { space, load: 0, extend: [], chunks: [] }), 'SESSION_UNKNOWN');
    t.equal(await ask(m.ReportDamage, { handle: 1, version: 1 }), 'SESSION_UNKNOWN');
    t.equal(await ask(m.Renew, { opened: [], closed: [] }), 'SESSION_UNKNOWN');
    t.equal(await ask(m.EndSession, {}), 'SESSION_UNKNOWN');
    t.equal(await ask(m.Create, create('a')), 'SESSION_UNKNOWN');
    t.equal(await ask(m.PrepareVersion, { handle: 1, version: 1, create: true }), 'UNKNOWN_MESSAGE');
    const client = await connect(world, world.process('client-2').environment, 'client', 'c2');
    const server = { serverId: 'c2', host: 'c2', port: 1 };
    t.equal(
      await codeOf(world.until(client.call(m.RegisterChunkserver, { server, bootId: 1, space }))),
      'NOT_PERMITTED',
    );
    t.equal(digestState(host.master.state), before);
  },
);
