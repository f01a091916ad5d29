import t from 'tap';
import { Hedge } from '../../client/hedge.js';
import { GfsError } from '../../protocol/errors.js';
import { SimulatedWorld } from '../fakes/index.js';

function setUp() {
  const world = new SimulatedWorld(1);
  const { environment } = world.process('client');
  const asked: string[] = [];
  const aborted: string[] = [];
  const late: string[] = [];
  const slow: string[] = [];
  const hedge = new Hedge<string>(environment, (result) => late.push(result));
  /** Answers after so many milliseconds; a negative number fails then. */
  const run = (times: Readonly<Record<string, number>>, signal?: AbortSignal) =>
    hedge.run(
      Object.keys(times),
      signal,
      (name, stop) => {
        asked.push(name);
        stop.addEventListener('abort', () => aborted.push(name));
        const ms = times[name] as number;
        return new Promise((resolve, reject) => {
          const settle = () => (ms < 0 ? reject(new GfsError('CHUNK_CORRUPT')) : resolve(name));
          world.scheduler.after(Math.abs(ms), settle);
        });
      },
      (name) => slow.push(name),
    );
  return { world, hedge, run, asked, aborted, late, slow };
}

t.test('hedge: a quick answer is the only question', async (t) => {
  const { world, run, asked } = setUp();
  t.equal(await world.until(run({ a: 2, b: 2 })), 'a');
  t.same(asked, ['a']);
});

t.test('hedge: one that takes long is overtaken by the next, and its answer is discarded', async (t) => {
  const { world, run, asked, aborted, late, slow } = setUp();
  t.equal(await world.until(run({ a: 60_000, b: 2, c: 2 })), 'b');
  t.same(asked, ['a', 'b']);
  t.same(aborted, ['a']);
  t.same(slow, ['a']);
  await world.until(new Promise<void>((resolve) => world.scheduler.after(61_000, resolve)));
  t.same(late, ['a']);
});

t.test('hedge: a failure moves on at once, and the last one is told', async (t) => {
  const { world, run, asked, slow } = setUp();
  t.equal(await world.until(run({ a: -1, b: 1 })), 'b');
  await t.rejects(world.until(run({ a: -1, b: -1 })), { code: 'CHUNK_CORRUPT' });
  t.same(asked, ['a', 'b', 'a', 'b']);
  t.same(slow, []);
});

t.test('hedge: a cluster that is slow as a whole is not asked everything twice', async (t) => {
  const { world, run, asked } = setUp();
  for (let i = 0; i < 400; i++) await world.until(run({ a: 1_500, b: 3_000 }));
  t.ok(asked.length > 400, 'some are doubled');
  t.ok(asked.length <= 400 + 10 + 20, `${asked.length} questions for 400 reads`);
});

t.test('hedge: who gives up hears so at once', async (t) => {
  const { world, run, aborted } = setUp();
  const abort = new AbortController();
  const waiting = run({ a: 60_000 }, abort.signal);
  abort.abort();
  await t.rejects(world.until(waiting), { code: 'CANCELLED' });
  t.same(aborted, ['a']);
  await t.rejects(world.until(run({ a: 1 }, abort.signal)), { code: 'CANCELLED' });
});

t.test('hedge: each of many under way is overtaken in its own time', async (t) => {
  const { world, hedge, run } = setUp();
  const sleep = (ms: number) => new Promise<void>((resolve) => world.scheduler.after(ms, resolve));
  const reads: Promise<void>[] = [];
  let overtaken = 0;
  for (let i = 0; i < 5; i++) {
    const [startMs, delayMs] = [world.scheduler.nowMs, hedge.delayMs];
    const read = run({ a: i === 2 ? 1 : 60_000, b: 2 });
    const noted = read.then((answer) => {
      if (answer === 'a') return;
      overtaken++;
      const tookMs = world.scheduler.nowMs - startMs;
      t.ok(tookMs >= 0.9 * delayMs && tookMs < 1.1 * delayMs + 5, `${tookMs} ms, of which ${delayMs} waited`);
    });
    reads.push(noted);
    await world.until(sleep(4));
  }
  await world.until(Promise.all(reads));
  t.equal(overtaken, 4);
});
