/** What the kernel forgets when, against a session and notices that are played. */
import t from 'tap';
import { Invalidation } from '../../fuse-client/kernel/invalidation.js';
import { Notification } from '../../fuse-client/kernel/protocol.js';
import { SimulatedWorld } from '../fakes/index.js';

const NAME = {
  entries: [{ parent: 1, name: 'a' }],
  attributes: [1],
  data: [],
  allEntries: false,
  directories: [],
};
const DATA = { entries: [], attributes: [], data: [7], allEntries: false, directories: [] };

/** A kernel that takes notifications, or lets them wait for ever. */
function played(options: { canExpire: boolean }) {
  const world = new SimulatedWorld(1);
  const { timers } = world.process('mount').environment;
  const log: string[] = [];
  const state = { waitsForNames: false, heldDirectory: 0, reading: false, blocked: false };
  const session = {
    get waitsForNames() {
      return state.waitsForNames;
    },
    waitsForNamesIn: (directory: number) => directory === state.heldDirectory,
    isReading: () => state.reading,
    changedElsewhere: () => undefined,
    expireEntries: () => {
      if (options.canExpire) log.push('epoch');
      return options.canExpire;
    },
  };
  const notices = {
    send: (message: Buffer) => {
      const isEntry = message.readInt32LE(4) === Notification.INVAL_ENTRY;
      const isPages = !isEntry && message.readBigInt64LE(24) >= 0n;
      log.push(isEntry ? 'entry' : isPages ? 'pages' : 'attributes');
      const blocks = state.blocked && (isEntry || isPages);
      return blocks ? new Promise<void>(() => undefined) : Promise.resolve();
    },
  };
  const words = [session, notices, timers] as unknown as ConstructorParameters<typeof Invalidation>;
  return { world, log, state, invalidation: new Invalidation(...words) };
}

t.test(
  'invalidation: names and attributes are forgotten one by one while nothing is under way',
  async (t) => {
    const { world, log, invalidation } = played({ canExpire: true });
    await world.until(invalidation.forget(NAME));
    t.same(log, ['attributes', 'entry']);
    log.length = 0;
    await world.until(invalidation.forget(DATA));
    t.same(log, ['attributes', 'pages']);
  },
);

t.test('invalidation: while a directory is held all names are declared old, and nobody waits', async (t) => {
  const { world, log, state, invalidation } = played({ canExpire: true });
  state.waitsForNames = true;
  state.blocked = true;
  await world.until(invalidation.forget(NAME), 1_000);
  t.same(log, ['attributes', 'epoch'], 'no notification is sent that would wait for the request');
});

t.test('invalidation: a kernel that cannot do that forgets the name later, and nobody waits', async (t) => {
  const { world, log, state, invalidation } = played({ canExpire: false });
  state.waitsForNames = true;
  state.blocked = true;
  await world.until(invalidation.forget(NAME), 1_000);
  t.same(log, ['attributes', 'entry']);
});

t.test('invalidation: a request that turns up while a notification waits ends the wait', async (t) => {
  for (const [stale, hold] of [
    [NAME, 'waitsForNames'],
    [DATA, 'reading'],
  ] as const) {
    const { world, log, state, invalidation } = played({ canExpire: true });
    state.blocked = true;
    const forgotten = invalidation.forget(stale);
    await world.runFor(500);
    state[hold] = true;
    await world.until(forgotten, 1_000);
    t.ok(log.includes('epoch'));
  }
});

t.test('invalidation: many names, or names that are not known, are forgotten at once', async (t) => {
  const { world, log, invalidation } = played({ canExpire: true });
  const entries = Array.from({ length: 200 }, (_, at) => ({ parent: 1, name: `n${at}` }));
  await world.until(invalidation.forget({ ...NAME, entries }));
  await world.until(invalidation.forget({ ...NAME, entries: [], allEntries: true }));
  t.same(log, ['attributes', 'epoch', 'attributes', 'epoch']);
});

const TOLD = { entries: [], attributes: [7], data: [], allEntries: false, directories: [3] };

t.test('invalidation: what the kernel is just taking in with a name it forgets when it has it', async (t) => {
  const { world, log, invalidation } = played({ canExpire: true });
  await world.until(invalidation.forget(TOLD));
  t.same(log, ['attributes', 'entry', 'attributes'], 'once more, when it has let go of the directory');
  log.length = 0;
  const attributes = Array.from({ length: 2_000 }, (_, at) => at + 10);
  await world.until(invalidation.forget({ ...TOLD, attributes }));
  t.equal(log.indexOf('entry'), attributes.length);
  t.equal(log.length, 2 * attributes.length + 1);
});

t.test('invalidation: nothing is sent that would wait for a request in that directory', async (t) => {
  const { world, log, state, invalidation } = played({ canExpire: true });
  state.heldDirectory = 3;
  state.waitsForNames = true;
  state.blocked = true;
  await world.until(invalidation.forget(TOLD), 1_000);
  t.same(log, ['attributes', 'epoch']);
  log.length = 0;
  state.heldDirectory = 4;
  state.blocked = false;
  await world.until(invalidation.forget(TOLD), 1_000);
  t.same(log, ['attributes', 'entry', 'attributes'], 'one in another does not matter');
});
