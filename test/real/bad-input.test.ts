/** Strangers at the ports, hung chunkservers, full disks: a clear error, and nobody else is disturbed. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { encodeFrame, FrameKind } from '../../protocol/frame.js';
import { MAX_PAYLOAD_BYTES } from '../../protocol/limits.js';
import { helloCodec } from '../../protocol/rpc.js';
import { cannotMount, eventually, RealCluster } from './cluster.js';
import { runCommand } from './processes.js';

// Each command has its own time limit.
t.setTimeout(0);

/** Says something to a port, and returns what came back until the other side closed. */
async function say(port: number, ...words: Uint8Array[]): Promise<Buffer> {
  const socket = connect(port, '127.0.0.1');
  const received: Buffer[] = [];
  socket.on('data', (chunk) => received.push(chunk));
  socket.on('error', () => undefined);
  for (const word of words) socket.write(word);
  await Promise.race([once(socket, 'close'), delay(8_000, undefined, { ref: false })]);
  const closed = socket.destroyed;
  socket.destroy();
  if (!closed) throw new Error('the connection was not closed');
  return Buffer.concat(received);
}

const hello = Buffer.concat(
  encodeFrame(
    FrameKind.hello,
    helloCodec.encode({
      features: 0,
      clusterId: '',
      role: 'client',
      id: 'stranger',
      term: 0,
      maxRequests: 10,
      maxRequestBytes: 1000,
    }),
  ),
);

function oversized(): Buffer {
  const frame = Buffer.concat(encodeFrame(FrameKind.request, []));
  frame.writeUInt32LE(MAX_PAYLOAD_BYTES + 1, 8);
  return frame;
}

function olderVersion(): Buffer {
  const frame = Buffer.from(hello);
  frame.writeUInt8(0, 2);
  return frame;
}

t.test(
  'strangers: garbage, oversized frames and old versions end their own connection alone',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
    const ports = [cluster.port, (await cluster.chunkservers[0]?.started())?.port as number];
    for (const port of ports) {
      await say(port, Buffer.from('GET / HTTP/1.1\r\nHost: here\r\n\r\n'));
      await say(port, Buffer.alloc(100_000, 0xc1));
      await say(port, hello, oversized());
      const refused = await say(port, olderVersion());
      t.match(refused.toString('latin1'), /protocol version 0/, 'told why');
      const wrongCluster = encodeFrame(
        FrameKind.hello,
        helloCodec.encode({
          features: 0,
          clusterId: 'another',
          role: 'client',
          id: 'stranger',
          term: 0,
          maxRequests: 10,
          maxRequestBytes: 1000,
        }),
      );
      t.match((await say(port, ...wrongCluster)).toString('latin1'), /this is cluster/);
    }
    const after = await cluster.shell('echo fine > f && cat f');
    t.equal(after.stdout, 'fine\n');
  },
);

t.test(
  'another cluster: its chunkserver is refused, and says whose data it has',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { servers: 1, mount: false });
    const other = await RealCluster.start(t, { servers: 1, mount: false });
    // The master has taken it in a moment before it knows.
    await other.chunkservers[0]?.says('registered with the master');
    await other.stopAll();
    const data = other.workspace.path('chunkserver-0');
    const stray = cluster.workspace.spawn('stray', [
      'chunkserver',
      '--master',
      cluster.address,
      '--data',
      data,
    ]);
    await stray.says(/refuses this chunkserver .* cluster/);
    t.equal((await stray.ended).code, 1);
    const { servers } = await cluster.status();
    t.equal(servers.length, 1, 'it was not taken in');
  },
);

