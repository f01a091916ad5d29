/** The fakes must be as bad as the real world, and the same each time. */
import t from 'tap';
import { FakeRandom, SimulatedWorld } from './index.js';

const PAGE = 4096;

function fill(text: string, pages = 1): Uint8Array {
  return Buffer.alloc(pages * PAGE, text);
}

/** Runs `before` on a fresh host, crashes it, and tells what the file is then, over many seeds. */
async function outcomes(
  before: (world: SimulatedWorld) => Promise<void>,
  seeds = 60,
): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = [];
  for (let seed = 0; seed < seeds; seed++) {
    const world = new SimulatedWorld(seed);
    const host = world.host('a');
    await before(world);
    host.crash();
    host.boot();
    const content = host.disk.contentOf('/d/f');
    found.push(
      content === undefined ? undefined : Buffer.from(content).toString('latin1').replaceAll('\0', '.'),
    );
  }
  return found;
}

t.test('fake disk: flushed bytes and names survive the host, always', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      const file = await disk.open('/d/f', 'create');
      await file.write([fill('a', 2)], 0);
      await file.sync();
      await disk.syncDirectory('/d');
    };
    await world.until(write());
  });
  t.ok(found.every((content) => content === 'a'.repeat(2 * PAGE)));
});

t.test('fake disk: unflushed pages survive each for itself, and never half', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      const file = await disk.open('/d/f', 'create');
      await file.write([fill('a', 3)], 0);
      await file.sync();
      await disk.syncDirectory('/d');
      await file.write([fill('b', 4)], 0);
    };
    await world.until(write());
  });
  const pages = found.map((content) => content?.match(/.{4096}/g)?.map((page) => new Set(page)));
  t.ok(pages.every((list) => list?.every((page) => page.size === 1)));
  const shapes = new Set(pages.map((list) => list?.map((page) => [...page].join('')).join('')));
  t.ok(shapes.has('aaa'), 'all lost');
  t.ok(shapes.has('bbbb'), 'all survived');
  t.ok(
    [...shapes].some((shape) => shape?.startsWith('ab')),
    'a later page without an earlier one',
  );
});

t.test('fake disk: an unflushed name may vanish, a rename is all or nothing', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      for (const [name, text] of [
        ['f', 'old'],
        ['new', 'new'],
      ] as const) {
        const file = await disk.open(`/d/${name}`, 'create');
        await file.write([Buffer.from(text)], 0);
        await file.sync();
        if (name === 'f') await disk.syncDirectory('/d');
      }
      await disk.rename('/d/new', '/d/f');
    };
    await world.until(write());
  });
  t.same([...new Set(found)].sort(), ['new', 'old']);
});

t.test('fake disk: an unflushed cut may be undone', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      const file = await disk.open('/d/f', 'create');
      await file.write([Buffer.from('abcd')], 0);
      await file.sync();
      await disk.syncDirectory('/d');
      await file.truncate(2);
    };
    await world.until(write());
  });
  t.same([...new Set(found)].sort(), ['ab', 'abcd']);
});

t.test('fake disk: a crash in the middle of a flush leaves some of it, or all, or nothing', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      const file = await disk.open('/d/f', 'create');
      await file.write([fill('a', 2)], 0);
      await file.sync();
      await disk.syncDirectory('/d');
      await file.write([fill('b', 2)], 0);
      void file.sync();
    };
    await world.until(write());
  });
  const pages = new Set(found.map((content) => `${content?.[0]}${content?.[PAGE]}`));
  t.same([...pages].sort(), ['aa', 'ab', 'ba', 'bb']);
});

t.test('fake disk: what is written while a flush runs is not part of it', async (t) => {
  const found = await outcomes(async (world) => {
    const { disk } = world.host('a').start('p').environment;
    const write = async () => {
      await disk.makeDirectory('/d');
      await disk.syncDirectory('/');
      const file = await disk.open('/d/f', 'create');
      await file.write([Buffer.from('one')], 0);
      await disk.syncDirectory('/d');
      const flushed = file.sync();
      await file.write([Buffer.from('two')], 0);
      await flushed;
    };
    await world.until(write());
  });
  t.same([...new Set(found)].sort(), ['one', 'two']);
});

