import fc from 'fast-check';
import t from 'tap';
import { encodeFrame, FRAME_PREFIX_BYTES, FrameKind, FrameReader } from '../../protocol/frame.js';
import { MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, PROTOCOL_VERSION } from '../../protocol/limits.js';
import { BufferPool } from '../../protocol/payload.js';

interface Seen {
  readonly kind: number;
  readonly header: unknown;
  readonly payload: string | undefined;
}

/** Feeds pieces of a stream, each in memory that is overwritten once it was taken, as a socket does. */
function read(pieces: readonly Uint8Array[]): Seen[] {
  const reader = new FrameReader(new BufferPool());
  const seen: Seen[] = [];
  for (const piece of pieces) {
    const lent = piece.slice();
    reader.push(lent, ({ kind, header, payload }) => {
      seen.push({ kind, header, payload: payload?.bytes.toString('latin1') });
    });
    lent.fill(0xdd);
  }
  return seen;
}

function cut(stream: Uint8Array, at: readonly number[]): Uint8Array[] {
  const bounds = [0, ...at.map((point) => point % (stream.byteLength + 1)), stream.byteLength].sort(
    (a, b) => a - b,
  );
  return bounds.slice(1).map((end, index) => stream.subarray(bounds[index], end));
}

const frames = fc.record({
  kind: fc.constantFrom(...Object.values(FrameKind)),
  header: fc.array(fc.oneof(fc.maxSafeInteger(), fc.string(), fc.constant(null)), { maxLength: 5 }),
  payload: fc.option(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 3 }), { nil: undefined }),
});

t.test('frame: a stream cut anywhere gives the same frames', async () => {
  fc.assert(
    fc.property(fc.array(frames, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 40 }), (list, cuts) => {
      const encoded = list.flatMap(({ kind, header, payload }) =>
        encodeFrame(kind, header, payload === undefined ? undefined : { buffers: payload }),
      );
      const expected = list.map(({ kind, header, payload }) => {
        const whole = Buffer.concat(payload ?? []);
        return { kind, header, payload: whole.byteLength === 0 ? undefined : whole.toString('latin1') };
      });
      const seen = read(cut(Buffer.concat(encoded), cuts));
      return fc.stringify(seen) === fc.stringify(expected);
    }),
    { numRuns: 500 },
  );
});

t.test('frame: one byte at a time is enough', async (t) => {
  const stream = Buffer.concat(
    encodeFrame(FrameKind.request, [1, 'x'], { buffers: [Buffer.from('payload')] }),
  );
  const pieces = [...stream].map((byte) => Uint8Array.of(byte));
  t.same(read(pieces), [{ kind: FrameKind.request, header: [1, 'x'], payload: 'payload' }]);
});

t.test('frame: a payload checksum that is known already is passed on', async (t) => {
  const [head] = encodeFrame(FrameKind.response, [], { buffers: [Buffer.from('abc')], crc: 0x1234_5678 });
  t.equal(Buffer.from(head as Uint8Array).readUInt32LE(16), 0x1234_5678);
});

/** A correct frame, for spoiling. */
function sample(): Buffer {
  return Buffer.concat(encodeFrame(FrameKind.request, [1, 'header'], { buffers: [Buffer.from('payload')] }));
}

t.test('frame: each changed byte is noticed', async (t) => {
  const kindByte = 3;
  for (let at = 0; at < sample().byteLength; at++) {
    if (at === kindByte) continue;
    const spoilt = sample();
    spoilt.writeUInt8(spoilt.readUInt8(at) ^ 0x10, at);
    // A length that grew leaves the frame waiting for more, which a next frame then does not fit.
    const feed = () => read([spoilt, Buffer.alloc(MAX_HEADER_BYTES, 1), Buffer.alloc(MAX_PAYLOAD_BYTES, 1)]);
    t.throws(feed, { code: at === 2 ? 'WRONG_PROTOCOL_VERSION' : 'MALFORMED' }, `byte ${at}`);
  }
});

t.test('frame: a length over the limit is refused from the prefix alone', async (t) => {
  const header = sample().subarray(0, FRAME_PREFIX_BYTES);
  header.writeUInt32LE(MAX_HEADER_BYTES + 1, 4);
  t.throws(() => read([header]), { code: 'MALFORMED' });
  const payload = sample().subarray(0, FRAME_PREFIX_BYTES);
  payload.writeUInt32LE(0xffff_ffff, 8);
  t.throws(() => read([payload]), { code: 'MALFORMED' });
});

t.test('frame: another protocol version is named', async (t) => {
  const frame = sample();
  frame.writeUInt8(PROTOCOL_VERSION + 1, 2);
  t.throws(() => read([frame]), {
    code: 'WRONG_PROTOCOL_VERSION',
    message: `protocol version ${PROTOCOL_VERSION + 1}`,
  });
});

t.test('frame: garbage is MALFORMED, whatever it is', async (t) => {
  t.throws(() => read([Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')]), { code: 'MALFORMED' });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: FRAME_PREFIX_BYTES, maxLength: 200 }), (bytes) => {
      try {
        read([bytes]);
      } catch (thrown) {
        const { code } = thrown as { code?: string };
        return code === 'MALFORMED' || code === 'WRONG_PROTOCOL_VERSION';
      }
      return false;
    }),
    { numRuns: 1_000 },
  );
});

t.test('frame: a header that is no msgpack is MALFORMED, at once and without taking memory', async (t) => {
  const { checksum } = await import('../../protocol/checksum.js');
  const headers = [
    Buffer.alloc(0),
    Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
    Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
    Buffer.from([0xc6, 0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(100_000, 0x91),
    Buffer.from([0x91, 1, 2, 3]),
  ];
  for (const header of headers) {
    const prefix = sample().subarray(0, FRAME_PREFIX_BYTES);
    prefix.writeUInt32LE(header.byteLength, 4);
    prefix.writeUInt32LE(0, 8);
    prefix.writeUInt32LE(checksum(header), 12);
    t.throws(() => read([prefix, header]), { code: 'MALFORMED' });
  }
});

t.test('frame: what is too large to send is TOO_BIG before anything is sent', async (t) => {
  t.throws(() => encodeFrame(FrameKind.request, ['x'.repeat(MAX_HEADER_BYTES)]), { code: 'TOO_BIG' });
  const buffers = [Buffer.alloc(MAX_PAYLOAD_BYTES), Buffer.alloc(1)];
  t.throws(() => encodeFrame(FrameKind.request, [], { buffers }), { code: 'TOO_BIG' });
});

t.test('payload: released memory is used again, once, and only up to a bound', async (t) => {
  const pool = new BufferPool(1024 * 1024);
  const first = pool.take(600_000);
  const memory = first.bytes.buffer;
  first.release();
  first.release();
  const second = pool.take(550_000);
  t.equal(second.bytes.buffer, memory, 'the same power of two');
  t.not(pool.take(550_000).bytes.buffer, memory, 'released twice, given once');
  const large = pool.take(3_000_000);
  large.release();
  t.not(pool.take(3_000_000).bytes.buffer, large.bytes.buffer, 'over the bound it is not kept');
});
