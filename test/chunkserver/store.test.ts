import t from 'tap';
import { Store } from '../../chunkserver/store/store.js';
import { type FakeProcess, SimulatedWorld } from '../fakes/index.js';
import { contentOf, contextOf, openStore, ROOT } from './store-model.js';
import { pattern } from './support.js';

t.setTimeout(600_000);

const CHUNK_FILE = `${ROOT}/chunks/01/00000000000001.chunk`;
const SIDECAR = `${ROOT}/chunks/01/00000000000001.sums`;

function newWorld(seed = 1, diskBytes?: number) {
  const world = new SimulatedWorld(seed);
  const host = world.host('a', diskBytes === undefined ? {} : { diskBytes });
  return { world, host, process: host.start('chunkserver') };
}

let serial = 2 ** 24;
const write = (store: Store, offset: number, bytes: Uint8Array) =>
  store.get(1).mutate({ kind: 'write', serial: ++serial, offset, bytes, session: 1, sequence: serial });

/** The newest journal segment's path. */
function newestSegment(host: { disk: { namesIn(path: string): string[] } }): string {
  return `${ROOT}/journal/${host.disk.namesIn(`${ROOT}/journal`).at(-1)}`;
}

/** Of each step: what a host crash leaves is a matter of luck. */
const RUNS = 5;

for (const how of ['kill', 'host'] as const) {
  t.test(
    `overwrite: ${how} crash at every step of it: the old or the new, never anything else`,
    async (t) => {
      const old = pattern(200_000, 1);
      const change = pattern(70_000, 2);
      const changed = Buffer.from(old);
      change.copy(changed, 30_000);
      const seen = { old: 0, new: 0 };
      for (let run = 0, finished = 0; finished < RUNS; run++) {
        const step = Math.floor(run / RUNS);
        const { world, host, process } = newWorld(run + 1);
        const store = await world.until(openStore(process));
        await world.until(store.create(1, 1));
        await world.until(write(store, 0, old));
        await world.until(store.directories[0]!.checkpointNow());
        let left = step;
        host.disk.inject = (operation) => {
          if (operation !== 'read' && operation !== 'list' && left-- === 0) {
            world.scheduler.after(0, () => (how === 'kill' ? process.crash() : host.crash()));
          }
          return undefined;
        };
        const { timers } = process.environment;
        const moment = () => new Promise<void>((resolve) => timers.after(1, resolve));
        const work = write(store, 30_000, change)
          .then(moment)
          .then(() => store.get(1).sync())
          .then(() => store.directories[0]!.checkpointNow());
        work.catch(() => undefined);
        await world.runFor(500);
        host.disk.inject = undefined;
        if (process.alive) finished++;
        if (process.alive) process.crash();
        if (!host.up) host.boot();
        const recovered = await world.until(openStore(host.start('again')));
        const content = await world.until(contentOf(recovered.get(1)));
        if (content.equals(old)) seen.old++;
        else if (content.equals(changed)) seen.new++;
        else t.fail(`step ${step}: ${content.byteLength} bytes that are neither`);
      }
      t.ok(seen.new > 3 * RUNS, `new ${seen.new} times`);
      if (how === 'host') t.ok(seen.old > 0, `old ${seen.old} times`);
    },
  );
}

t.test('journal: a tail torn at any byte is cut, what is before it stays', async (t) => {
  for (let lost = 1; lost < 330; lost += 7) {
    const { world, host, process } = newWorld(lost);
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    for (let i = 0; i < 4; i++) await world.until(write(store, i * 100, pattern(100, i)));
    process.crash();
    const path = newestSegment(host);
    const { disk } = host.start('vandal').environment;
    // Behind the records there may be zeros, written ahead.
    const size = Buffer.from(host.disk.contentOf(path)!).findLastIndex((byte) => byte !== 0) + 1;
    const file = await world.until(disk.open(path, 'write'));
    await world.until(file.truncate(size - lost));
    const recovered = await world.until(openStore(host.start('again')));
    const content = await world.until(contentOf(recovered.get(1)));
    const records = content.byteLength / 100;
    const whole = Buffer.concat([0, 1, 2, 3].map((i) => pattern(100, i)));
    t.ok(Number.isInteger(records) && content.equals(whole.subarray(0, records * 100)), `${lost} bytes lost`);
    t.ok(records >= 1 && records < 4);
    await world.until(write(recovered, content.byteLength, Buffer.from('goes on')));
    host.processes.forEach((each: FakeProcess) => each.crash());
    const again = await world.until(openStore(host.start('third')));
    const expected = Buffer.concat([content, Buffer.from('goes on')]);
    t.ok((await world.until(contentOf(again.get(1)))).equals(expected));
  }
});

