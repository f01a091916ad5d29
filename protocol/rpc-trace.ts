/**
 * Keeps the trace of requests: the newest in a ring in memory, and all in files that are written one
 * after another, in the background, and replaced when they are old. Nobody ever waits for it: what the
 * disk does not take in time is not in the files, and counted.
 */
import type { Counter, Environment, Timer } from '../environment/ports/index.js';
import { GfsError } from './errors.js';
import { MAX_TRACE_PAGE_BYTES } from './limits.js';
import { GetTrace, MAX_TRACED_PEERS } from './messages/trace.js';
import type { Hello, Service } from './rpc.js';
import {
  type PeerTrace,
  TRACE_HEAD_BYTES,
  type TracedPeer,
  TraceKind,
  type TraceSink,
  tracedMessage,
  writeTraceRecord,
} from './trace.js';
import { TRACE_PAGES, TraceFiles, type TracePage } from './trace-files.js';

const PAGE_BYTES = 64 * 1024;
const WRITE_INTERVAL_MS = 1_000;
const FORMAT = 1;

export interface RpcTraceOptions {
  readonly role: string;
  /** Of the process, as in its hello. */
  readonly id: string;
  /** Where the files are. */
  readonly directory: string;
  /** Of all files together; 0 for none. */
  readonly totalBytes: number;
}

export class RpcTrace implements TraceSink {
  readonly #environment: Pick<Environment, 'disk' | 'clock' | 'timers' | 'logger' | 'metrics'>;
  readonly #options: RpcTraceOptions;
  readonly #pages: TracePage[] = [];
  readonly #peers = new Map<number, TracedPeer>();
  /** Wall time minus monotonic time: one reading of a clock is enough for each record. */
  readonly #epochMs: number;
  readonly #dropped: Counter;
  readonly #writer: TraceFiles | undefined;
  readonly #timer: Timer | undefined;
  #current: TracePage;
  #nextPeer = 1;
  #droppedCount = 0;

