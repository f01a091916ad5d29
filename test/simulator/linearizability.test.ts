/** The checker itself, on histories whose verdict is known. */
import t from 'tap';
import { FakeRandom } from '../fakes/index.js';
import { checkHistory, type Operation } from './linearizability.js';
import {
  type BlockCall,
  blockSpecification,
  directorySpecification,
  type NameCall,
  replicaSpecification,
  volatileBlockSpecification,
  withoutReadsUnderWay,
} from './specifications.js';

const NEVER = Number.POSITIVE_INFINITY;

function at<Call>(invokedAt: number, returnedAt: number, call: Call): Operation<Call> {
  return { call, invokedAt, returnedAt };
}

const write = (value: number): BlockCall => ({ kind: 'write', value });
const read = (value: number): BlockCall => ({ kind: 'read', value });
const sync = (value: number): BlockCall => ({ kind: 'sync', value });
const powerCut: BlockCall = { kind: 'powerCut' };
const block = (...history: Operation<BlockCall>[]) => checkHistory(history, blockSpecification);
const names = (...history: Operation<NameCall>[]) => checkHistory(history, directorySpecification);

t.test('linearisability: a read beside a write gives old or new, and never old after new', async (t) => {
  t.equal(block(at(1, 10, write(1)), at(2, 3, read(0)), at(4, 5, read(1))), 'linearisable');
  t.equal(block(at(1, 10, write(1)), at(2, 3, read(1)), at(4, 5, read(0))), 'not linearisable');
  t.equal(block(at(1, 10, write(1)), at(2, 6, read(1)), at(4, 7, read(0))), 'linearisable', 'two beside');
});

t.test('linearisability: what was acknowledged is read from then on', async (t) => {
  t.equal(block(at(1, 2, write(1)), at(3, 4, read(1))), 'linearisable');
  t.equal(block(at(1, 2, write(1)), at(3, 4, read(0))), 'not linearisable', 'a stale read');
  t.equal(
    block(at(1, 2, write(1)), at(3, 4, write(2)), at(5, 6, read(1))),
    'not linearisable',
    'a lost update',
  );
  t.equal(block(at(3, 4, read(7))), 'not linearisable', 'never written');
});

t.test('linearisability: two writes side by side end in either order, the same for everyone', async (t) => {
  const writes = [at(1, 6, write(1)), at(2, 5, write(2))];
  t.equal(block(...writes, at(7, 8, read(1)), at(9, 10, read(1))), 'linearisable');
  t.equal(block(...writes, at(7, 8, read(2)), at(9, 10, read(2))), 'linearisable');
  t.equal(block(...writes, at(7, 8, read(1)), at(9, 10, read(2))), 'not linearisable');
});

t.test('linearisability: what nobody answered may have happened, may yet, or never', async (t) => {
  const lost = at(1, NEVER, write(1));
  t.equal(block(lost, at(3, 4, read(0))), 'linearisable');
  t.equal(block(lost, at(3, 4, read(1))), 'linearisable');
  t.equal(block(lost, at(3, 4, read(0)), at(50, 60, read(1))), 'linearisable', 'late');
  t.equal(block(lost, at(3, 4, read(1)), at(5, 6, read(0))), 'not linearisable', 'not undone');
  t.equal(
    block(at(1, 2, write(2)), at(3, NEVER, write(1)), at(4, 5, read(1)), at(6, 7, read(2))),
    'not linearisable',
  );
});

t.test(
  'linearisability: of a write that is not acknowledged nothing is promised to other mounts',
  async (t) => {
    const block = (...history: Operation<BlockCall>[]) =>
      checkHistory(withoutReadsUnderWay(history), blockSpecification);
    const flip = [at(4, 5, read(1)), at(6, 7, read(0))];
    t.equal(block(at(1, 10, write(1)), ...flip), 'linearisable', 'seen at one replica, and not at the next');
    t.equal(block(at(1, NEVER, write(1)), ...flip), 'linearisable', 'nor answered later');
    t.equal(block(at(1, 3, write(1)), ...flip), 'not linearisable', 'acknowledged');
    t.equal(block(at(8, 9, write(1)), ...flip), 'not linearisable', 'not written yet');
    const settled = [at(1, NEVER, write(1)), at(2, 3, write(2))];
    t.equal(block(...settled, at(4, 5, read(1)), at(6, 7, read(2))), 'not linearisable', 'it came before');
  },
);

t.test('linearisability: a power cut takes what was not flushed, and nothing that was', async (t) => {
  const block = (...history: Operation<BlockCall>[]) => checkHistory(history, volatileBlockSpecification);
  const cut = at(5, 6, powerCut);
  t.equal(block(at(1, 2, write(1)), cut, at(7, 8, read(0))), 'linearisable');
  t.equal(block(at(1, 2, write(1)), at(3, 4, sync(1)), cut, at(7, 8, read(0))), 'not linearisable');
  t.equal(block(at(1, 2, write(1)), at(3, 4, sync(1)), cut, at(7, 8, read(1))), 'linearisable');
  t.equal(block(at(1, 2, write(1)), cut, at(7, 8, read(1)), at(9, 10, read(0))), 'not linearisable');
});

