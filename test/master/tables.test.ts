/** The packed tables against plain Maps: whatever comes and goes, and whichever row is used again. */
import fc from 'fast-check';
import t from 'tap';
import type { Directory, Entry } from '../../master/directory.js';
import { Mode } from '../../master/mode.js';
import { type DeletedNode, LoggedState, type Node } from '../../master/state.js';
import { NameArena } from '../../master/tables/name-arena.js';
import { RowIndex } from '../../master/tables/row-index.js';
import { RowOrder } from '../../master/tables/row-order.js';
import { Rows } from '../../master/tables/rows.js';
import { GfsError } from '../../protocol/errors.js';
import { ROOT_ID } from '../../protocol/messages/index.js';

const NOW = { timeSec: 1_700_000_000, timeNsec: 5 };

function addNode(state: LoggedState, id: number, mode: number = Mode.REGULAR | 0o644): void {
  state.nodes.add({ id, mode, uid: 1, gid: 2, rdev: 0, time: NOW });
}

function root(state: LoggedState): Directory {
  const entries = state.nodes.get(ROOT_ID)?.entries;
  if (entries === undefined) throw new Error('the root is no directory');
  return entries;
}

t.test('tables: rows are found by key whatever was added and removed, and free ones are used again', (t) => {
  const change = fc.record({ add: fc.boolean(), key: fc.integer({ min: 1, max: 400 }) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 100, maxLength: 3000, size: 'max' }), (changes) => {
      const rows = new Rows(4);
      // Few hashes, so that many rows share a bucket.
      const hashOf = (key: number): number => Math.imul(key % 97, 0x9e37_79b1) >>> 0;
      const index = new RowIndex(rows, 3, (row) => hashOf(rows.key(row)));
      const find = (key: number): number => {
        let row = index.first(hashOf(key));
        while (row !== 0 && rows.key(row) !== key) row = index.next(row);
        return row;
      };
      const model = new Map<number, number>();
      let most = 0;
      for (const { add, key } of changes) {
        if (add && !model.has(key)) {
          const row = rows.add(key);
          index.insert(row, hashOf(key));
          model.set(key, row);
        } else if (!add && model.has(key)) {
          const row = find(key);
          index.remove(row, hashOf(key));
          rows.free(row);
          model.delete(key);
        }
        most = Math.max(most, model.size);
      }
      for (let key = 1; key <= 400; key++) if (find(key) !== (model.get(key) ?? 0)) return false;
      return rows.size === model.size && rows.end === most + 1;
    }),
    { numRuns: 100 },
  );
  t.end();
});

t.test('tables: names come back byte for byte, of every length, and their space is used again', (t) => {
  const arena = new NameArena();
  const kept = new Map<number, string>();
  for (let round = 0; round < 4; round++) {
    for (let length = 0; length <= 255; length++) {
      const name = String.fromCharCode(
        ...Array.from({ length }, (_, at) => (at * 7 + length + round) & 0xff),
      );
      const reference = arena.add(name);
      if (kept.has(reference)) t.fail(`two names at ${reference}`);
      kept.set(reference, name);
    }
    for (const [reference, name] of kept) {
      if (arena.get(reference) !== name || !arena.equals(reference, name)) t.fail(`name at ${reference}`);
      if (reference % 3 === 0) {
        arena.free(reference);
        kept.delete(reference);
      }
    }
  }
  const bytes = arena.memoryBytes;
  for (const reference of kept.keys()) arena.free(reference);
  for (let length = 0; length <= 255; length++) arena.add('x'.repeat(length));
  t.equal(arena.memoryBytes, bytes, 'what was given back is enough for as much again');
  t.end();
});

t.test(
  'tables: a directory of many pieces keeps its order, whatever goes, and pages from any cookie',
  (t) => {
    const step = fc.record({
      add: fc.nat(400),
      removeEach: fc.integer({ min: 1, max: 5 }),
      page: fc.nat(3000),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const order = new RowOrder((row) => row * 10);
        let model: number[] = [];
        let next = 1;
        for (const { add, removeEach, page } of steps) {
          for (let i = 0; i < add; i++) {
            order.push(next);
            model.push(next++);
          }
          const kept: number[] = [];
          for (const [at, row] of model.entries()) {
            if (at % removeEach === 0) order.remove(row);
            else kept.push(row);
          }
          model = kept;
          if (order.size !== model.length) return false;
          if ([...order].join() !== model.join()) return false;
          const wanted = model.filter((row) => row * 10 > page * 5).slice(0, 100);
          if (order.page(page * 5, 100).join() !== wanted.join()) return false;
        }
        return true;
      }),
      { numRuns: 200 },
    );
    t.end();
  },
);

