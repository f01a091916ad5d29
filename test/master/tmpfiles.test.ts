/** Files made without a name (O_TMPFILE): who may have them, when they go, and what a replay makes of them. */
import t from 'tap';
import { digestState } from '../../master/dump.js';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { TestChunkserver } from './chunkserver.js';
import { ShadowHost } from './shadow.js';
import { codeOf, MasterHost, TestClient, throughImage } from './support.js';

let seed = 24_000;
const ROOT = m.ROOT_ID;
const HOUR_MS = 3_600_000;

async function started(changes = {}) {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, changes).start();
  const client = await TestClient.start(world);
  const tmpfile = async (parent = ROOT, who = client) =>
    (await who.mutate(m.CreateTmpfile, { parent, mode: 0o600 })).attributes;
  const says = (opened: number[], closed: number[] = []) => client.call(m.Renew, { opened, closed });
  const isThere = (id: number) => host.master.state.nodes.has(id);
  return { world, host, client, tmpfile, says, isThere };
}

t.test("tmpfile: it has no name, changes no directory, and is nobody else's to find", async (t) => {
  const { world, host, client, tmpfile } = await started();
  const d = await client.mkdir(ROOT, 'd');
  const before = await client.lookup('/d');
  await world.runFor(10);
  const made = await tmpfile(d);
  t.match(made, { nlink: 0, mode: 0o100600, size: 0 });
  t.same(await client.lookup('/d'), before);
  t.same(await client.names(d), []);
  t.same((await client.call(m.ListDeleted, { after: 0, limit: 10 })).files, [], 'not in the trash');
  t.equal(await codeOf(client.mutate(m.Undelete, { id: made.id, parent: d, name: 'x' })), 'NOT_FOUND');
  t.equal(await codeOf(client.mutate(m.Purge, { ids: [made.id] })), 'NOT_FOUND');
  const { files, deletedFiles } = await client.call(m.GetStatus, {});
  t.strictSame([files, deletedFiles], [0, 1]);
  const tree = await client.call(m.CheckTree, {
    root: ROOT,
    deleted: true,
    cursor: { stack: [], chunks: 0, deleted: 0 },
  });
  t.equal(tree.deletedFiles, 1, 'fsck counts it with those that have no name any more');
  await client.rmdir(ROOT, 'd');
  t.equal(await codeOf(client.mutate(m.CreateTmpfile, { parent: d, mode: 0o600 })), 'NOT_PERMITTED');
  t.equal(await codeOf(client.mutate(m.CreateTmpfile, { parent: made.id, mode: 0o600 })), 'NOT_DIRECTORY');
  t.equal(await codeOf(client.mutate(m.CreateTmpfile, { parent: 4711, mode: 0o600 })), 'STALE_NODE');
  t.equal(digestState(throughImage(host.master.state)), digestState(host.master.state));
});

t.test('tmpfile: a link makes it a file like others; one that was unlinked gets no name again', async (t) => {
  const { host, client, tmpfile } = await started();
  const { id } = await tmpfile();
  t.equal(await codeOf(client.mutate(m.Link, { id, parent: 4711, name: 'a' })), 'STALE_NODE');
  const { attributes } = await client.mutate(m.Link, { id, parent: ROOT, name: 'a' });
  t.match(attributes, { id, nlink: 1 });
  t.equal((await client.lookup('/a')).id, id);
  await client.mutate(m.Link, { id, parent: ROOT, name: 'b' });
  t.equal((await client.call(m.GetStatus, {})).files, 1);
  await client.unlink(ROOT, 'a');
  await client.unlink(ROOT, 'b');
  t.equal(await codeOf(client.mutate(m.Link, { id, parent: ROOT, name: 'c' })), 'NOT_FOUND');
  const { files } = await client.call(m.ListDeleted, { after: 0, limit: 10 });
  t.strictSame(
    files.map(({ path }) => path),
    ['/b'],
    'now it is in the trash',
  );
  const digest = digestState(host.master.state);
  await host.restart();
  t.equal(digestState(host.master.state), digest);
});

