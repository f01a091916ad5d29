import t, { type Test } from 'tap';
import type { Socket } from '../../environment/ports/index.js';
import { errorCodeOf, GfsError } from '../../protocol/errors.js';
import { encodeFrame, FrameKind, FrameReader, type IncomingFrame } from '../../protocol/frame.js';
import { PROTOCOL_VERSION } from '../../protocol/limits.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer, type PeerOptions } from '../../protocol/peer.js';
import { goodbyeCodec, helloCodec, type IncomingRequest, method, Service } from '../../protocol/rpc.js';
import { struct, text, u53 } from '../../protocol/schema.js';
import { type FakeProcess, SimulatedWorld } from '../fakes/index.js';

const empty = struct({});
/** Answers with the payload doubled. */
const Echo = method(1, 'echo', struct({ word: text(100) }), struct({ word: text(100), payloadBytes: u53 }));
/** Answers when the test lets it. */
const Wait = method(2, 'wait', empty, empty);
const Fail = method(3, 'fail', struct({ how: text(20) }), empty);
const Unserved = method(4, 'unserved', empty, empty);
/** Echo's number with another shape: a caller that gets the body wrong. */
const BadBody = method(1, 'badBody', u53, empty);
/** Answers with so many bytes of payload. */
const Fetch = method(5, 'fetch', struct({ bytes: u53 }), empty);

interface Side {
  readonly process: FakeProcess;
  readonly peer: Peer;
  /** Requests for Wait that are being served. */
  readonly waiting: { readonly request: IncomingRequest; readonly finish: () => void }[];
  readonly service: Service;
}

function makeSide(process: FakeProcess, socket: Socket, options: Partial<PeerOptions> = {}): Side {
  const waiting: Side['waiting'][number][] = [];
  const service = new Service()
    .on(Echo, async ({ word }, { payload }) => {
      const doubled = payload === undefined ? [] : [Buffer.from(payload.bytes), Buffer.from(payload.bytes)];
      const payloadBytes = payload?.bytes.byteLength ?? 0;
      payload?.release();
      return { body: { word, payloadBytes }, payload: { buffers: doubled } };
    })
    .on(Wait, (_body, request) => {
      return new Promise((resolve) => waiting.push({ request, finish: () => resolve({ body: {} }) }));
    })
    .on(Fail, async ({ how }) => {
      if (how === 'gfs') throw new GfsError('CHUNK_FULL', 'no room');
      throw Object.assign(new Error('the disk says'), { code: how });
    })
    .on(Fetch, async ({ bytes }) => ({ body: {}, payload: { buffers: [Buffer.alloc(bytes)] } }));
  const { clock, timers, logger } = process.environment;
  const peer = new Peer(socket, {
    role: 'client',
    id: process.name,
    clusterId: () => 'cluster',
    term: () => 3,
    service,
    pool: new BufferPool(),
    clock,
    timers,
    logger,
    ...options,
  });
  return { process, peer, waiting, service };
}

interface Pair {
  readonly world: SimulatedWorld;
  readonly a: Side;
  readonly b: Side;
}

let seed = 0;

async function makePair(
  aOptions: Partial<PeerOptions> = {},
  bOptions: Partial<PeerOptions> = {},
): Promise<Pair> {
  const world = new SimulatedWorld(seed++);
  const [near, far] = [world.process('a'), world.process('b')];
  let b: Side | undefined;
  await far.environment.network.listen('b', 1, (socket) => {
    b = makeSide(far, socket, bOptions);
  });
  const socket = await world.until(near.environment.network.connect('b', 1, 1_000));
  const a = makeSide(near, socket, aOptions);
  await world.runFor(200);
  if (b === undefined) throw new Error('nobody was accepted');
  return { world, a, b };
}

/** A test whose body runs in virtual time. */
function check(
  fact: string,
  body: (t: Test, pair: Pair) => Promise<void>,
  options: Partial<PeerOptions>[] = [],
): void {
  t.test(`peer: ${fact}`, async (t) => {
    const pair = await makePair(...options);
    await pair.world.until(body(t, pair));
    t.same(pair.world.failures, []);
  });
}

