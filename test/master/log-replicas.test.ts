/** The operation log on several hosts: fakes of network and disks, real masters and shadows. */
import t from 'tap';
import { digestState } from '../../master/dump.js';
import { acknowledgementsNeeded, promisesNeeded } from '../../master/quorum.js';
import { RecentRecords } from '../../master/recent-records.js';
import { ReplacedError } from '../../master/tenure.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { type HeldChunk, TestChunkserver } from './chunkserver.js';
import { agrees, dial, inStep, SHADOW_PORT, ShadowHost, soon, status } from './shadow.js';
import { codeOf, MasterHost, TestClient } from './support.js';

let seed = 6000;

async function cluster(count: number, changes: ConstructorParameters<typeof MasterHost>[1] = {}) {
  const world = new SimulatedWorld(seed++);
  const master = await new MasterHost(world, changes).start();
  const shadows: ShadowHost[] = [];
  for (let at = 1; at <= count; at++) {
    shadows.push(await new ShadowHost(world, `shadow${at}`, changes).start());
    await inStep(world, at);
  }
  const client = await TestClient.start(world);
  return { world, master, shadows, client, shadow: shadows[0] as ShadowHost };
}

const create = (name: string) => ({ parent: m.ROOT_ID, name, mode: 0o100644, rdev: 0, exclusive: true });

/** Asks again, as the client library does, until it is known what became of it. */
async function repeated(world: SimulatedWorld, client: TestClient, name: string, sequence: number) {
  for (;;) {
    try {
      return await client.call(m.Create, create(name), { sequence });
    } catch (thrown) {
      if ((thrown as { code?: string }).code !== 'OUTCOME_PENDING') throw thrown;
      await world.runFor(50);
    }
  }
}

t.test('log replicas: whoever may begin a term meets whoever made a record count', async (t) => {
  for (const rule of ['all', 'majority'] as const) {
    for (let count = 1; count <= 16; count++) {
      const acknowledged = acknowledgementsNeeded(rule, count);
      const promised = promisesNeeded(rule, count);
      t.ok(acknowledged + promised > count, `${rule} of ${count}`);
      t.ok(promised >= 1 && promised <= count);
      if (rule === 'majority')
        t.ok(acknowledged + 1 > (count + 1) / 2, 'most of the copies, with the own one');
    }
  }
});

t.test(
  'log replicas: a new shadow gets the whole log, is waited for, and says what the master says',
  async (t) => {
    const world = new SimulatedWorld(seed++);
    const master = await new MasterHost(world, { logSegmentBytes: 4_096 }).start();
    const client = await TestClient.start(world);
    for (let at = 0; at < 100; at++) await client.create(m.ROOT_ID, `before ${at}`);
    const shadow = await new ShadowHost(world, 'shadow1').start();
    await inStep(world, 1);
    await soon(world, () => agrees(master, shadow));
    await client.create(m.ROOT_ID, 'after');
    t.ok(agrees(master, shadow), 'an answered mutation is there already');
    const { replicas, commit } = await status(world);
    t.equal(commit, 'all');
    t.match(replicas, [{ state: 'in step', counted: true, member: { host: 'shadow1', port: SHADOW_PORT } }]);
  },
);

t.test(
  'log replicas: a shadow is killed: pending is unknown, new is refused, reads go on, it heals',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    const id = await client.create(m.ROOT_ID, 'before');
    shadow.process.crash();
    const pending = client.send(m.Create, create('pending'), { sequence: ++client.sequence });
    t.equal(await codeOf(world.until(pending)), 'OUTCOME_PENDING');
    t.equal(await codeOf(client.mutate(m.Create, create('refused'))), 'READ_ONLY');
    t.equal((await client.lookup('/before')).id, id, 'reads go on');
    t.equal(
      await codeOf(client.call(m.Lookup, { parent: m.ROOT_ID, name: 'pending' })),
      'NOT_FOUND',
      'also of a name that waits',
    );
    t.equal(
      await codeOf(client.call(m.Create, create('pending'), { sequence: client.sequence - 1 })),
      'OUTCOME_PENDING',
      'asked again it is still pending',
    );
    const before = await status(world);
    t.equal(before.writable, false);
    t.match(before.replicas, [{ state: 'missing' }]);

    await shadow.start();
    await inStep(world, 1);
    const again = await repeated(world, client, 'pending', client.sequence - 1);
    t.equal(again.created, true, 'it happened, once');
    await client.create(m.ROOT_ID, 'after');
    t.ok(agrees(master, shadow), 'and the shadow has caught up');
  },
);

