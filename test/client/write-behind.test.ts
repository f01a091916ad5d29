import fc from 'fast-check';
import t from 'tap';
import { defaultCacheLimits } from '../../client/cache-limits.js';
import type { Piece } from '../../client/replicas.js';
import { Deadline } from '../../client/retry.js';
import { coversAll, UnsyncedChunks } from '../../client/unsynced.js';
import { WriteBehind, WriteBudget } from '../../client/write-behind.js';
import { GfsError } from '../../protocol/errors.js';
import { MIB } from '../../protocol/limits.js';
import { BufferPool } from '../../protocol/payload.js';
import { SimulatedWorld } from '../fakes/index.js';

const CHUNK_BYTES = 4 * MIB;

/** Chunks in memory, which take writes after a random while. */
class MemoryReplicas {
  readonly chunks = new Map<number, Buffer>();
  readonly writes: { index: number; offset: number; length: number; sync: boolean }[] = [];
  messages = 0;
  inFlight = 0;
  mostInFlight = 0;
  failure: GfsError | undefined;
  readonly #world: SimulatedWorld;

  constructor(world: SimulatedWorld) {
    this.#world = world;
  }

  prepare(): void {}

  async write({ index }: { index: number }, pieces: readonly Piece[], sync: boolean) {
    this.messages++;
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    await new Promise<void>((resolve) => {
      this.#world.scheduler.after(this.#world.random.between(0, 20), resolve);
    });
    this.inFlight--;
    if (this.failure !== undefined) throw this.failure;
    const chunk = this.chunks.get(index) ?? Buffer.alloc(CHUNK_BYTES);
    this.chunks.set(index, chunk);
    for (const { offset, data } of pieces) {
      chunk.set(data, offset);
      this.writes.push({ index, offset, length: data.byteLength, sync });
    }
    return { verifiers: [7], memoryIsFree: true };
  }
}

function setUp(seed = 1, budgetBytes = 64 * MIB) {
  const world = new SimulatedWorld(seed);
  const { environment } = world.process('client');
  const replicas = new MemoryReplicas(world);
  const budget = new WriteBudget(budgetBytes);
  const { logger } = environment;
  const unsynced = new UnsyncedChunks(defaultCacheLimits.unsyncedChunks, async () => [], logger);
  const writes = new WriteBehind(
    { id: 1, noteArrived: () => undefined, noteFailed: () => undefined },
    {
      environment,
      replicas,
      unsynced,
      budget,
      pool: new BufferPool(),
      chunkBytes: CHUNK_BYTES,
      deadline: () => new Deadline(environment.clock, 1_000),
    },
  );
  return { world, replicas, writes, budget, unsynced };
}

t.test(
  'write-behind: whatever is written in whatever order, the replicas end up with the last of each byte',
  async (t) => {
    const write = fc.record({
      offset: fc.oneof(
        fc.nat(200_000),
        fc.nat(2 * CHUNK_BYTES),
        fc.constantFrom(MIB - 5, CHUNK_BYTES - 3, 0),
      ),
      length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 3 * MIB })),
      drain: fc.nat(9),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 25 }), fc.nat(), async (plan, seed) => {
        const { world, replicas, writes, budget } = setUp(seed, 8 * MIB);
        const expected = Buffer.alloc(4 * CHUNK_BYTES);
        let fill = 1;
        for (const { offset, length, drain } of plan) {
          const data = Buffer.alloc(length, fill++);
          data.copy(expected, offset);
          const taken = writes.write(offset, data);
          data.fill(0xff); // it was borrowed
          await world.until(taken);
          if (drain === 0) await world.until(writes.drain());
        }
        await world.until(writes.drain());
        for (const [index, chunk] of replicas.chunks) {
          if (!chunk.equals(expected.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES))) return false;
        }
        return budget.usedBytes === 0 && writes.isIdle;
      }),
      { numRuns: 60 },
    );
    t.pass();
  },
);

t.test('write-behind: small neighbouring writes leave as one segment', async (t) => {
  const { world, replicas, writes } = setUp();
  for (let at = 0; at < 2 * MIB; at += 4096) await writes.write(at, Buffer.alloc(4096, 1));
  await world.until(writes.drain());
  t.same(replicas.writes.map(({ offset, length }) => [offset, length]).sort(), [
    [0, MIB],
    [MIB, MIB],
  ]);
});

