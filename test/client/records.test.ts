import fc from 'fast-check';
import t from 'tap';
import { RECORD_HEADER_BYTES, RecordReader, RecordWriter } from '../../client/records.js';
import { MIB } from '../../protocol/limits.js';

/** What a reader makes of a file that comes in pieces of the given sizes, again and again. */
function readAll(file: Buffer, pieces: readonly number[] = [65_536]) {
  const records: { data: string; offset: number }[] = [];
  const reader = new RecordReader((data, offset) => records.push({ data: data.toString('latin1'), offset }));
  for (let at = 0, i = 0; at < file.byteLength; i++) {
    const end = at + (pieces[i % pieces.length] as number);
    reader.push(file.subarray(at, end));
    at = end;
  }
  return { records, counts: reader.end() };
}

t.test(
  'records: whatever lies between them, each is read once, in order, from pieces of any size',
  async (t) => {
    const garbage = fc.oneof(
      fc.nat(300).map((count) => Buffer.alloc(count)),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc.constant(Buffer.from('GFSrGFSGG')),
    );
    const item = fc.record({
      before: garbage,
      data: fc.uint8Array({ maxLength: 200 }),
      times: fc.integer({ min: 1, max: 3 }),
      torn: fc.boolean(),
    });
    const pieces = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 });
    await fc.assert(
      fc.asyncProperty(fc.array(item, { maxLength: 12 }), pieces, async (items, sizes) => {
        const writer = new RecordWriter('00112233445566ff');
        const parts: Buffer[] = [];
        const expected: string[] = [];
        for (const { before, data, times, torn } of items) {
          const record = writer.encode(data);
          parts.push(before);
          if (torn) parts.push(record.subarray(0, record.byteLength - 1));
          for (let i = 0; i < times; i++) parts.push(record);
          expected.push(Buffer.from(data).toString('latin1'));
        }
        const { records, counts } = readAll(Buffer.concat(parts), sizes);
        t.same(
          records.map(({ data }) => data),
          expected,
        );
        t.equal(
          counts.duplicates,
          items.reduce((sum, { times }) => sum + times - 1, 0),
        );
      }),
      { numRuns: 200 },
    );
  },
);

t.test('records: a flipped bit loses one record and no other', async (t) => {
  const writer = new RecordWriter('0011223344556677');
  const file = Buffer.concat(['one', 'two', 'three'].map((text) => writer.encode(Buffer.from(text))));
  for (let bit = 0; bit < 8 * (RECORD_HEADER_BYTES + 3); bit++) {
    const damaged = Buffer.from(file);
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    const { records, counts } = readAll(damaged);
    t.same(
      records.map(({ data }) => data),
      ['two', 'three'],
      `bit ${bit}`,
    );
    t.equal(counts.skippedBytes, RECORD_HEADER_BYTES + 3);
  }
});

t.test('records: offsets are those of the file, and a length that is garbage hides nothing', async (t) => {
  const writer = new RecordWriter('0011223344556677');
  const trap = Buffer.alloc(RECORD_HEADER_BYTES);
  writer.encode(Buffer.alloc(0)).copy(trap);
  trap.writeUInt32LE(15 * MIB, 4);
  const { records } = readAll(Buffer.concat([Buffer.alloc(100), trap, writer.encode(Buffer.from('x'))]));
  t.same(records, [{ data: 'x', offset: 100 + RECORD_HEADER_BYTES }]);
});

t.test('records: one that no reader would believe is not written', async (t) => {
  const writer = new RecordWriter('0011223344556677');
  t.throws(() => writer.encode(Buffer.alloc(16 * MIB)), { code: 'TOO_BIG' });
  t.throws(() => new RecordWriter('12'), { code: 'INVALID' });
});