t.test(
  'log replicas: a shadow that hangs stalls the log, and what was begun ends when it goes on',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    shadow.process.pause();
    t.equal(await codeOf(client.mutate(m.Create, create('a'))), 'OUTCOME_PENDING');
    shadow.process.resume();
    await inStep(world, 1);
    t.equal((await repeated(world, client, 'a', client.sequence)).created, true);
    t.ok(agrees(master, shadow));
  },
);

t.test(
  'log replicas: what a version that they held up has left behind is healed when it is in the log',
  async (t) => {
    const { world, shadow, client } = await cluster(1);
    const chunkservers: TestChunkserver[] = [];
    for (let at = 0; at < 3; at++) chunkservers.push(await TestChunkserver.start(world, `cs${at}`));
    const id = await client.create(m.ROOT_ID, 'f');
    const { lease } = await client.call(m.GetLease, { id, index: 0, version: 0, failed: [] });
    const readable = async () =>
      (await client.call(m.GetChunks, { id, index: 0, count: 1 })).chunks[0]?.replicas.length;
    await world.runFor(2_000);
    // It has the next version, as if the master before had died on the way to the log.
    const ahead = chunkservers.find(({ serverId }) => serverId === lease.primary.serverId) as TestChunkserver;
    ahead.crash();
    shadow.process.pause();
    (ahead.chunks.get(lease.handle) as HeldChunk).version = 2;
    await ahead.restart();
    await world.runFor(5_000);
    shadow.process.resume();
    await inStep(world, 1);
    await world.runFor(8_000);
    t.equal(await readable(), 3, 'the others were compared with the one that is ahead, by no census');
    t.ok(chunkservers.every(({ chunks }) => (chunks.get(lease.handle)?.version ?? 0) > 2));
  },
);

t.test('log replicas: majority: one of two may be away, and catches up', async (t) => {
  const { world, master, shadows, client } = await cluster(2, { logCommit: 'majority' });
  const [first, second] = shadows as [ShadowHost, ShadowHost];
  first.process.crash();
  for (let at = 0; at < 20; at++) await client.create(m.ROOT_ID, `file ${at}`);
  t.ok(agrees(master, second));
  await first.start();
  await inStep(world, 2);
  await soon(world, () => agrees(master, first));
  first.process.crash();
  second.process.crash();
  t.equal(await codeOf(client.mutate(m.Create, create('last'))), 'OUTCOME_PENDING');
});

t.test(
  'log replicas: a master that restarts waits for its log replicas, and begins a new term with them',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    await client.create(m.ROOT_ID, 'a');
    t.equal((await status(world)).term, 1);
    await master.restart();
    await inStep(world, 1);
    t.equal((await status(world)).term, 2);
    await client.register(client.session);
    await client.create(m.ROOT_ID, 'b');
    t.ok(agrees(master, shadow));

    shadow.process.crash();
    await master.restart();
    await client.register(client.session);
    t.equal((await client.lookup('/a')).nlink, 1, 'it serves reads without them');
    t.equal((await status(world)).writable, false);
    await world.runFor(3_000);
    t.equal(await codeOf(client.mutate(m.Create, create('c'))), 'READ_ONLY');
    await shadow.start();
    await inStep(world, 1);
    await client.create(m.ROOT_ID, 'd');
    t.ok(agrees(master, shadow));
  },
);

t.test(
  'log replicas: what a restarted master alone has is acknowledged to whoever asks again only when they have it too',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    shadow.process.pause();
    const sent = client.send(m.Create, create('a'), { sequence: ++client.sequence });
    sent.catch(() => undefined);
    await world.runFor(100);
    const through = master.master.logEndSequence;
    await master.restart();
    await client.register(client.session);
    t.ok(master.master.logEndSequence > through, 'it is replayed');
    const again = () => codeOf(client.call(m.Create, create('a'), { sequence: client.sequence }));
    t.equal(await again(), 'OUTCOME_PENDING');
    shadow.process.resume();
    await inStep(world, 1);
    t.equal((await repeated(world, client, 'a', client.sequence)).created, true);
    t.ok(agrees(master, shadow));
  },
);