t.test('journal: after a checkpoint what was never flushed may be lost in any order', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const { world, host, process } = newWorld(seed);
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    await world.until(write(store, 0, pattern(1_000, 1)));
    for (const directory of store.directories) await world.until(directory.checkpointNow());
    // The first records of a segment whose predecessors are gone.
    for (let i = 0; i < 4; i++) await world.until(write(store, 1_000 + i * 9_000, pattern(9_000, i)));
    host.crash();
    host.boot();
    const recovered = await world.until(openStore(host.start('again')));
    const content = await world.until(contentOf(recovered.get(1)));
    t.ok(content.subarray(0, 1_000).equals(pattern(1_000, 1)), `seed ${seed}`);
  }
});

t.test('journal: damage before what was flushed stops the start, and names file and place', async (t) => {
  const { world, host, process } = newWorld();
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  for (let i = 0; i < 4; i++) {
    await world.until(write(store, i * 100, pattern(100, i)));
    await world.until(store.get(1).sync());
  }
  process.crash();
  const path = newestSegment(host);
  host.disk.flipBit(path, 150);
  await t.rejects(world.until(openStore(host.start('again'))), {
    message: /journal\/.*\.log: damaged at byte \d+/,
  });
});

t.test(
  'host crash: what was written past the journal and not flushed is cut, and the replica suspect',
  async (t) => {
    let cut = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const { world, host, process } = newWorld(seed);
      const store = await world.until(openStore(process));
      await world.until(store.create(1, 1));
      const synced = pattern(131_072, 1);
      await world.until(write(store, 0, synced));
      await world.until(store.get(1).sync());
      await world.until(write(store, 131_072, pattern(262_144, 2)));
      // The record is flushed for somebody else's sake, the data is not.
      await world.until(store.directories[0]!.journal.sync());
      host.crash();
      host.boot();
      const recovered = await world.until(openStore(host.start('again')));
      const content = await world.until(contentOf(recovered.get(1)));
      const whole = Buffer.concat([synced, pattern(262_144, 2)]);
      t.ok(content.byteLength >= synced.byteLength && content.equals(whole.subarray(0, content.byteLength)));
      t.ok(recovered.get(1).state.suspect);
      if (content.byteLength < whole.byteLength) cut++;
      await world.until(recovered.get(1).settle(serial, new Uint8Array(0)));
      t.notOk(recovered.get(1).state.suspect, 'until it was repaired');
    }
    t.ok(cut > 0, `cut ${cut} times`);
  },
);

/** A chunk with two blocks that were synced, and whatever else is done to it before the host crashes. */
async function afterHostCrash(
  seed: number,
  what: { readonly losesAll?: boolean; readonly flippedBit?: number; readonly unsynced?: [number, Buffer] },
): Promise<Awaited<ReturnType<typeof openAfterCrash>>> {
  const { world, host, process } = newWorld(seed);
  host.disk.losesAll = what.losesAll ?? false;
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  await world.until(write(store, 0, pattern(131_072, 1)));
  await world.until(store.get(1).sync());
  if (what.unsynced !== undefined) await world.until(write(store, ...what.unsynced));
  if (what.flippedBit !== undefined) host.disk.flipBit(CHUNK_FILE, what.flippedBit);
  return openAfterCrash(world, host);
}

async function openAfterCrash(world: SimulatedWorld, host: ReturnType<typeof newWorld>['host']) {
  host.crash();
  host.boot();
  const process = host.start('again');
  const store = await world.until(openStore(process));
  return { world, host, process, store, length: store.get(1).state.length };
}

