/** What every {@link Network} promises, as tests that run against each of them. */
import type { Test } from 'tap';
import type { Listener, Network, Socket } from '../../environment/ports/index.js';

export interface NetworkUnderTest {
  readonly server: Network;
  readonly client: Network;
  /** Where the server listens and the client connects to. */
  readonly host: string;
  /** Lets the time pass that the test needs. */
  run<T>(test: () => Promise<T>): Promise<T>;
}

const CONNECT_MS = 2_000;

/** Collects what a socket says, and lets a test wait for it. */
class Recorder {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  byteCount = 0;
  drains = 0;
  closes: (Error | undefined)[] = [];
  readonly #waiting: { readonly until: () => boolean; readonly resolve: () => void }[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    socket.start({
      onData: (chunk) => {
        this.#chunks.push(Buffer.from(chunk));
        this.byteCount += chunk.byteLength;
        this.#check();
      },
      onDrain: () => {
        this.drains++;
        this.#check();
      },
      onClose: (error) => {
        this.closes.push(error);
        this.#check();
      },
    });
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('latin1');
  }

  get received(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ until: condition, resolve });
      this.#check();
    });
  }

  bytes(count: number): Promise<void> {
    return this.until(() => this.byteCount >= count);
  }

  closed(): Promise<void> {
    return this.until(() => this.closes.length > 0);
  }

  #check(): void {
    for (const { until, resolve } of this.#waiting) if (until()) resolve();
  }
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  readonly listener: Listener;
}

async function connectPair({ server, client, host }: NetworkUnderTest): Promise<Pair> {
  let accepted: (socket: Socket) => void = () => undefined;
  const far = new Promise<Socket>((resolve) => {
    accepted = resolve;
  });
  const listener = await server.listen(host, 0, (socket) => accepted(socket));
  const near = await client.connect(host, listener.port, CONNECT_MS);
  return { near, far: await far, listener };
}

const bytes = (text: string) => Buffer.from(text, 'latin1');

export function networkContract(t: Test, name: string, make: () => Promise<NetworkUnderTest>): void {
  const check = (fact: string, body: (t: Test, under: NetworkUnderTest) => Promise<void>) => {
    t.test(`${name}: ${fact}`, async (t) => {
      const under = await make();
      await under.run(() => body(t, under));
    });
  };
  const checkPair = (fact: string, body: (t: Test, near: Recorder, far: Recorder) => Promise<void>) => {
    check(fact, async (t, under) => {
      const pair = await connectPair(under);
      const near = new Recorder(pair.near);
      const far = new Recorder(pair.far);
      await body(t, near, far);
      near.socket.destroy();
      far.socket.destroy();
      await pair.listener.close();
    });
  };

  checkPair('bytes arrive in order, both ways', async (t, near, far) => {
    near.socket.write([bytes('one '), bytes('two ')]);
    near.socket.write([bytes('three')]);
    far.socket.write([bytes('back')]);
    await far.bytes(13);
    await near.bytes(4);
    t.equal(far.text, 'one two three');
    t.equal(near.text, 'back');
  });

  checkPair('what one turn writes arrives in order, alone, together and at once', async (t, near, far) => {
    let written = 0;
    near.socket.write([bytes('a')]);
    await far.bytes(1);
    near.socket.write([bytes('b')]);
    near.socket.write([bytes('c'), bytes('d')], () => written++);
    near.socket.write([bytes('e')], undefined, true);
    near.socket.write([bytes('f')]);
    near.socket.write([bytes('g')]);
    await Promise.resolve();
    near.socket.write([bytes('h')]);
    await far.bytes(8);
    near.socket.write([bytes('i')], undefined, true);
    near.socket.write([bytes('j')]);
    near.socket.end();
    await far.closed();
    t.equal(far.text, 'abcdefghij');
    t.equal(written, 1);
  });

  check('what arrives before start waits for it', async (t, under) => {
    const { near, far, listener } = await connectPair(under);
    await new Promise<void>((resolve) => near.write([bytes('early')], resolve));
    const reader = new Recorder(far);
    t.equal(reader.text, '', 'no callback before start has returned');
    await reader.bytes(5);
    t.equal(reader.text, 'early');
    near.destroy();
    far.destroy();
    await listener.close();
  });

  checkPair('a full queue says false, drains, and loses nothing', async (t, near, far) => {
    const big = Buffer.alloc(16 * 1024 * 1024);
    for (let i = 0; i < big.byteLength; i += 4) big.writeUInt32LE(i, i);
    let written = 0;
    const below = near.socket.write([big.subarray(0, 10_000_000), big.subarray(10_000_000)], () => written++);
    t.equal(below, false);
    await near.until(() => near.drains > 0);
    await far.bytes(big.byteLength);
    t.equal(written, 1);
    t.ok(far.received.equals(big));
  });

  checkPair('pause stops the data, resume brings it', async (t, near, far) => {
    near.socket.write([bytes('first')]);
    await far.bytes(5);
    far.socket.pause();
    near.socket.write([bytes('second')]);
    far.socket.write([bytes('answered all the same')]);
    await near.bytes(21);
    t.equal(far.text, 'first');
    far.socket.resume();
    await far.bytes(11);
    t.equal(far.text, 'firstsecond');
  });

  checkPair('end sends what is queued, then both sides close without an error', async (t, near, far) => {
    near.socket.write([Buffer.alloc(3_000_000, 'x')]);
    near.socket.end();
    await far.bytes(3_000_000);
    await Promise.all([near.closed(), far.closed()]);
    t.same(near.closes, [undefined]);
    t.same(far.closes, [undefined]);
  });

  checkPair('destroy closes both sides; onWritten is called all the same', async (t, near, far) => {
    let calls = 0;
    near.socket.write([Buffer.alloc(30_000_000)], () => calls++);
    near.socket.destroy();
    await Promise.all([near.closed(), far.closed()]);
    await new Promise<void>((resolve) => near.socket.write([bytes('late')], resolve));
    t.equal(calls, 1);
    t.equal(near.closes.length, 1);
    t.equal(far.closes.length, 1);
  });

  check('a close before start is told after it', async (t, under) => {
    const { near, far, listener } = await connectPair(under);
    near.destroy();
    const reader = new Recorder(far);
    await reader.closed();
    t.equal(reader.closes.length, 1);
    await listener.close();
  });

  check('connecting to nobody is ECONNREFUSED; a port is free again after close', async (t, under) => {
    const { server, client, host } = under;
    const listener = await server.listen(host, 0, () => undefined);
    await t.rejects(
      server.listen(host, listener.port, () => undefined),
      { code: 'EADDRINUSE' },
    );
    await listener.close();
    await t.rejects(client.connect(host, listener.port, CONNECT_MS), { code: 'ECONNREFUSED' });
    const again = await server.listen(host, listener.port, () => undefined);
    t.equal(again.port, listener.port);
    await again.close();
  });

  check('closing the listener leaves its connections', async (t, under) => {
    const { near, far, listener } = await connectPair(under);
    const reader = new Recorder(far);
    await listener.close();
    near.write([bytes('still here')]);
    await reader.bytes(10);
    t.equal(reader.text, 'still here');
    near.destroy();
    far.destroy();
  });
}