t.test('fake disk: a killed process keeps what it wrote, and frees its locks', async (t) => {
  const world = new SimulatedWorld();
  const host = world.host('a');
  const process = host.start('p');
  const { disk } = process.environment;
  const write = async () => {
    await disk.makeDirectory('/d');
    await disk.lock('/d/lock');
    await (await disk.open('/d/f', 'create')).write([Buffer.from('kept')], 0);
  };
  await world.until(write());
  process.crash();
  t.equal(Buffer.from(host.disk.contentOf('/d/f') ?? []).toString(), 'kept');
  await world.until(host.start('q').environment.disk.lock('/d/lock'));
});

t.test('fake disk: a process that is killed while it asks for a lock does not hold it', async (t) => {
  for (let seed = 0; seed < 8; seed++) {
    const world = new SimulatedWorld(seed);
    const host = world.host('a');
    const process = host.start('p');
    void process.environment.disk.lock('/lock');
    process.crash();
    await world.runFor(1_000);
    await world.until(host.start('q').environment.disk.lock('/lock'));
  }
  t.pass();
});

t.test('fake disk: a write takes its bytes late, so that reusing a buffer too early shows', async (t) => {
  const world = new SimulatedWorld();
  const host = world.host('a');
  const { disk } = host.start('p').environment;
  const file = await world.until(disk.open('/f', 'create'));
  const buffer = Buffer.from('right');
  const written = file.write([buffer], 0);
  buffer.write('wrong');
  await world.until(written);
  t.equal(Buffer.from(host.disk.contentOf('/f') ?? []).toString(), 'wrong');
});

/** A connection from `a` to `b`, and what each end was told. */
async function connected(seed: number) {
  const world = new SimulatedWorld(seed);
  const [a, b] = [world.process('a'), world.process('b')];
  const told: string[] = [];
  const events = (who: string) => ({
    onData: (chunk: Uint8Array) => told.push(`${who} ${Buffer.from(chunk).toString()}`),
    onDrain: () => undefined,
    onClose: (error?: Error) =>
      told.push(`${who} ${(error as { code?: string } | undefined)?.code ?? 'closed'}`),
  });
  await b.environment.network.listen('b', 1, (socket) => socket.start(events('b')));
  const socket = await world.until(a.environment.network.connect('b', 1, 1_000));
  socket.start(events('a'));
  await world.runFor(100);
  return { world, a, b, socket, told };
}

t.test('fake network: a cut link holds what is sent until it heals', async (t) => {
  const { world, a, socket, told } = await connected(1);
  world.network.cutOneWay('a', 'b');
  socket.write([Buffer.from('x')]);
  await world.runFor(10_000);
  t.same(told, []);
  const connect = a.environment.network.connect('b', 1, 500);
  await t.rejects(world.until(connect), { code: 'ETIMEDOUT' });
  world.network.heal('a', 'b');
  await world.runFor(100);
  t.same(told, ['b x']);
});

t.test('fake network: a killed process resets its connections', async (t) => {
  const { world, a, b, told } = await connected(2);
  b.crash();
  await world.runFor(100);
  t.same(told, ['a ECONNRESET']);
  await t.rejects(world.until(a.environment.network.connect('b', 1, 500)), { code: 'ECONNREFUSED' });
});

t.test('fake network: a dead host says nothing, and resets once it is back', async (t) => {
  const { world, b, socket, told } = await connected(3);
  b.host.crash();
  socket.write([Buffer.from('x')]);
  await world.runFor(10_000);
  t.same(told, []);
  b.host.boot();
  await world.runFor(100);
  t.same(told, ['a ECONNRESET']);
});

t.test('fake network: a reset is told to both ends, what was on its way is lost', async (t) => {
  const { world, socket, told } = await connected(5);
  socket.write([Buffer.from('x')]);
  await world.runFor(0.05);
  world.network.reset('a', 'b');
  await world.runFor(1_000);
  t.same(told.sort(), ['a ECONNRESET', 'b ECONNRESET']);
});

