/** `.gfs/stats`: the counters and latencies of a mount, for people and awk. */
import { type Observer, quantileMs } from './observer.js';

/** Rows of `name count errors mean_ms p50_ms p99_ms max_ms`, under a head; totals before them as `name value`. */
export function statsText(observer: Observer, uptimeMs: number): string {
  const { read, written } = observer.bytes;
  const totals = [
    ['uptime_seconds', (uptimeMs / 1000).toFixed(0)],
    ['operations_under_way', String(observer.underWay)],
    ['read_bytes', String(read)],
    ['written_bytes', String(written)],
  ];
  const rows = [['operation', 'count', 'errors', 'mean_ms', 'p50_ms', 'p99_ms', 'max_ms']];
  const byName = [...observer.stats].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [operation, stats] of byName) {
    const times = [stats.totalMs / stats.count, quantileMs(stats, 0.5), quantileMs(stats, 0.99), stats.maxMs];
    rows.push([operation, String(stats.count), String(stats.errors), ...times.map((ms) => ms.toFixed(3))]);
  }
  const line = ([first, ...rest]: string[], width: number) =>
    `${(first ?? '').padEnd(width)}${rest.map((each) => each.padStart(12)).join('')}\n`;
  return [...totals.map((row) => line(row, 24)), '\n', ...rows.map((row) => line(row, 16))].join('');
}
