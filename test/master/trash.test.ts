import t from 'tap';
import { clientDefaults, GfsClient } from '../../client/index.js';
import { NodeInfo } from '../../fuse-client/node-info.js';
import { digestState } from '../../master/dump.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { TestChunkserver } from './chunkserver.js';
import { codeOf, MASTER_PORT, MasterHost, TestClient } from './support.js';

let seed = 7000;
const ROOT = m.ROOT_ID;
const HOUR_MS = 3_600_000;

async function started(changes = {}) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const client = await TestClient.start(world);
  const listed = async (who = client, body: Partial<{ under: string; path: string }> = {}) => {
    const files: m.DeletedFile[] = [];
    for (let after = 0; ; ) {
      const page = await who.call(m.ListDeleted, { after, limit: 2, ...body });
      files.push(...page.files);
      if (page.end) return files;
      after = page.next;
    }
  };
  const deleted = async (who = client, body = {}) => (await listed(who, body)).map(({ path }) => path);
  return { world, host, client, listed, deleted };
}

async function ordinary(world: SimulatedWorld, name: string, uid: number): Promise<TestClient> {
  return Object.assign(await TestClient.start(world, name), { uid, gids: [uid] });
}

t.test('trash: what was deleted and what was replaced by a rename is listed, oldest first', async (t) => {
  const { host, client, deleted, listed } = await started();
  const d = await client.mkdir(ROOT, 'd');
  for (const name of ['a', 'b', 'c', 'e']) await client.create(d, name);
  await client.unlink(d, 'b');
  await client.rename(d, 'c', d, 'a');
  await client.mutate(m.Link, { id: (await client.lookup('/d/e')).id, parent: ROOT, name: 'e2' });
  await client.unlink(d, 'e');
  t.strictSame(await deleted(), ['/d/b', '/d/a'], 'a file with another name is not deleted');
  t.strictSame(await deleted(client, { under: '/d' }), ['/d/b', '/d/a']);
  t.strictSame(await deleted(client, { under: '/elsewhere' }), []);
  t.strictSame(await deleted(client, { path: '/d/a' }), ['/d/a']);
  const [first] = await listed();
  t.equal(first?.retentionMs, host.options.retentionMs);
  t.equal((first?.attributes.mode ?? 0) & 0o777, 0o644);
});

t.test('trash: a file comes back under its name or another, with its mode, owner and times', async (t) => {
  const { world, host, client, deleted } = await started();
  const user = await ordinary(world, 'user', 1000);
  const d = await client.mkdir(ROOT, 'd');
  await client.mutate(m.SetAttributes, { id: d, changes: { mode: 0o777 } });
  const before = await user.make(d, 'a', 0o100640);
  const other = (await user.make(d, 'b', 0o100600)).id;
  await user.unlink(d, 'a');
  await user.unlink(d, 'b');
  const { attributes, path } = await user.mutate(m.Undelete, { id: before.id });
  t.equal(path, '/d/a');
  t.match(attributes, { id: before.id, mode: 0o100640, uid: 1000, mtimeSec: before.mtimeSec, nlink: 1 });
  t.equal((await client.lookup('/d/a')).id, before.id);
  t.equal((await user.mutate(m.Undelete, { id: other, parent: d, name: 'b2' })).path, '/d/b2');
  t.strictSame(await deleted(), []);
  const dump = digestState(host.master.state);
  await host.restart();
  t.equal(digestState(host.master.state), dump, 'the log says the same');
});

t.test(
  'trash: a name that is taken, a directory that is gone, a file that is not there: each says so',
  async (t) => {
    const { client } = await started();
    const d = await client.mkdir(ROOT, 'd');
    const a = await client.create(d, 'a');
    await client.unlink(d, 'a');
    await client.create(d, 'a');
    t.equal(await codeOf(client.mutate(m.Undelete, { id: a })), 'EXISTS');
    await client.unlink(d, 'a');
    await client.rmdir(ROOT, 'd');
    t.equal(await codeOf(client.mutate(m.Undelete, { id: a })), 'NOT_FOUND');
    t.equal(await codeOf(client.mutate(m.Undelete, { id: 424242 })), 'NOT_FOUND');
    t.equal(await codeOf(client.mutate(m.Undelete, { id: a, parent: ROOT, name: 'x/y' })), 'INVALID');
    t.equal((await client.mutate(m.Undelete, { id: a, parent: ROOT, name: 'a' })).path, '/a');
    t.equal(await codeOf(client.mutate(m.Undelete, { id: a })), 'NOT_FOUND', 'it is not deleted any more');
  },
);

