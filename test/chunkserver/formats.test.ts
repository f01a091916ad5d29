import fc from 'fast-check';
import t from 'tap';
import { checkSpill } from '../../chunkserver/spill.js';
import {
  applyPatches,
  coverWhole,
  cutPatches,
  type Patches,
  withPatch,
} from '../../chunkserver/store/patches.js';
import { rangesNeeded } from '../../chunkserver/store/planner.js';
import { decodeRecord, encodeRecord, type JournalRecord } from '../../chunkserver/store/record.js';
import { ResultTable, SPILL_SESSION } from '../../chunkserver/store/results.js';
import { nextSerial, serialBase } from '../../chunkserver/store/serial.js';
import {
  decodeSidecarBody,
  decodeSidecarHead,
  encodeSidecar,
  type SidecarHead,
} from '../../chunkserver/store/sidecar.js';
import {
  checksum,
  checksumAfterChange,
  joinedPageChecksums,
  PAGE_BYTES,
  pageChecksums,
} from '../../protocol/checksum.js';

const u53 = fc.maxSafeNat();
const u32 = fc.nat({ max: 0xffff_ffff });
const bytes = fc.uint8Array({ maxLength: 300 });

const record: fc.Arbitrary<JournalRecord> = fc.oneof(
  fc.record({ type: fc.constant('create' as const), handle: u53, version: u53, mark: u53 }),
  fc.record({ type: fc.constant('version' as const), handle: u53, version: u53, mark: u53 }),
  fc.record({
    type: fc.constant('write' as const),
    handle: u53,
    serial: u53,
    offset: u53,
    length: u32,
    directFrom: u53,
    session: u53,
    sequence: u53,
    checksums: bytes.map((raw) => Buffer.from(raw)),
  }),
  fc.record({ type: fc.constant('extend' as const), handle: u53, serial: u53, length: u53 }),
  fc.record({ type: fc.constant('truncate' as const), handle: u53, serial: u53, length: u53, checksum: u32 }),
  fc.record({ type: fc.constant('mark' as const), handle: u53, mark: u53 }),
  fc.record({ type: fc.constant('settle' as const), handle: u53, serial: u53 }),
  fc.record({ type: fc.constant('delete' as const), handle: u53 }),
  fc.record({ type: fc.constant('flushed' as const), handle: u53, upTo: u53 }),
);

t.test('record: comes back as it was written', async (t) => {
  fc.assert(
    fc.property(u53, u53, record, bytes, (lsn, flushedLsn, written, data) => {
      const raw = Buffer.concat(encodeRecord(lsn, flushedLsn, written, data));
      const decoded = decodeRecord(Buffer.concat([Buffer.from('xx'), raw]), 2);
      t.same(
        { ...decoded, data: undefined },
        { lsn, flushedLsn, record: written, data: undefined, end: raw.byteLength + 2 },
      );
      if (!Buffer.from(decoded?.data ?? []).equals(Buffer.from(data))) throw new Error('data');
    }),
    { numRuns: 100 },
  );
});

t.test('record: cut anywhere or with any bit flipped it is none', async (t) => {
  fc.assert(
    fc.property(record, bytes, fc.nat(), fc.nat({ max: 7 }), (written, data, place, bit) => {
      const raw = Buffer.concat(encodeRecord(1, 0, written, data));
      const at = place % raw.byteLength;
      if (decodeRecord(raw.subarray(0, at), 0) !== undefined) return false;
      raw[at] = (raw[at] as number) ^ (1 << bit);
      return decodeRecord(raw, 0) === undefined;
    }),
    { numRuns: 500 },
  );
  t.pass();
});

const head: fc.Arbitrary<SidecarHead> = fc.record({
  handle: u53,
  version: u53,
  length: u53,
  serial: u53,
  lsn: u53,
  mark: u53,
  suspect: fc.boolean(),
});

t.test('sidecar: comes back as it was written; any flipped bit is found', async (t) => {
  const results = new ResultTable();
  results.add(3, 7, { offset: 100, length: 5 });
  fc.assert(
    fc.property(
      head,
      fc.array(u32, { maxLength: 30 }),
      fc.nat(),
      fc.nat({ max: 7 }),
      (written, sums, place, bit) => {
        const checksums = Uint32Array.from(sums);
        const raw = Buffer.concat(encodeSidecar(written, { checksums, results }));
        t.same(decodeSidecarHead(raw), written);
        const body = decodeSidecarBody(raw);
        t.same(body?.checksums, checksums);
        t.same(body?.results.find(3, 7), { offset: 100, length: 5 });
        const at = place % raw.byteLength;
        raw[at] = (raw[at] as number) ^ (1 << bit);
        return decodeSidecarHead(raw) === undefined || decodeSidecarBody(raw) === undefined;
      },
    ),
    { numRuns: 200 },
  );
});

