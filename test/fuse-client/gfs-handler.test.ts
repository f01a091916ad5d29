/** What a mount tells the kernel, over a simulated cluster: above all when things happened, whatever its host's clock shows. */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import { GfsHandler } from '../../fuse-client/gfs-handler.js';
import type { Context } from '../../fuse-client/handler.js';
import { OpenFlags } from '../../fuse-client/handler.js';
import { mountDefaults } from '../../fuse-client/options.js';
import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import { startTwoClients } from '../client/two-clients.js';

t.setTimeout(600_000);

let seed = 8700;
const FALLOC_PUNCH = 3;
/** What a message of the simulated network may take. */
const MESSAGE_NS = 20_000_000n;
const never = { aborted: false, addEventListener: () => undefined, removeEventListener: () => undefined };
const context: Context = { uid: 0, gid: 0, pid: 1, signal: never };

/** Two mounts, of which one's host counts time as it likes. */
async function setUp(skewMs = 0) {
  const cluster = await startTwoClients(seed++);
  const { world, a, b, sleep } = cluster;
  world.host('a').wallSkewMs = skewMs;
  const mount = (host: string, client: GfsClient) =>
    world.until(
      GfsHandler.create(world.process(host).environment, client, { ...mountDefaults, directory: '/mnt' }),
    );
  const [here, there] = [await mount('a', a), await mount('b', b)];
  const made = await world.until(here.create(context, m.ROOT_ID, 'file', 0o644, OpenFlags.RDWR, 0));
  const { handle } = made;
  const { id } = made.entry.attributes;
  const seenBy = async (handler: GfsHandler) => {
    const { attributes } = await world.until(Promise.resolve(handler.getattr(context, id)));
    const { atimeSec, atimeNsec, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec } = attributes;
    return {
      atime: BigInt(atimeSec) * 1_000_000_000n + BigInt(atimeNsec),
      mtime: BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec),
      ctime: BigInt(ctimeSec) * 1_000_000_000n + BigInt(ctimeNsec),
    };
  };
  const masterNow = () => {
    const { sec, nsec } = world.process('master').environment.clock.wallTime();
    return BigInt(sec) * 1_000_000_000n + BigInt(nsec);
  };
  const write = (text: string) => world.until(here.write(context, id, handle, 0, Buffer.from(text), 0));
  return { ...cluster, here, there, id, handle, seenBy, masterNow, write, sleep };
}

type Mounts = Awaited<ReturnType<typeof setUp>>;

/** What changes the ctime; and with it the mtime, or not. */
const CHANGES: readonly (readonly [string, 'mtime' | 'ctime', (on: Mounts) => Promise<unknown>])[] = [
  ['punch past the end', 'mtime', (on) => on.here.fallocate(context, on.id, on.handle, FALLOC_PUNCH, 0, 9)],
  ['chown to nobody else', 'ctime', (on) => on.here.setattr(context, on.id, {})],
  ['write', 'mtime', (on) => on.here.write(context, on.id, on.handle, 0, Buffer.from('one'), 0)],
  ['chmod after it', 'ctime', (on) => on.here.setattr(context, on.id, { mode: 0o600 })],
  ['write again', 'mtime', (on) => on.here.write(context, on.id, on.handle, 0, Buffer.from('two'), 0)],
  ['link', 'ctime', (on) => on.here.link(context, on.id, m.ROOT_ID, 'second')],
  ['write to two names', 'mtime', (on) => on.here.write(context, on.id, on.handle, 0, Buffer.from('4'), 0)],
  ['rename', 'ctime', (on) => on.here.rename(context, m.ROOT_ID, 'file', m.ROOT_ID, 'new', 'replace')],
  ['truncate', 'mtime', (on) => on.here.setattr(context, on.id, { size: 2 })],
  [
    'append',
    'mtime',
    (on) => on.here.write(context, on.id, on.handle, 2, Buffer.from('6'), OpenFlags.APPEND),
  ],
  ['punch', 'mtime', (on) => on.here.fallocate(context, on.id, on.handle, FALLOC_PUNCH, 0, 3)],
  ['set an attribute', 'ctime', (on) => setXattr(on)],
  ['write beside it', 'mtime', (on) => on.here.write(context, on.id, on.handle, 0, Buffer.from('7'), 0)],
  ['touch', 'mtime', (on) => on.here.setattr(context, on.id, { atime: 'now', mtime: 'now' })],
  ['write after it', 'mtime', (on) => on.here.write(context, on.id, on.handle, 0, Buffer.from('8'), 0)],
  ['unlink one of two', 'ctime', (on) => on.here.unlink(context, m.ROOT_ID, 'second')],
];

function setXattr({ here, id }: Mounts): Promise<void> {
  return here.setxattr(context, id, 'user.a', Buffer.from('1'), 'either', false);
}