t.test(
  'log replicas: what a master has lost of its own tail, its log replica gives up as well',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    await client.create(m.ROOT_ID, 'kept');
    // The shadow flushes a record; the master loses power before it has.
    const isAhead = () => shadow.shadow.endSequence > master.master.logEndSequence;
    for (let at = 0; !isAhead(); at++) {
      const done = client.send(m.Create, create(`lost ${at}`), { sequence: ++client.sequence });
      let isDone = false;
      done.then(
        () => {
          isDone = true;
        },
        () => undefined,
      );
      while (!isDone && !isAhead()) await world.scheduler.step();
    }
    // It is away while the master starts again, which so begins without it.
    shadow.process.crash();
    await master.powerCycle();
    await shadow.start();
    await inStep(world, 1);
    await client.register(client.session);
    await client.create(m.ROOT_ID, 'next');
    t.ok(agrees(master, shadow));
    t.ok(master.master.state.terms.has(2), 'a term has begun');
  },
);

t.test('log replicas: one that is too far behind for the log begins with a checkpoint', async (t) => {
  const small = { logSegmentBytes: 2_048, checkpointBytes: 4_096 };
  const { world, master, shadow, client } = await cluster(1, { ...small, logCommit: 'majority' });
  const second = await new ShadowHost(world, 'shadow2', small).start();
  await inStep(world, 2);
  second.process.crash();
  const names = () => world.host('master').disk.namesIn('/master/log');
  const first = names().filter((name) => name.startsWith('segment'))[0] as string;
  for (let at = 0; names().includes(first) || at < 200; at++) {
    await client.create(m.ROOT_ID, `file ${at}`);
    if (at % 50 === 49) await world.runFor(1_000);
  }
  await second.start();
  await inStep(world, 2);
  await soon(world, () => agrees(master, second));
  t.ok(agrees(master, shadow));
  await second.restart();
  await inStep(world, 2);
  await client.create(m.ROOT_ID, 'after');
  await soon(world, () => agrees(master, second));
  const copies = world.host('shadow1').disk.namesIn('/shadow/log');
  t.ok(
    copies.some((name) => name.startsWith('checkpoint')),
    'shadows make checkpoints of their own',
  );
});

t.test(
  'log replicas: two that are gone for good are removed one after the other, also by a master that has just started',
  async (t) => {
    const { world, master, shadows, client } = await cluster(2);
    const ids = (await status(world)).replicas.map(({ member }) => member.id) as [string, string];
    for (const { process } of shadows) process.crash();
    await master.restart();
    await client.register(client.session);
    await world.runFor(3_000);
    t.equal(await codeOf(client.mutate(m.Create, create('a'))), 'READ_ONLY');
    t.equal(
      await codeOf(client.call(m.RemoveLogReplica, { id: ids[0] })),
      'OUTCOME_PENDING',
      'the other is missing too',
    );
    t.equal(await codeOf(client.call(m.RemoveLogReplica, { id: ids[1] })), 'none');
    t.equal((await repeated(world, client, 'b', ++client.sequence)).created, true);
    t.same((await status(world)).replicas, []);
    client.uid = 1000;
    t.equal(await codeOf(client.call(m.RemoveLogReplica, { id: ids[0] })), 'NOT_PERMITTED', 'by root alone');
  },
);

t.test('log replicas: one that is gone for good is removed, and is not waited for any more', async (t) => {
  const { world, shadow, client } = await cluster(1);
  const { replicas } = await status(world);
  const id = replicas[0]?.member.id as string;
  t.equal(
    await codeOf(client.call(m.RemoveLogReplica, { id })),
    'NOT_PERMITTED',
    'not while it is connected',
  );
  t.equal(await codeOf(client.call(m.RemoveLogReplica, { id: 'nobody' })), 'NOT_FOUND');
  shadow.process.crash();
  t.equal(await codeOf(client.mutate(m.Create, create('a'))), 'OUTCOME_PENDING');
  await client.call(m.RemoveLogReplica, { id });
  t.equal((await repeated(world, client, 'a', client.sequence)).created, true);
  await client.create(m.ROOT_ID, 'b');
  t.same((await status(world)).replicas, []);
});

