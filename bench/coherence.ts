/**
 * `node dist/bench/coherence.js`: what it costs that nobody sees old news. The latency of 1,000 changes of one
 * file while nobody else, and while one and two other mounts, hold a promise of it; a stat that is promised; and
 * the memory that promises take.
 */
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Table from 'cli-table3';
import { PromiseKind, PromiseTable } from '../master/promise-table.js';
import { RealCluster } from '../test/real/cluster.js';

const CHANGES = Number(process.argv[2] ?? 1_000);
const PROMISES = 1_000_000;

function percentile(sorted: readonly number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number).toFixed(2);
}

/** Milliseconds of each call, smallest first. */
function timed(count: number, before: (at: number) => void, call: (at: number) => void): number[] {
  const times: number[] = [];
  for (let at = 0; at < count; at++) {
    before(at);
    const startMs = performance.now();
    call(at);
    times.push(performance.now() - startMs);
  }
  return times.sort((a, b) => a - b);
}

/** Of a million promises. */
function costOfPromises(): { bytes: number; grantNs: number } {
  const table = new PromiseTable(2 ** 20, () => undefined);
  const startMs = performance.now();
  for (let node = 1; node <= PROMISES; node++) table.grant(1 + (node % 3), node, PromiseKind.ATTRIBUTES);
  const grantNs = ((performance.now() - startMs) * 1e6) / PROMISES;
  return { bytes: table.bytes / table.count, grantNs };
}

async function main(): Promise<void> {
  const { bytes, grantNs } = costOfPromises();
  const teardowns: (() => unknown)[] = [];
  const test = { teardown: (teardown: () => unknown) => teardowns.push(teardown) };
  try {
    const cluster = await RealCluster.start(test as unknown as Parameters<typeof RealCluster.start>[0]);
    await cluster.addMount('second');
    await cluster.addMount('third');
    const [a, b, c] = [
      cluster.mountPoint,
      cluster.workspace.path('second'),
      cluster.workspace.path('third'),
    ].map((mount) => join(mount, 'file')) as [string, string, string];
    writeFileSync(a, 'x');
    const table = new Table({
      head: [`${CHANGES} changes`, 'p50 ms', 'p99 ms', 'max ms'],
      style: { head: [], border: [] },
    });
    const row = (what: string, times: readonly number[]) =>
      table.push([what, percentile(times, 0.5), percentile(times, 0.99), percentile(times, 1)]);
    const change = (at: number) => chmodSync(a, 0o600 + (at % 8));
    row(
      'chmod, nobody else has it',
      timed(CHANGES, () => undefined, change),
    );
    row(
      'chmod, another mount has just looked',
      timed(CHANGES, () => statSync(b), change),
    );
    row(
      'chmod, two others have',
      timed(CHANGES, () => [statSync(b), statSync(c)], change),
    );
    row(
      'stat of the other right after',
      timed(CHANGES, change, () => statSync(b)),
    );
    row(
      'stat that is promised',
      timed(
        CHANGES,
        () => undefined,
        () => statSync(b),
      ),
    );
    process.stdout.write(`${table.toString()}\n`);
  } finally {
    for (const teardown of teardowns.reverse()) await teardown();
  }
  process.stdout.write(`a promise takes ${bytes.toFixed(1)} bytes and ${grantNs.toFixed(0)} ns\n`);
}

await main();
