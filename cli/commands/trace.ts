/** `gfs trace`: the requests that a daemon answered (paper §5.3), from its memory or from its files. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { errorCodeOf } from '../../protocol/errors.js';
import { MAX_TRACE_PAGE_BYTES } from '../../protocol/limits.js';
import * as messages from '../../protocol/messages/index.js';
import { type Method, requestHeaderCodec, responseHeaderCodec } from '../../protocol/rpc.js';
import type { ValueOf } from '../../protocol/schema.js';
import { readTraceRecords, type TracedPeer, TraceKind, type TraceRecord } from '../../protocol/trace.js';
import { DEFAULT_MASTER_PORT } from '../config/keys.js';
import { mastersOf } from '../config/options.js';
import { parseHostPort } from '../config/values.js';
import { Failure, UsageFailure } from '../failure.js';
import { type ConfigurationFlags, loadWith } from '../flags.js';
import { askDaemon } from '../master-query.js';
import { mastersNearby } from '../master-session.js';
import { print } from '../output.js';

const POLL_MS = 250;
const MAX_SHOWN_BODY = 200;
/** Requests whose response has not come by; the oldest are shown without. */
const MAX_OPEN = 65_536;

export interface TraceFlags extends ConfigurationFlags {
  readonly daemon?: string;
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly method?: readonly string[];
  readonly errors?: boolean;
}

/** A request with its answer. */
interface Exchange {
  readonly time: string;
  readonly peer: string;
  readonly method: string;
  readonly id: number;
  readonly session: number;
  readonly sequence: number;
  readonly uid: number;
  readonly traceId: number;
  /** Undefined while there is no answer. */
  readonly tookMs?: number;
  readonly outcome: string;
  readonly request: unknown;
  readonly reply?: unknown;
}

export async function trace(files: readonly string[], flags: TraceFlags): Promise<void> {
  if (files.length > 0 && (flags.follow === true || flags.daemon !== undefined))
    throw new UsageFailure('files are read as they are: without --follow and --daemon');
  for (const name of flags.method ?? []) {
    if (![...methods.values()].some((each) => each.name === name))
      throw new UsageFailure(
        `--method ${name}: there is no such method`,
        'They are listed in docs/formats/wire.md',
      );
  }
  const reader = new Reader((exchange) => show(exchange, flags));
  if (files.length > 0) {
    for (const file of files) readFile(reader, file);
    reader.showOpen();
    return;
  }
  const { configuration } = await loadWith(flags);
  const nearby = mastersNearby(flags);
  const daemons =
    flags.daemon !== undefined
      ? [parseHostPort(flags.daemon, DEFAULT_MASTER_PORT)]
      : nearby.length > 0
        ? nearby
        : mastersOf(configuration);
  await askDaemon(daemons, async (ask) => {
    let position: number | undefined;
    for (;;) {
      const body = { maxBytes: MAX_TRACE_PAGE_BYTES, ...(position === undefined ? {} : { position }) };
      const { records, next, lostBytes, peers } = await ask(messages.GetTrace, body);
      if (lostBytes > 0) process.stderr.write(`gfs: ${lostBytes} bytes of the trace were lost in between\n`);
      reader.learn(peers);
      reader.read(Buffer.from(records));
      position = next;
      if (records.byteLength > 0) continue;
      if (flags.follow !== true) break;
      await delay(POLL_MS);
    }
  });
  reader.showOpen();
}

function show(exchange: Exchange, flags: TraceFlags): void {
  if (flags.method !== undefined && !flags.method.includes(exchange.method)) return;
  if (flags.errors === true && exchange.outcome === 'OK') return;
  if (flags.json === true) return print(JSON.stringify(exchange, replaceBytes));
  const { time, peer, method, id, session, sequence, uid, tookMs, outcome, request } = exchange;
  const body = JSON.stringify(request, replaceBytes) ?? '';
  const short = body.length > MAX_SHOWN_BODY ? `${body.slice(0, MAX_SHOWN_BODY)}…` : body;
  const took = tookMs === undefined ? '' : ` <${tookMs.toFixed(3)} ms>`;
  const origin = session === 0 ? '' : ` session ${session}${sequence === 0 ? '' : `.${sequence}`} uid ${uid}`;
  print(`${time} ${peer} #${id}${origin} ${method} ${short}: ${outcome}${took}`);
}

function replaceBytes(_: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  const buffer = value as { type?: unknown; data?: unknown[] } | null;
  if (buffer?.type === 'Buffer' && Array.isArray(buffer.data)) return `${buffer.data.length} bytes`;
  return value;
}