t.test('patches: layered in any order they give the bytes that writing them gives', async (t) => {
  const SIZE = 2_000;
  const piece = fc.record({ start: fc.nat({ max: SIZE - 1 }), length: fc.integer({ min: 1, max: 300 }) });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 80 }), fc.nat({ max: SIZE }), (pieces, cut) => {
      const expected = Buffer.alloc(SIZE);
      const written = Buffer.alloc(SIZE);
      let patches: Patches = [];
      for (const [i, { start, length }] of pieces.entries()) {
        const end = Math.min(SIZE, start + length);
        const bytes = Buffer.alloc(end - start, i + 1);
        bytes.copy(expected, start);
        written.fill(1, start, end);
        patches = withPatch(patches, { start, end, bytes, generation: i });
      }
      const actual = Buffer.alloc(SIZE);
      applyPatches(patches, actual);
      if (!actual.equals(expected)) return false;
      for (const [i, patch] of patches.entries())
        if (i > 0 && patch.start < patches[i - 1]!.end) return false;
      if (coverWhole(patches, cut) !== written.subarray(0, cut).every((byte) => byte === 1)) return false;
      const shorter = Buffer.alloc(cut);
      applyPatches(cutPatches(patches, cut), shorter);
      return shorter.equals(expected.subarray(0, cut));
    }),
    { numRuns: 300 },
  );
  t.pass();
});

t.test('results: bounded, what is forgotten is refused rather than repeated', async (t) => {
  const table = new ResultTable();
  for (let sequence = 1; sequence <= 100; sequence++) table.add(1, sequence, { offset: sequence, length: 1 });
  t.same(table.find(1, 100), { offset: 100, length: 1 });
  t.throws(() => table.find(1, 5), { code: 'UNKNOWN_OUTCOME' });
  t.equal(table.find(1, 101), undefined);
  t.equal(table.find(2, 1), undefined);
  for (let session = 2; session <= 400; session++) table.add(session, 1, { offset: 0, length: 0 });
  t.equal(table.find(1, 100), undefined, 'the session that was quiet longest is forgotten');
  t.same(ResultTable.unpack(table.pack()).pack(), table.pack());
  t.equal(new ResultTable().pack().byteLength, 0);
  t.throws(() => ResultTable.unpack(Buffer.from([0xc1])), { code: 'MALFORMED' });
});

t.test('results: a spill comes before no other of its chunk; a copy takes any in its place', async (t) => {
  const table = new ResultTable();
  table.add(SPILL_SESSION, serialBase(5) + 3, { offset: 0, length: 500 });
  const ofCopy = serialBase(1) + 1;
  t.throws(() => checkSpill(table, 500, ofCopy), { code: 'STALE_CHUNK_VERSION' });
  checkSpill(table.copy(), 500, ofCopy);
  t.throws(() => checkSpill(table.copy(), 400, ofCopy), { code: 'CHUNK_FULL' });
});

t.test('serials: each version begins its own, above all before it', async (t) => {
  t.equal(nextSerial(3, 0), serialBase(3) + 1);
  t.equal(nextSerial(3, serialBase(3) + 8), serialBase(3) + 9);
  t.equal(nextSerial(4, serialBase(3) + 8), serialBase(4) + 1);
});

t.test('blocks: only of those that are overwritten in part the old bytes are read before', async (t) => {
  const at = (offset: number, length: number, chunkLength: number) =>
    rangesNeeded(
      { kind: 'write', offset, bytes: new Uint8Array(length), session: 0, sequence: 0 },
      chunkLength,
    ).map(({ block, start, end }) => [block, start, end]);
  t.same(at(0, 65_536, 200_000), []);
  t.same(at(0, 10, 0), []);
  t.same(at(10, 10, 10), [], 'an append goes on from the checksum');
  t.same(at(5, 10, 10), [[0, 5, 10]]);
  t.same(at(0, 10, 10), []);
  t.same(at(10, 131_072, 200_000), [
    [0, 10, 65_536],
    [2, 0, 10],
  ]);
  t.same(at(65_536, 70_000, 135_536), []);
});

t.test('checksums: after a change of a part, from the part alone', async (t) => {
  const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 4_000 });
  fc.assert(
    fc.property(anyBytes, fc.nat(), fc.nat(), fc.nat(), (bytes, from, count, seed) => {
      const whole = Buffer.concat([bytes, Buffer.alloc(seed % 70_000, seed)]);
      const start = from % bytes.byteLength;
      const end = start + (count % (bytes.byteLength - start + 1));
      const changed = Buffer.from(whole);
      for (let i = start; i < end; i++) changed[i] = (i * 31 + seed) & 0xff;
      const before = checksum(whole.subarray(start, end));
      const after = checksum(changed.subarray(start, end));
      const behind = whole.byteLength - end;
      return checksumAfterChange(checksum(whole), before, after, behind) === checksum(changed);
    }),
    { numRuns: 500 },
  );
  t.pass('500 changes');
});

t.test('checksum: that of some bytes follows from those of their pages', async (t) => {
  const sizes = fc.oneof(
    fc.nat(20_000),
    fc.nat(16).map((pages) => pages * PAGE_BYTES),
  );
  fc.assert(
    fc.property(sizes, fc.nat(), (sizeBytes, seed) => {
      const bytes = Buffer.from(Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 31 + seed) & 0xff));
      return joinedPageChecksums(pageChecksums(bytes), sizeBytes) === checksum(bytes);
    }),
    { numRuns: 100 },
  );
  t.pass('100 sizes');
});
