/** Listens to all connections: at most one primary may acknowledge mutations of a chunk at a version. */
import { FrameKind, FrameReader, type IncomingFrame } from '../../protocol/frame.js';
import { AppendChunk, GetLease, WriteChunk } from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { requestHeaderCodec, responseHeaderCodec } from '../../protocol/rpc.js';
import type { FakeNetwork, FakeProcess } from '../fakes/index.js';

interface Asked {
  readonly method: number;
  /** `handle v version`; of GetLease it is known by the answer. */
  readonly chunk: string;
}

export class WireTap {
  readonly #readers = new Map<string, FrameReader>();
  readonly #asked = new Map<string, Asked>();
  readonly #primaries = new Map<string, string>();
  readonly #granted = new Map<string, string>();
  readonly #pool = new BufferPool();
  readonly #onViolation: (what: string) => void;
  /** Acknowledged mutations, by clients' counting. */
  acknowledgedCount = 0;

  constructor(network: FakeNetwork, onViolation: (what: string) => void) {
    this.#onViolation = onViolation;
    network.onSent = (connection, from, to, bytes) => this.#onSent(connection, from, to, bytes);
  }

  #onSent(connection: number, from: FakeProcess, to: FakeProcess, bytes: Uint8Array): void {
    const way = `${connection} ${from.host.name}`;
    const back = `${connection} ${to.host.name}`;
    let reader = this.#readers.get(way);
    if (reader === undefined) {
      reader = new FrameReader(this.#pool);
      this.#readers.set(way, reader);
    }
    reader.push(bytes, (frame) => {
      frame.payload?.release();
      if (frame.kind === FrameKind.request) this.#onRequest(way, frame);
      if (frame.kind === FrameKind.response) this.#onResponse(back, from, frame);
    });
  }

  #onRequest(way: string, frame: IncomingFrame): void {
    const [head, body] = frame.header as [unknown, unknown];
    const { id, method } = requestHeaderCodec.decode(head, 'request');
    const key = `${way} ${id}`;
    if (method === GetLease.number) this.#asked.set(key, { method, chunk: '' });
    if (method !== WriteChunk.number && method !== AppendChunk.number) return;
    const codec = method === WriteChunk.number ? WriteChunk.request : AppendChunk.request;
    const { handle, version } = codec.decode(body, 'request');
    this.#asked.set(key, { method, chunk: `${handle} v${version}` });
  }

  #onResponse(way: string, from: FakeProcess, frame: IncomingFrame): void {
    const [head, body] = frame.header as [unknown, unknown];
    const { id, error } = responseHeaderCodec.decode(head, 'response');
    const key = `${way} ${id}`;
    const asked = this.#asked.get(key);
    if (asked === undefined) return;
    this.#asked.delete(key);
    if (error !== 0) return;
    if (asked.method === GetLease.number) {
      const { lease } = GetLease.reply.decode(body, 'reply');
      this.#only(this.#granted, `${lease.handle} v${lease.version}`, lease.primary.host, 'the lease of');
      return;
    }
    this.acknowledgedCount++;
    this.#only(this.#primaries, asked.chunk, from.host.name, 'mutations acknowledged for');
  }

  #only(known: Map<string, string>, chunk: string, server: string, what: string): void {
    const before = known.get(chunk) ?? server;
    known.set(chunk, server);
    if (before !== server) this.#onViolation(`${what} chunk ${chunk} by ${before} and by ${server}`);
  }
}
