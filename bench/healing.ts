/**
 * Healing: many small files on a few chunkservers, one of which is killed; how many of its chunks a
 * second get their third replica back, within the limits of `[replication]`. Real processes on this host.
 * Meanwhile a client asks the master for names and makes files, as it did before: what a storm of
 * re-replication costs those who work. With `--idle` nobody does.
 *
 *     npm run bench:healing -- [--files 20000] [--size 4096] [--servers 4] [--idle] [--set KEY=VALUE]… [--json]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type MasterStatus, queryStatus } from '../cli/master-query.js';
import { connect } from '../client/main.js';
import { type RealProcess, Workspace } from '../test/real/processes.js';
import { fileName, Load, type LoadResult } from './master-load.js';

const CONCURRENCY = 32;
const WAIT_MS = 2_000;
const POLL_MS = 100;
/** Lookups, and as many creates. */
const IN_FLIGHT = 4;
const BEFORE_MS = 3_000;
const MAX_HEALING_MS = 600_000;
/** As Linux has it everywhere. */
const TICKS_PER_SECOND = 100;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '20000' },
    size: { type: 'string', default: '4096' },
    servers: { type: 'string', default: '4' },
    idle: { type: 'boolean', default: false },
    set: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false },
  },
});

const files = Number(values.files);
const sizeBytes = Number(values.size);
const workspace = new Workspace('healing');
const set = [`replication.wait=${WAIT_MS}ms`, 'chunk_server.reserved=16MiB', ...values.set].flatMap(
  (text) => ['--set', text],
);

/** CPU seconds that a process has used. */
function cpuSeconds({ pid }: RealProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function say(text: string): void {
  if (!values.json) console.log(text);
}

async function startServers(address: string): Promise<RealProcess[]> {
  const started: RealProcess[] = [];
  for (let at = 0; at < Number(values.servers); at++) {
    const words = ['chunkserver', '--master', address, '--data', workspace.path(`server-${at}`), ...set];
    const server = workspace.spawn(`server-${at}`, words);
    await server.started();
    started.push(server);
  }
  return started;
}

async function fill(address: string): Promise<void> {
  const system = await connect(address);
  const content = Buffer.alloc(sizeBytes, 'gfs');
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < files) {
      const file = await system.open(`/${fileName(next++)}`, { create: true });
      await file.write(0, content);
      await file.close();
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  await system.close();
}

/** Lookups and creates at once, until then. */
async function measure(load: Load, when: string, until: number | Promise<unknown>) {
  const [lookups, creates] = await Promise.all([
    load.run('lookup', IN_FLIGHT, until),
    load.run('create', IN_FLIGHT, until),
  ]);
  say(`${when}: ${figures('lookups', lookups)}; ${figures('creates', creates)}`);
  return { lookups, creates };
}

function figures(what: string, { perSecond, p50Ms, p99Ms }: LoadResult): string {
  return `${Math.round(perSecond)} ${what}/s, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms`;
}

/** Asks the master for its status until it is so. @throws Error when it takes too long */
async function poll(port: number, isSo: (status: MasterStatus) => boolean): Promise<MasterStatus> {
  const endMs = performance.now() + MAX_HEALING_MS;
  while (performance.now() < endMs) {
    await delay(POLL_MS);
    const status = await queryStatus([{ host: '127.0.0.1', port }]);
    if (isSo(status)) return status;
  }
  throw new Error('it does not heal');
}

async function main(): Promise<void> {
  const master = workspace.spawn('master', [
    ...['master', '--data', workspace.path('master'), '--port', '0', '--set', 'master.chunk_size=1MiB'],
    ...set,
  ]);
  const { port } = await master.started();
  const address = `127.0.0.1:${port}`;
  const servers = await startServers(address);
  let startedMs = performance.now();
  await fill(address);
  say(`${files} files of ${sizeBytes} bytes written in ${seconds(startedMs)} s`);
  const load = values.idle ? undefined : await Load.connect(port, files, 0);
  const before = load && (await measure(load, 'before the kill', BEFORE_MS));

  const [lost] = servers as [RealProcess];
  startedMs = performance.now();
  await lost.kill();
  const used = new Map([master, ...servers.slice(1)].map((process) => [process, cpuSeconds(process)]));
  const { chunksBelowGoal: lacking } = await poll(port, ({ replication }) => (replication?.clones ?? 0) > 0);
  const healingMs = performance.now();
  say(`${lacking} chunks below their goal; healing begins ${seconds(startedMs)} s after the kill`);
  const healed = poll(port, ({ chunksBelowGoal }) => chunksBelowGoal === 0).then(() => performance.now());
  const during = load && (await measure(load, 'during the re-replication storm', healed));
  const tookS = ((await healed) - healingMs) / 1000;
  load?.close();

  const rate = lacking / tookS;
  say(`healed in ${tookS.toFixed(1)} s: ${Math.round(rate)} chunks/s`);
  for (const [process, atKill] of used)
    say(`${process.name.padEnd(10)} ${(cpuSeconds(process) - atKill).toFixed(1)} CPU seconds`);
  const about = { files, sizeBytes, lacking, tookS, chunksPerSecond: rate, before, during };
  if (values.json) console.log(JSON.stringify(about));
}

function seconds(sinceMs: number): string {
  return ((performance.now() - sinceMs) / 1000).toFixed(1);
}

try {
  await main();
} finally {
  await workspace.remove();
}