t.test(
  'promote: the shadow serves with all that was acknowledged; the old master is fenced, and says so',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    for (let at = 0; at < 10; at++) await client.create(m.ROOT_ID, `file ${at}`);
    const { term } = await shadow.ask(m.Promote, {});
    t.equal(term, 2);
    // The old one is alive, and finds out: it can make nothing count any more.
    const late = client.send(m.Create, create('late'), { sequence: ++client.sequence });
    t.not(await codeOf(world.until(late)), 'none');
    const replaced = await world.until(master.master.replaced);
    t.match(replaced.message, `this master was replaced: shadow1:${SHADOW_PORT} serves`);
    master.process.crash();
    const start = new MasterHost(world).start();
    await t.rejects(start, ReplacedError, 'nor does it start again');

    await soon(world, () => shadow.shadow.master !== undefined);
    const now = await status(world, 'shadow1', SHADOW_PORT);
    t.match(now, { role: 'master', term: 2, writable: true, replicas: [] });
  },
);

t.test(
  'promote: an old master that is cut off with its clients goes on to answer reads, and acknowledges no change',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    await client.create(m.ROOT_ID, 'a');
    world.network.cut('master', 'shadow1');
    await shadow.ask(m.Promote, {});
    await soon(world, () => shadow.shadow.master !== undefined);
    t.equal(await codeOf(client.mutate(m.Create, create('pending'))), 'OUTCOME_PENDING');
    // Until the network is whole, or somebody stops it (docs/decisions/0037).
    for (let minute = 0; minute < 5; minute++) {
      await world.runFor(60_000);
      t.match(await client.call(m.Lookup, { parent: m.ROOT_ID, name: 'a' }), { attributes: {} });
      t.equal(await codeOf(client.mutate(m.Create, create(`${minute}`))), 'READ_ONLY');
    }
    world.network.heal('master', 'shadow1');
    const replaced = await world.until(master.master.replaced);
    t.match(replaced.message, `this master was replaced: shadow1:${SHADOW_PORT} serves`);
  },
);

t.test('promote: the old master was away: it finds out when it comes back', async (t) => {
  const { world, master, shadow, client } = await cluster(1);
  await client.create(m.ROOT_ID, 'a');
  master.process.crash();
  await shadow.ask(m.Promote, {});
  await soon(world, () => shadow.shadow.master !== undefined);
  await t.rejects(new MasterHost(world).start(), ReplacedError);
  t.equal(digestState(shadow.shadow.master?.state as never).length, 8);
});

t.test('promote: the old master’s host becomes the shadow of the new one, its own tail cut', async (t) => {
  const { world, master, shadow, client } = await cluster(1);
  await client.create(m.ROOT_ID, 'a');
  // A record that only the old master has.
  shadow.process.pause();
  const lost = client.send(m.Create, create('lost'), { sequence: ++client.sequence });
  lost.catch(() => undefined);
  await world.runFor(100);
  master.process.crash();
  shadow.process.resume();
  await shadow.ask(m.Promote, {});
  await soon(world, () => shadow.shadow.master !== undefined);
  const back = new ShadowHost(world, 'master', {
    dataDirectory: '/master',
    masters: [{ host: 'shadow1', port: SHADOW_PORT }],
  });
  await back.start();
  await inStep(world, 1, 'shadow1', SHADOW_PORT);
  t.equal(back.digest, shadow.digest);
  t.not(back.digest, undefined);
});

t.test('promote: asked again while it takes over, the shadow refuses, and serves soon', async (t) => {
  const { world, master, shadow } = await cluster(1);
  master.process.crash();
  const peer = await dial(world, world.process('asker'), 'shadow1', SHADOW_PORT);
  const ask = () => codeOf(world.until(peer.call(m.Promote, {})));
  t.equal(await ask(), 'none');
  t.equal(await ask(), 'NOT_PERMITTED');
  await soon(world, () => shadow.shadow.master !== undefined);
  t.match(await status(world, 'shadow1', SHADOW_PORT), { role: 'master', writable: true });
});

t.test(
  'promote: the new master is that after a restart too; a shadow’s directory is no master’s',
  async (t) => {
    const { world, master, shadow, client } = await cluster(1);
    await client.create(m.ROOT_ID, 'a');
    const asMaster = new MasterHost(world, { dataDirectory: '/shadow', host: 'shadow1' });
    shadow.process.crash();
    asMaster.world.host('shadow1');
    await t.rejects(asMaster.start('shadow1'), /gfs promote/);
    asMaster.process.crash();
    await shadow.start();
    await inStep(world, 1);
    master.process.crash();
    await shadow.ask(m.Promote, {});
    await soon(world, () => shadow.shadow.master !== undefined);
    await shadow.restart();
    t.match(await status(world, 'shadow1', SHADOW_PORT), { role: 'master', writable: true });
    t.match(await codeOf(shadow.ask(m.Promote, {})), 'UNKNOWN_MESSAGE', 'it is the master already');
  },
);

