/** The wall clock of a process, finer than Date.now() tells it. */
import t from 'tap';
import { NodeClock } from '../../environment/node/clock.js';

/** A clock over a time that the test sets; each reading may take a while. */
function setUp(startMs: number) {
  const now = { ms: startMs, pauseMs: 0, setByMs: 0 };
  const read = (value: (ms: number) => number) => () => {
    const read = value(now.ms);
    now.ms += now.pauseMs;
    return read;
  };
  const clock = new NodeClock(
    read((ms) => Math.floor(ms + now.setByMs)),
    read((ms) => ms - 1_000_000),
  );
  const tell = () => {
    const { sec, nsec } = clock.wallTime();
    return sec * 1000 + nsec / 1e6;
  };
  return { now, tell };
}

t.test('clock: wall time is finer than a millisecond, and of two processes the same', (t) => {
  const [one, two] = [setUp(1_700_000_000_000.9), setUp(1_700_000_000_000.1)];
  for (let i = 0; i < 1_000; i++) {
    one.now.ms = two.now.ms = 1_700_000_000_001 + i * 0.37;
    one.tell();
    two.tell();
  }
  const [a, b] = [one.tell(), two.tell()];
  t.ok(Math.abs(a - b) < 0.02, `${a - b} ms apart`);
  t.ok(Math.abs(a - one.now.ms) < 0.02);
  t.end();
});

t.test('clock: a process that is held up between two readings does not go back', (t) => {
  const { now, tell } = setUp(1_700_000_000_000);
  const back: number[] = [];
  let before = tell();
  for (let i = 0; i < 2_000; i++) {
    now.ms += 0.21;
    now.pauseMs = i % 7 === 0 ? 20 : 0;
    const told = tell();
    if (told <= before) back.push(told - before);
    before = told;
  }
  t.same(back, []);
  t.end();
});

t.test('clock: it follows the wall clock when that is set', (t) => {
  const { now, tell } = setUp(1_700_000_000_000.5);
  for (const setByMs of [100_000.2, -5_000.7]) {
    now.setByMs = setByMs;
    t.ok(Math.abs(tell() - now.ms - setByMs) <= 1);
  }
  t.end();
});