/** Virtual milliseconds on `a`'s clock. */
function sleep({ a }: Pair, delayMs: number): Promise<void> {
  return new Promise((resolve) => a.process.environment.timers.after(delayMs, resolve));
}

function until(pair: Pair, condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const timer = pair.a.process.environment.timers.every(1, () => {
      if (!condition()) return;
      timer.cancel();
      resolve();
    });
  });
}

check('both sides say who they are, and both call', async (t, { a, b }) => {
  t.match(await a.peer.ready(), { id: 'b', role: 'client', clusterId: 'cluster', term: 3, features: 0 });
  t.match(await b.peer.ready(), { id: 'a' });
  const [one, two] = await Promise.all([
    a.peer.call(Echo, { word: 'from a' }),
    b.peer.call(Echo, { word: 'from b' }),
  ]);
  t.same(one.body, { word: 'from a', payloadBytes: 0 });
  t.same(two.body, { word: 'from b', payloadBytes: 0 });
  t.equal(one.payload, undefined);
});

check(
  'payload goes both ways, large and small, and onSent tells when its memory is free',
  async (t, { a }) => {
    for (const bytes of [1, 1_000, 70_000, 3_000_000]) {
      const payload = Buffer.alloc(bytes);
      for (let i = 0; i < bytes; i++) payload[i] = i % 251;
      let sent = 0;
      const call = a.peer.call(
        Echo,
        { word: 'x' },
        {
          payload: { buffers: [payload.subarray(0, 1), payload.subarray(1)] },
          onSent: () => sent++,
        },
      );
      const reply = await call;
      t.equal(sent, 1);
      t.equal(reply.body.payloadBytes, bytes);
      t.ok(reply.payload?.bytes.equals(Buffer.concat([payload, payload])), `${bytes} bytes`);
      reply.payload?.release();
    }
  },
);

check('the header arrives as it was given', async (t, pair) => {
  const { a, b } = pair;
  const options = { session: 5, sequence: 6, traceId: 7, priority: 'clone', uid: 8, gids: [9, 10] } as const;
  const call = a.peer.call(Wait, {}, { ...options, deadlineMs: 5_000 });
  await until(pair, () => b.waiting.length === 1);
  const { header, from, remote } = b.waiting[0]!.request;
  t.match(header, { ...options, term: 3, method: Wait.number });
  t.ok(header.deadlineMs > 4_900 && header.deadlineMs <= 5_000);
  t.equal(from.id, 'a');
  t.match(remote, /^a:/);
  b.waiting[0]!.finish();
  await call;
});

check('errors keep their code; the unforeseen is INTERNAL, a full disk NO_SPACE', async (t, { a }) => {
  await t.rejects(a.peer.call(Fail, { how: 'gfs' }), { code: 'CHUNK_FULL', message: 'no room' });
  await t.rejects(a.peer.call(Fail, { how: 'ENOSPC' }), { code: 'NO_SPACE' });
  await t.rejects(a.peer.call(Fail, { how: 'EIO' }), { code: 'INTERNAL' });
  t.notOk(a.peer.closed);
});

check('cancel: the caller hears at once, the handler by its signal', async (t, pair) => {
  const { a, b } = pair;
  const controller = new AbortController();
  const call = a.peer.call(Wait, {}, { signal: controller.signal });
  const failed = t.rejects(call, { code: 'CANCELLED' });
  await until(pair, () => b.waiting.length === 1);
  const { request, finish } = b.waiting[0]!;
  t.equal(request.signal.aborted, false);
  controller.abort();
  await failed;
  await until(pair, () => request.signal.aborted);
  t.match(request.signal.reason, { code: 'CANCELLED' });
  finish();
  await a.peer.call(Echo, { word: 'still here' });
  await t.rejects(
    a.peer.call(Wait, {}, { signal: controller.signal }),
    { code: 'CANCELLED' },
    'aborted before',
  );
});