t.test('trash: only its owner and root see a deleted file, bring it back or purge it', async (t) => {
  const { world, client, deleted } = await started();
  const owner = await ordinary(world, 'owner', 1000);
  const stranger = await ordinary(world, 'stranger', 1001);
  const d = await client.mkdir(ROOT, 'd');
  await client.mutate(m.SetAttributes, { id: d, changes: { mode: 0o777 } });
  const a = (await owner.make(d, 'a', 0o100666)).id;
  await owner.unlink(d, 'a');
  t.strictSame(await deleted(stranger), []);
  t.strictSame(await deleted(owner), ['/d/a']);
  t.equal(await codeOf(stranger.mutate(m.Undelete, { id: a })), 'ACCESS_DENIED');
  t.equal(await codeOf(stranger.mutate(m.Purge, { ids: [a] })), 'ACCESS_DENIED');
  t.equal(
    await codeOf(owner.mutate(m.Undelete, { id: a, parent: ROOT, name: 'a' })),
    'ACCESS_DENIED',
    'nor does it come back where its owner may not write',
  );
  t.equal(await codeOf(owner.mutate(m.Undelete, { id: a })), 'none');
});

t.test('trash: deleting there expedites, but not while somebody has the file open', async (t) => {
  const { world, host, client, deleted } = await started();
  const ids = [await client.create(ROOT, 'open'), await client.create(ROOT, 'shut')];
  const [open, shut] = ids as [number, number];
  await client.call(m.Renew, { opened: [open], closed: [] });
  await client.unlink(ROOT, 'open');
  await client.unlink(ROOT, 'shut');
  t.same(await client.mutate(m.Purge, { ids: [...ids, 999] }), { count: 2 });
  t.strictSame(await deleted(), [], 'at once, for everybody');
  t.equal(await codeOf(client.mutate(m.Undelete, { id: shut })), 'NOT_FOUND');
  await world.runFor(7_000);
  t.notOk(host.master.state.nodes.has(shut));
  t.ok(host.master.state.nodes.has(open));
  await client.call(m.Renew, { opened: [], closed: [open] });
  await world.runFor(3_000);
  t.notOk(host.master.state.nodes.has(open));
  t.equal(host.master.state.retentions.size, 0, 'nothing is remembered of what is gone');
});

t.test('retention: set on a directory, it is inherited by what is made in it from then on', async (t) => {
  const { world, host, client } = await started({ retentionMs: HOUR_MS });
  const d = await client.mkdir(ROOT, 'd');
  const before = await client.create(d, 'before');
  await client.mutate(m.SetRetention, { id: d, retentionMs: 10_000 });
  const sub = await client.mkdir(d, 'sub');
  const after = await client.create(sub, 'after');
  const of = (id: number) => client.call(m.GetRetention, { id });
  t.same(await of(before), { retentionMs: HOUR_MS, own: false });
  t.same(await of(after), { retentionMs: 10_000, own: true });
  await client.mutate(m.SetRetention, { id: sub });
  t.same(await of(sub), { retentionMs: HOUR_MS, own: false }, 'taken back');
  await host.restart();
  await client.register(client.session);
  await client.call(m.Renew, { opened: [], closed: [] });
  t.same(await of(after), { retentionMs: 10_000, own: true }, 'it is logged');
  await client.mutate(m.Snapshot, { id: after, parent: ROOT, name: 'copy' });
  t.same(await of((await client.lookup('/copy')).id), { retentionMs: 10_000, own: true });
  await client.unlink(d, 'before');
  await client.unlink(sub, 'after');
  await world.runFor(15_000);
  t.notOk(host.master.state.nodes.has(after));
  t.ok(host.master.state.nodes.has(before));
  const pipe = await client.make(ROOT, 'pipe', 0o010644);
  t.equal(await codeOf(client.mutate(m.SetRetention, { id: pipe.id, retentionMs: 1 })), 'INVALID');
});

