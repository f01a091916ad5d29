import t from 'tap';
import { packHeader } from '../../protocol/frame.js';
import { KIB, MAX_TRACED_BYTES, MIB } from '../../protocol/limits.js';
import * as m from '../../protocol/messages/index.js';
import { Service } from '../../protocol/rpc.js';
import { RpcTrace, type RpcTraceOptions, serveTrace } from '../../protocol/rpc-trace.js';
import { readTraceRecords, TraceKind, type TraceRecord } from '../../protocol/trace.js';
import { SimulatedWorld } from '../fakes/index.js';
import { TestChunkserver } from '../master/chunkserver.js';
import { MasterHost, TestClient } from '../master/support.js';

let seed = 40;

const HELLO = {
  features: 0,
  clusterId: '',
  role: 'client',
  id: 'me',
  term: 0,
  maxRequests: 1,
  maxRequestBytes: 1,
} as const;

function traced(options: Partial<RpcTraceOptions> = {}) {
  const world = new SimulatedWorld(seed++);
  const process = world.process('host');
  const { environment } = process;
  const trace = new RpcTrace(environment, {
    role: 'master',
    id: 'id',
    directory: '/trace',
    totalBytes: 64 * MIB,
    ...options,
  });
  return { world, environment, process, trace };
}

function all(trace: RpcTrace): TraceRecord[] {
  const records: TraceRecord[] = [];
  for (let position = 0; ; ) {
    const page = trace.read(position, 64 * KIB);
    records.push(...readTraceRecords(page.records));
    if (page.records.byteLength === 0) return records;
    position = page.next;
  }
}

t.test('trace: a master keeps what it was asked and what it answered, by whom and when', async (t) => {
  const world = new SimulatedWorld(seed++);
  const host = await new MasterHost(world, { traceBytes: 0 }).start();
  const client = await TestClient.start(world);
  await TestChunkserver.start(world, 'cs0');
  await client.create(m.ROOT_ID, 'a');
  await client.lookup('/none').catch(() => undefined);
  const { records, peers, dropped } = await client.call(m.GetTrace, { maxBytes: 64 * KIB });
  const read = [...readTraceRecords(Buffer.from(records))];
  const requests = read
    .filter(({ kind }) => kind === TraceKind.request)
    .map(({ body }) => (body as [number[]])[0][1]);
  t.ok(requests.includes(m.Create.number) && requests.includes(m.RegisterChunkserver.number));
  const failed = read.filter(
    ({ kind, body }) => kind === TraceKind.response && (body as [number[]])[0][1] !== 0,
  );
  t.equal(failed.length, 1);
  t.strictSame(peers.map(({ role }) => role).sort(), ['chunkserver', 'client']);
  t.equal(dropped, 0);
  t.notOk(requests.includes(m.GetTrace.number), 'reading it leaves no trace');
  t.ok(read.every(({ timeMs }, at) => at === 0 || timeMs >= (read[at - 1]?.timeMs ?? 0)));
  await host.restart();
});

t.test('trace: a process that keeps none says so', async (t) => {
  const service = new Service();
  serveTrace(service, undefined);
  const handler = service.handlers.get(m.GetTrace.number);
  t.throws(() => handler?.handle({ maxBytes: 1 }, {} as never), { code: 'NOT_SUPPORTED' });
});

t.test('trace: the ring is bounded, and a reader that comes too late is told what it missed', async (t) => {
  const { trace } = traced({ totalBytes: 0 });
  const peer = trace.peer(HELLO, 'there:1');
  const packed = packHeader([[1], 'x'.repeat(1000)]);
  for (let at = 0; at < 10_000; at++) peer.request(packed, [1]);
  const { records, lostBytes } = trace.read(0, 64 * KIB);
  t.ok(lostBytes > 5 * MIB);
  t.equal([...readTraceRecords(records)][0]?.kind, TraceKind.request);
  const kept = all(trace);
  t.ok(kept.length > 3_000 && kept.length < 4_500, `${kept.length} are kept`);
  t.equal(trace.dropped, 0, 'what is overwritten in memory alone is not a loss');
});

t.test('trace: of a message that is too long only the header is kept', async (t) => {
  const { trace } = traced({ totalBytes: 0 });
  trace.peer(HELLO, 'there:1').request(packHeader([[7, 8], 'x'.repeat(MAX_TRACED_BYTES)]), [7, 8]);
  const record = all(trace).at(-1);
  t.match(record, { isCut: true, body: [[7, 8], null] });
});

t.test('trace: files are written in the background, in turn, and the oldest are removed', async (t) => {
  const { world, environment, trace } = traced({ totalBytes: 4 * MIB });
  const peer = trace.peer(HELLO, 'there:1');
  const packed = packHeader([[1], 'x'.repeat(1000)]);
  for (let round = 0; round < 100; round++) {
    for (let at = 0; at < 100; at++) peer.request(packed, [1]);
    await world.runFor(1_000);
  }
  await world.until(trace.close());
  t.equal(trace.dropped, 0);
  const names = (await world.until(environment.disk.list('/trace'))).sort();
  t.equal(names.length, 4);
  t.not(names[0], 'trace-00000001', 'the first is gone');
  for (const name of names) {
    const file = await world.until(environment.disk.open(`/trace/${name}`, 'read'));
    const bytes = Buffer.alloc(await world.until(file.sizeBytes()));
    await world.until(file.read(bytes, 0));
    const records = [...readTraceRecords(bytes)];
    t.ok(bytes.byteLength < 1.2 * MIB);
    t.strictSame(
      records.slice(0, 2).map(({ kind }) => kind),
      [TraceKind.start, TraceKind.peer],
      'each can be read by itself',
    );
    const whole = records.reduce((sum, { kind }) => sum + Number(kind === TraceKind.request), 0);
    t.ok(whole > 100);
  }
});

t.test(
  'trace: a disk that is full or does not follow costs records, which are counted, and never waits',
  async (t) => {
    const { world, environment, trace } = traced();
    const { disk } = environment;
    const open = disk.open.bind(disk);
    let isFull = true;
    disk.open = (path, mode) =>
      isFull ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : open(path, mode);
    const peer = trace.peer(HELLO, 'there:1');
    const packed = packHeader([[1], 'x'.repeat(1000)]);
    for (let at = 0; at < 10_000; at++) peer.request(packed, [1]);
    await world.runFor(2_000);
    t.ok(trace.dropped > 5_000 && trace.dropped < 7_000, `${trace.dropped} were dropped`);
    const before = trace.dropped;
    isFull = false;
    await world.runFor(40_000);
    peer.request(packed, [1]);
    await world.runFor(2_000);
    t.equal(trace.dropped, before, 'and once there is room it goes on');
    t.strictSame(await world.until(disk.list('/trace')), ['trace-00000001']);
    await world.until(trace.close());
  },
);
