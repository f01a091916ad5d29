import fc from 'fast-check';
import t from 'tap';
import { type Held, LockManager, LockSet } from '../../master/locks.js';
import { GfsError } from '../../protocol/errors.js';

const never = (): AbortSignal => new AbortController().signal;

function setOf(...paths: [path: string, write: boolean][]): LockSet {
  const set = new LockSet();
  for (const [path, write] of paths) set.add(path, path.split('/').length, write);
  return set;
}

/** Lets every promise that can run do so. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

t.test('locks: readers share, a writer is alone, nothing is left behind', async (t) => {
  const locks = new LockManager();
  const first = locks.acquire(setOf(['/a', false]), never);
  const second = locks.acquire(setOf(['/a', false]), never);
  t.notOk(first instanceof Promise || second instanceof Promise, 'taken without waiting');
  let written = false;
  const writer = Promise.resolve(locks.acquire(setOf(['/a', true]), never)).then((held) => {
    written = true;
    return held;
  });
  const late = locks.acquire(setOf(['/a', false]), never);
  t.ok(late instanceof Promise, 'a reader waits behind a waiting writer');
  (first as Held).release();
  await settle();
  t.notOk(written);
  (second as Held).release();
  (await writer).release();
  (await late).release();
  t.equal(locks.size, 0);
});

t.test('locks: a wait can be cancelled, and those behind it go on', async (t) => {
  const locks = new LockManager();
  const reader = locks.acquire(setOf(['/a', false]), never) as Held;
  const given = new AbortController();
  const writer = locks.acquire(setOf(['/b', true], ['/a', true]), () => given.signal) as Promise<Held>;
  const late = locks.acquire(setOf(['/a', false]), never) as Promise<Held>;
  given.abort(new GfsError('DEADLINE_EXCEEDED'));
  await t.rejects(writer, { code: 'DEADLINE_EXCEEDED' });
  (await late).release();
  reader.release();
  t.equal(locks.size, 0, 'also what the cancelled one held already is free');
});

t.test('locks: a set is in one order, each key once, with the stronger mode', (t) => {
  const set = setOf(['/b/x', true], ['/a', false], ['/b', false], ['/a/y', true], ['/a', true]);
  set.addNode(7, true);
  set.addNode(3, false);
  t.strictSame(
    set.requests.map(({ key, write }) => [key, write]),
    [
      ['/a', true],
      ['/b', false],
      ['/a/y', true],
      ['/b/x', true],
      [3, false],
      [7, true],
    ],
  );
  t.end();
});

t.test(
  'locks: whatever is asked for in whatever order, nobody waits for ever and writers are alone',
  async () => {
    const path = fc
      .array(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 3 })
      .map((names) => `/${names.join('/')}`);
    const operation = fc.record({
      paths: fc.array(fc.tuple(path, fc.boolean()), { minLength: 1, maxLength: 4 }),
      nodes: fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean()), { maxLength: 2 }),
      turns: fc.integer({ min: 0, max: 4 }),
      cancelled: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 2, maxLength: 16 }), async (operations) => {
        const locks = new LockManager();
        const inside = new Map<string | number, { readers: number; writers: number }>();
        let finished = 0;
        const run = async ({
          paths,
          nodes,
          turns,
          cancelled,
        }: (typeof operations)[number]): Promise<void> => {
          const set = setOf(...paths);
          for (const [id, write] of nodes) set.addNode(id, write);
          const given = new AbortController();
          if (cancelled) queueMicrotask(() => given.abort());
          let held: Held;
          try {
            held = await locks.acquire(set, () => given.signal);
          } catch (error) {
            if (!cancelled || !(error instanceof GfsError)) throw error;
            finished++;
            return;
          }
          for (const { key, write } of set.requests) {
            const users = inside.get(key) ?? { readers: 0, writers: 0 };
            inside.set(key, users);
            if (write) users.writers++;
            else users.readers++;
            if (users.writers > 1 || (users.writers === 1 && users.readers > 0))
              throw new Error(`two in ${key}`);
          }
          for (let turn = 0; turn < turns; turn++) await Promise.resolve();
          for (const { key, write } of set.requests) {
            const users = inside.get(key) as { readers: number; writers: number };
            if (write) users.writers--;
            else users.readers--;
          }
          held.release();
          finished++;
        };
        const all = Promise.all(operations.map(run));
        for (let turn = 0; turn < 50 && finished < operations.length; turn++) await settle();
        if (finished < operations.length) throw new Error('deadlock');
        await all;
        return locks.size === 0 && !locks.hasWriters;
      }),
      { numRuns: 500 },
    );
  },
);