const name = fc.oneof(
  fc.constantFrom('a', 'b', '\xff\x01', 'a name longer than twelve bytes'),
  fc.string({
    unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
    maxLength: 255,
    minLength: 1,
  }),
);
const entryChange = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), name }),
  fc.record({ kind: fc.constant('remove' as const), at: fc.nat() }),
  fc.record({ kind: fc.constant('rename' as const), at: fc.nat(), name }),
  fc.record({ kind: fc.constant('retarget' as const), at: fc.nat(), to: fc.nat() }),
);

t.test('tables: directories do what Maps do', (t) => {
  fc.assert(
    fc.property(fc.array(entryChange, { minLength: 20, maxLength: 300, size: 'max' }), (changes) => {
      const state = new LoggedState(1024, 77);
      const entries = root(state);
      const model = new Map<string, Entry>();
      let nextId = ROOT_ID + 1;
      const pick = (at: number): Entry | undefined => [...model.values()][at % Math.max(1, model.size)];
      for (const change of changes) {
        const picked = 'at' in change ? pick(change.at) : undefined;
        if (change.kind === 'add') {
          if (model.has(change.name)) continue;
          const id = nextId++;
          addNode(state, id);
          model.set(change.name, entries.add(change.name, id, state.nextCookie++));
        } else if (picked === undefined) {
        } else if (change.kind === 'remove') {
          entries.remove(picked);
          model.delete(picked.name);
        } else if (change.kind === 'rename') {
          if (model.has(change.name)) continue;
          entries.rename(picked, change.name);
          model.delete(picked.name);
          model.set(change.name, { ...picked, name: change.name });
        } else {
          const node = ROOT_ID + (change.to % (nextId - ROOT_ID));
          entries.retarget(picked, node);
          model.set(picked.name, { ...picked, node });
        }
      }
      const inOrder = [...model.values()].sort((a, b) => a.cookie - b.cookie);
      t.strictSame([...entries], inOrder);
      t.strictSame(
        [...model.keys()].map((key) => entries.get(key)),
        [...model.values()],
      );
      t.equal(entries.get('no such name'), undefined);
    }),
    { numRuns: 60 },
  );
  t.end();
});

t.test('tables: every attribute of a node comes back as it was set', (t) => {
  const sec = fc.oneof(
    fc.maxSafeInteger(),
    fc.constantFrom(-(2 ** 31) - 1, -(2 ** 31), -1, 0, 2 ** 34 - 2 ** 31 - 1, 2 ** 34 - 2 ** 31),
  );
  const nsec = fc.oneof(fc.nat(999_999_999), fc.constantFrom(999_999_999, 2 ** 30 - 1, 2 ** 32 - 1));
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  const attributes = fc.record({
    permissions: fc.nat(0o7777),
    nlink: fc.nat(65_000),
    uid: u32,
    gid: u32,
    rdev: u32,
    size: fc.maxSafeNat(),
    dataVersion: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
    times: fc.tuple(sec, nsec, sec, nsec, sec, nsec),
  });
  const state = new LoggedState(1024);
  let id = ROOT_ID;
  fc.assert(
    fc.property(attributes, attributes, (before, after) => {
      const { rdev } = before;
      state.nodes.add({ id: ++id, mode: Mode.FIFO, uid: 0, gid: 0, rdev, time: NOW });
      // The second time checks that nothing of the first is left.
      for (const values of [before, after]) {
        const node = state.nodes.get(id) as Node;
        const [atimeSec, atimeNsec, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec] = values.times;
        node.mode = Mode.FIFO | values.permissions;
        node.nlink = values.nlink;
        node.uid = values.uid;
        node.gid = values.gid;
        node.size = values.size;
        node.dataVersion = values.dataVersion;
        node.setAtime(atimeSec, atimeNsec);
        node.setMtime(mtimeSec, mtimeNsec);
        node.setCtime(ctimeSec, ctimeNsec);
        const { permissions, times: _, ...plain } = values;
        t.strictSame(state.nodes.get(id)?.attributes(), {
          ...plain,
          id,
          rdev,
          mode: Mode.FIFO | permissions,
          ...{ atimeSec, atimeNsec, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec },
        });
      }
      // Every other one goes, so that rows are used again.
      if (id % 2 === 0) state.nodes.delete(id);
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test('tables: the chunks of a file do what a Map does, in the row or beside it', (t) => {
  const index = fc.oneof(fc.constant(0), fc.nat(5), fc.constant(2 ** 40));
  const change = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), index }),
    fc.record({ kind: fc.constant('cut' as const), index }),
    fc.record({ kind: fc.constant('pend' as const), index, bytes: fc.nat(1000) }),
    fc.record({ kind: fc.constant('clear' as const), index }),
    fc.record({ kind: fc.constant('remove' as const), index }),
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const state = new LoggedState(1024);
      for (const id of [2, 3]) addNode(state, id);
      const chunks = (id: number) => (state.nodes.get(id) as Node).chunkList;
      const model = new Map<number, number>();
      const pending = new Map<number, number>();
      let handle = 1;
      for (const what of changes) {
        if (what.kind === 'set') {
          chunks(2).set(what.index, handle);
          model.set(what.index, handle++);
        } else if (what.kind === 'pend') {
          chunks(2).addPendingTruncation(what.index, what.bytes);
          pending.set(what.index, Math.min(what.bytes, pending.get(what.index) ?? what.bytes));
        } else if (what.kind === 'clear') {
          chunks(2).clearPendingTruncation(what.index);
          pending.delete(what.index);
        } else if (what.kind === 'remove') {
          t.equal(chunks(2).remove(what.index), model.get(what.index) ?? 0);
          model.delete(what.index);
          pending.delete(what.index);
        } else {
          const cut = [...model].filter(([at]) => at >= what.index).sort(([a], [b]) => a - b);
          t.strictSame(
            chunks(2).cutFrom(what.index),
            cut.map(([, was]) => was),
          );
          for (const map of [model, pending])
            for (const at of map.keys()) if (at >= what.index) map.delete(at);
        }
      }
      const inOrder = [...model].sort(([a], [b]) => a - b);
      chunks(3).copyFrom(chunks(2));
      for (const id of [2, 3]) {
        t.strictSame(chunks(id).entries(), inOrder);
        t.strictSame(
          chunks(id).handles(1),
          inOrder.filter(([at]) => at >= 1).map(([, was]) => was),
        );
        t.strictSame(
          chunks(id).pendingTruncations(),
          [...pending].sort(([a], [b]) => a - b),
        );
        t.strictSame(
          chunks(id).indexes(0, 5),
          inOrder.map(([at]) => at).filter((at) => at < 5),
        );
        t.equal(chunks(id).size, model.size);
        t.equal(chunks(id).end, (inOrder.at(-1)?.[0] ?? -1) + 1);
        t.equal(state.nodes.get(id)?.chunks === undefined, model.size === 0 && pending.size === 0);
      }
    }),
    { numRuns: 200 },
  );
  t.end();
});