t.test('promote: majority: the one with the longest log, when enough agree', async (t) => {
  const { world, master, shadows, client } = await cluster(2, { logCommit: 'majority' });
  const [first, second] = shadows as [ShadowHost, ShadowHost];
  first.process.crash();
  await client.create(m.ROOT_ID, 'a');
  master.process.crash();
  const code = await codeOf(second.ask(m.Promote, {}));
  t.equal(code, 'NOT_PERMITTED', 'the other could hold what this one lacks');
  await first.start();
  const error = await first.ask(m.Promote, {}).catch((thrown: Error) => thrown);
  t.match((error as Error).message, `gfs promote shadow2:${SHADOW_PORT}`);
  await second.ask(m.Promote, {});
  await inStep(world, 1, 'shadow2', SHADOW_PORT);
  await soon(world, () => first.digest === second.digest);
  t.pass('the other follows the new master');
});

const aMebibyte = Buffer.alloc(1024 * 1024);

t.test(
  'promote: majority: under load, what the others are ahead comes from the old master that goes on',
  async (t) => {
    for (let attempt = 0; attempt < 8; attempt++) {
      const { world, shadows, client } = await cluster(3, { logCommit: 'majority' });
      const [first] = shadows as [ShadowHost];
      const acknowledged: string[] = [];
      // Each sends the next when the one before is answered, until the old master has stopped.
      const createMany = async (name: string) => {
        for (let at = 0; ; at++) {
          const sequence = ++client.sequence;
          await client.send(m.Create, create(`${name}-${at}`), { sequence });
          acknowledged.push(`${name}-${at}`);
        }
      };
      for (let at = 0; at < 8; at++) createMany(`${at}`).catch(() => undefined);
      await world.runFor(50 + attempt);
      t.equal(await codeOf(first.ask(m.Promote, {})), 'none', `attempt ${attempt}`);
      await soon(world, () => first.shadow.master !== undefined);
      const { state } = first.shadow;
      const { entries = [] } = state?.nodes.get(m.ROOT_ID) ?? {};
      const names = new Set([...entries].map(({ name }) => name));
      t.ok(acknowledged.length > 0);
      t.same(
        acknowledged.filter((name) => !names.has(name)),
        [],
        'and has all that was acknowledged',
      );
    }
  },
);

t.test(
  'promote: one that has counted nothing yet ends when the only other log replica follows a later one',
  async (t) => {
    const { world, master, shadows } = await cluster(2, { logCommit: 'majority' });
    const [first, second] = shadows as [ShadowHost, ShadowHost];
    master.process.crash();
    await first.ask(m.Promote, {});
    world.network.cut('shadow1', 'shadow2');
    await soon(world, () => first.shadow.master !== undefined);
    const elsewhere = { id: 'elsewhere', host: 'elsewhere', port: SHADOW_PORT };
    const candidate = await dial(world, world.process('candidate'), 'shadow2', SHADOW_PORT, 'shadow');
    const promise = candidate.call(m.PromiseTerm, { term: 7, candidate: elsewhere });
    t.equal((await world.until(promise)).body.granted, true);
    t.ok(first.shadow.state?.logReplicas.has((await status(world, 'shadow1', SHADOW_PORT)).member.id));
    world.network.heal('shadow1', 'shadow2');
    const error = await world.until(first.shadow.failed);
    t.match((error as Error).message, 'this master was replaced: elsewhere:');
    t.ok(second.process.alive);
  },
);

t.test('recent records: the newest 8 MiB are found by the record that a group begins with', async (t) => {
  const recent = new RecentRecords();
  for (let sequence = 1; sequence <= 100; sequence++) recent.add(2 * sequence, [aMebibyte]);
  for (let sequence = 93; sequence <= 100; sequence++)
    t.equal(recent.from(2 * sequence)?.firstSequence, 2 * sequence);
  t.equal(recent.from(2 * 92), undefined, 'older ones are gone');
  t.equal(recent.from(2 * 95 + 1), undefined, 'no group begins with this one');
});