t.test(
  'all chunkservers hung: an interrupted cat ends within a second, another gets EIO at its deadline',
  { skip: cannotMount },
  async (t) => {
    const cluster = await RealCluster.start(t, { set: ['client.deadline=5s'] });
    await cluster.shell('head -c 300000 /dev/urandom > f; sync; echo 1 > /proc/sys/vm/drop_caches');
    await cluster.addMount('hard', ['-o', 'hard']);
    for (const chunkserver of cluster.chunkservers) chunkserver.pause();
    await delay(100);
    const path = join(cluster.mountPoint, 'f');
    const startedAtMs = performance.now();
    // timeout(1) sends SIGINT after one second; what has not ended two seconds later is killed, and that shows.
    const interrupted = await runCommand(['timeout', '--signal=INT', '--kill-after=2', '1', 'cat', path]);
    const tookMs = performance.now() - startedAtMs;
    t.equal(interrupted.status, 124, `${interrupted.stderr} after ${Math.round(tookMs)} ms`);
    const waited = await runCommand(['cat', path], { timeoutMs: 60_000 });
    t.not(waited.status, 0);
    t.match(waited.stderr, 'Input/output error');
    const direct = ['dd', `if=${join(cluster.workspace.path('hard'), 'f')}`, 'iflag=direct', 'bs=64k'];
    const killed = await runCommand(['timeout', '--signal=INT', '--kill-after=20', '1', ...direct], {
      timeoutMs: 60_000,
    });
    t.equal(
      killed.status,
      124,
      `a signal ends O_DIRECT on a hard mount, which waits for ever ${killed.stderr}`,
    );
    for (const chunkserver of cluster.chunkservers) chunkserver.resume();
    await eventually(
      async () => (await cluster.shell('cat f | wc -c')).stdout === '300000\n' || 'not yet',
      20_000,
    );
    // cat waits for a page, which the kernel lets go; these for the answer to a request.
    cluster.master.pause();
    const absent = join(cluster.mountPoint, 'absent');
    const handles = ['python3', '-c', 'import os, sys; os.stat(sys.argv[1])', absent];
    for (const program of [['stat', absent], handles]) {
      const { status } = await runCommand(['timeout', '--signal=INT', '--kill-after=3', '1', ...program]);
      t.equal(status, 124, `a signal ends ${program[0]}, not the deadline nor SIGKILL`);
    }
    cluster.master.resume();
  },
);

t.test(
  'full disks: ENOSPC, what was acknowledged stays, and there is room again after rm',
  { skip: cannotMount || cannotLoop() },
  async (t) => {
    const cluster = await RealCluster.start(t, {
      servers: 0,
      mount: false,
      set: ['chunk_server.reserved=4MiB'],
    });
    for (let index = 0; index < 3; index++) {
      const image = cluster.workspace.path(`disk-${index}.img`);
      writeFileSync(image, '');
      const directory = cluster.workspace.makeDirectory(`chunkserver-${index}`);
      const made = await runCommand([
        '/bin/bash',
        '-c',
        `truncate -s 48M ${image} && mkfs.ext4 -q -m 0 ${image} && mount -o loop ${image} ${directory}`,
      ]);
      t.equal(made.status, 0, made.stderr);
      await cluster.startChunkserver(index);
    }
    await cluster.ready();
    await cluster.startMount();
    const first = await cluster.shell('head -c 3000000 /dev/urandom > kept && sync kept && md5sum < kept');
    t.equal(first.status, 0, first.stderr);
    const tooMuch = await cluster.shell(
      'fallocate -l 200M wanted; stat -c %s wanted; fallocate -l 10M wanted',
    );
    t.match(tooMuch.stderr, 'No space left on device', 'asked for in advance, it is told at once');
    t.equal(tooMuch.stdout, '0\n');
    t.equal(tooMuch.status, 0, tooMuch.stderr);
    const full = await cluster.shell('rm wanted; dd if=/dev/zero of=big bs=1M count=100 conv=fsync');
    t.not(full.status, 0);
    t.match(full.stderr, 'No space left on device');
    const kept = await cluster.shell('echo 1 > /proc/sys/vm/drop_caches; md5sum < kept');
    t.equal(kept.stdout, first.stdout, 'nothing lost');
    await cluster.killAll();
    for (let index = 0; index < 3; index++)
      await runCommand(['umount', cluster.workspace.path(`chunkserver-${index}`)]);
  },
);

function cannotLoop(): string | false {
  return process.getuid?.() === 0 ? false : 'loop devices need root';
}
