/** The tables of `npm run bench`: medians and ratios, and what each daemon took for it. */
import Table from 'cli-table3';

export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** One value a round, by system. */
  readonly values: Map<string, number[]>;
}

export interface Rows {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Seconds are better when small; everything else that is compared is a rate. */
const COMPARED_UNITS = new Set(['MB/s', 'ops/s', 's']);
/** What section `seq` moves between mount and chunkservers, in large files: two written, three read. */
const SEQ_FILES_MOVED = 5;

/** Medians of each system, and how many times better than the peer each other one is. */
export function figureTable(
  figures: readonly Figure[],
  systems: readonly string[],
  peer: string | undefined,
): Rows {
  const ours = peer === undefined ? [] : systems.filter((name) => name !== peer && name !== 'local');
  const rows = figures
    .filter(({ name, unit }) => COMPARED_UNITS.has(unit) && !/^(cpu|cputotal)\./.test(name))
    .map(({ name, unit, values }) => [
      name,
      unit,
      ...systems.map((system) => shown(median(values.get(system)))),
      ...ours.map((system) => ratio(unit, median(values.get(system)), median(values.get(peer as string)))),
    ]);
  return { head: ['figure', 'unit', ...systems, ...ours.map((name) => `${name} ÷ ${peer}`)], rows };
}

/** CPU seconds by section and kind of daemon, and the most memory that one of a kind had resident. */
export function daemonTable(
  figures: readonly Figure[],
  systems: readonly string[],
  largeFileMib: number,
): Rows {
  const seconds = new Map<string, Map<string, number>>();
  const peaks = new Map<string, Map<string, number>>();
  for (const { name, values } of figures) {
    const [, what, section, daemon = ''] = /^(cpu|rss)\.([a-z]+)\.(.+)$/.exec(name) ?? [];
    if (section === undefined) continue;
    const key = `${section} ${daemon.replace(/^(chunkserver-|cs)\d+$/, 'chunkservers')}`;
    for (const [system, all] of values) {
      if (what === 'cpu') add(seconds, key, system, (old) => old + (median(all) ?? 0));
      else add(peaks, key, system, (old) => Math.max(old, ...all));
    }
  }
  const gib = (SEQ_FILES_MOVED * largeFileMib) / 1024;
  const rows = [...seconds].flatMap(([key, bySystem]) => {
    const [section = '', daemon = ''] = key.split(' ');
    const cells = (scale: number) => systems.map((name) => ((bySystem.get(name) ?? 0) / scale).toFixed(2));
    const memory = systems.map((name) => peaks.get(key)?.get(name) ?? '–').join(' / ');
    const whole = [section, daemon, ...cells(1), memory];
    return section === 'seq' ? [whole, ['seq, of a GiB moved', daemon, ...cells(gib), '']] : [whole];
  });
  return { head: ['CPU seconds', 'daemon', ...systems, 'peak MiB'], rows };
}

export function asText({ head, rows }: Rows): string {
  const table = new Table({ head: [...head], style: { head: [], border: [] } });
  for (const row of rows) table.push([...row]);
  return table.toString();
}

export function asMarkdown({ head, rows }: Rows): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line), ''].join('\n');
}

function add(
  table: Map<string, Map<string, number>>,
  key: string,
  system: string,
  change: (old: number) => number,
): void {
  const row = table.get(key) ?? new Map<string, number>();
  table.set(key, row);
  row.set(system, change(row.get(system) ?? 0));
}

function median(values: readonly number[] | undefined): number | undefined {
  if (values === undefined || values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function ratio(unit: string, own: number | undefined, peer: number | undefined): string {
  if (own === undefined || peer === undefined || own === 0 || peer === 0) return '–';
  return (unit === 's' ? peer / own : own / peer).toFixed(2);
}

function shown(value: number | undefined): string {
  if (value === undefined) return '–';
  return value >= 100 ? Math.round(value).toLocaleString('en') : String(value);
}
