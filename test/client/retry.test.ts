import t from 'tap';
import { Deadline, pause, retrying } from '../../client/retry.js';
import { type ErrorCode, GfsError } from '../../protocol/errors.js';
import { SimulatedWorld } from '../fakes/index.js';

function setUp(durationMs = 1_000) {
  const world = new SimulatedWorld();
  const { clock, timers } = world.process('client').environment;
  return { world, timers, deadline: new Deadline(clock, durationMs) };
}

t.test('retry: an error for the user is thrown at once', async (t) => {
  const { world, timers, deadline } = setUp();
  let attempts = 0;
  const attempt = async () => {
    attempts++;
    throw new GfsError('NOT_FOUND');
  };
  await t.rejects(world.until(retrying(timers, deadline, undefined, attempt)), { code: 'NOT_FOUND' });
  t.equal(attempts, 1);
});

t.test('retry: whatever may pass is tried again until it succeeds', async (t) => {
  const { world, timers, deadline } = setUp();
  const failures: ErrorCode[] = [
    'DISCONNECTED',
    'NOT_PRIMARY',
    'NOT_READY',
    'DEADLINE_EXCEEDED',
    'OVERLOADED',
  ];
  const seen: string[] = [];
  const attempt = async () => {
    const code = failures.shift();
    if (code !== undefined) throw new GfsError(code);
    return 'done';
  };
  t.equal(
    await world.until(retrying(timers, deadline, undefined, attempt, (error) => seen.push(error.code))),
    'done',
  );
  t.same(seen, ['DISCONNECTED', 'NOT_PRIMARY', 'NOT_READY', 'DEADLINE_EXCEEDED', 'OVERLOADED']);
});

t.test('retry: after the deadline the last error is thrown', async (t) => {
  const { world, timers, deadline } = setUp(2_000);
  const attempt = async () => {
    throw new GfsError('UNREACHABLE');
  };
  const startedAtMs = world.scheduler.nowMs;
  await t.rejects(world.until(retrying(timers, deadline, undefined, attempt)), { code: 'UNREACHABLE' });
  const tookMs = world.scheduler.nowMs - startedAtMs;
  t.ok(tookMs >= 2_000 && tookMs < 2_600, `${tookMs} ms`);
});

t.test('retry: the caller can give up during a pause', async (t) => {
  const { world, timers, deadline } = setUp(60_000);
  const controller = new AbortController();
  const attempt = async () => {
    throw new GfsError('UNREACHABLE');
  };
  const result = retrying(timers, deadline, controller.signal, attempt);
  world.scheduler.after(100, () => controller.abort());
  await t.rejects(world.until(result, 700), { code: 'CANCELLED' });
  await t.rejects(
    world.until(pause(timers, 1_000, controller.signal), 10),
    { code: 'CANCELLED' },
    'also at once',
  );
});