check('deadline: the caller hears in time, the handler by its signal', async (t, pair) => {
  const { a, b } = pair;
  const { clock } = a.process.environment;
  const startMs = clock.monotonicMs();
  await t.rejects(a.peer.call(Wait, {}, { deadlineMs: 1_000 }), { code: 'DEADLINE_EXCEEDED' });
  const tookMs = clock.monotonicMs() - startMs;
  t.ok(tookMs >= 1_000 && tookMs < 1_200, `${tookMs} ms`);
  await until(pair, () => b.waiting[0]!.request.signal.aborted);
  b.waiting[0]!.finish();
  await a.peer.call(Echo, { word: 'still here' });
});

check(
  'silence: a peer that hangs is given up, one that only takes long is not',
  async (t, pair) => {
    const { a, b } = pair;
    const slow = a.peer.call(Wait, {}, { deadlineMs: 60_000 });
    await until(pair, () => b.waiting.length === 1);
    await sleep(pair, 10_000);
    t.notOk(a.peer.closed, 'it answers pings');
    b.waiting[0]!.finish();
    await slow;
    const call = a.peer.call(Wait, {}, { deadlineMs: 60_000 });
    await until(pair, () => b.waiting.length === 2);
    b.process.pause();
    const startMs = a.process.environment.clock.monotonicMs();
    await t.rejects(call, { code: 'UNREACHABLE' });
    const tookMs = a.process.environment.clock.monotonicMs() - startMs;
    t.ok(tookMs > 1_500 && tookMs < 2_500, `${tookMs} ms`);
    t.ok(a.peer.closed);
  },
  [{ silenceMs: 2_000 }],
);

check('deadline: none is none', async (t, pair) => {
  const { a, b } = pair;
  const call = a.peer.call(Wait, {}, { deadlineMs: Number.POSITIVE_INFINITY });
  await until(pair, () => b.waiting.length === 1);
  t.equal(b.waiting[0]!.request.header.deadlineMs, 0);
  await sleep(pair, 100_000);
  b.waiting[0]!.finish();
  await call;
});

check(
  'credit: what exceeds it waits, first come first served',
  async (t, pair) => {
    const { a, b } = pair;
    const done: number[] = [];
    const calls = [0, 1, 2, 3, 4].map((i) => a.peer.call(Wait, {}).then(() => done.push(i)));
    await sleep(pair, 500);
    t.equal(b.waiting.length, 2);
    for (let served = 0; served < 5; served++) {
      await until(pair, () => b.waiting.length > served);
      b.waiting[served]!.finish();
    }
    await Promise.all(calls);
    t.same(done, [0, 1, 2, 3, 4]);
  },
  [{}, { maxRequests: 2 }],
);

check(
  'credit: an urgent call goes ahead of those that wait for it',
  async (t, pair) => {
    const { a, b } = pair;
    await a.peer.ready();
    const calls = [0, 1, 2, 3].map(() => a.peer.call(Wait, {}));
    const urgent = a.peer.call(Wait, {}, { urgent: true });
    await until(pair, () => b.waiting.length === 3);
    b.waiting[2]!.finish();
    await urgent;
    for (let served = 0; served < 5; served++) {
      await until(pair, () => b.waiting.length > served);
      if (served !== 2) b.waiting[served]!.finish();
    }
    await Promise.all(calls);
    t.equal(b.waiting.length, 5);
  },
  [{}, { maxRequests: 2 }],
);

check(
  'credit: payload bytes count too, and a call larger than all of it goes alone',
  async (t, pair) => {
    const { a, b } = pair;
    const payload = (bytes: number) => ({ payload: { buffers: [Buffer.alloc(bytes)] } });
    const calls = [a.peer.call(Wait, {}, payload(600)), a.peer.call(Wait, {}, payload(600))];
    await sleep(pair, 500);
    t.equal(b.waiting.length, 1);
    b.waiting[0]!.finish();
    await until(pair, () => b.waiting.length === 2);
    b.waiting[1]!.finish();
    await Promise.all(calls);
    const large = await a.peer.call(Echo, { word: 'large' }, payload(100_000));
    t.equal(large.body.payloadBytes, 100_000);
  },
  [{}, { maxRequestBytes: 1_000 }],
);

