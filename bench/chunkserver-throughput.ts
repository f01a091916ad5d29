/**
 * What the data path does without a mount: pushes and writes through three chunkserver processes on
 * this host, with a master that grants what it is asked for.
 *
 *     node dist/bench/chunkserver-throughput.js [--mib 512] [--small 5000] [--profile DIR] [--sync disk|memory]
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runChunkserver } from '../chunkserver/main.js';
import { chunkserverDefaults } from '../chunkserver/options.js';
import { NodeClock } from '../environment/node/clock.js';
import { NodeNetwork } from '../environment/node/network.js';
import { NodeTimers } from '../environment/node/timers.js';
import type { Logger } from '../environment/ports/index.js';
import { DEFAULT_CHUNK_BYTES, MIB, SEGMENT_BYTES } from '../protocol/limits.js';
import {
  AppendChunk,
  Heartbeat,
  PrepareVersion,
  PushData,
  ReadChunk,
  RegisterChunkserver,
  RenewChunkserver,
  ReportChunks,
  type Server,
  SyncChunk,
  WriteChunk,
} from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type Caller, Service } from '../protocol/rpc.js';

const SERVERS = 3;
const CLUSTER = 'bench';

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '512' },
    small: { type: 'string', default: '5000' },
    depth: { type: 'string', default: '4' },
    profile: { type: 'string' },
    sync: { type: 'string', default: 'disk' },
    child: { type: 'string' },
    port: { type: 'string' },
  },
});

const quiet: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (fields, message) => console.error(message, fields),
  error: (fields, message) => console.error(message, fields),
  child: () => quiet,
};
const network = new NodeNetwork(quiet);
const clock = new NodeClock();
const timers = new NodeTimers();
const pool = new BufferPool();

type Socket = Awaited<ReturnType<typeof network.connect>>;

function peerOver(socket: Socket, role: 'master' | 'client', service: Service): Peer {
  const identity = { role, id: role, clusterId: () => CLUSTER, term: () => 1 };
  return new Peer(socket, { ...identity, service, pool, clock, timers, logger: quiet });
}

interface Registered {
  readonly server: Server;
  readonly peer: Caller;
}

/** A master that knows nothing and agrees to everything. */
async function startMaster(registered: Map<string, Registered>): Promise<number> {
  const service = new Service();
  service
    .on(RegisterChunkserver, ({ server }, { peer }) => {
      registered.set(server.serverId, { server, peer });
      const intervals = { renewIntervalMs: 500, timeoutMs: 2_000, heartbeatIntervalMs: 5_000 };
      return {
        body: { session: 1, clusterId: CLUSTER, chunkBytes: DEFAULT_CHUNK_BYTES, term: 1, ...intervals },
      };
    })
    .on(ReportChunks, () => ({ body: {} }))
    .on(RenewChunkserver, () => ({ body: {} }))
    .on(Heartbeat, ({ extend }) => ({
      body: { extended: extend.map(({ handle }) => ({ handle, remainingMs: 60_000 })), drop: [] },
    }));
  const listener = await network.listen('127.0.0.1', 0, (socket) => {
    peerOver(socket, 'master', service);
  });
  return listener.port;
}

async function grant(servers: readonly Registered[], handle: number): Promise<void> {
  await Promise.all(
    servers.map(({ peer }, i) => {
      const secondaries = servers.slice(1).map(({ server }) => server);
      const lease = i === 0 ? { lease: { secondaries, durationMs: 60_000 } } : {};
      return peer.call(PrepareVersion, { handle, version: 1, create: true, ...lease });
    }),
  );
}

/** Runs `count` jobs, `depth` at a time; returns seconds. */
async function timed(count: number, depth: number, job: (i: number) => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await job(next++);
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return (performance.now() - startMs) / 1000;
}

const pids: number[] = [];

/** CPU seconds that the chunkservers have used. */
function cpuSeconds(): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

let cpuBefore = 0;

/** Prints a figure, and what the chunkservers' CPUs spent on it in microseconds for each of `count`. */
function print(what: string, value: number, unit: string, count: number): void {
  const cpu = cpuSeconds();
  const eachUs = ((cpu - cpuBefore) / count) * 1e6;
  cpuBefore = cpu;
  console.log(
    `${what.padEnd(44)} ${value.toFixed(0).padStart(8)} ${unit.padEnd(6)} ${eachUs.toFixed(0).padStart(8)} µs CPU`,
  );
}

