/** The other processes of master-scale.ts: one that builds the state and its checkpoint, one that serves it. */

import { readFileSync } from 'node:fs';
import { performance as hooks, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { nodeEnvironment } from '../environment/node/index.js';
import { apply, NO_EFFECTS } from '../master/apply.js';
import { writeCheckpoint } from '../master/checkpoint-file.js';
import { inThread } from '../master/main.js';
import { Master } from '../master/master.js';
import { masterDefaults } from '../master/options.js';
import { createSegment } from '../master/segment-files.js';
import { LoggedState } from '../master/state.js';
import { openSuperblock } from '../master/superblock.js';
import { DEFAULT_CHUNK_BYTES } from '../protocol/limits.js';
import type { LogEvent } from '../protocol/records.js';
import { DIRECTORIES, directoryName, fileName } from './master-load.js';

export type Question = { readonly type: 'resetDelay' | 'delay' | 'memory' };
export type Answer = Readonly<Record<string, number>>;

const DELAY_RESOLUTION_MS = 1;
const TICK_MS = 2;
const SERVERS = 5;

const [role, directory, count] = process.argv.slice(2) as [string, string, string];
const files = Number(count);
const environment = nodeEnvironment({ role: 'bench', logLevel: 'warn' });

function send(answer: Answer): void {
  process.send?.(answer);
}

function usedBytes(): number {
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Fills a state by the records that a live master would have applied, and writes its checkpoint. */
async function build(): Promise<void> {
  const state = new LoggedState(DEFAULT_CHUNK_BYTES, 1);
  let sequence = 0;
  const record = (event: LogEvent): void => {
    const at = { timeSec: 1_750_000_000 + sequence, timeNsec: sequence++ % 1_000_000_000 };
    apply(state, { ...at, session: 0, sequence: 0, method: 0, event }, NO_EFFECTS);
  };
  record({ type: 'handlesReserved', through: 2 * files });
  const owner = { uid: 1000, gid: 1000, rdev: 0 };
  for (let at = 0; at < DIRECTORIES; at++)
    record({ type: 'created', parent: 1, name: directoryName(at), id: at + 2, mode: 0o040755, ...owner });
  const emptyBytes = usedBytes();
  const firstId = DIRECTORIES + 2;
  for (let at = 0; at < files; at++) {
    const parent = 2 + (at % DIRECTORIES);
    record({ type: 'created', parent, name: fileName(at), id: firstId + at, mode: 0o100644, ...owner });
  }
  const filesBytes = usedBytes();
  for (let at = 0; at < files; at++) {
    const lease = { holder: `server-${at % SERVERS}`, durationMs: 60_000, replicas: 3 };
    record({ type: 'chunkAdded', id: firstId + at, index: 0, handle: at + 1, version: 1, goal: 3, ...lease });
  }
  const chunksBytes = usedBytes();
  const { disk, random } = environment;
  const superblock = await openSuperblock(disk, random, directory, DEFAULT_CHUNK_BYTES);
  const log = `${directory}/log`;
  await disk.makeDirectory(log);
  const startedMs = performance.now();
  const header = { ...superblock, firstSequence: sequence + 1 };
  const sizeBytes = await writeCheckpoint(disk, log, header, state);
  const writtenMs = performance.now() - startedMs;
  const snapshot = snapshotCost(record);
  await (await createSegment(disk, { ...superblock, directory: log }, sequence + 1)).close();
  send({
    bytes_per_file: (filesBytes - emptyBytes) / files,
    logged_bytes_per_chunk: (chunksBytes - filesBytes) / files,
    checkpoint_mb: sizeBytes / 1e6,
    checkpoint_write_ms: writtenMs,
    ...snapshot,
  });
}

/** One record, which is applied in one turn (paper §3.4): what the event loop is away for. After the checkpoint. */
function snapshotCost(record: (event: LogEvent) => void): Answer {
  const owner = { uid: 1000, gid: 1000, rdev: 0 };
  const [tree, firstId] = [DIRECTORIES + 2 + files, DIRECTORIES + 3 + files];
  record({ type: 'created', parent: 1, name: 'tree', id: tree, mode: 0o040755, ...owner });
  const moved = DIRECTORIES / 10;
  for (let at = 0; at < moved; at++) {
    const name = directoryName(at);
    record({ type: 'renamed', parent: 1, name, newParent: tree, newName: name, exchange: false });
  }
  const before = process.cpuUsage();
  record({ type: 'snapshotTaken', source: tree, parent: 1, name: 'snapshot', firstId });
  const { user, system } = process.cpuUsage(before);
  return { snapshot_files: files / 10, snapshot_apply_cpu_ms: (user + system) / 1000 };
}

/**
 * The longest that the event loop was away, without the time in which the thread waited for a processor:
 * on a machine that does other things too, that is what the master itself is to blame for.
 */
class OwnDelay {
  #longestMs = 0;
  #tickMs = performance.now();
  #waitedMs = waitedForProcessorMs();

  constructor() {
    setInterval(() => this.#tick(), TICK_MS);
  }

  get longestMs(): number {
    return this.#longestMs;
  }

  reset(): void {
    this.#tick();
    this.#longestMs = 0;
  }

  #tick(): void {
    const [nowMs, waitedMs] = [performance.now(), waitedForProcessorMs()];
    const ownMs = nowMs - this.#tickMs - (waitedMs - this.#waitedMs) - TICK_MS;
    this.#longestMs = Math.max(this.#longestMs, ownMs);
    this.#tickMs = nowMs;
    this.#waitedMs = waitedMs;
  }
}

/** Of this thread (proc(5), schedstat): nanoseconds run, nanoseconds waited, slices. */
function waitedForProcessorMs(): number {
  const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1');
  return Number(text.split(' ')[1]) / 1e6;
}

async function serve(): Promise<void> {
  const options = { ...masterDefaults, dataDirectory: directory, port: 0 };
  const master = new Master(environment, options, { makeCheckpoint: inThread(environment.logger) });
  const startedMs = performance.now();
  await master.start();
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  const own = new OwnDelay();
  let longestPauseMs = 0;
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longestPauseMs = Math.max(longestPauseMs, duration);
  });
  collections.observe({ entryTypes: ['gc'] });
  delay.enable();
  process.on('message', ({ type }: Question) => {
    if (type === 'resetDelay') {
      delay.reset();
      own.reset();
      longestPauseMs = 0;
    }
    const atMost = (value: number): number => value / 1e6;
    if (type === 'memory') {
      const before = process.memoryUsage();
      const liveBytes = usedBytes();
      send({
        master_resident_mb: before.rss / 1e6,
        master_heap_mb: before.heapUsed / 1e6,
        master_heap_live_mb: process.memoryUsage().heapUsed / 1e6,
        master_live_mb: liveBytes / 1e6,
      });
    } else {
      send({
        event_loop_delay_largest_ms: atMost(delay.max),
        event_loop_delay_largest_own_ms: own.longestMs,
        event_loop_delay_p999_ms: atMost(delay.percentile(99.9)),
        garbage_collection_longest_ms: longestPauseMs,
      });
    }
  });
  send({
    port: master.address.port,
    start_recovery_ms: performance.now() - startedMs,
    start_node_ms: startedMs - hooks.nodeTiming.nodeStart,
  });
}

await (role === 'build' ? build() : serve());