check(
  'credit: a cancelled call keeps its credit until it is answered; those behind a waiting one move up',
  async (t, pair) => {
    const { a, b } = pair;
    const [first, second] = [new AbortController(), new AbortController()];
    const gone = a.peer.call(Wait, {}, { signal: first.signal }).catch((error) => error.code);
    const neverSent = a.peer.call(Wait, {}, { signal: second.signal }).catch((error) => error.code);
    const behind = a.peer.call(Echo, { word: 'behind' });
    await until(pair, () => b.waiting.length === 1);
    first.abort();
    second.abort();
    t.equal(await gone, 'CANCELLED');
    t.equal(await neverSent, 'CANCELLED');
    let answered = false;
    const done = behind.then(() => {
      answered = true;
    });
    await sleep(pair, 500);
    t.notOk(answered);
    b.waiting[0]!.finish();
    await done;
    t.equal(b.waiting.length, 1, 'what was cancelled while it waited was never sent');
  },
  [{}, { maxRequests: 1 }],
);

check(
  'two sides that answer each other with more than fits on the way do not wait for ever',
  async (t, { a, b }) => {
    const calls = [a, b].flatMap(({ peer }) =>
      Array.from({ length: 40 }, () => peer.call(Fetch, { bytes: 500_000 }, { deadlineMs: 60_000 })),
    );
    const replies = await Promise.all(calls);
    t.ok(replies.every(({ payload }) => payload?.bytes.byteLength === 500_000));
  },
);

check('an unknown message is an error, the connection stays', async (t, { a }) => {
  await t.rejects(a.peer.call(Unserved, {}), { code: 'UNKNOWN_MESSAGE' });
  t.equal((await a.peer.call(Echo, { word: 'fine' })).body.word, 'fine');
});

check('a malformed body is an error, the connection stays', async (t, { a }) => {
  await t.rejects(a.peer.call(BadBody, 7), { code: 'MALFORMED' });
  t.equal((await a.peer.call(Echo, { word: 'fine' })).body.word, 'fine');
});

check('a call that cannot be encoded fails alone', async (t, { a }) => {
  const payload = { buffers: [Buffer.alloc(17 * 1024 * 1024)] };
  let sent = 0;
  await t.rejects(a.peer.call(Echo, { word: 'x' }, { payload, onSent: () => sent++ }), { code: 'TOO_BIG' });
  t.equal(sent, 1);
  t.equal((await a.peer.call(Echo, { word: 'fine' })).body.word, 'fine');
});

check('a reply that cannot be encoded is an error to the caller, the connection stays', async (t, { a }) => {
  await t.rejects(a.peer.call(Fetch, { bytes: 17 * 1024 * 1024 }), { code: 'TOO_BIG' });
  t.equal((await a.peer.call(Echo, { word: 'fine' })).body.word, 'fine');
});

check('a broken connection fails what is pending and aborts what is served, once', async (t, pair) => {
  const { a, b } = pair;
  let closed = 0;
  a.peer.onceClosed(() => closed++);
  const call = t.rejects(a.peer.call(Wait, {}), { code: 'DISCONNECTED' });
  const back = b.peer.call(Wait, {}).catch(() => undefined);
  await until(pair, () => a.waiting.length === 1 && b.waiting.length === 1);
  b.process.crash();
  await call;
  t.equal(closed, 1);
  t.ok(a.peer.closed);
  t.match(a.waiting[0]!.request.signal.reason, { code: 'DISCONNECTED' });
  a.waiting[0]!.finish();
  await t.rejects(a.peer.call(Echo, { word: 'x' }), { code: 'DISCONNECTED' });
  a.peer.onceClosed(() => closed++);
  t.equal(closed, 2, 'told at once when it is closed already');
  void back;
});

check('close ends both sides', async (t, pair) => {
  const { a, b } = pair;
  const call = t.rejects(a.peer.call(Wait, {}), { code: 'DISCONNECTED' });
  a.peer.close();
  await call;
  await until(pair, () => b.peer.closed);
});