t.test('write-behind: data that nobody flushes is sent after a moment', async (t) => {
  const { world, replicas, writes } = setUp();
  await writes.write(10, Buffer.from('hello'));
  await world.runFor(1_000);
  t.same(replicas.writes, [{ index: 0, offset: 10, length: 5, sync: false }]);
});

t.test('write-behind: an error reaches the next drain, once', async (t) => {
  const { world, replicas, writes } = setUp();
  replicas.failure = new GfsError('NO_SPACE');
  await writes.write(0, Buffer.alloc(10));
  await t.rejects(world.until(writes.drain()), { code: 'NO_SPACE' });
  await writes.write(0, Buffer.alloc(10));
  await t.resolves(world.until(writes.settle()), 'who only waits does not hear of it');
  await t.rejects(world.until(writes.drain()), { code: 'NO_SPACE' }, 'and does not take it away');
  replicas.failure = undefined;
  await writes.write(0, Buffer.alloc(10));
  await t.resolves(world.until(writes.drain()));
});

t.test(
  'write-behind: a writer waits when the budget is used up, and goes on when there is room',
  async (t) => {
    const { world, writes, budget } = setUp(1, 2 * MIB);
    let taken = 0;
    const writer = (async () => {
      for (let i = 0; i < 16; i++) {
        await writes.write(i * MIB, Buffer.alloc(MIB));
        taken++;
      }
    })();
    await new Promise((resolve) => setImmediate(resolve));
    t.ok(taken < 16, `${taken} writes were taken before any was sent`);
    t.ok(budget.usedBytes <= 3 * MIB);
    await world.until(writer);
    t.equal(taken, 16);
    await world.until(writes.drain());
    t.equal(budget.usedBytes, 0);
  },
);

t.test('write-behind: several segments of a file are in flight at once, within a bound', async (t) => {
  const { world, replicas, writes } = setUp();
  for (let at = 0; at < 20 * MIB; at += MIB) await writes.write(at, Buffer.alloc(MIB));
  await world.until(writes.drain());
  t.equal(replicas.mostInFlight, 8);
  for (let at = 0; at < 100; at++) await writes.write(2 * at * MIB, Buffer.alloc(40_000));
  await world.until(writes.drain());
  t.equal(replicas.mostInFlight, 64, 'those that go alone');
});

t.test('write-behind: a flush waits for what was written before it, not for what comes after', async (t) => {
  const { world, writes } = setUp();
  await writes.write(0, Buffer.alloc(MIB));
  let going = true;
  const drained = writes.drain().then(() => {
    going = false;
  });
  const later = (async () => {
    for (let i = 1; going && i < 10_000; i++) {
      await writes.write((i % 64) * MIB, Buffer.alloc(MIB));
      await new Promise<void>((resolve) => world.scheduler.after(5, resolve));
    }
    return going;
  })();
  t.equal(await world.until(later), false, 'the flush ended while the writer went on');
  await world.until(drained);
});

t.test(
  'unsynced: what was written since the last flush to disk is remembered with its verifiers',
  async (t) => {
    const { world, writes, unsynced } = setUp();
    await writes.write(CHUNK_BYTES - 2, Buffer.alloc(4));
    await world.until(writes.drain());
    const before = unsynced.of(1);
    t.same(before.map(([index]) => index).sort(), [0, 1]);
    unsynced.note(1, 1, [8]);
    for (const [index, verifiers] of before) unsynced.forget(1, index, verifiers);
    t.same(unsynced.of(1), [[1, [new Set([7]), new Set([8])]]], 'a write during the flush is not forgotten');
    unsynced.cut(1, 1);
    t.same(unsynced.of(1), [], 'what was cut off needs no flush');
  },
);

t.test('fsync: small writes of one chunk go out together with its flush', async (t) => {
  const { world, writes, replicas, unsynced } = setUp();
  await writes.write(10, Buffer.alloc(4_096));
  await world.until(writes.drainForSync());
  t.same(
    replicas.writes.map(({ sync }) => sync),
    [true],
  );
  t.same(unsynced.of(1), [], 'nothing is left to flush');

  unsynced.note(1, 0, [8]);
  await writes.write(10, Buffer.alloc(4_096));
  await world.until(writes.drainForSync());
  t.equal(unsynced.of(1).length, 1, 'an earlier write that another replica took is not covered');

  await writes.write(0, Buffer.alloc(10));
  await writes.write(2 * MIB, Buffer.alloc(10));
  await world.until(writes.drainForSync());
  t.same(
    replicas.writes.slice(2).map(({ sync }) => sync),
    [true, true],
    'nor do several small ones of one chunk',
  );

  await writes.write(0, Buffer.alloc(10));
  await writes.write(CHUNK_BYTES, Buffer.alloc(10));
  await world.until(writes.drainForSync());
  t.same(
    replicas.writes.slice(4).map(({ sync }) => sync),
    [false, false],
    'those of two chunks need two flushes',
  );
});