t.test('host crash: a bit that flips in what was synced is damage, and cuts nothing', async (t) => {
  const synced = pattern(131_072, 1);
  const flippedBit = 70_000;
  for (let seed = 1; seed <= 4; seed++) {
    for (const losesAll of [false, true]) {
      const later: Record<string, { unsynced?: [number, Buffer]; lengths: readonly number[] }> = {
        'nothing was written later': { lengths: [131_072] },
        'a large write behind it was not synced': {
          unsynced: [131_072, pattern(262_144, 2)],
          lengths: [131_072, 393_216],
        },
        'small writes over it were not synced': { unsynced: [66_000, pattern(3_000, 3)], lengths: [131_072] },
      };
      for (const [name, { lengths, ...unsynced }] of Object.entries(later)) {
        const { world, host, process, store, length } = await afterHostCrash(seed, {
          losesAll,
          flippedBit,
          ...unsynced,
        });
        t.ok(lengths.includes(length), `${name}: ${length} bytes are left`);
        await t.rejects(world.until(contentOf(store.get(1))), { code: 'CHUNK_CORRUPT' }, name);
        t.same([store.get(1).state.version, store.get(1).state.suspect], [1, true]);
        process.crash();
        const third = await openAfterCrash(world, host);
        t.equal(third.length, length, 'also after another crash');
        await t.rejects(third.world.until(contentOf(third.store.get(1))), { code: 'CHUNK_CORRUPT' }, name);
      }
    }
  }
  // Without the flipped bit each of them is whole.
  const { world, store } = await afterHostCrash(1, { losesAll: true, unsynced: [66_000, pattern(3_000, 3)] });
  t.ok((await world.until(contentOf(store.get(1)))).equals(synced));
});

t.test(
  'host crash: a large write that was torn, and never synced, is cut and not called damaged',
  async (t) => {
    const { world, host, process } = newWorld();
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    await world.until(write(store, 0, pattern(131_072, 1)));
    await world.until(store.directories[0]!.journal.sync());
    // The flip takes the file to the disk as it is: all of it but for one bit, as far as the journal knows a torn write.
    host.disk.flipBit(CHUNK_FILE, 70_000);
    const again = await openAfterCrash(world, host);
    t.equal(again.length, 0);
  },
);

t.test('sync: it has ended when the journal says on the disk that the file was flushed', async (t) => {
  let checked = 0;
  for (let step = 0; ; step++) {
    const { world, host, process } = newWorld(step + 1);
    host.disk.losesAll = true;
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    await world.until(store.get(1).sync());
    await world.until(write(store, 0, pattern(131_072, 1)));
    let left = step;
    host.disk.inject = () => {
      if (left-- === 0) world.scheduler.after(0, () => host.crash());
      return undefined;
    };
    let synced = false;
    void store
      .get(1)
      .sync()
      .then(() => {
        synced = true;
        host.disk.flipBit(CHUNK_FILE, 70_000);
        host.crash();
      });
    await world.runFor(500);
    host.disk.inject = undefined;
    const again = await openAfterCrash(world, host);
    checked++;
    if (!synced) {
      const content = await world.until(contentOf(again.store.get(1)));
      t.ok(
        content.byteLength === 0 || content.equals(pattern(131_072, 1)),
        `step ${step}: ${content.byteLength}`,
      );
      continue;
    }
    await t.rejects(world.until(contentOf(again.store.get(1))), { code: 'CHUNK_CORRUPT' });
    break;
  }
  t.ok(checked > 2, `${checked} steps`);
});

t.test('host crash: a write whose end was lost is gone as a whole, and not remembered as done', async (t) => {
  const { world, host, process } = newWorld();
  host.disk.losesAll = true;
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  // Its end is in the middle of a block, where the next write begins.
  const synced = pattern(100_000, 1);
  await world.until(write(store, 0, synced));
  await world.until(store.get(1).sync());
  const known = serial;
  await world.until(write(store, 100_000, pattern(262_144, 2)));
  const lost = serial;
  // A small one on top, from before what is lost into it.
  await world.until(write(store, 99_000, pattern(2_000, 3)));
  await world.until(store.directories[0]!.journal.sync());
  host.crash();
  host.boot();
  const second = host.start('second');
  const recovered = await world.until(openStore(second));
  const whole = async (from: Store): Promise<Buffer> => world.until(contentOf(from.get(1)));
  pattern(2_000, 3).copy(synced, 99_000);
  t.ok((await whole(recovered)).equals(synced), 'nothing is left of it');
  const done = (from: Store, sequence: number) => from.get(1).state.results.find(1, sequence) !== undefined;
  t.strictSame(
    [known, lost, serial].map((sequence) => done(recovered, sequence)),
    [true, false, false],
  );
  second.crash();
  const third = await world.until(openStore(host.start('third')));
  await world.until(third.get(1).directory.load(third.get(1)));
  t.strictSame([done(third, known), done(third, lost)], [true, false], 'also after another start');
  await world.until(write(third, 100_000, pattern(262_144, 2)));
  t.ok((await whole(third)).equals(Buffer.concat([synced, pattern(262_144, 2)])), 'asked for again');
});

