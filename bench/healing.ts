/**
 * Healing: many small files on a few chunkservers, one of which is killed; how many of its chunks a
 * second get their third replica back, within the limits of `[replication]`. Real processes on this host.
 *
 *     npm run bench:healing -- [--files 20000] [--size 4096] [--servers 4] [--set KEY=VALUE]… [--json]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { queryStatus } from '../cli/master-query.js';
import { connect } from '../client/main.js';
import { type RealProcess, Workspace } from '../test/real/processes.js';

const CONCURRENCY = 32;
const WAIT_MS = 2_000;
const POLL_MS = 100;
const MAX_HEALING_MS = 600_000;
/** As Linux has it everywhere. */
const TICKS_PER_SECOND = 100;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '20000' },
    size: { type: 'string', default: '4096' },
    servers: { type: 'string', default: '4' },
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
      const file = await system.open(`/file-${next++}`, { create: true });
      await file.write(0, content);
      await file.close();
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  await system.close();
}

async function main(): Promise<void> {
  const master = workspace.spawn('master', [
    ...['master', '--data', workspace.path('master'), '--port', '0', '--set', 'master.chunk_size=1MiB'],
    ...set,
  ]);
  const { port } = await master.started();
  const address = `127.0.0.1:${port}`;
  const status = () => queryStatus([{ host: '127.0.0.1', port }]);
  const servers = await startServers(address);
  let startedMs = performance.now();
  await fill(address);
  say(`${files} files of ${sizeBytes} bytes written in ${seconds(startedMs)} s`);
  const [lost] = servers as [RealProcess];
  startedMs = performance.now();
  await lost.kill();
  const used = new Map([master, ...servers.slice(1)].map((process) => [process, cpuSeconds(process)]));
  let healingMs = 0;
  let lacking = 0;
  for (;;) {
    await delay(POLL_MS);
    const { replication, chunksBelowGoal } = await status();
    if (healingMs === 0 && (replication?.clones ?? 0) > 0) {
      healingMs = performance.now();
      lacking = chunksBelowGoal;
      say(`${lacking} chunks below their goal; healing begins ${seconds(startedMs)} s after the kill`);
    }
    if (healingMs !== 0 && chunksBelowGoal === 0) break;
    if (performance.now() - startedMs > MAX_HEALING_MS) throw new Error('it does not heal');
  }
  const tookS = (performance.now() - healingMs) / 1000;
  const rate = lacking / tookS;
  say(`healed in ${tookS.toFixed(1)} s: ${Math.round(rate)} chunks/s`);
  for (const [process, before] of used)
    say(`${process.name.padEnd(10)} ${(cpuSeconds(process) - before).toFixed(1)} CPU seconds`);
  if (values.json) console.log(JSON.stringify({ files, sizeBytes, lacking, tookS, chunksPerSecond: rate }));
}

function seconds(sinceMs: number): string {
  return ((performance.now() - sinceMs) / 1000).toFixed(1);
}

try {
  await main();
} finally {
  await workspace.remove();
}
