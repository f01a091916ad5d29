/** Watching a tree, with a real master in a simulated world. */
import t from 'tap';
import { clientDefaults, GfsClient, type Watched, Watches } from '../../client/index.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MASTER_PORT, MasterHost, TestClient } from '../master/support.js';

let seed = 9000;

async function started() {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world).start();
  const client = await TestClient.start(world, 'writer');
  const options = { ...clientDefaults, masters: [{ host: 'master', port: MASTER_PORT }] };
  const watching = await world.until(GfsClient.connect(world.process('watcher').environment, options));
  const watches = new Watches(watching.master);
  const heard: Watched[] = [];
  const stop = new AbortController();
  const watch = async (id: number, caller = {}): Promise<void> => {
    const run = async () => {
      for await (const event of watches.watch(id, { ...caller, signal: stop.signal })) heard.push(event);
    };
    void run();
    await world.runFor(100);
  };
  const lines = () =>
    heard.map((one) =>
      one.type === 'lost'
        ? `lost ${one.count}`
        : `${one.kind} ${one.path}${one.to === undefined ? '' : ` ${one.to}`}`,
    );
  return { world, host, client, watch, watches, heard, lines, stop };
}

t.test('watch: everything below a directory is told in order, and nothing else', async (t) => {
  const { world, client, watch, lines, heard, stop } = await started();
  const inside = await client.mkdir(m.ROOT_ID, 'in');
  const outside = await client.mkdir(m.ROOT_ID, 'out');
  await watch(inside);
  const file = await client.create(inside, 'f');
  await client.create(outside, 'g');
  const deep = await client.mkdir(inside, 'deep');
  await client.rename(inside, 'f', deep, 'h');
  await client.mutate(m.ExtendFile, { id: file, size: 3 });
  await client.mutate(m.SetAttributes, { id: file, changes: { mode: 0o600 } });
  await client.mutate(m.SetAttributes, { id: file, changes: { size: 0 } });
  await client.rename(deep, 'h', outside, 'h');
  await client.mutate(m.SetAttributes, { id: file, changes: { mode: 0o644 } });
  await client.rename(outside, 'g', inside, 'g');
  await client.unlink(inside, 'g');
  await client.rmdir(inside, 'deep');
  await client.rmdir(m.ROOT_ID, 'in');
  await world.runFor(100);
  t.same(lines(), [
    'created /in/f',
    'created /in/deep',
    'renamed /in/f /in/deep/h',
    'written /in/deep/h',
    'attributes /in/deep/h',
    'truncated /in/deep/h',
    'renamed /in/deep/h /out/h',
    'renamed /out/g /in/g',
    'removed /in/g',
    'removed /in/deep',
    'removed /in',
  ]);
  t.match(heard[0], { id: file, directory: false, host: 'writer' });
  stop.abort();
  await world.runFor(100);
});

t.test('watch: one who is too slow is told how much was lost', async (t) => {
  const { world, client, watch, heard, stop } = await started();
  await watch(m.ROOT_ID);
  world.network.cutOneWay('master', 'watcher');
  for (let at = 0; at < 4_700; at++)
    void client.send(m.Create, made(at), { sequence: ++client.sequence }).catch(() => {});
  await world.runFor(1_500);
  world.network.healAll();
  await world.runFor(3_000);
  const events = heard.filter(({ type }) => type === 'event').length;
  const lost = heard.reduce((sum, one) => sum + (one.type === 'lost' ? one.count : 0), 0);
  t.ok(lost > 0, `${lost} lost`);
  t.equal(events + lost, 4_700, 'each is told or counted');
  stop.abort();
});

t.test('watch: goes on after a restart of the master, and says that something may be missing', async (t) => {
  const { world, host, client, watch, lines, stop } = await started();
  await watch(m.ROOT_ID);
  await client.create(m.ROOT_ID, 'a');
  await world.runFor(100);
  await host.restart();
  await client.register(client.session);
  await world.runFor(3_000);
  await client.create(m.ROOT_ID, 'b');
  await world.runFor(100);
  t.same(lines(), ['created /a', 'lost 0', 'created /b']);
  stop.abort();
});

t.test('watch: others than root hear only of directories that they may read', async (t) => {
  const { world, client, watch, watches, lines, stop } = await started();
  const open = await client.mkdir(m.ROOT_ID, 'open');
  const shut = (await client.make(open, 'shut', 0o040700)).id;
  await watch(open, { uid: 1000, gids: [1000] });
  await client.create(shut, 'secret');
  await client.create(open, 'news');
  await world.runFor(100);
  t.same(lines(), ['created /open/news']);
  const refused = watches.watch(shut, { uid: 1000, gids: [1000] }).next();
  t.equal(await codeOf(world.until(refused)), 'ACCESS_DENIED');
  stop.abort();
});

function made(at: number) {
  return { parent: m.ROOT_ID, name: `f${at}`, mode: 0o100644, rdev: 0, exclusive: true };
}
