/**
 * `npm run bench:scrub -- [--mib N] [--rounds N] [--only WORDS]`: the latency of a client's reads and flushed writes of 4 KiB while
 * no replica is being scrubbed, and while a pass that was asked for runs as fast as it may. A busy client's
 * servers are never idle for the second after which scrubbing begins; the worst that can be is a client that
 * pauses for longer than that, again and again, and then meets a slice: that is `bursts`. Real processes
 * on this host; both variants in turn, so that other load meets both.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { askDaemon, queryStatus } from '../cli/master-query.js';
import { connect, type GfsFile } from '../client/main.js';
import { Scrub, type Server } from '../protocol/messages/index.js';
import { RealCluster } from '../test/real/cluster.js';

const MIB = 2 ** 20;
const SIZE_BYTES = 4_096;
/** In turn at the end of each pause: longer than it takes for a pass to go on. */
const PAUSE_MS = 1_300;
const OPERATIONS_IN_BURST = 20;
const BURSTS = 12;
const STEADY_OPERATIONS = 2_000;
const ASK_MS = 500;

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '6' },
    /** Loads whose names begin like that. */
    only: { type: 'string', default: '' },
  },
});
const sizeBytes = Number(values.mib) * MIB;

type Operation = (file: GfsFile, offset: number) => Promise<unknown>;
const operations: Readonly<Record<string, Operation>> = {
  read: (file, offset) => file.read(offset, SIZE_BYTES),
  'write and sync': async (file, offset) => {
    await file.write(offset, Buffer.alloc(SIZE_BYTES, offset));
    await file.sync();
  },
};
const VARIANTS = ['idle', 'scrubbing'] as const;
type Variant = (typeof VARIANTS)[number];

async function timed(file: GfsFile, operation: Operation, times: number[]): Promise<void> {
  const offset = Math.floor(Math.random() * (sizeBytes / SIZE_BYTES)) * SIZE_BYTES;
  const beganMs = performance.now();
  await operation(file, offset);
  times.push(performance.now() - beganMs);
}

async function steady(file: GfsFile, operation: Operation, times: number[]): Promise<void> {
  for (let count = 0; count < STEADY_OPERATIONS; count++) await timed(file, operation, times);
}

async function bursts(file: GfsFile, operation: Operation, times: number[]): Promise<void> {
  for (let burst = 0; burst < BURSTS; burst++) {
    // So that each begins at another moment of a slice.
    await delay(PAUSE_MS + Math.random() * 50);
    for (let count = 0; count < OPERATIONS_IN_BURST; count++) await timed(file, operation, times);
  }
}

/** Has all servers scrub without an end until it is stopped. @returns what stops it: how much was checked meanwhile */
async function scrubAll(servers: readonly Server[]): Promise<() => Promise<number>> {
  let stopped = false;
  let passes = 0;
  const keepAsking = async (server: Server): Promise<void> => {
    await askDaemon([server], async (ask) => {
      const before = (await ask(Scrub, { now: true })).scrub.passes;
      while (!stopped) {
        await delay(ASK_MS);
        await ask(Scrub, { now: true });
      }
      // What was asked for last has to be over before the other variant.
      let scrub = (await ask(Scrub, { now: false })).scrub;
      for (; scrub.running; scrub = (await ask(Scrub, { now: false })).scrub) await delay(ASK_MS);
      passes += scrub.passes - before;
    });
  };
  const asking = servers.map(keepAsking);
  // A burst earlier would meet none.
  await delay(PAUSE_MS);
  return async () => {
    stopped = true;
    await Promise.all(asking);
    return passes;
  };
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

const teardowns: (() => unknown)[] = [];
const test = { teardown: (teardown: () => unknown) => teardowns.push(teardown) };
try {
  const cluster = await RealCluster.start(test, {
    chunkSize: '64MiB',
    mount: false,
    set: ['chunk_server.scrub_interval=0'],
  });
  const { servers } = await queryStatus([{ host: '127.0.0.1', port: cluster.port }]);
  const fileSystem = await connect(cluster.address);
  teardowns.push(() => fileSystem.close());
  const file = await fileSystem.open('/file', { create: true });
  const block = Buffer.alloc(MIB, 'scrub');
  for (let offset = 0; offset < sizeBytes; offset += MIB) await file.write(offset, block);
  await file.sync();

  const table = new Table({
    head: ['load', 'p50 ms', 'scrubbing', 'p99 ms', 'scrubbing', 'growth'],
    style: { head: [], border: [] },
  });
  for (const [name, operation] of Object.entries(operations)) {
    for (const load of [steady, bursts]) {
      if (!`${name}, ${load.name}`.startsWith(values.only)) continue;
      const times: Record<Variant, number[]> = { idle: [], scrubbing: [] };
      let passes = 0;
      for (let round = 0; round < Number(values.rounds); round++) {
        await load(file, operation, times.idle);
        const stop = await scrubAll(servers.map(({ server }) => server));
        await load(file, operation, times.scrubbing);
        passes += await stop();
      }
      for (const variant of VARIANTS) times[variant].sort((a, b) => a - b);
      const at = (share: number) => VARIANTS.map((variant) => percentile(times[variant], share));
      const [[p50, p50Scrubbing], [p99, p99Scrubbing]] = [at(0.5), at(0.99)] as [number[], number[]];
      table.push([
        `${name}, ${load.name} (${times.idle.length} each, ${passes} passes)`,
        ...[p50, p50Scrubbing, p99, p99Scrubbing].map((ms) => (ms as number).toFixed(2)),
        `${((100 * (p99Scrubbing as number)) / (p99 as number) - 100).toFixed(0)} %`,
      ]);
    }
  }
  process.stdout.write(`${table.toString()}\n`);
  await file.close();
} finally {
  for (const teardown of teardowns.reverse()) await teardown();
}
