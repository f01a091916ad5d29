/** flock(2) and fcntl(2) locks between clients, with a real master in a simulated world. */
import t from 'tap';
import { clientDefaults, GfsClient } from '../../client/index.js';
import { withLock } from '../../protocol/lock-ranges.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MASTER_PORT, MasterHost } from '../master/support.js';

let seed = 8000;
const FILE = m.ROOT_ID;

function lock(type: m.LockRange['type'], owner: string, start = 0, end = m.LOCK_TO_END): m.LockRange {
  return { type, start, end, pid: 1, owner, flock: false };
}

async function started(names: readonly string[]) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world).start();
  const options = { ...clientDefaults, masters: [{ host: 'master', port: MASTER_PORT }], caches: true };
  const clients: GfsClient[] = [];
  for (const name of names) {
    clients.push(await world.until(GfsClient.connect(world.process(name).environment, options)));
  }
  const set = (client: GfsClient, range: m.LockRange, wait = false, signal?: AbortSignal) =>
    client.locks.set(FILE, range, wait, { signal });
  const done = (client: GfsClient, range: m.LockRange) => world.until(set(client, range));
  return { world, host, clients: clients as [GfsClient, GfsClient, GfsClient], set, done };
}

t.test('ranges: what is set replaces, splits and joins', (t) => {
  const after = (...set: m.LockRange[]) =>
    set
      .reduce<m.LockRange[]>(withLock, [])
      .map(({ type, start, end }) => [type, start, end])
      .sort((a, b) => (a[1] as number) - (b[1] as number));
  t.same(after(lock('write', 'a', 0, 99), lock('unlock', 'a', 40, 59)), [
    ['write', 0, 39],
    ['write', 60, 99],
  ]);
  t.same(after(lock('read', 'a', 0, 9), lock('read', 'a', 10, 19)), [['read', 0, 19]]);
  t.same(after(lock('write', 'a'), lock('read', 'a', 10, 19)), [
    ['write', 0, 9],
    ['read', 10, 19],
    ['write', 20, m.LOCK_TO_END],
  ]);
  t.same(after(lock('write', 'a', 5, 9), lock('unlock', 'a')), []);
  t.end();
});

t.test('locks: of one mount keep out another, and tell who holds them', async (t) => {
  const { world, clients, set, done } = await started(['a', 'b']);
  const [a, b] = clients;
  await done(a, lock('write', 'x', 0, 9));
  t.equal(await codeOf(done(b, lock('read', 'x', 5, 5))), 'LOCKED', 'owners of two mounts are two');
  await done(b, lock('write', 'x', 10, 19));
  const found = await world.until(b.locks.blocking(FILE, lock('write', 'y'), {}));
  t.match(found, { type: 'write', start: 0, end: 9, pid: 0 });
  t.equal((await world.until(a.locks.blocking(FILE, lock('read', 'x'), {})))?.start, 10);
  await done(b, { ...lock('write', 'x'), flock: true });
  await done(a, lock('read', 'x', 0, 9));
  await done(b, lock('read', 'x', 5, 5));
  t.equal(await codeOf(done(a, lock('write', 'x', 0, 9))), 'LOCKED');
  await world.until(set(b, lock('unlock', 'x')));
  await done(a, lock('write', 'x'));
});

t.test('locks: a wait ends when its turn comes, or by a signal', async (t) => {
  const { world, clients, set, done } = await started(['a', 'b', 'c']);
  const [a, b, c] = clients;
  await done(a, lock('write', 'x'));
  const order: string[] = [];
  const waiting = set(b, lock('write', 'x'), true).then(() => order.push('b'));
  await world.runFor(50);
  const interrupt = new AbortController();
  const given = codeOf(set(c, lock('write', 'x'), true, interrupt.signal));
  await world.runFor(50);
  interrupt.abort();
  t.equal(await world.until(given), 'CANCELLED');
  t.same(order, []);
  // Longer than a request may take.
  await world.runFor(70_000);
  await done(a, lock('unlock', 'x'));
  await world.until(waiting);
  t.same(order, ['b']);
  t.equal(await codeOf(done(c, lock('read', 'x'))), 'LOCKED', 'the one who gave up did not get it');
  await done(b, lock('unlock', 'x'));
  await done(c, lock('read', 'x'));
});