async function bench(client: Peer, servers: readonly Registered[]): Promise<void> {
  const mib = Number(values.mib);
  const small = Number(values.small);
  const depth = Number(values.depth);
  const chain = servers.slice(1).map(({ server }) => server);
  const segment = Buffer.alloc(SEGMENT_BYTES, 'segment');
  const perChunk = DEFAULT_CHUNK_BYTES / SEGMENT_BYTES;
  let sequence = 1;
  const mutation = () => ({ session: 1, sequence: sequence++ });
  const chunks = Math.ceil(mib / perChunk);
  for (let chunk = 0; chunk < chunks; chunk++) await grant(servers, 1 + chunk);
  const sequentialS = await timed(mib, depth, async (i) => {
    const dataId = { session: 1, number: i + 1 };
    await client.call(PushData, { dataId, chain }, { payload: { buffers: [segment] } });
    const handle = 1 + Math.floor(i / perChunk);
    const offset = (i % perChunk) * SEGMENT_BYTES;
    await client.call(WriteChunk, { handle, version: 1, offset, length: SEGMENT_BYTES, dataId }, mutation());
  });
  print(`write 1 MiB segments, depth ${depth}, 3 replicas`, mib / sequentialS, 'MiB/s', mib);
  const syncS = await timed(chunks, 4, (i) =>
    client.call(SyncChunk, { handle: 1 + i, version: 1, secondaries: chain }),
  );
  print('  and the sync after it', syncS * 1000, 'ms', mib);
  const readS = await timed(mib, depth, async (i) => {
    const handle = 1 + Math.floor(i / perChunk);
    const place = { offset: (i % perChunk) * SEGMENT_BYTES, length: SEGMENT_BYTES };
    const { payload } = await client.call(ReadChunk, { handle, version: 1, ...place });
    payload?.release();
  });
  print(`read 1 MiB segments, depth ${depth}, one server`, mib / readS, 'MiB/s', mib);
  const page = Buffer.alloc(4096, 'page');
  for (const d of [1, 16]) {
    const overwriteS = await timed(small, d, async (i) => {
      const handle = 1 + (i % chunks);
      const offset = ((i * 7919) % (DEFAULT_CHUNK_BYTES / 4096)) * 4096;
      const write = {
        handle,
        version: 1,
        offset: Math.min(offset, (mib % perChunk || perChunk) * MIB - 4096),
        length: 4096,
      };
      await client.call(WriteChunk, write, { ...mutation(), payload: { buffers: [page] } });
    });
    print(`overwrite 4 KiB at random, depth ${d}`, small / overwriteS, 'ops/s', small);
  }
  await grant(servers, 1000);
  const record = Buffer.alloc(1024, 'record');
  for (const d of [1, 16]) {
    const appendS = await timed(small, d, () =>
      client.call(
        AppendChunk,
        { handle: 1000, version: 1, mode: 'exact', from: 0 },
        { ...mutation(), payload: { buffers: [record] } },
      ),
    );
    print(`append 1 KiB, depth ${d}`, small / appendS, 'ops/s', small);
  }
  const syncs = Math.min(1000, small);
  const fsyncS = await timed(syncs, 1, async (i) => {
    const write = { handle: 1, version: 1, offset: (i % 1000) * 4096, length: 4096 };
    await client.call(WriteChunk, write, { ...mutation(), payload: { buffers: [page] } });
    await client.call(SyncChunk, { handle: 1, version: 1, secondaries: chain });
  });
  print('overwrite 4 KiB + sync, depth 1', syncs / fsyncS, 'ops/s', syncs);
  const created = Math.min(2000, small);
  const createS = await timed(created, 4, async (i) => {
    await grant(servers, 2000 + i);
    const write = { handle: 2000 + i, version: 1, offset: 0, length: 4096 };
    await client.call(WriteChunk, write, { ...mutation(), payload: { buffers: [page] } });
  });
  print('new chunk with 4 KiB, depth 4', created / createS, 'ops/s', created);
}

async function parent(): Promise<void> {
  const registered = new Map<string, Registered>();
  const port = await startMaster(registered);
  const root = mkdtempSync(join(tmpdir(), 'gfs-bench-'));
  const children = Array.from({ length: SERVERS }, (_, i) => {
    const execArgv =
      values.profile === undefined
        ? []
        : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`, '--cpu-prof-interval=500'];
    const args = ['--child', join(root, `disk${i}`), '--port', String(port), '--sync', values.sync];
    return fork(new URL(import.meta.url), args, { execArgv });
  });
  try {
    while (registered.size < SERVERS) await new Promise((resolve) => setTimeout(resolve, 20));
    const servers = [...registered.values()];
    const { host, port: serverPort } = (servers[0] as Registered).server;
    const client = peerOver(await network.connect(host, serverPort, 2_000), 'client', new Service());
    await client.ready();
    for (const { pid } of children) pids.push(pid as number);
    cpuBefore = cpuSeconds();
    await bench(client, servers);
    client.close();
  } finally {
    for (const child of children) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
    rmSync(root, { recursive: true, force: true });
  }
  process.exit(0);
}

if (values.child === undefined) await parent();
else {
  // The parent is gone: so is the reason to go on.
  process.on('disconnect', () => process.exit(1));
  const dataDirectories = [values.child];
  const masters = [{ host: '127.0.0.1', port: Number(values.port) }];
  const sync = values.sync === 'memory' ? 'memory' : 'disk';
  await runChunkserver({ ...chunkserverDefaults, dataDirectories, masters, sync }, { logLevel: 'warn' });
}