type AnyMethod = Method<unknown, unknown>;
const methods = new Map<number, AnyMethod>(
  (Object.values(messages) as unknown[])
    .filter((each): each is AnyMethod => typeof (each as { number?: unknown }).number === 'number')
    .map((each) => [each.number, each]),
);

interface Open {
  readonly record: TraceRecord;
  readonly header: ValueOf<typeof requestHeaderCodec>;
}

/** Puts requests and responses together. */
function readFile(reader: Reader, file: string): void {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new Failure(`${file}: ${(error as Error).message}`, 'They are in DATA/trace of a daemon.');
  }
  if (reader.read(bytes) === 0 && bytes.byteLength > 0)
    throw new Failure(`${file} is no file of a trace`, 'They are in DATA/trace of a daemon.');
}

class Reader {
  readonly #onExchange: (exchange: Exchange) => void;
  readonly #peers = new Map<number, TracedPeer>();
  readonly #open = new Map<string, Open>();

  constructor(onExchange: (exchange: Exchange) => void) {
    this.#onExchange = onExchange;
  }

  learn(peers: readonly TracedPeer[]): void {
    for (const peer of peers) this.#peers.set(peer.number, peer);
  }

  /** @returns how many records there were */
  read(bytes: Buffer): number {
    let count = 0;
    for (const record of readTraceRecords(bytes)) {
      this.#take(record);
      count++;
    }
    return count;
  }

  /** Those that nobody has answered yet. */
  showOpen(): void {
    for (const { record, header } of this.#open.values())
      this.#onExchange({ ...this.#request(record, header), outcome: 'no answer yet' });
    this.#open.clear();
  }

  #take(record: TraceRecord): void {
    if (record.kind === TraceKind.peer) return this.learn([record.body as TracedPeer]);
    if (record.kind === TraceKind.gone) return this.#gone(record.peer);
    if (record.kind === TraceKind.request) return this.#asked(record);
    if (record.kind === TraceKind.response) this.#answered(record);
  }

  #gone(peer: number): void {
    for (const [key, { record, header }] of this.#open) {
      if (record.peer !== peer) continue;
      this.#open.delete(key);
      this.#onExchange({ ...this.#request(record, header), outcome: 'no answer: the connection ended' });
    }
  }

  #asked(record: TraceRecord): void {
    const header = requestHeaderCodec.decode((record.body as unknown[])[0], 'request');
    this.#open.set(`${record.peer} ${header.id}`, { record, header });
    if (this.#open.size <= MAX_OPEN) return;
    const [[key, oldest]] = this.#open as unknown as [[string, Open]];
    this.#open.delete(key);
    this.#onExchange({ ...this.#request(oldest.record, oldest.header), outcome: 'no answer yet' });
  }

  /** What was asked before the trace begins is passed over. */
  #answered(record: TraceRecord): void {
    const [first, reply] = record.body as unknown[];
    const header = responseHeaderCodec.decode(first, 'response');
    const key = `${record.peer} ${header.id}`;
    const open = this.#open.get(key);
    if (open === undefined) return;
    this.#open.delete(key);
    const outcome = header.error === 0 ? 'OK' : `${errorCodeOf(header.error)} ${header.message ?? ''}`.trim();
    const method = methods.get(open.header.method);
    const body = record.isCut ? '(too long)' : decoded(method?.reply, reply);
    this.#onExchange({
      ...this.#request(open.record, open.header),
      tookMs: record.timeMs - open.record.timeMs,
      outcome,
      ...(header.error === 0 ? { reply: body } : {}),
    });
  }

  #request(record: TraceRecord, header: Open['header']): Omit<Exchange, 'outcome'> {
    const peer = this.#peers.get(record.peer);
    const method = methods.get(header.method);
    const { id, session, sequence, uid, traceId } = header;
    return {
      time: timeOf(record.timeMs),
      peer: peer === undefined ? `peer ${record.peer}` : `${peer.role} ${peer.id}@${peer.remote}`,
      method: method?.name ?? `method ${header.method}`,
      ...{ id, session, sequence, uid, traceId },
      request: record.isCut ? '(too long)' : decoded(method?.request, (record.body as unknown[])[1]),
    };
  }
}

function decoded(codec: { decode(raw: unknown, path: string): unknown } | undefined, raw: unknown): unknown {
  try {
    return codec === undefined ? raw : codec.decode(raw, '');
  } catch {
    // What was malformed is shown as it came.
    return raw;
  }
}

/** To the microsecond. */
function timeOf(ms: number): string {
  const seconds = new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(Math.floor((ms % 1000) * 1000)).padStart(6, '0')}Z`;
}