t.test('locks: a lock that is granted as it is given up is given up', async (t) => {
  const { world, clients, set, done } = await started(['a', 'b']);
  const [a, b] = clients;
  for (let round = 0; round < 30; round++) {
    await done(a, lock('write', 'x'));
    const interrupt = new AbortController();
    const waiting = codeOf(set(b, lock('write', 'x'), true, interrupt.signal));
    await world.runFor(20);
    const unlocking = set(a, lock('unlock', 'x'));
    await world.runFor(world.random.between(0, 3));
    interrupt.abort();
    const outcome = await world.until(waiting);
    await world.until(unlocking);
    await world.runFor(50);
    t.equal(await codeOf(done(a, lock('write', 'x'))), outcome === 'none' ? 'LOCKED' : 'none');
    await done(a, lock('unlock', 'x'));
    await done(b, lock('unlock', 'x'));
  }
});

t.test('locks: who would wait in a circle is told so', async (t) => {
  const { world, clients, set, done } = await started(['a', 'b', 'c']);
  const [a, b, c] = clients;
  await done(a, lock('write', 'x', 0, 0));
  await done(b, lock('write', 'x', 1, 1));
  await done(c, lock('write', 'x', 2, 2));
  const first = set(a, lock('write', 'x', 1, 1), true);
  await world.runFor(50);
  const second = set(b, lock('write', 'x', 2, 2), true);
  await world.runFor(50);
  t.equal(await codeOf(world.until(set(c, lock('write', 'x', 0, 0), true))), 'DEADLOCK');
  await done(c, lock('unlock', 'x'));
  await world.until(second);
  await done(b, lock('unlock', 'x'));
  await world.until(first);
});

t.test(
  'locks: of a mount that is killed are released when its session would be over, and not before',
  async (t) => {
    const { world, clients, set, done } = await started(['a', 'b']);
    const [a, b] = clients;
    await done(a, lock('write', 'x'));
    for (const process of [...world.host('a').processes]) process.crash();
    const killedAtMs = world.scheduler.nowMs;
    await world.until(set(b, lock('write', 'x'), true));
    const tookMs = world.scheduler.nowMs - killedAtMs;
    t.ok(tookMs >= 2_000 && tookMs < 3_000, `${tookMs} ms`);
  },
);

t.test('locks: are there after a restart of the master, before anybody else can have one', async (t) => {
  const { world, host, clients, set, done } = await started(['a', 'b']);
  const [a, b] = clients;
  await done(a, lock('write', 'x', 0, 9));
  // The holder comes back later than the other.
  world.network.cut('master', 'a');
  await host.restart();
  const trying = codeOf(set(b, lock('write', 'x', 0, 0)));
  await world.runFor(700);
  world.network.healAll();
  t.equal(await world.until(trying), 'LOCKED');
  await done(a, lock('unlock', 'x'));
  await done(b, lock('write', 'x', 0, 0));
});

t.test('locks: of a mount that was away for too long are lost, and it knows', async (t) => {
  const { world, clients, set, done } = await started(['a', 'b']);
  const [a, b] = clients;
  await done(a, lock('write', 'x'));
  world.network.cut('master', 'a');
  const cutAtMs = world.scheduler.nowMs;
  await world.until(set(b, lock('write', 'x'), true));
  const waitedMs = world.scheduler.nowMs - cutAtMs;
  t.ok(waitedMs < 2_500, `others wait for its session, and no longer: ${waitedMs} ms`);
  await done(b, lock('unlock', 'x'));
  world.network.healAll();
  await world.runFor(5_000);
  t.notOk(a.locks.holds(FILE, 'x', false));
  await done(b, lock('write', 'x', 0, 9));
  t.ok(a.locks.hasLost(FILE, 'x', false));
  t.equal(await codeOf(done(a, lock('write', 'x', 50, 59))), 'LOCK_LOST', 'until it is given up');
  await done(a, lock('write', 'y', 50, 59));
  await done(a, lock('unlock', 'x', 0, 99));
  t.ok(a.locks.hasLost(FILE, 'x', false), 'a part of it');
  await world.until(a.locks.drop(FILE, 'x', false));
  t.notOk(a.locks.hasLost(FILE, 'x', false));
  t.equal(await codeOf(done(a, lock('write', 'x', 0, 5))), 'LOCKED');
  await done(a, lock('write', 'x', 10, 15));
});