t.test('fake network: a connection that hangs tells nobody; a new one works', async (t) => {
  const { world, a, socket, told } = await connected(6);
  world.network.hang('a', 'b');
  socket.write([Buffer.from('x')]);
  await world.runFor(60_000);
  t.same(told, []);
  const again = await world.until(a.environment.network.connect('b', 1, 1_000));
  again.start({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
  again.write([Buffer.from('y')]);
  await world.runFor(100);
  t.same(told, ['b y']);
});

t.test(
  'fake network: what was sent over an abandoned connection arrives after what came later',
  async (t) => {
    const { world, a, socket, told } = await connected(7);
    socket.write([Buffer.from('first')]);
    // One event: it has left the sender, and is not there yet.
    await world.scheduler.step();
    world.network.abandon('a', 'b', 500);
    await world.runFor(1);
    const again = await world.until(a.environment.network.connect('b', 1, 1_000));
    again.start({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    again.write([Buffer.from('second')]);
    await world.runFor(1_000);
    // In pieces, as TCP may.
    t.equal(told.join('').replaceAll('b ', ''), 'a ECONNRESETsecondfirstECONNRESET');
  },
);

t.test('fake network: lent memory is taken back', async (t) => {
  const { world, socket } = await connected(4);
  const kept: Uint8Array[] = [];
  const process = world.process('c');
  await process.environment.network.listen('c', 1, (incoming) => {
    incoming.start({
      onData: (chunk) => kept.push(chunk),
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  });
  const other = await world.until(world.host('a').start('a2').environment.network.connect('c', 1, 1_000));
  other.write([Buffer.from('abc')]);
  await world.runFor(100);
  t.ok(kept.length > 0 && kept.every((chunk) => chunk.every((byte) => byte === 0xdd)));
  socket.destroy();
});

t.test('fake processes: paused, time goes by and events wait; dead, nothing happens', async (t) => {
  const world = new SimulatedWorld();
  const process = world.process('a');
  const ticks: number[] = [];
  process.environment.timers.every(100, () => ticks.push(world.scheduler.nowMs));
  await world.runFor(350);
  t.equal(ticks.length, 3);
  process.pause();
  await world.runFor(10_000);
  t.equal(ticks.length, 3);
  process.resume();
  await world.runFor(150);
  t.equal(ticks.length, 5, 'one late tick and one more: what was missed is not made up for');
  process.crash();
  await world.runFor(10_000);
  t.equal(ticks.length, 5);
});

t.test('fake hosts: clocks run at their own rate, timers by their own clock', async (t) => {
  const world = new SimulatedWorld();
  const { clock, timers } = world.host('fast', { clockRate: 2 }).start('p').environment;
  const startMs = clock.monotonicMs();
  let firedMs = 0;
  timers.after(1_000, () => {
    firedMs = clock.monotonicMs();
  });
  await world.runFor(1_000);
  t.ok(Math.abs(clock.monotonicMs() - startMs - 2_000) < 1);
  t.ok(firedMs - startMs >= 1_000 && firedMs - startMs < 1_010);
});

t.test('fake hosts: a boot has an id of its own', async (t) => {
  const world = new SimulatedWorld();
  const host = world.host('a');
  const before = host.bootId;
  host.crash();
  host.boot();
  t.not(host.bootId, before);
  t.equal(host.start('p').environment.bootId, host.bootId);
});

t.test('fake processes: an uncaught error ends one and is remembered', async (t) => {
  const world = new SimulatedWorld();
  const process = world.process('a');
  process.environment.timers.after(1, () => {
    throw new Error('broken invariant');
  });
  await world.runFor(10);
  t.notOk(process.alive);
  t.match(world.failures, [{ process: 'a', thrown: { message: 'broken invariant' } }]);
});

t.test('fake world: one seed is one run, another seed another', async (t) => {
  const digestOf = async (seed: number) => {
    const { world, socket } = await connected(seed);
    for (let i = 0; i < 50; i++) socket.write([Buffer.alloc(1 + world.random.below(5_000))]);
    await world.runFor(1_000);
    return world.scheduler.digest;
  };
  t.equal(await digestOf(7), await digestOf(7));
  t.not(await digestOf(7), await digestOf(8));
});

t.test('fake random: evenly spread, streams apart', async (t) => {
  const random = new FakeRandom(5);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[random.below(10)]!++;
  t.ok(counts.every((count) => count > 850 && count < 1_150));
  t.not(random.fork('x').hex(16), random.fork('y').hex(16));
  t.equal(random.fork('x').hex(16), new FakeRandom(5).fork('x').hex(16));
});