t.test('write-behind: many small writes to one chunk go together', async (t) => {
  const { world, replicas, writes } = setUp();
  const expected = Buffer.alloc(CHUNK_BYTES);
  for (let i = 0; i < 500; i++) {
    const offset = (i * 7919 * 512) % (CHUNK_BYTES - 4096);
    expected.fill(i, offset, offset + 4096);
    await writes.write(offset, Buffer.alloc(4096, i));
  }
  await world.until(writes.drain());
  t.ok(replicas.chunks.get(0)?.equals(expected));
  t.ok(replicas.writes.length > 400);
  t.ok(replicas.messages < replicas.writes.length / 4, `${replicas.messages} messages`);
});

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A table of what is not on disk yet, without the rest of a client. */
function table(maxCount: number, flush: (id: number, index: number) => Promise<readonly number[]>) {
  const { logger } = new SimulatedWorld(1).process('client').environment;
  return new UnsyncedChunks(maxCount, flush, logger);
}

t.test('unsynced: a flush covers a write only by a replica that took it', async (t) => {
  const unsynced = table(defaultCacheLimits.unsyncedChunks, async () => []);
  const verifiers = () => unsynced.of(1).flatMap(([, sets]) => sets);
  unsynced.note(1, 0, [1, 2, 3]);
  t.ok(coversAll(verifiers(), [4, 5, 3]), 'one that has not booted since is enough');
  t.notOk(coversAll(verifiers(), [4, 5, 6]));
  unsynced.note(1, 0, [4, 5, 6]);
  t.notOk(coversAll(verifiers(), [4, 5, 6]), 'a later write does not vouch for an earlier one');
  t.ok(coversAll(verifiers(), [1, 6]));
  unsynced.note(1, 0, [1, 2]);
  t.same(
    verifiers(),
    [new Set([4, 5, 6]), new Set([1, 2])],
    'the stricter of two takes the place of the other',
  );
});

t.test('unsynced: above the bound the oldest is flushed unasked', async (t) => {
  const flushed: number[] = [];
  const unsynced = table(defaultCacheLimits.unsyncedChunks, async (_id, index) => {
    flushed.push(index);
    return [1];
  });
  for (let index = 0; index < 65_538; index++) unsynced.note(1, index, [1]);
  t.same(flushed, [0, 1]);
  await turn();
  t.equal(unsynced.of(1).length, 65_536);
});

t.test('unsynced: while one is being flushed it is the next that has to go', async (t) => {
  const flushed: number[] = [];
  let finish: (flushedBy: readonly number[]) => void = () => undefined;
  const unsynced = table(2, (_id, index) => {
    flushed.push(index);
    return new Promise((resolve) => {
      finish = resolve;
    });
  });
  for (let index = 0; index < 4; index++) unsynced.note(1, index, [1]);
  t.same(flushed, [0, 1], 'not the oldest twice');
  finish([]);
  await turn();
  unsynced.note(1, 4, [1]);
  t.same(flushed, [0, 1, 2, 3], 'one whose flush has failed is not tried again before the others');
});

t.test('unsynced: chunks that cannot be flushed do not make the table grow without end', async (t) => {
  const unsynced = table(8, async (id) => (id > 4 ? [1] : []));
  for (let id = 1; id < 1_000; id++) {
    unsynced.note(id, 0, [1]);
    await turn();
  }
  t.ok(unsynced.size <= 16, `${unsynced.size} are kept`);
  t.same(
    [1, 2, 3, 4].filter((id) => unsynced.of(id).length === 0),
    [],
    'they are still to be flushed',
  );
});

t.test('unsynced: of many that no longer fit a few are flushed at a time', async (t) => {
  let underWay = 0;
  let most = 0;
  const unsynced = table(8, async () => {
    most = Math.max(most, ++underWay);
    await turn();
    underWay--;
    return [1];
  });
  for (let index = 0; index < 4_096; index++) unsynced.replace(1, index, [new Set([1])]);
  while (underWay > 0) await turn();
  t.equal(most, 64);
  t.equal(unsynced.size, 8);
});
