/** What a command prints: text for people (tables: table.ts), JSON for programs. */

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `1.5 GiB`. */
export function bytes(count: number): string {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** `3d 4h`, `5m 6s`, `7s`. */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const from = Math.min(parts.findIndex(([count]) => count > 0) >>> 0, parts.length - 1);
  return parts
    .slice(from, from + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** All of standard input. */
export async function readInput(): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** `12,345`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

const COLOURS = { red: 31, green: 32, yellow: 33 } as const;

/** Only on a terminal, and not where NO_COLOR asks for none. */
export function colour(name: keyof typeof COLOURS, text: string): string {
  const isWanted = process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '';
  return isWanted ? `\u001b[${COLOURS[name]}m${text}\u001b[0m` : text;
}