t.test('tables: chunks keep what they are given, and one that is kept too long says so', (t) => {
  const { chunks, nodes } = new LoggedState(1024);
  const fields = { version: 2 ** 40, references: 3, goal: 2, replicas: 4, holder: 'one', durationMs: 60_000 };
  const handle = 2 ** 41 + 5;
  chunks.add({ handle, ...fields });
  chunks.add({ handle: 5, ...fields, holder: 'two' });
  const kept = chunks.get(handle);
  for (const [field, value] of Object.entries(fields))
    t.equal(kept?.[field as keyof typeof fields], value, field);
  t.equal(chunks.get(5)?.holder, 'two');
  t.throws(() => chunks.add({ handle, ...fields }), { message: /twice/ });
  chunks.delete(handle);
  chunks.add({ handle: 7, ...fields });
  t.notOk(chunks.has(handle));
  t.throws(() => kept?.version, new GfsError('NO_SUCH_CHUNK', `chunk ${handle} is gone`));
  t.strictSame([...chunks.values()].map((chunk) => chunk.handle).sort(), [5, 7]);

  nodes.add({ id: 2, mode: Mode.REGULAR, uid: 0, gid: 0, rdev: 0, time: NOW });
  const node = nodes.get(2);
  nodes.delete(2);
  nodes.add({ id: 3, mode: Mode.REGULAR, uid: 9, gid: 0, rdev: 0, time: NOW });
  t.throws(() => node?.uid, new GfsError('STALE_NODE', 'node 2'));
  t.end();
});

t.test('tables: deleted nodes do what a Map does, also while somebody goes through them', (t) => {
  const change = fc.record({
    id: fc.integer({ min: 2, max: 40 }),
    path: fc.constantFrom('/a', '/d/a', '/d/e/b'),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 10, maxLength: 400, size: 'max' }), (changes) => {
      const { deleted } = new LoggedState(1024);
      const model = new Map<number, DeletedNode>();
      const [here, there] = [deleted.values(), model.values()];
      for (const [at, { id, path }] of changes.entries()) {
        if (model.has(id)) {
          t.ok(deleted.delete(id));
          model.delete(id);
        } else {
          const node = { id, timeSec: -at, timeNsec: at, path: `${path}${at % 7}` };
          deleted.add(node);
          model.set(id, node);
        }
        if (at % 3 === 0) t.strictSame(here.next(), there.next());
      }
      t.strictSame([...deleted.values()], [...model.values()]);
      t.equal(deleted.size, model.size);
      const middle = [...model.keys()][model.size >> 1] ?? 0;
      t.strictSame([...deleted.values(middle)], [...model.values()].slice((model.size >> 1) + 1));
      for (let id = 2; id <= 40; id++) t.strictSame(deleted.get(id), model.get(id));
      t.equal(deleted.delete(41), false);
    }),
    { numRuns: 60 },
  );
  t.end();
});
