/** Logs by pino: one JSON line each, to standard error or a file; `pretty` for a person at a terminal. */
import { pino } from 'pino';
import type { LogFields, Logger } from '../ports/index.js';

export interface LogOptions {
  readonly role: string;
  /** `debug`, `info`, `warn`, `error` or `silent`. */
  readonly logLevel: string;
  /** Appended to; its directory is made. */
  readonly logFile?: string | undefined;
  readonly pretty?: boolean | undefined;
}

const STANDARD_ERROR = 2;

export function nodeLogger({ role, logLevel, logFile, pretty = false }: LogOptions): Logger {
  // Synchronous: the line that tells why a process died is on disk before it is dead.
  const destination = pino.destination({ dest: logFile ?? STANDARD_ERROR, sync: true, mkdir: true });
  const sink = pretty ? { write: (line: string) => destination.write(prettyLine(line)) } : destination;
  const settings = {
    level: logLevel,
    base: { role, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(settings, sink);
}

/** `12:34:56.789 WARN  master: a message key=value` from the JSON line. */
function prettyLine(line: string): string {
  const { time, level, role, pid: _pid, msg, err, ...fields } = JSON.parse(line) as LogFields;
  const clock = String(time).slice(11, 23);
  const values = Object.entries(fields).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  const stack = (err as { stack?: unknown } | undefined)?.stack;
  const trace = stack === undefined ? '' : `\n${String(stack)}`;
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${String(role)}: ${String(msg)}${values.join('')}${trace}\n`;
}
