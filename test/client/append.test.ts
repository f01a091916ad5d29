import t from 'tap';
import { Appender } from '../../client/append.js';
import { Deadline } from '../../client/retry.js';
import { GfsError } from '../../protocol/errors.js';
import { SimulatedWorld } from '../fakes/index.js';

const CHUNK_BYTES = 1000;

/** Primaries in memory: each chunk grows to its end, then answers CHUNK_FULL. */
class MemoryPrimaries {
  readonly chunks = new Map<number, Buffer>();
  requests = 0;
  readonly #world: SimulatedWorld;

  constructor(world: SimulatedWorld) {
    this.#world = world;
  }

  async append(
    { index }: { index: number },
    mode: 'record' | 'exact',
    from: number,
    buffers: readonly Uint8Array[],
  ) {
    this.requests++;
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
    noteAppended(end: number) {
      target.size = Math.max(target.size, end);
    },
  };
  const appender = new Appender(target, primaries, CHUNK_BYTES, () => new Deadline(environment.clock, 1_000));
  return { world, primaries, target, appender };
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