t.test('peer: another cluster is refused by both', async (t) => {
  const { world, a, b } = await makePair({ clusterId: () => 'one' }, { clusterId: () => 'two' });
  await t.rejects(world.until(a.peer.ready()), { code: 'WRONG_CLUSTER' });
  await t.rejects(world.until(b.peer.ready()), { code: 'WRONG_CLUSTER' });
  await t.rejects(a.peer.call(Echo, { word: 'x' }), { code: 'WRONG_CLUSTER' });
});

t.test('peer: who does not know its cluster yet is let in', async (t) => {
  const { world, a } = await makePair({ clusterId: () => '' }, { clusterId: () => 'two' });
  t.equal((await world.until(a.peer.ready())).clusterId, 'two');
});

/** A peer, and opposite to it a bare socket that the test speaks for. */
t.test('peer: a connection that carries nothing any more is found out, a slow peer is not', async (t) => {
  const slow = await makePair();
  const late = slow.a.peer.call(Wait, {}, { deadlineMs: 1_000 });
  await t.rejects(slow.world.until(late), { code: 'DEADLINE_EXCEEDED' });
  await slow.world.runFor(10_000);
  t.notOk(slow.a.peer.closed, 'it answers the probe');

  const { world, a } = await makePair();
  world.network.hang('a', 'b');
  const waits = a.peer.call(Wait, {}, { deadlineMs: 60_000 });
  const lost = a.peer.call(Wait, {}, { deadlineMs: 1_000 });
  waits.catch(() => undefined);
  await t.rejects(world.until(lost), { code: 'DEADLINE_EXCEEDED' });
  await t.rejects(world.until(waits), { code: 'UNREACHABLE' });
  t.ok(a.peer.closed);
  t.ok(world.scheduler.nowMs < 5_000);
});

async function makeStranger() {
  const world = new SimulatedWorld(seed++);
  const [near, far] = [world.process('a'), world.process('stranger')];
  let a: Side | undefined;
  await near.environment.network.listen('a', 1, (socket) => {
    a = makeSide(near, socket);
  });
  const socket = await world.until(far.environment.network.connect('a', 1, 1_000));
  const frames: IncomingFrame[] = [];
  let closed = false;
  const reader = new FrameReader(new BufferPool());
  socket.start({
    onData: (chunk) => reader.push(chunk, (frame) => frames.push(frame)),
    onDrain: () => undefined,
    onClose: () => {
      closed = true;
    },
  });
  await world.runFor(100);
  const hello = helloCodec.encode({
    features: 0,
    clusterId: 'cluster',
    role: 'client',
    id: 'stranger',
    term: 0,
    maxRequests: 10,
    maxRequestBytes: 1_000,
  });
  return {
    world,
    side: a as Side,
    say: (kind: FrameKind, header: unknown, payload?: Uint8Array) => {
      socket.write(encodeFrame(kind, header, payload === undefined ? undefined : { buffers: [payload] }));
    },
    write: (bytes: Uint8Array) => socket.write([bytes]),
    hello,
    /** The code that the peer said goodbye with, once it has closed. */
    goodbye: async () => {
      await world.runFor(2_000);
      const last = frames.at(-1);
      if (!closed || last?.kind !== FrameKind.goodbye) return undefined;
      return errorCodeOf(goodbyeCodec.decode(last.header, 'goodbye').error);
    },
  };
}

type Stranger = Awaited<ReturnType<typeof makeStranger>>;

const requestHeader = (id: number, methodNumber = Wait.number) => [
  id,
  methodNumber,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  [],
  new Uint8Array(0),
];