  constructor(
    environment: Pick<Environment, 'disk' | 'clock' | 'timers' | 'logger' | 'metrics'>,
    options: RpcTraceOptions,
  ) {
    this.#environment = environment;
    this.#options = options;
    const { sec, nsec } = environment.clock.wallTime();
    this.#epochMs = sec * 1000 + nsec / 1e6 - environment.clock.monotonicMs();
    this.#dropped = environment.metrics.counter(
      `gfs_${options.role}_trace_dropped_total`,
      'Requests and responses that are not in the trace files, because the disk did not follow',
    );
    this.#current = { bytes: Buffer.allocUnsafe(PAGE_BYTES), number: 0, filled: 0, busy: false };
    this.#pages.push(this.#current);
    this.#put(TraceKind.start, 0, Buffer.from(JSON.stringify(this.#start())));
    if (options.totalBytes === 0) return;
    this.#writer = new TraceFiles(environment, options, () => this.#preamble());
    this.#timer = environment.timers.every(WRITE_INTERVAL_MS, () => this.#writer?.write(this.#pages));
  }

  /** Records that were lost for the files. */
  get dropped(): number {
    return this.#droppedCount;
  }

  /** Where the next record goes, counted from the start of the process. */
  get position(): number {
    return this.#current.number * PAGE_BYTES + this.#current.filled;
  }

  get peers(): TracedPeer[] {
    return [...this.#peers.values()];
  }

  peer({ role, id }: Hello, remote: string): PeerTrace {
    const number = this.#nextPeer++;
    const traced = { number, role, id, remote };
    this.#peers.set(number, traced);
    this.#put(TraceKind.peer, number, Buffer.from(JSON.stringify(traced)));
    return {
      request: (packed, header) => this.#message(TraceKind.request, number, packed, header),
      response: (packed, header) => this.#message(TraceKind.response, number, packed, header),
      gone: () => {
        this.#peers.delete(number);
        this.#put(TraceKind.gone, number, NOTHING);
      },
    };
  }

  /**
   * The records from `position` on that are still in memory, `maxBytes` at most.
   * @returns also where to go on, and how many bytes before them are gone
   */
  read(position: number, maxBytes: number): { records: Buffer; next: number; lostBytes: number } {
    const oldest = this.#pages.reduce((least, { number }) => Math.min(least, number), this.#current.number);
    const from = Math.min(this.position, Math.max(position, oldest * PAGE_BYTES));
    const parts: Buffer[] = [];
    let bytes = 0;
    let next = from;
    while (next < this.position) {
      const page = this.#pages[Math.floor(next / PAGE_BYTES) % TRACE_PAGES] as TracePage;
      const at = next - page.number * PAGE_BYTES;
      const part = wholeRecords(page.bytes.subarray(at, page.filled), maxBytes - bytes);
      parts.push(part);
      bytes += part.byteLength;
      next += part.byteLength;
      const isPageDone = at + part.byteLength === page.filled;
      if (!isPageDone || page === this.#current) break;
      next = (page.number + 1) * PAGE_BYTES;
    }
    return { records: Buffer.concat(parts), next, lostBytes: from - position };
  }

  /** Writes what there is, and closes the files. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#writer?.write(this.#pages);
    await this.#writer?.close();
  }

  #message(kind: TraceKind, peer: number, packed: Uint8Array, header: unknown): void {
    const { body, flags } = tracedMessage(packed, header);
    this.#put(kind, peer, body, flags);
  }

  #put(kind: TraceKind, peer: number, body: Uint8Array, flags = 0): void {
    const bytes = TRACE_HEAD_BYTES + body.byteLength;
    if (this.#current.filled + bytes > PAGE_BYTES && !this.#turnPage()) {
      this.#lose(1);
      return;
    }
    const page = this.#current;
    const timeMs = this.#epochMs + this.#environment.clock.monotonicMs();
    page.filled = writeTraceRecord(page.bytes, page.filled, kind, peer, timeMs, body, flags);
  }

  /** @returns whether there is a page: the one that comes next may still be on its way to the disk */
  #turnPage(): boolean {
    const number = this.#current.number + 1;
    const reused = this.#pages[number % TRACE_PAGES];
    if (reused?.busy === true) return false;
    if (reused !== undefined && this.#writer?.hasWritten(reused) === false) this.#lose(countRecords(reused));
    const page = reused ?? { bytes: Buffer.allocUnsafe(PAGE_BYTES), number, filled: 0, busy: false };
    page.number = number;
    page.filled = 0;
    this.#pages[number % TRACE_PAGES] = page;
    this.#current = page;
    this.#writer?.write(this.#pages);
    return true;
  }

  #lose(count: number): void {
    this.#droppedCount += count;
    this.#dropped.add(count);
  }

  #start(): object {
    const { role, id } = this.#options;
    return { format: FORMAT, role, id, startedAtMs: this.#epochMs + this.#environment.clock.monotonicMs() };
  }

  /** Before a file's records: who it is of, and who the peers are that they name. */
  #preamble(): Buffer {
    const timeMs = this.#epochMs + this.#environment.clock.monotonicMs();
    const bodies: [TraceKind, number, Buffer][] = [
      [TraceKind.start, 0, Buffer.from(JSON.stringify(this.#start()))],
      ...this.peers.map((peer): [TraceKind, number, Buffer] => [
        TraceKind.peer,
        peer.number,
        Buffer.from(JSON.stringify(peer)),
      ]),
    ];
    const parts = bodies.map(([kind, number, body]) => {
      const record = Buffer.allocUnsafe(TRACE_HEAD_BYTES + body.byteLength);
      writeTraceRecord(record, 0, kind, number, timeMs, body);
      return record;
    });
    return Buffer.concat(parts);
  }
}

const NOTHING = Buffer.alloc(0);

/** As many whole records as fit into `maxBytes`, at least one where there is one. */
function wholeRecords(bytes: Buffer, maxBytes: number): Buffer {
  let end = 0;
  while (end < bytes.byteLength) {
    const next = end + 4 + bytes.readUInt32LE(end);
    if (next > maxBytes && end > 0) break;
    end = next;
    if (end >= maxBytes) break;
  }
  return bytes.subarray(0, end);
}

function countRecords({ bytes, filled }: TracePage): number {
  let count = 0;
  for (let at = 0; at < filled; at += 4 + bytes.readUInt32LE(at)) count++;
  return count;
}

/** Answers {@link GetTrace}. */
export function serveTrace(service: Service, trace: RpcTrace | undefined): void {
  service.on(GetTrace, ({ position, maxBytes }) => {
    if (trace === undefined) throw new GfsError('NOT_SUPPORTED', 'this process does not trace its requests');
    const { records, next, lostBytes } = trace.read(position ?? 0, Math.min(maxBytes, MAX_TRACE_PAGE_BYTES));
    const peers = trace.peers.slice(-MAX_TRACED_PEERS);
    return {
      body: {
        records,
        next,
        lostBytes: position === undefined ? 0 : lostBytes,
        dropped: trace.dropped,
        peers,
      },
    };
  });
}