t.test('mark: a chunk left alone before the host crashes is not suspect', async (t) => {
  const { world, host, process } = newWorld();
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  await world.until(write(store, 0, pattern(1_000)));
  await world.runFor(301_000);
  store.directories[0]!.tend();
  await world.runFor(1_000);
  host.crash();
  host.boot();
  const second = host.start('second');
  const recovered = await world.until(openStore(second));
  t.notOk(recovered.get(1).state.suspect);
  await world.until(write(recovered, 0, pattern(1_000, 2)));
  // The mutation itself was not flushed, so it is lost: who compares has to know that it may be.
  host.disk.losesAll = true;
  host.crash();
  host.boot();
  const third = await world.until(openStore(host.start('third')));
  t.ok(third.get(1).state.suspect, 'the next mutation marks it again, durably, before it is acknowledged');
});

t.test('copy: it survives the host, with what had not been flushed of its source', async (t) => {
  const { world, host, process } = newWorld();
  host.disk.losesAll = true;
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  const content = pattern(300_000, 1);
  await world.until(write(store, 0, content));
  const change = pattern(1_000, 2);
  change.copy(content, 70_000);
  await world.until(write(store, 70_000, change));
  await world.until(store.copy(store.get(1), 2, 1));
  host.crash();
  host.boot();
  const recovered = await world.until(openStore(host.start('second')));
  t.ok((await world.until(contentOf(recovered.get(2)))).equals(content));
});

t.test(
  'checkpoint: one that nobody waits for takes its time, and makes haste when somebody does',
  async (t) => {
    const { world, process } = newWorld();
    const store = await world.until(openStore(process));
    const directory = store.directories[0]!;
    const count = 20;
    for (let handle = 1; handle <= count; handle++) await world.until(store.create(handle, 1));
    await world.runFor(31_000);
    directory.tend();
    await world.runFor(500);
    const left = [...directory.dirtyChunks()].length;
    t.ok(left > 0 && left < count, `${left} are left`);
    const before = world.scheduler.nowMs;
    await world.until(directory.checkpointNow());
    t.equal([...directory.dirtyChunks()].length, 0);
    t.ok(world.scheduler.nowMs - before < 300, 'at once');
  },
);

t.test('stop: everything is flushed: a host that goes down afterwards loses nothing', async (t) => {
  for (let seed = 1; seed <= 4; seed++) {
    const { world, host, process } = newWorld(seed);
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    const content = pattern(300_000, seed);
    await world.until(write(store, 0, content));
    const change = pattern(1_000, 99);
    change.copy(content, 500);
    await world.until(write(store, 500, change));
    await world.until(store.close());
    process.crash();
    host.crash();
    host.boot();
    const second = host.start('second');
    const recovered = await world.until(openStore(second));
    t.ok((await world.until(contentOf(recovered.get(1)))).equals(content));
    t.notOk(recovered.get(1).state.suspect);
    await world.until(write(recovered, 0, pattern(1_000)));
    host.crash();
    host.boot();
    const third = await world.until(openStore(host.start('third')));
    t.ok(third.get(1).state.suspect, 'the next crash counts again');
  }
});

t.test(
  'damage: an overwrite of a part of the block does not hide it, nor does one of the damaged bytes',
  async (t) => {
    for (const [at, length] of [
      [10_000, 4_096],
      [60_000, 4_096],
      [0, 60_100],
    ] as const) {
      const { world, host, process } = newWorld();
      const store = await world.until(openStore(process));
      await world.until(store.create(1, 1));
      await world.until(write(store, 0, pattern(200_000)));
      await world.until(store.directories[0]!.checkpointNow());
      host.disk.flipBit(CHUNK_FILE, 60_001);
      await world.until(write(store, at, pattern(length, 2)));
      await t.rejects(world.until(contentOf(store.get(1))), { code: 'CHUNK_CORRUPT' });
      await world.until(store.directories[0]!.checkpointNow());
      await t.rejects(world.until(contentOf(store.get(1))), { code: 'CHUNK_CORRUPT' });
      await world.until(write(store, 0, pattern(65_536, 3)));
      const expected = Buffer.concat([pattern(65_536, 3), pattern(200_000).subarray(65_536)]);
      t.ok(
        (await world.until(contentOf(store.get(1)))).equals(expected),
        'a block that is written whole is whole',
      );
    }
  },
);