const offences: [what: string, code: string, commit: (stranger: Stranger) => void][] = [
  ['garbage', 'MALFORMED', ({ write }) => write(Buffer.from('GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n'))],
  [
    'an older version',
    'WRONG_PROTOCOL_VERSION',
    ({ write, hello }) => {
      const frame = Buffer.concat(encodeFrame(FrameKind.hello, hello));
      frame.writeUInt8(PROTOCOL_VERSION - 1, 2);
      write(frame);
    },
  ],
  ['a frame before the hello', 'MALFORMED', ({ say }) => say(FrameKind.request, [requestHeader(1), []])],
  ['no hello in time', 'UNREACHABLE', () => undefined],
  ['a hello that is none', 'MALFORMED', ({ say }) => say(FrameKind.hello, [1, 2])],
  [
    'a second hello',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(FrameKind.hello, hello);
    },
  ],
  [
    'a hello without credit',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, (hello as unknown[]).with(5, 0));
    },
  ],
  [
    'an unknown kind of frame',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(99 as FrameKind, []);
    },
  ],
  [
    'a request without its header',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(FrameKind.request, 7);
    },
  ],
  [
    'one request id twice',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(FrameKind.request, [requestHeader(1), []]);
      say(FrameKind.request, [requestHeader(1), []]);
    },
  ],
  [
    'a response to nothing',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(FrameKind.response, [[5, 0, null, 0], []]);
    },
  ],
  [
    'a cancel of nothing in particular',
    'MALFORMED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      say(FrameKind.cancel, ['x']);
    },
  ],
  [
    'more requests than the credit',
    'OVERLOADED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      for (let id = 1; id <= 1_024 + 8 + 1; id++) say(FrameKind.request, [requestHeader(id), []]);
    },
  ],
  [
    'more bytes than the credit',
    'OVERLOADED',
    ({ say, hello }) => {
      say(FrameKind.hello, hello);
      for (let id = 1; id <= 5; id++)
        say(FrameKind.request, [requestHeader(id), []], Buffer.alloc(16 * 1024 * 1024));
    },
  ],
];

for (const [what, code, commit] of offences) {
  t.test(`peer: ${what}: a goodbye that says why, then closed`, async (t) => {
    const stranger = await makeStranger();
    commit(stranger);
    await stranger.world.runFor(6_000);
    t.equal(await stranger.goodbye(), code);
    t.ok(stranger.side.peer.closed);
    t.same(stranger.world.failures, []);
  });
}

t.test('peer: a cancel of what is done already is nothing', async (t) => {
  const stranger = await makeStranger();
  stranger.say(FrameKind.hello, stranger.hello);
  stranger.say(FrameKind.cancel, [77]);
  await stranger.world.runFor(100);
  t.notOk(stranger.side.peer.closed);
});

/** Notes of each frame that is written whether it leaves at once. */
function noting(socket: Socket, notes: boolean[]): Socket {
  return Object.create(socket, {
    remote: { value: socket.remote },
    start: { value: (events: Parameters<Socket['start']>[0]) => socket.start(events) },
    write: {
      value: (...[buffers, onWritten, now]: Parameters<Socket['write']>) => {
        notes.push(now === true);
        return socket.write(buffers, onWritten, now);
      },
    },
    end: { value: () => socket.end() },
    destroy: { value: () => socket.destroy() },
  }) as Socket;
}

t.test('peer: what is alone leaves at once, what others leave with does not', async (t) => {
  const world = new SimulatedWorld(seed++);
  const [near, far] = [world.process('a'), world.process('b')];
  const asked: boolean[] = [];
  const answered: boolean[] = [];
  let waiting: Side['waiting'] = [];
  await far.environment.network.listen('b', 1, (socket) => {
    waiting = makeSide(far, noting(socket, answered)).waiting;
  });
  const socket = await world.until(near.environment.network.connect('b', 1, 1_000));
  const { peer } = makeSide(near, noting(socket, asked));
  await world.runFor(200);
  const echo = (word: string) => peer.call(Echo, { word });
  asked.length = 0;
  await world.until(Promise.all([echo('a'), echo('b'), echo('c')]));
  t.same(asked.splice(0), [false, false, false], 'three in one turn');
  await world.until(echo('d'));
  t.same(asked.splice(0), [false], 'there may be others, as before');
  await world.until(echo('e'));
  t.same(asked.splice(0), [true], 'the one before was alone');
  await world.until(Promise.all([echo('f'), echo('g')]));
  t.same(asked.splice(0), [true, false], 'nobody knows what comes next');

  answered.length = 0;
  const both = Promise.all([peer.call(Wait, {}), peer.call(Wait, {})]);
  while (waiting.length < 2) await world.runFor(1);
  for (const { finish } of waiting) finish();
  await world.until(both);
  t.same(answered, [false, true], 'the last answer takes those before it along');
});
