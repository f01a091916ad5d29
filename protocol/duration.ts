/** Spans of time as people write them: `500ms`, `90s`, `12h`, `3d`, `0`. */

export const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** In milliseconds; undefined when it is not a span of time. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text.trim());
  if (match !== null) return Math.round(Number(match[1]) * (DURATION_UNITS[match[2] as string] as number));
  return /^0+$/.test(text.trim()) ? 0 : undefined;
}

/** In the largest unit that leaves a whole number. */
export function showDuration(ms: number): string {
  if (ms === 0) return '0';
  const units = Object.entries(DURATION_UNITS).reverse();
  const [unit, factor] = units.find(([, each]) => ms % each === 0) ?? ['ms', 1];
  return `${ms / factor}${unit}`;
}
