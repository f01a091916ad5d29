import type { LogFields, Logger } from '../../environment/ports/index.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LogLine {
  readonly timeMs: number;
  readonly process: string;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

/** Keeps the last lines of all processes of a world. */
export class LogBook {
  readonly lines: LogLine[] = [];
  readonly #keep: number;
  /** Called with every line, for following a run. */
  onLine: ((line: LogLine) => void) | undefined;

  constructor(keep = 2_000) {
    this.#keep = keep;
  }

  add(line: LogLine): void {
    this.lines.push(line);
    if (this.lines.length > 2 * this.#keep) this.lines.splice(0, this.#keep);
    this.onLine?.(line);
  }

  /** Whether some process said this, for tests of what is reported. */
  has(message: string): boolean {
    return this.lines.some((line) => line.message === message);
  }
}

export function formatLine({ timeMs, process, level, message, fields }: LogLine): string {
  const values = Object.entries(fields).map(([name, value]) => {
    const shown = value instanceof Error ? (value.stack ?? value.message) : JSON.stringify(value);
    return ` ${name}=${shown}`;
  });
  return `${timeMs.toFixed(3).padStart(12)} ${level.padEnd(5)} ${process}: ${message}${values.join('')}`;
}

export class FakeLogger implements Logger {
  readonly #book: LogBook;
  readonly #process: string;
  readonly #nowMs: () => number;
  readonly #fields: LogFields;

  constructor(book: LogBook, process: string, nowMs: () => number, fields: LogFields = {}) {
    this.#book = book;
    this.#process = process;
    this.#nowMs = nowMs;
    this.#fields = fields;
  }

  debug(fields: LogFields, message: string): void {
    this.#add('debug', fields, message);
  }

  info(fields: LogFields, message: string): void {
    this.#add('info', fields, message);
  }

  warn(fields: LogFields, message: string): void {
    this.#add('warn', fields, message);
  }

  error(fields: LogFields, message: string): void {
    this.#add('error', fields, message);
  }

  child(fields: LogFields): Logger {
    return new FakeLogger(this.#book, this.#process, this.#nowMs, { ...this.#fields, ...fields });
  }

  #add(level: LogLevel, fields: LogFields, message: string): void {
    const timeMs = this.#nowMs();
    this.#book.add({
      timeMs,
      process: this.#process,
      level,
      message,
      fields: { ...this.#fields, ...fields },
    });
  }
}
