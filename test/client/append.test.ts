import t from 'tap';
import { Appender } from '../../client/append.js';
import { Deadline } from '../../client/retry.js';
import { WriteBudget } from '../../client/write-behind.js';
import { GfsError } from '../../protocol/errors.js';
import { SimulatedWorld } from '../fakes/index.js';

const CHUNK_BYTES = 1000;

/** Primaries in memory: each chunk grows to its end, then answers CHUNK_FULL. */
class MemoryPrimaries {
  readonly chunks = new Map<number, Buffer>();
  requests = 0;
  syncs = 0;
  failure: GfsError | undefined;
  readonly #world: SimulatedWorld;

  constructor(world: SimulatedWorld) {
    this.#world = world;
  }

  async append(
    { index }: { index: number },
    { mode, from, sync }: { mode: 'record' | 'exact'; from: number; sync: boolean },
    buffers: readonly Uint8Array[],
  ) {
    this.requests++;
    this.syncs += sync ? 1 : 0;
    if (this.failure !== undefined) throw this.failure;
    await new Promise<void>((resolve) => void this.#world.scheduler.after(3, resolve));
    const chunk = this.chunks.get(index) ?? Buffer.alloc(0);
    const data = Buffer.concat(buffers);
    const offset = Math.max(chunk.length, from);
    const room = CHUNK_BYTES - offset;
    const pad = (length: number) => Buffer.concat([chunk, Buffer.alloc(length - chunk.length)]);
    if (room <= 0 || (mode === 'record' && data.length > room)) {
      this.chunks.set(index, pad(CHUNK_BYTES));
      throw new GfsError('CHUNK_FULL');
    }
    const written = Math.min(room, data.length);
    this.chunks.set(index, Buffer.concat([pad(offset), data.subarray(0, written)]));
    return { offset, written, verifiers: [1] };
  }

  content(): Buffer {
    return Buffer.concat(
      [...this.chunks.keys()].sort((a, b) => a - b).map((index) => this.chunks.get(index) as Buffer),
    );
  }
}

function setUp() {
  const world = new SimulatedWorld();
  const { environment } = world.process('client');
  const primaries = new MemoryPrimaries(world);
  const target = {
    id: 1,
    size: 0,
    lost: 0,
    get arrivedBytes() {
      return target.size - appender.aheadBytes;
    },
    noteAppended(end: number) {
      target.size = Math.max(target.size, end);
    },
    noteLost(bytes: number) {
      target.size -= bytes;
      target.lost += bytes;
    },
  };
  const budget = new WriteBudget(10_000);
  const deadline = () => new Deadline(environment.clock, 1_000);
  const appender: Appender = new Appender(target, {
    timers: environment.timers,
    replicas: primaries,
    budget,
    chunkBytes: CHUNK_BYTES,
    deadline,
  });
  /** As an open file does that is alone. */
  const moved: number[] = [];
  const ahead = (data: Buffer) => {
    const expected = target.size;
    target.size += data.byteLength;
    return appender.ahead(data, expected, (offset) => moved.push(offset));
  };
  return { world, primaries, target, appender, budget, ahead, moved };
}

t.test('append: those that wait go together, whole, without a gap, each told its own offset', async (t) => {
  const { world, primaries, target, appender } = setUp();
  const lines = Array.from({ length: 100 }, (_, i) => Buffer.from(`line ${i} ${'x'.repeat(i % 40)}\n`));
  const offsets = await world.until(Promise.all(lines.map((line) => appender.exact(line))));
  const content = primaries.content();
  for (const [i, line] of lines.entries()) {
    const at = offsets[i] as number;
    t.equal(content.toString('latin1', at, at + line.length), line.toString());
  }
  const total = lines.reduce((sum, line) => sum + line.length, 0);
  t.equal(content.length, total, 'no padding');
  t.equal(target.size, total);
  t.ok(primaries.requests < 20, `${primaries.requests} requests for 100 appends`);
});

t.test('append: one larger than what is left of the chunk goes on in the next', async (t) => {
  const { world, primaries, appender } = setUp();
  await world.until(appender.exact(Buffer.alloc(900, 1)));
  t.equal(await world.until(appender.exact(Buffer.alloc(1500, 2))), 900);
  t.equal(primaries.content().length, 2400);
  t.equal(primaries.content().lastIndexOf(1), 899);
});

t.test('append: a record that does not fit pads the chunk and goes whole into the next', async (t) => {
  const { world, primaries, appender } = setUp();
  const offsets = [];
  for (let i = 0; i < 9; i++) offsets.push(await world.until(appender.record(Buffer.alloc(240, 1 + i), {})));
  t.same(offsets, [0, 240, 480, 720, 1000, 1240, 1480, 1720, 2000]);
  t.ok(
    primaries
      .content()
      .subarray(960, 1000)
      .every((byte) => byte === 0),
    'padding',
  );
});

t.test('append: a record over a quarter of a chunk is refused', async (t) => {
  const { appender } = setUp();
  await t.rejects(appender.record(Buffer.alloc(CHUNK_BYTES / 4 + 1), {}), { code: 'TOO_BIG' });
});

t.test(
  'append ahead: acknowledged before it is sent, in order, without a gap, within the budget',
  async (t) => {
    const { world, primaries, target, appender, budget, ahead } = setUp();
    const expected: Buffer[] = [];
    for (let i = 0; i < 200; i++) {
      const line = Buffer.from(`line ${i}\n`);
      expected.push(line);
      const acknowledged = ahead(line);
      await (i % 7 === 3 ? world.until(acknowledged) : acknowledged);
      if (i % 40 === 9) await world.until(appender.exact(line).then(() => expected.push(line)));
    }
    t.ok(appender.aheadBytes > 0, 'some are still on their way');
    await world.until(appender.drain());
    t.equal(primaries.content().toString(), Buffer.concat(expected).toString());
    t.ok(primaries.requests < 60, `${primaries.requests} requests`);
    t.equal(appender.aheadBytes, 0);
    t.equal(budget.usedBytes, 0);
    t.equal(target.size, primaries.content().length);

    const full = ahead(Buffer.alloc(10_001));
    let isDone = false;
    void full.then(() => {
      isDone = true;
    });
    await Promise.resolve();
    t.notOk(isDone, 'above the budget it waits');
    await world.until(full);
  },
);

t.test('append ahead: what fails is told at the next append or drain, once, and leaves no gap', async (t) => {
  const { world, primaries, target, appender, ahead } = setUp();
  await ahead(Buffer.from('arrives'));
  await world.until(appender.drain());
  primaries.failure = new GfsError('NO_SPACE');
  await ahead(Buffer.from('is lost'));
  await world.until(appender.settle());
  primaries.failure = undefined;
  t.equal(target.lost, 7);
  await t.rejects(ahead(Buffer.alloc(0)), { code: 'NO_SPACE' });
  await ahead(Buffer.from(', and this too'));
  await world.until(appender.drain());
  t.equal(primaries.content().toString(), 'arrives, and this too');
});

t.test('append ahead: where another got ahead nevertheless, it is told where each is', async (t) => {
  const { world, primaries, target, appender, ahead, moved } = setUp();
  await ahead(Buffer.from('first'));
  await world.until(appender.drain());
  t.same(moved, []);
  await ahead(Buffer.from('one'));
  await ahead(Buffer.from('two'));
  primaries.chunks.set(0, Buffer.from('firstothers'));
  await world.until(appender.drain());
  t.same(moved, [11, 14]);
  t.equal(primaries.content().toString(), 'firstothersonetwo');
  t.equal(target.size, 17, 'the end is known again');
  await ahead(Buffer.from('three'));
  await world.until(appender.drain());
  t.same(moved, [11, 14], 'and the next is where it was said to be');
});

t.test('append: others may be between the parts of those that go together', async (t) => {
  const { world, primaries, appender } = setUp();
  await world.until(appender.exact(Buffer.alloc(900, '.')));
  const both = [appender.exact(Buffer.alloc(40, 'a')), appender.exact(Buffer.alloc(40, 'b'))];
  const later = [appender.exact(Buffer.alloc(40, 'c')), appender.exact(Buffer.alloc(40, 'd'))];
  // The next chunk has something already when what does not fit comes there.
  primaries.chunks.set(1, Buffer.alloc(100, 'x'));
  const offsets = await world.until(Promise.all([...both, ...later]));
  const content = primaries.content().toString();
  t.same(
    offsets,
    ['a', 'b', 'c', 'd'].map((letter) => content.indexOf(letter)),
  );
});

t.test('append ahead: an fsync flushes what waits along with it', async (t) => {
  const { world, primaries, appender, ahead } = setUp();
  await ahead(Buffer.from('one'));
  await world.until(appender.drain());
  t.equal(primaries.syncs, 0);
  await ahead(Buffer.from('two'));
  await ahead(Buffer.from('three'));
  await world.until(appender.drain(true));
  t.equal(primaries.syncs, 1, 'two appends, one request, flushed');
});