t.test('damage: a sidecar that cannot be read keeps no other chunk from its checkpoint', async (t) => {
  const { world, host, process } = newWorld();
  const store = await world.until(openStore(process));
  for (const handle of [1, 2]) {
    const chunk = await world.until(store.create(handle, 1));
    const bytes = pattern(200_000, handle);
    await world.until(
      chunk.mutate({ kind: 'write', serial: ++serial, offset: 0, bytes, session: 1, sequence: serial }),
    );
  }
  await world.until(store.directories[0]!.checkpointNow());
  // Behind the head: only who needs the checksums finds out.
  host.disk.flipBit(SIDECAR, 80);
  process.crash();
  const again = await world.until(openStore(host.start('again')));
  await t.rejects(world.until(again.get(1).raise(2, undefined)), { code: 'CHUNK_CORRUPT' });
  await world.until(again.directories[0]!.checkpointNow());
  t.throws(() => again.get(1), { code: 'CHUNK_CORRUPT' });
  t.strictSame([...again.directories[0]!.unreadable], [1]);
  t.ok((await world.until(contentOf(again.get(2)))).equals(pattern(200_000, 2)));
  await world.until(again.delete(1));
  t.throws(() => again.get(1), { code: 'NO_SUCH_CHUNK' });
});

t.test('damage: a replica that was given up does not come back with an earlier sidecar', async (t) => {
  const { world, host, process } = newWorld();
  const store = await world.until(openStore(process));
  const chunk = await world.until(store.create(1, 1));
  const write = (bytes: Buffer) =>
    chunk.mutate({ kind: 'write', serial: ++serial, offset: 0, bytes, session: 1, sequence: serial });
  await world.until(write(pattern(200_000, 1)));
  await world.until(store.directories[0]!.checkpointNow());
  const earlier = Buffer.from(host.disk.contentOf(SIDECAR) as Uint8Array);
  // What comes now is in the journal alone.
  await world.until(write(pattern(1_000, 2)));
  host.disk.flipBit(SIDECAR, 80);
  process.crash();
  const second = host.start('second');
  const again = await world.until(openStore(second));
  await world.until(again.directories[0]!.checkpointNow());
  t.strictSame([...again.directories[0]!.unreadable], [1]);
  t.notOk(earlier.equals(host.disk.contentOf(SIDECAR) as Uint8Array));
  // The bit that was read wrong is right again: so it would verify.
  host.disk.flipBit(SIDECAR, 80);
  second.crash();
  const third = await world.until(openStore(host.start('third')));
  t.throws(() => third.get(1), { code: 'CHUNK_CORRUPT' });
  t.strictSame([...third.directories[0]!.unreadable], [1]);
});

t.test('flush: one that fails ends the process, and nothing is acknowledged after it', async (t) => {
  const { world, host, process } = newWorld();
  const failures: Error[] = [];
  const context = { ...contextOf(process), onFatal: (error: Error) => failures.push(error) };
  const store = await world.until(Store.open(context, [ROOT], 'server-1'));
  await world.until(store.create(1, 1));
  await world.until(write(store, 0, pattern(100)));
  host.disk.inject = (operation) => (operation === 'sync' ? 'EIO' : undefined);
  await t.rejects(world.until(store.get(1).sync()), { message: /cannot flush the journal/ });
  t.equal(failures.length, 1);
  host.disk.inject = undefined;
  await t.rejects(world.until(write(store, 0, pattern(100))));
  await t.rejects(world.until(store.get(1).sync()));
});

