/** Counts and times the operations of a mount: for `.gfs/stats`, `.gfs/oplog` and the metrics page. */
import type { Clock, Counter, Environment, Histogram, Metrics } from '../../environment/ports/index.js';
import { toGfsError } from '../../protocol/errors.js';
import { type Answer, type Context, NoSuchName, type ReadReply } from '../handler.js';
import { describeArguments, type OperationArguments, type OperationName } from './operations.js';
import type { Oplog } from './oplog.js';

const BUCKETS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000];
/** Latencies are counted by powers of two, from this one on. */
const SMALLEST_MS = 1 / 64;
const POWERS = 32;

/** Of the handler; {@link operationTable} knows the types. */
export type Method = (...args: OperationArguments) => Answer<unknown>;

/** One kind of operation since the mount began. */
export interface OperationStats {
  count: number;
  errors: number;
  totalMs: number;
  maxMs: number;
  /** By power of two of {@link SMALLEST_MS}. */
  readonly powers: number[];
}

interface Counted extends OperationStats {
  readonly histogram: Histogram;
  readonly failures: Counter;
}

export class Observer {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #oplog: Oplog;
  readonly #operations = new Map<OperationName, Counted>();
  readonly #readBytes: Counter;
  readonly #writtenBytes: Counter;
  #read = 0;
  #written = 0;
  #underWay = 0;

  constructor({ clock, metrics }: Pick<Environment, 'clock' | 'metrics'>, oplog: Oplog) {
    this.#clock = clock;
    this.#metrics = metrics;
    this.#oplog = oplog;
    this.#readBytes = metrics.counter('gfs_client_read_bytes_total', 'Bytes read through the mount');
    this.#writtenBytes = metrics.counter('gfs_client_written_bytes_total', 'Bytes written to the mount');
  }

  get stats(): ReadonlyMap<OperationName, OperationStats> {
    return this.#operations;
  }

  get bytes(): { readonly read: number; readonly written: number } {
    return { read: this.#read, written: this.#written };
  }

  /** Operations that have not been answered. */
  get underWay(): number {
    return this.#underWay;
  }

  /** @returns the method, watched */
  watched(operation: OperationName, method: Method): Method {
    return (...args) => {
      const startedAtMs = this.#clock.monotonicMs();
      // What is borrowed has to be looked at before the handler first waits.
      const line = this.#oplog.isRead ? describeArguments(operation, args) : undefined;
      const context = args[0] as Context;
      let answer: Answer<unknown>;
      try {
        answer = method(...args);
      } catch (error) {
        this.#onDone(operation, context, startedAtMs, line, undefined, error);
        throw error;
      }
      if (answer instanceof Promise) this.#await(answer, operation, context, startedAtMs, line);
      else this.#onDone(operation, context, startedAtMs, line, answer, undefined);
      return answer;
    };
  }

  #await(
    answer: Promise<unknown>,
    operation: OperationName,
    context: Context,
    startedAtMs: number,
    line: string | undefined,
  ): void {
    this.#underWay++;
    const done = (value: unknown, error: unknown) => {
      this.#underWay--;
      this.#onDone(operation, context, startedAtMs, line, value, error);
    };
    answer.then(
      (value) => done(value, undefined),
      (error) => done(undefined, error),
    );
  }

  #onDone(
    operation: OperationName,
    context: Context,
    startedAtMs: number,
    line: string | undefined,
    value: unknown,
    error: unknown,
  ): void {
    const isAbsent = value instanceof NoSuchName;
    const tookMs = this.#clock.monotonicMs() - startedAtMs;
    const counted = this.#countedOf(operation);
    counted.count++;
    counted.totalMs += tookMs;
    if (tookMs > counted.maxMs) counted.maxMs = tookMs;
    let power = 0;
    for (let limitMs = SMALLEST_MS; tookMs > limitMs && power < POWERS - 1; limitMs *= 2) power++;
    counted.powers[power]!++;
    counted.histogram.observe(tookMs);
    if (error !== undefined || isAbsent) {
      counted.errors++;
      counted.failures.add();
    } else if (operation === 'read') this.#noteRead(value as ReadReply);
    else if (operation === 'write') this.#noteWritten(value as number);
    if (line === undefined) return;
    const succeeded = isAbsent ? 'ENOENT' : 'OK';
    const outcome = error === undefined ? succeeded : toGfsError(error).errno;
    const { uid, gid, pid } = context;
    const time = showTime(this.#clock);
    this.#oplog.write(
      `${time} [uid:${uid},gid:${gid},pid:${pid}] ${operation} (${line}): ${outcome} <${(tookMs / 1000).toFixed(6)}>`,
    );
  }

  #noteRead({ buffers }: ReadReply): void {
    let bytes = 0;
    for (const buffer of buffers) bytes += buffer.byteLength;
    this.#read += bytes;
    this.#readBytes.add(bytes);
  }

  #noteWritten(bytes: number): void {
    this.#written += bytes;
    this.#writtenBytes.add(bytes);
  }

  #countedOf(operation: OperationName): Counted {
    const known = this.#operations.get(operation);
    if (known !== undefined) return known;
    const labels = { operation };
    const name = 'gfs_client_operation';
    const counted: Counted = {
      count: 0,
      errors: 0,
      totalMs: 0,
      maxMs: 0,
      powers: new Array<number>(POWERS).fill(0),
      histogram: this.#metrics.histogram(
        `${name}_ms`,
        'Time of an operation of the mount',
        BUCKETS_MS,
        labels,
      ),
      failures: this.#metrics.counter(`${name}_errors_total`, 'Operations that failed', labels),
    };
    this.#operations.set(operation, counted);
    return counted;
  }
}

/** The time below which `share` of the operations took, to within a factor of two. */
export function quantileMs({ count, powers, maxMs }: OperationStats, share: number): number {
  let seen = 0;
  for (const [power, each] of powers.entries()) {
    seen += each;
    if (seen >= share * count) return Math.min(maxMs, SMALLEST_MS * 2 ** power);
  }
  return maxMs;
}

function showTime(clock: Clock): string {
  const { sec, nsec } = clock.wallTime();
  const seconds = new Date(sec * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(Math.floor(nsec / 1000)).padStart(6, '0')}Z`;
}
