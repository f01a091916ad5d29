/** What a configuration value may be: how it is written in TOML, and what it means inside. */
import { DURATION_UNITS } from '../../protocol/duration.js';
import { GIB, KIB, MIB } from '../../protocol/limits.js';
import type { Location } from '../../protocol/messages/types.js';

/** A value that was refused. The message goes on from "KEY must be …". */
export class BadValue extends Error {}

export interface ValueType<T> {
  /** For people, after "must be". */
  readonly what: string;
  /** @throws BadValue */
  parse(raw: unknown): T;
  /** As TOML has it. */
  show(value: T): string;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

function refuse(what: string, raw: unknown): never {
  throw new BadValue(`${what}, not ${JSON.stringify(raw)}`);
}

/** A type whose values are a subset of strings. */
function strings(what: string, accepts: (raw: string) => boolean): ValueType<string> {
  return {
    what,
    parse: (raw) => (typeof raw === 'string' && accepts(raw) ? raw : refuse(what, raw)),
    show: (value) => JSON.stringify(value),
  };
}

export const host = strings('a host name or an IP address', (raw) => /^[A-Za-z0-9_.:-]{1,255}$/.test(raw));
export const path = strings('a path', (raw) => raw !== '' && !raw.includes('\0'));
/** Racks are compared as they are written. */
export const rack = strings(
  'a name of 1 to 64 characters',
  (raw) => raw !== '' && Buffer.byteLength(raw) <= 64,
);

export const flag: ValueType<boolean> = {
  what: 'true or false',
  parse: (raw) => (typeof raw === 'boolean' ? raw : refuse('true or false', raw)),
  show: String,
};

export function oneOf<const T extends string>(...names: readonly T[]): ValueType<T> {
  const what = names.map((name) => JSON.stringify(name)).join(' or ');
  return {
    what,
    parse: (raw) => names.find((name) => name === raw) ?? refuse(what, raw),
    show: (value) => JSON.stringify(value),
  };
}

export function whole(min: number, max: number): ValueType<number> {
  const what = `a whole number from ${min} to ${max}`;
  return {
    what,
    parse: (raw) =>
      typeof raw === 'number' && Number.isInteger(raw) && raw >= min && raw <= max ? raw : refuse(what, raw),
    show: String,
  };
}

export const port = whole(0, 65_535);

export const weight: ValueType<number> = {
  what: 'a number from 0 to 1',
  parse: (raw) =>
    typeof raw === 'number' && raw >= 0 && raw <= 1 ? raw : refuse('a number from 0 to 1', raw),
  show: String,
};

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: KIB,
  MiB: MIB,
  GiB: GIB,
  TiB: 1024 * GIB,
};

/** The largest unit that leaves a whole number. */
function showIn(units: Readonly<Record<string, number>>, value: number, smallest: string): string {
  let best = smallest;
  for (const [name, factor] of Object.entries(units)) {
    if (value !== 0 && value % factor === 0 && factor > (units[best] ?? 1)) best = name;
  }
  return `"${value / (units[best] ?? 1)}${best}"`;
}

function quantity(
  what: string,
  units: Readonly<Record<string, number>>,
  smallest: string,
  bareFactor: number,
  bounds: { readonly min: number; readonly max: number },
): ValueType<number> {
  const shown = `${what}, ${showIn(units, bounds.min, smallest)} to ${showIn(units, bounds.max, smallest)}`;
  return {
    what: shown,
    parse: (raw) => {
      let value = Number.NaN;
      if (typeof raw === 'number') value = raw * bareFactor;
      else if (typeof raw === 'string') {
        const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$/.exec(raw);
        value = Number(match?.[1]) * (units[match?.[2] ?? ''] ?? Number.NaN);
      }
      // `!(… >= …)`: NaN is refused as well.
      if (!(value >= bounds.min && value <= bounds.max)) refuse(shown, raw);
      return Math.round(value);
    },
    show: (value) => showIn(units, value, smallest),
  };
}

/** "64MiB" (B, KiB, MiB, GiB, TiB), or a number of bytes. */
export function size(min: number, max: number): ValueType<number> {
  return quantity('a size', SIZE_UNITS, 'B', 1, { min, max });
}

/** "60s" (ms, s, m, h, d), or a number of seconds, as the paper's configurations have it; milliseconds inside. */
export function duration(min: number, max: number): ValueType<number> {
  return quantity('a time', DURATION_UNITS, 'ms', 1000, { min, max });
}

export const location: ValueType<Location> = {
  what: 'coordinates as [x, y]',
  parse: (raw) => {
    if (!Array.isArray(raw) || raw.length !== 2) refuse('coordinates as [x, y]', raw);
    const [x, y] = raw as unknown[];
    if (!Number.isFinite(x) || !Number.isFinite(y)) refuse('coordinates as [x, y]', raw);
    return { x: x as number, y: y as number };
  },
  show: ({ x, y }) => `[${x}, ${y}]`,
};

/** `HOST`, `HOST:PORT` or `[IPv6]:PORT`. @throws BadValue */
export function parseHostPort(raw: unknown, defaultPort: number): HostPort {
  const what = 'an address as "HOST:PORT"';
  const match = typeof raw === 'string' ? /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(raw) : null;
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  const name = match?.[1] ?? match?.[2];
  if (name === undefined || port < 1 || port > 65_535) refuse(what, raw);
  return { host: host.parse(name), port };
}

export function showHostPort(address: HostPort): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

export function address(defaultPort: number): ValueType<HostPort> {
  return {
    what: 'an address as "HOST:PORT"',
    parse: (raw) => parseHostPort(raw, defaultPort),
    show: (value) => JSON.stringify(showHostPort(value)),
  };
}

export function listOf<T>(item: ValueType<T>, max: number): ValueType<readonly T[]> {
  const what = `a list of up to ${max}, each ${item.what}`;
  return {
    what,
    parse: (raw) =>
      Array.isArray(raw) && raw.length <= max ? raw.map((each) => item.parse(each)) : refuse(what, raw),
    show: (values) => `[${values.map((value) => item.show(value)).join(', ')}]`,
  };
}
