import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { Packr } from 'msgpackr';
import t from 'tap';
import * as messages from '../../protocol/messages/index.js';
import type { Method } from '../../protocol/rpc.js';
import {
  bool,
  byteString,
  bytes,
  type Codec,
  int,
  list,
  oneOf,
  optional,
  real,
  struct,
  text,
  u32,
  u53,
  uint,
  variant,
} from '../../protocol/schema.js';

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, moreTypes: false });

/** As a value comes out on the other side. */
function across<T>(codec: Codec<T>, value: T): T {
  return codec.decode(packr.unpack(packr.pack(codec.encode(value))), 'test');
}

const u53s = fc.maxSafeNat();
const latin1 = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array).toString('latin1'));

t.test('schema: what is encoded is decoded, over every kind of field', async () => {
  const everything = struct({
    flag: bool,
    small: uint(7),
    u32,
    u53,
    int,
    real,
    text: text(20),
    name: byteString(20),
    data: bytes(20),
    choice: oneOf('a', 'b', 'c'),
    maybe: optional(struct({ x: real })),
    list: list(struct({ id: u53, name: byteString(5) }), 10),
    either: variant({ one: { number: 1, body: struct({ a: u32 }) }, two: { number: 2, body: struct({}) } }),
  });
  const values = fc.record(
    {
      flag: fc.boolean(),
      small: fc.nat(7),
      u32: fc.nat(0xffff_ffff),
      u53: u53s,
      int: fc.maxSafeInteger(),
      real: fc.double({ noNaN: true, noDefaultInfinity: true }),
      text: fc.string({ maxLength: 20, unit: 'binary' }).filter((value) => value.length <= 20),
      name: latin1(20),
      data: fc.uint8Array({ maxLength: 20 }),
      choice: fc.constantFrom('a' as const, 'b' as const, 'c' as const),
      maybe: fc.record({ x: fc.float({ noNaN: true, noDefaultInfinity: true }) }),
      list: fc.array(fc.record({ id: u53s, name: latin1(5) }), { maxLength: 10 }),
      either: fc.oneof(
        fc.record({ type: fc.constant('one' as const), a: fc.nat() }),
        fc.record({ type: fc.constant('two' as const) }),
      ),
    },
    {
      requiredKeys: [
        'flag',
        'small',
        'u32',
        'u53',
        'int',
        'real',
        'text',
        'name',
        'data',
        'choice',
        'list',
        'either',
      ],
    },
  );
  fc.assert(
    fc.property(values, (value) => {
      const decoded = across(everything, value as Parameters<typeof everything.encode>[0]);
      const shown = (shape: typeof decoded) => JSON.stringify({ ...shape, data: [...shape.data] });
      return shown(decoded) === shown(value as typeof decoded);
    }),
    { numRuns: 300 },
  );
});

t.test('schema: what is out of bounds is MALFORMED, and says where', async (t) => {
  const cases: [Codec<unknown>, unknown][] = [
    [u53, -1],
    [u53, 1.5],
    [u53, 2 ** 53],
    [u53, '1'],
    [u53, 1n << 60n],
    [u32, 2 ** 32],
    [int, Number.NaN],
    [real, Number.POSITIVE_INFINITY],
    [bool, 1],
    [text(3), 'abcd'],
    [text(3), null],
    [byteString(3), 'abcd'],
    [byteString(3), '\u0100'],
    [bytes(3), new Uint8Array(4)],
    [bytes(3), 'abc'],
    [oneOf('a', 'b'), 2],
    [oneOf('a', 'b'), '0x0'],
    [oneOf('a', 'b'), 'length'],
    [list(u32, 2), [1, 2, 3]],
    [list(u32, 2), { length: 1, 0: 1 }],
    [list(u32, 2), ['x']],
    [struct({ a: u32 }), {}],
    [struct({ a: u32 }), []],
    [optional(u32), 'x'],
    [variant({ a: { number: 1, body: struct({}) } }), 1],
  ];
  for (const [codec, raw] of cases) {
    t.throws(() => codec.decode(raw, 'here'), { code: 'MALFORMED', message: /^here/ });
  }
  t.throws(() => struct({ a: list(struct({ b: u32 }), 9) }).decode([[[1], ['x']]], 'm'), {
    message: /^m\.a\[1\]\.b/,
  });
  const unknown = variant({ a: { number: 1, body: struct({}) } });
  t.throws(() => unknown.decode([7, []], 'here'), { code: 'UNKNOWN_MESSAGE' });
});

t.test('schema: a field can be added at the end, for old readers and new ones', async (t) => {
  const before = struct({ a: u32 });
  const after = struct({ a: u32, b: optional(u32) });
  t.same(before.decode(after.encode({ a: 1, b: 2 }), 'm'), { a: 1 });
  t.same(after.decode(before.encode({ a: 1 }), 'm'), { a: 1 });
});

t.test('schema: decoded bytes are a copy that may be kept', async (t) => {
  const raw = Uint8Array.from([1, 2, 3]);
  const kept = bytes(3).decode(raw, 'm');
  raw.fill(0);
  t.same([...kept], [1, 2, 3]);
});

function allMethods(): Method<unknown, unknown>[] {
  const exported: unknown[] = Object.values(messages);
  return exported.filter(
    (value): value is Method<unknown, unknown> => (value as { request?: unknown }).request !== undefined,
  );
}

t.test('messages: docs/formats/wire.md lists each method, and no other', async (t) => {
  const text = await readFile('docs/formats/wire.md', 'utf8');
  const listed = [...text.matchAll(/^\| (\d+) \| (\w+) \|/gm)].filter(([, number]) => Number(number) >= 10);
  const rows = listed.slice(listed.findIndex(([, , name]) => name === 'registerClient'));
  const expected = allMethods().map(({ number, name }) => `${number} ${name}`);
  t.same(rows.map(([, number, name]) => `${number} ${name}`).sort(), expected.sort());
});

t.test('messages: numbers and names are given once, and garbage never passes for a body', async (t) => {
  const methods = allMethods();
  t.ok(methods.length > 40);
  t.equal(new Set(methods.map(({ number }) => number)).size, methods.length);
  t.equal(new Set(methods.map(({ name }) => name)).size, methods.length);
  const garbage = fc.oneof(fc.anything({ withBigInt: true }), fc.array(fc.anything(), { maxLength: 8 }));
  fc.assert(
    fc.property(garbage, fc.constantFrom(...methods), (raw, method) => {
      for (const codec of [method.request, method.reply]) {
        try {
          codec.decode(raw, method.name);
        } catch (thrown) {
          if ((thrown as { code?: string }).code !== 'MALFORMED') throw thrown;
        }
      }
    }),
    { numRuns: 2_000 },
  );
});