t.test('tmpfile: it is there as long as somebody has it open, and gone soon after', async (t) => {
  const { world, tmpfile, says, isThere } = await started();
  const { id } = await tmpfile();
  await says([id]);
  await world.runFor(2 * HOUR_MS);
  t.ok(isThere(id));
  await says([], [id]);
  await world.runFor(2_000);
  t.notOk(isThere(id));
  const short = (await tmpfile()).id;
  await says([], [short]);
  await world.runFor(2_000);
  t.notOk(isThere(short), 'also when it was closed before the master heard that it was open');
  const silent = (await tmpfile()).id;
  await world.runFor(30_000);
  t.ok(isThere(silent), 'its author may not have heard the answer yet');
  await world.runFor(60_000);
  t.notOk(isThere(silent));
});

t.test('tmpfile: it outlives the master, and what is closed after a restart goes', async (t) => {
  const { world, host, client, tmpfile, says, isThere } = await started();
  const [kept, closed] = [(await tmpfile()).id, (await tmpfile()).id];
  await says([kept, closed]);
  for (const again of [() => host.restart(), () => host.powerCycle()]) {
    const digest = digestState(host.master.state);
    await again();
    t.equal(digestState(host.master.state), digest);
    await world.runFor(90_000);
    t.ok(isThere(kept) && isThere(closed), 'nothing goes before its author has told what is open');
    await client.register(client.session);
  }
  await says([kept], [closed]);
  await world.runFor(90_000);
  t.ok(isThere(kept));
  t.notOk(isThere(closed));
});

t.test('tmpfile: the end of the session that has it is its end, in order or by silence', async (t) => {
  const { world, client, tmpfile, says, isThere, host } = await started();
  const other = await TestClient.start(world, 'other');
  const ended = (await tmpfile(ROOT, other)).id;
  await other.call(m.Renew, { opened: [ended], closed: [] });
  await world.runFor(90_000);
  t.ok(isThere(ended));
  await other.call(m.EndSession, {});
  await world.runFor(2_000);
  t.notOk(isThere(ended));

  const { id } = await tmpfile();
  await says([id]);
  client.process.crash();
  await world.runFor(HOUR_MS / 2);
  t.ok(isThere(id), 'its mount may come back');
  await world.runFor(HOUR_MS / 2 + 10_000);
  t.notOk(isThere(id));
  t.equal(host.master.state.deleted.size, 0);
});

t.test('tmpfile: a full cluster gives up no file that may be open', async (t) => {
  const { world, client, tmpfile, isThere } = await started();
  const servers = [];
  for (let at = 0; at < 3; at++) servers.push(await TestChunkserver.start(world, `cs${at}`));
  const { id } = await tmpfile();
  const deleted = await client.create(ROOT, 'deleted');
  await client.unlink(ROOT, 'deleted');
  for (const server of servers) {
    server.availableBytes = 1;
    await server.heartbeat();
  }
  await world.runFor(1_500);
  t.ok(isThere(id));
  t.notOk(isThere(deleted));
});

t.test('tmpfile: a shadow has what the master has', async (t) => {
  const { world, host, client, tmpfile } = await started();
  const shadow = await new ShadowHost(world, 'shadow').start();
  const { id } = await tmpfile();
  await tmpfile();
  await client.mutate(m.Link, { id, parent: ROOT, name: 'a' });
  await world.runFor(1_000);
  t.equal(shadow.digest, digestState(host.master.state));
});

t.test('tmpfile: asked for again it is the same file', async (t) => {
  const { client } = await started();
  const body = { parent: ROOT, mode: 0o600 };
  const first = await client.mutate(m.CreateTmpfile, body);
  const again = await client.call(m.CreateTmpfile, body, { sequence: client.sequence });
  t.equal(again.attributes.id, first.attributes.id);
});