t.test('bad input: a retention that does not parse is refused, and nothing changes', async (t) => {
  const { world, host, client } = await started();
  const d = await client.mkdir(ROOT, 'd');
  await client.mutate(m.SetRetention, { id: d, retentionMs: 10_000 });
  const options = { ...clientDefaults, masters: [{ host: 'master', port: MASTER_PORT }] };
  const gfs = await world.until(GfsClient.connect(world.process('mount').environment, options));
  const info = new NodeInfo(gfs);
  const caller = { uid: 0, gid: 0, pid: 1, signal: new AbortController().signal };
  const before = digestState(host.master.state);
  for (const text of [
    '',
    'soon',
    '3',
    '-1d',
    '3 days',
    '3x',
    'd',
    '1d 2h',
    '1e3s',
    '0x10s',
    '99999d',
    'NaN',
    '∞',
  ]) {
    const refused = world.until(info.setRetention(caller, d, text));
    await t.rejects(refused, { code: 'INVALID', message: /is not a time of up to 3650d/ }, `"${text}"`);
  }
  for (const raw of [-1, 0.5, 2 ** 53, Number.NaN, '3d', []]) {
    const asked = client.mutate(m.SetRetention, { id: d, retentionMs: raw as number });
    t.equal(await codeOf(asked), 'MALFORMED', `${JSON.stringify(raw)}, which our clients would not send`);
  }
  t.equal(digestState(host.master.state), before, 'the state is as it was');
  t.same(await client.call(m.GetRetention, { id: d }), { retentionMs: 10_000, own: true });
  await world.until(info.setRetention(caller, d, '3d'));
  t.equal(await world.until(info.retention(caller, d)), '3d', 'and one that parses is taken');
});

t.test('trash: a full cluster reclaims the oldest first, however long they were to be kept', async (t) => {
  const { world, host, client, deleted } = await started();
  const servers = [];
  for (let at = 0; at < 3; at++) servers.push(await TestChunkserver.start(world, `cs${at}`));
  for (let at = 0; at < 100; at++) await client.create(ROOT, `f${at}`);
  for (let at = 0; at < 100; at++) await client.unlink(ROOT, `f${at}`);
  for (const server of servers) {
    server.availableBytes = 1;
    await server.heartbeat();
  }
  await world.runFor(1_100);
  const left = await deleted();
  t.ok(left.length > 0 && left.length < 100, `${left.length} are left`);
  t.equal(left.at(-1), '/f99');
  t.notOk(left.includes('/f0'));
  for (const server of servers) {
    server.availableBytes = 90 * 1024 ** 3;
    await server.heartbeat();
  }
  await world.runFor(5_000);
  t.same(await deleted(), left, 'and keeps the rest once there is room');
  t.ok(host.master.state.deleted.size > 0);
});

t.test('trash: readers of a long list meet each file once, whatever comes and goes meanwhile', async (t) => {
  const { client, listed } = await started();
  for (let at = 0; at < 20; at++) await client.create(ROOT, `f${at}`);
  for (let at = 0; at < 20; at++) await client.unlink(ROOT, `f${at}`);
  const ids = (await listed()).map(({ attributes }) => attributes.id);
  const first = await client.call(m.ListDeleted, { after: 0, limit: 5 });
  await client.mutate(m.Undelete, { id: ids[4] as number });
  await client.mutate(m.Undelete, { id: ids[6] as number });
  const second = await client.call(m.ListDeleted, { after: first.next, limit: 5 });
  t.strictSame(
    second.files.map(({ attributes }) => attributes.id),
    [ids[5], ids[7], ids[8], ids[9], ids[10]],
  );
});