for (const skewMs of [-5_000, -2, -0.3, 0, 0.3, 2, 5_000]) {
  t.test(
    `times: a host ${skewMs} ms off the master's clock changes files when the master says`,
    async (t) => {
      const on = await setUp(skewMs);
      const { world, here, there, id, handle, seenBy, masterNow, sleep } = on;
      let before = await seenBy(here);
      for (const [name, kind, change] of CHANGES) {
        await sleep(0.1);
        const startedAt = masterNow();
        await world.until(change(on));
        const after = await seenBy(here);
        t.ok(after.ctime > before.ctime, `${name}: a new ctime`);
        t.ok(
          after.ctime < masterNow() + MESSAGE_NS,
          `${name}: which has come, as far as clocks do not drift`,
        );
        if (kind === 'ctime') t.equal(after.mtime, before.mtime, `${name}: the old mtime`);
        else {
          t.ok(after.mtime > before.mtime, `${name}: a new mtime`);
          const lateNs = startedAt - after.mtime;
          t.ok(lateNs < MESSAGE_NS, `${name}: of then, or ${lateNs} ns before, which a message takes`);
        }
        t.same(await seenBy(here), after, `${name}: and it stays`);
        before = after;
      }
      await world.until(here.fsync(context, id, handle, false));
      await sleep(50);
      t.same(await seenBy(here), before, 'when the master is told, they stay');
      t.same(await seenBy(there), before, 'and are seen elsewhere');
    },
  );
}

/** Has a client wait before it asks for such mutations. */
function slowDown(client: GfsClient, method: { readonly name: string }, wait: () => Promise<void>): void {
  const { master } = client;
  const mutate = master.mutate.bind(master);
  master.mutate = (async (...words: Parameters<typeof mutate>) => {
    if ((words[0] as { name: string }).name === method.name) await wait();
    return mutate(...words);
  }) as typeof mutate;
}

t.test('times: what was written later elsewhere, and told first, does not hide what comes now', async (t) => {
  const { world, there, here, id, handle, write, seenBy, sleep } = await setUp();
  await write('early');
  await sleep(5);
  const other = await world.until(Promise.resolve(there.open(context, id, OpenFlags.RDWR)));
  await world.until(there.write(context, id, other.handle, 0, Buffer.from('later'), 0));
  await world.until(there.fsync(context, id, other.handle, false));
  const seen = await seenBy(there);
  await sleep(5);
  await world.until(here.fsync(context, id, handle, false));
  const after = await seenBy(there);
  t.ok(after.mtime > seen.mtime);
  t.ok(after.ctime > seen.ctime);
});

t.test('times: what was written after an mtime to come was set keeps its time over a rename', async (t) => {
  const { world, here, id, handle, write, seenBy, sleep } = await setUp();
  await world.until(here.setattr(context, id, { mtime: { sec: 4_000_000_000, nsec: 1 } }));
  await sleep(5);
  await write('now');
  await sleep(5);
  await world.until(here.rename(context, m.ROOT_ID, 'file', m.ROOT_ID, 'new', 'replace'));
  const before = await seenBy(here);
  await sleep(5);
  await world.until(here.flush(context, id, handle, 0n) as Promise<void>);
  t.same(await seenBy(here), before);
});

t.test('times: a ctime does not go back when the clock of the master does', async (t) => {
  const { world, here, there, id, handle, write, seenBy, sleep } = await setUp();
  await write('one');
  await world.until(here.flush(context, id, handle, 0n) as Promise<void>);
  let before = await seenBy(there);
  world.host('master').wallSkewMs = -5_000;
  await sleep(1_000);
  const changes: (() => Promise<unknown>)[] = [
    () => here.setattr(context, id, { mode: 0o600 }),
    () => write('two').then(() => here.flush(context, id, handle, 0n)),
    () => here.setattr(context, id, { size: 1 }),
  ];
  for (const change of changes) {
    await world.until(change());
    const after = await seenBy(there);
    t.ok(after.ctime > before.ctime);
    before = after;
  }
});

t.test('times: a time of access that was set is not replaced by a read before it', async (t) => {
  const { world, a, here, there, id, handle, write, seenBy, sleep } = await setUp();
  // As where the connection breaks on the way, and it is told again.
  slowDown(a, m.NoteAccess, () => new Promise((resolve) => world.scheduler.after(300, resolve)));
  await write('read me');
  await world.until(here.read(context, id, handle, 0, 10));
  // The master hears of it after a second.
  await sleep(1_010);
  await world.until(here.setattr(context, id, { atime: { sec: 1_000_000_000, nsec: 5 } }));
  await sleep(1_000);
  t.equal((await seenBy(here)).atime, 1_000_000_000_000_000_005n);
  t.equal((await seenBy(there)).atime, 1_000_000_000_000_000_005n);
});