t.test('space: a write that the disk has no room for leaves no trace', async (t) => {
  const { world, host, process } = newWorld(1, 8_000_000);
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  const content = pattern(1_400_000);
  await world.until(write(store, 0, content));
  host.disk.limitBytes = host.disk.usedBytes() + 5_000;
  const failing = await Promise.allSettled([
    world.until(write(store, 1_400_000, pattern(200_000, 2))),
    world.until(write(store, 1_000, pattern(1_300_000, 3))),
  ]);
  t.same(
    failing.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  t.ok((await world.until(contentOf(store.get(1)))).equals(content));
  await t.rejects(world.until(store.directories[0]!.checkpointNow()));
  host.disk.limitBytes = 16_000_000;
  await world.until(write(store, 1_400_000, pattern(10, 4)));
  await world.until(store.directories[0]!.checkpointNow());
  process.crash();
  const recovered = await world.until(openStore(host.start('again')));
  const expected = Buffer.concat([content, pattern(10, 4)]);
  t.ok((await world.until(contentOf(recovered.get(1)))).equals(expected));
});

t.test('space: full when the host comes back: reads are served, mutations wait for room', async (t) => {
  const { world, host, process } = newWorld(3, 4_000_000);
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  await world.until(write(store, 0, pattern(100_000)));
  await world.until(store.get(1).sync());
  host.crash();
  host.boot();
  host.disk.limitBytes = host.disk.usedBytes();
  const recovered = await world.until(openStore(host.start('again')));
  const chunk = recovered.get(1);
  t.ok((await world.until(contentOf(chunk))).equals(pattern(100_000)));
  await t.rejects(world.until(chunk.directory.admission(10) ?? Promise.resolve()), { code: 'NO_SPACE' });
  host.disk.limitBytes = 8_000_000;
  await world.until(chunk.directory.admission(10) ?? Promise.resolve());
  await world.until(write(recovered, 0, pattern(10, 2)));
});

t.test(
  'checkpoint: everything is in the chunk file and the sidecar, and the journal is short again',
  async (t) => {
    const { world, host, process } = newWorld();
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    const content = pattern(200_000);
    await world.until(write(store, 0, content));
    const change = pattern(3_000, 2);
    change.copy(content, 10_000);
    await world.until(write(store, 10_000, change));
    t.notOk(
      Buffer.from(host.disk.contentOf(CHUNK_FILE)!).equals(content),
      'an overwrite waits in the journal',
    );
    await world.until(store.directories[0]!.checkpointNow());
    t.ok(Buffer.from(host.disk.contentOf(CHUNK_FILE)!).equals(content));
    t.equal(store.get(1).state.patches.size, 0);
    t.ok((host.disk.contentOf(SIDECAR)?.byteLength ?? 0) >= 72 + 4 * 4);
    t.equal(host.disk.namesIn(`${ROOT}/journal`).length, 1);
    await world.until(store.close());
    const again = await world.until(openStore(host.start('again')));
    t.ok((await world.until(contentOf(again.get(1)))).equals(content));
  },
);

t.test('reads: beside checkpoints of newer data they see one state, and never a false alarm', async (t) => {
  const { world, process } = newWorld(5);
  const store = await world.until(openStore(process));
  await world.until(store.create(1, 1));
  await world.until(write(store, 0, Buffer.alloc(100_000, 1)));
  const directory = store.directories[0]!;
  const work = (async () => {
    for (let i = 2; i < 40; i++) {
      await write(store, 0, Buffer.alloc(60_000, i));
      await directory.checkpointNow();
    }
  })();
  let mixed = 0;
  const reader = (async () => {
    for (let i = 0; i < 300; i++) {
      const content = await contentOf(store.get(1));
      if (content.subarray(0, 60_000).some((byte) => byte !== content[0])) mixed++;
    }
  })();
  await world.until(Promise.all([work, reader]));
  t.equal(mixed, 0);
});

t.test(
  'overwrite: of whole pages that were written here reads nothing, and every block matches',
  async (t) => {
    const { world, host, process } = newWorld(6);
    const store = await world.until(openStore(process));
    await world.until(store.create(1, 1));
    const content = Buffer.alloc(300_000);
    const put = async (offset: number, bytes: Buffer) => {
      bytes.copy(content, offset);
      await world.until(write(store, offset, bytes));
    };
    await put(0, pattern(300_000, 1));
    await world.until(store.directories[0]!.checkpointNow());
    let reads = 0;
    host.disk.inject = (operation, path) => {
      if (operation === 'read' && path === CHUNK_FILE) reads++;
      return undefined;
    };
    await put(8_192, pattern(4_096, 2));
    await put(61_440, pattern(12_288, 3));
    t.equal(reads, 0);
    await put(100, pattern(50, 4));
    await put(0, pattern(4_096, 5));
    t.equal(reads, 2, 'of a page that was changed in part it is not known');
    await put(0, pattern(4_096, 6));
    t.equal(reads, 2);
    host.disk.inject = undefined;
    await world.until(store.directories[0]!.checkpointNow());
    t.ok((await world.until(contentOf(store.get(1)))).equals(content));
    process.crash();
    const again = await world.until(openStore(host.start('again')));
    t.ok((await world.until(contentOf(again.get(1)))).equals(content));
  },
);