t.test('recent records: one group is kept, whatever its size', async (t) => {
  const recent = new RecentRecords();
  for (let sequence = 1; sequence <= 3; sequence++)
    recent.add(sequence, new Array<Buffer>(9).fill(aMebibyte));
  t.equal(recent.from(3)?.count, 9);
  t.equal(recent.from(2), undefined);
});

t.test('recent records: dropped when nobody follows, taken again when somebody does', async (t) => {
  const recent = new RecentRecords();
  recent.add(1, [aMebibyte]);
  recent.clear();
  t.equal(recent.from(1), undefined);
  recent.add(2, [aMebibyte]);
  t.equal(recent.from(2)?.firstSequence, 2);
});

t.test('promote: majority: a copy that is the master promises nothing: the other keeps to it', async (t) => {
  const { world, master, shadows } = await cluster(2, { logCommit: 'majority' });
  const [first, second] = shadows as [ShadowHost, ShadowHost];
  master.process.crash();
  world.network.cut('shadow1', 'shadow2');
  t.equal(await codeOf(second.ask(m.Promote, {})), 'NOT_PERMITTED');
  world.network.heal('shadow1', 'shadow2');
  await second.ask(m.Promote, {});
  // Before it has counted a record: it is still one of the copies that the log names.
  first.process.crash();
  await soon(world, () => second.shadow.master !== undefined);
  await first.start();
  t.equal(await codeOf(first.ask(m.Promote, {})), 'NOT_PERMITTED');
  await inStep(world, 1, 'shadow2', SHADOW_PORT);
  t.equal(second.shadow.master?.term, 2);
});

t.test('promote: one that was cut short parts no log replica from the master for good', async (t) => {
  const { world, master, shadows, client } = await cluster(2, { logCommit: 'majority' });
  const [first] = shadows as [ShadowHost];
  const { member } = await status(world, 'shadow2', SHADOW_PORT);
  const candidate = await dial(world, world.process('candidate'), 'shadow1', SHADOW_PORT, 'shadow');
  t.equal(
    (await world.until(candidate.call(m.PromiseTerm, { term: 7, candidate: member }))).body.granted,
    true,
  );
  candidate.close();
  const before = master.master.term;
  await client.create(m.ROOT_ID, 'meanwhile');
  await soon(world, () => master.master.term > 7);
  await inStep(world, 2);
  await soon(world, () => agrees(master, first));
  t.ok(master.master.term > before, 'the same process, in a later term');
  t.ok(master.process.alive);
  t.same(world.failures, []);
});

t.test(
  'promote: majority: the old master does not come back where a log replica serves, whoever else is away',
  async (t) => {
    const { world, master, shadows, client } = await cluster(2, { logCommit: 'majority' });
    const [first, second] = shadows as [ShadowHost, ShadowHost];
    await client.create(m.ROOT_ID, 'a');
    await soon(world, () => shadows.every((shadow) => agrees(master, shadow)));
    master.process.crash();
    await second.ask(m.Promote, {});
    await soon(world, () => second.shadow.master?.logCounts === true);
    first.process.crash();
    await t.rejects(new MasterHost(world, { logCommit: 'majority' }).start(), {
      message: `this master was replaced: shadow2:${SHADOW_PORT} serves`,
    });
  },
);

t.test(
  'promote: majority: a master that has won its term, and has not begun it, ends no other',
  async (t) => {
    const { world, master, shadows } = await cluster(2, { logCommit: 'majority' });
    const [first, second] = shadows as [ShadowHost, ShadowHost];
    await soon(world, () => shadows.every((shadow) => agrees(master, shadow)));
    master.process.crash();
    await second.ask(m.Promote, {});
    first.process.crash();
    await soon(world, () => second.shadow.master !== undefined);
    t.match(await status(world, 'shadow2', SHADOW_PORT), { role: 'master', term: 2, lastTerm: 1 });
    const back = await new MasterHost(world, { logCommit: 'majority' }).start();
    t.match(
      await status(world),
      { role: 'master', term: 1, writable: false },
      'it waits for what the other says',
    );
    await first.start();
    const replaced = await world.until(back.master.replaced);
    t.match(replaced.message, `this master was replaced: shadow2:${SHADOW_PORT} serves`);
  },
);