t.test('times: nor by a read on another mount, which the master hears of later', async (t) => {
  const { world, b, here, there, id, handle, write, seenBy, sleep } = await setUp();
  await write('read me');
  await world.until(here.fsync(context, id, handle, false));
  slowDown(b, m.NoteAccess, () => new Promise((resolve) => world.scheduler.after(300, resolve)));
  const other = await world.until(Promise.resolve(there.open(context, id, OpenFlags.RDONLY)));
  await world.until(there.read(context, id, other.handle, 0, 10));
  await sleep(1_010);
  await world.until(here.setattr(context, id, { atime: { sec: 1_000_000_000, nsec: 5 } }));
  await sleep(1_000);
  t.equal((await seenBy(here)).atime, 1_000_000_000_000_000_005n);
  t.equal((await seenBy(there)).atime, 1_000_000_000_000_000_005n);
  await world.until(there.read(context, id, other.handle, 0, 10));
  await sleep(2_000);
  t.ok((await seenBy(here)).atime > 1_700_000_000_000_000_000n, 'a later read counts');
});

t.test('times: nor where several mounts keep changing a directory, and nothing is promised', async (t) => {
  const { world, here, there, sleep } = await setUp();
  for (let i = 0; i < 8; i++)
    await world.until((i % 2 === 0 ? here : there).mkdir(context, m.ROOT_ID, `d${i}`, 0o755, 0));
  const { handle } = await Promise.resolve(there.opendir(context, m.ROOT_ID));
  await world.until(Promise.resolve(there.readdir(context, m.ROOT_ID, handle, 0, true, 4096)));
  const seen = async (handler: GfsHandler) =>
    (await world.until(Promise.resolve(handler.getattr(context, m.ROOT_ID)))).attributes.atimeSec;
  const isReadAt = await seen(there);
  await world.until(here.setattr(context, m.ROOT_ID, { atime: { sec: 1_000_000_000, nsec: 5 } }));
  t.not(isReadAt, 1_000_000_000);
  t.equal(await seen(there), 1_000_000_000);
  await sleep(3_000);
  t.equal(await seen(here), 1_000_000_000);
  t.equal(await seen(there), 1_000_000_000);
});

t.test('locks: F_OFD_GETLK with F_UNLCK finds a lock of its own', async (t) => {
  const { world, here, id, handle } = await setUp();
  const whole = { type: 'write', start: 0n, end: 2n ** 63n - 1n, pid: 1, owner: 5n, flock: false } as const;
  const ask = async (owner: bigint, start: bigint) => {
    const asked = { ...whole, type: 'unlock', owner, start } as const;
    return (await world.until(here.getlk(context, id, handle, asked))).type;
  };
  await world.until(here.setlk(context, id, handle, { ...whole, end: 99n }, false));
  t.equal(await ask(5n, 99n), 'write');
  t.equal(await ask(5n, 100n), 'unlock');
  t.equal(await ask(6n, 0n), 'unlock', 'not of others');
});

t.test(
  'times: a time of access outlives what is written after it, and not what another mount sets',
  async (t) => {
    const { world, here, there, id, handle, write, seenBy, sleep } = await setUp();
    const old = { sec: 1_000_000_000, nsec: 5 };
    const setTimes = (on: GfsHandler) => world.until(on.setattr(context, id, { atime: old, mtime: old }));
    const read = () => world.until(here.read(context, id, handle, 0, 10));
    await write('read me');
    for (const round of ['flushed at once', 'flushed later']) {
      await setTimes(here);
      await seenBy(here);
      await read();
      const { atime } = await seenBy(here);
      t.ok(atime > 1_000_000_000_000_000_005n, `${round}: it is read`);
      await sleep(10);
      await write('changed');
      if (round === 'flushed at once') await world.until(here.fsync(context, id, handle, false));
      t.equal((await seenBy(here)).atime, atime);
      await sleep(2_000);
      for (const mount of [here, there]) t.equal((await seenBy(mount)).atime, atime, `${round}: it stays`);
      await read();
      await sleep(10);
      await setTimes(there);
      await seenBy(here);
      await read();
      const other = { sec: 1_000_000_001, nsec: 5 };
      await world.until(there.setattr(context, id, { atime: other }));
      await sleep(2_000);
      for (const mount of [here, there])
        t.equal((await seenBy(mount)).atime, 1_000_000_001_000_000_005n, `${round}: what was set stays`);
    }
  },
);

t.test('open: with O_TRUNC that fails no handle stays open', async (t) => {
  const { world, a, here, id, handle } = await setUp();
  here.release(context, id, handle, 0n, false);
  t.equal(a.usage.openFiles, 0);
  slowDown(a, m.SetAttributes, () => Promise.reject(new GfsError('NO_SPACE')));
  const opened = Promise.resolve(here.open(context, id, OpenFlags.RDWR | OpenFlags.TRUNC));
  await t.rejects(world.until(opened), { code: 'NO_SPACE' });
  t.equal(a.usage.openFiles, 0);
});