t.test('linearisability: names have one maker each, and a rename is one step', async (t) => {
  const create = (name: string, node: number | undefined): NameCall => ({ kind: 'create', name, node });
  const lookup = (name: string, node: number | undefined): NameCall => ({ kind: 'lookup', name, node });
  const move = (from: string, to: string): NameCall => {
    return { kind: 'rename', from, to, mode: 'replace', result: 'done' };
  };
  t.equal(names(at(1, 5, create('a', 7)), at(2, 4, create('a', undefined))), 'linearisable');
  t.equal(names(at(1, 5, create('a', 7)), at(2, 4, create('a', 8))), 'not linearisable', 'two winners');
  t.equal(names(at(1, 2, create('a', undefined))), 'not linearisable', 'no winner');
  const moved = [at(1, 2, create('a', 7)), at(3, 9, move('a', 'b'))];
  t.equal(names(...moved, at(4, 5, lookup('a', undefined)), at(6, 7, lookup('b', 7))), 'linearisable');
  t.equal(
    names(...moved, at(4, 5, lookup('a', undefined)), at(6, 7, lookup('b', undefined))),
    'not linearisable',
    'in neither place',
  );
  const listed: NameCall = {
    kind: 'list',
    entries: [
      ['a', 7],
      ['b', 7],
    ],
  };
  t.equal(names(...moved, at(4, 5, listed)), 'not linearisable', 'in both places');
});

/** A history as a right register would give it: each operation takes effect somewhere in its time. */
function rightHistory(random: FakeRandom, count: number): Operation<BlockCall>[] {
  const planned = Array.from({ length: count }, (_, i) => {
    const effectAt = i * 10 + random.below(10);
    return {
      effectAt,
      invokedAt: effectAt - random.between(0.1, 60),
      returnedAt: random.chance(0.95) ? effectAt + random.between(0.1, 60) : NEVER,
      isWrite: random.chance(0.5),
      value: i + 1,
    };
  });
  let value = 0;
  const history: Operation<BlockCall>[] = [];
  for (const operation of planned) {
    if (operation.isWrite) value = operation.value;
    const call = operation.isWrite ? write(operation.value) : read(value);
    if (!operation.isWrite && operation.returnedAt === NEVER) continue;
    history.push(at(operation.invokedAt, operation.returnedAt, call));
  }
  return history;
}

t.test('linearisability: every right history passes, and one wrong read in it is found', async (t) => {
  const random = new FakeRandom(1);
  let found = 0;
  for (let round = 0; round < 60; round++) {
    const history = rightHistory(random, 50);
    t.equal(block(...history), 'linearisable', `round ${round}`);
    const reads = history.filter(({ call }) => call.kind === 'read');
    const last = reads.at(-1) as Operation<BlockCall>;
    // The value of a write long before it, which others have overwritten since.
    const stale = history.find(({ call }) => call.kind === 'write') as Operation<BlockCall>;
    const wrong = history.map((operation) =>
      operation === last ? { ...last, call: read((stale.call as { value: number }).value) } : operation,
    );
    if (block(...wrong) === 'not linearisable') found++;
  }
  t.ok(found > 50, `${found} of 60`);
});

t.test('linearisability: a rename that would change nothing now may come later, when it does', async (t) => {
  const exchange = (from: string, to: string) =>
    ({ kind: 'rename', from, to, mode: 'exchange', result: 'done' }) as const;
  const history = [
    at(1, 2, { kind: 'create', name: 'a', node: 1 } as const),
    at(3, 4, { kind: 'create', name: 'b', node: 2 } as const),
    at(5, 6, { kind: 'link', name: 'c', node: 2, result: 'done' } as const),
    at(7, 20, exchange('c', 'a')),
    at(8, 9, exchange('a', 'b')),
    at(10, 11, { kind: 'lookup', name: 'c', node: 2 } as const),
    at(12, 13, exchange('b', 'a')),
    at(30, 31, {
      kind: 'list',
      entries: [
        ['a', 2],
        ['b', 2],
        ['c', 1],
      ],
    } as const),
  ];
  t.equal(
    checkHistory<readonly (readonly [string, number])[], NameCall>(history, directorySpecification),
    'linearisable',
  );
});

t.test('linearisability: the search ends within its budget', async (t) => {
  // Writes without an answer, all at once, and a read of a value that none of them wrote.
  const history = Array.from({ length: 40 }, (_, i) => at(i, NEVER, write(i + 1)));
  const verdict = checkHistory([...history, at(100, 101, read(99))], blockSpecification, 5_000);
  t.equal(verdict, 'undecided');
});

t.test(
  'linearisability: one replica takes writes in one order, and takes back only what a repair may',
  async (t) => {
    const repair = (moment: number) => at<BlockCall>(moment, moment, { kind: 'powerCut' });
    const known = (moment: number, value: number) => at<BlockCall>(moment, moment, { kind: 'sync', value });
    const replica = (...history: Operation<BlockCall>[]) => checkHistory(history, replicaSpecification);
    const pending = at(1, NEVER, write(1));
    const [seen, old] = [at(4, 5, read(1)), at(8, 9, read(0))];
    t.equal(replica(pending, at(2, 3, read(0)), seen), 'linearisable', 'a write under way comes at any time');
    t.equal(replica(pending, seen, old), 'not linearisable', 'and stays');
    t.equal(replica(pending, seen, repair(6), old), 'linearisable', 'unless it is taken back');
    const again = at(10, 11, read(1));
    t.equal(replica(pending, seen, repair(6), old, again), 'linearisable', 'and written again by its retry');
    const acknowledged = [at(1, 3, write(1)), known(3.5, 1)];
    t.equal(replica(...acknowledged, seen, repair(6), old), 'not linearisable', 'what is acknowledged stays');
    t.equal(replica(...acknowledged, at(4, 5, read(0))), 'not linearisable', 'at every replica');
  },
);
