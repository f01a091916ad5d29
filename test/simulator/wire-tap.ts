/** Listens to all connections: at most one primary may acknowledge mutations of a chunk at a version. */
import { errorCodeOf } from '../../protocol/errors.js';
import { FrameKind, FrameReader, type IncomingFrame } from '../../protocol/frame.js';
import { DEFAULT_MAX_REQUESTS } from '../../protocol/limits.js';
import * as messages from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { type Method, requestHeaderCodec, responseHeaderCodec } from '../../protocol/rpc.js';
import type { ValueOf } from '../../protocol/schema.js';
import type { FakeNetwork, FakeProcess } from '../fakes/index.js';
import type { Damage } from './damage.js';
import type { ReplicaOrder } from './replica-order.js';

const { AdoptClone, AppendChunk, ApplyMutation, CloneChunk, CopyChunk } = messages;
const { GetChunks, GetLease, MakeChunks, PrepareVersion, ReadChunk, RegisterChunkserver } = messages;
const { RepairReplicas, RevokeLease, WriteChunk } = messages;

/** What is granted in the hello, and those that keep sessions alive. */
const MAX_OUTSTANDING = DEFAULT_MAX_REQUESTS + 8;

const methods = new Map(
  Object.values(messages as Record<string, unknown>)
    .filter(
      (value): value is Method<unknown, unknown> => (value as { request?: unknown }).request !== undefined,
    )
    .map((method) => [method.number, method]),
);

interface Asked {
  readonly method: Method<unknown, unknown>;
  readonly body: unknown;
  /** Of a mutation the version that the server had promised when it was sent there. */
  readonly promised: number;
  /** When it was sent, as {@link ReplicaOrder} counts. */
  readonly moment: number;
}

interface Versioned {
  readonly handle: number;
  readonly version: number;
}

interface Applied extends Versioned {
  readonly sync: boolean;
}

export class WireTap {
  readonly #readers = new Map<string, FrameReader>();
  readonly #asked = new Map<string, Asked>();
  readonly #primaries = new Map<string, string>();
  readonly #granted = new Map<string, string>();
  /** `server handle` → the highest version that it has acknowledged. */
  readonly #raised = new Map<string, number>();
  /** `connection from > to` → requests without a response. */
  readonly #outstanding = new Map<string, number>();
  readonly #pool = new BufferPool();
  readonly #damage: Damage | undefined;
  readonly #onViolation: (what: string) => void;
  /** Acknowledged mutations, by clients' counting. */
  acknowledgedCount = 0;
  /** Told of reads, where it is set. */
  order: ReplicaOrder | undefined;
  /** Told of every request and response, for following a run. */
  onMessage: ((line: string) => void) | undefined;

  /** @param damage is told which replicas there are */
  constructor(network: FakeNetwork, onViolation: (what: string) => void, damage?: Damage) {
    this.#damage = damage;
    this.#onViolation = onViolation;
    network.onSent = (connection, from, to, bytes) => this.#onSent(connection, from, to, bytes);
  }

  #onSent(connection: number, from: FakeProcess, to: FakeProcess, bytes: Uint8Array): void {
    const way = `${connection} ${from.host.name} > ${to.host.name}`;
    const back = `${connection} ${to.host.name} > ${from.host.name}`;
    let reader = this.#readers.get(way);
    if (reader === undefined) {
      reader = new FrameReader(this.#pool);
      this.#readers.set(way, reader);
    }
    reader.push(bytes, (frame) => {
      if (frame.kind === FrameKind.request) this.#onRequest(way, to, frame);
      if (frame.kind === FrameKind.response) this.#onResponse(back, from, frame);
      frame.payload?.release();
    });
  }

  #onRequest(way: string, to: FakeProcess, frame: IncomingFrame): void {
    const [head, raw] = frame.header as [unknown, unknown];
    const { id, method: number, session, sequence } = requestHeaderCodec.decode(head, 'request');
    const method = methods.get(number);
    if (method === undefined) return;
    const body = method.request.decode(raw, 'request');
    const promised =
      method.number === ApplyMutation.number ? this.#promisedBy(to.host.name, (body as Versioned).handle) : 0;
    const moment = this.order?.now() ?? 0;
    this.#asked.set(`${way} ${id}`, { method, body, promised, moment });
    const outstanding = (this.#outstanding.get(way) ?? 0) + 1;
    this.#outstanding.set(way, outstanding);
    if (outstanding > MAX_OUTSTANDING) this.#onViolation(`${way}: ${outstanding} requests are outstanding`);
    if (this.onMessage !== undefined) {
      this.onMessage(`${way} #${id} ${method.name} ${session}/${sequence} ${JSON.stringify(body)}`);
    }
  }

  #onResponse(way: string, from: FakeProcess, frame: IncomingFrame): void {
    const [head, raw] = frame.header as [unknown, unknown];
    const { id, error, message } = responseHeaderCodec.decode(head, 'response');
    const key = `${way} ${id}`;
    const asked = this.#asked.get(key);
    if (asked === undefined) return;
    this.#asked.delete(key);
    this.#outstanding.set(way, (this.#outstanding.get(way) ?? 1) - 1);
    if (error !== 0) {
      this.onMessage?.(`${way} #${id} ${asked.method.name} = ${errorCodeOf(error)} ${message}`);
      return;
    }
    const reply = asked.method.reply.decode(raw, 'reply');
    this.onMessage?.(`${way} #${id} ${asked.method.name} = ${JSON.stringify(reply)}`);
    this.#check(asked, reply, from.host.name);
    if (this.order !== undefined) this.#order(this.order, asked, reply, from.host.name, frame);
  }

  /** What readers see of the shared blocks, and what may take it back. */
  #order(
    order: ReplicaOrder,
    { method, body, moment }: Asked,
    reply: unknown,
    server: string,
    { payload }: IncomingFrame,
  ): void {
    const { number } = method;
    const { handle } = body as Versioned;
    if (number === GetChunks.number)
      order.located(body as { id: number }, (reply as { chunks: readonly messages.Lease[] }).chunks);
    if (number === GetLease.number)
      order.located(body as { id: number }, [(reply as { lease: messages.Lease }).lease]);
    if (number === ReadChunk.number && payload !== undefined)
      order.read(server, moment, body as ValueOf<typeof ReadChunk.request>, payload.bytes);
    const isOfAll = [PrepareVersion, RepairReplicas, RevokeLease].some((each) => each.number === number);
    if (isOfAll) order.repaired(undefined, handle, moment);
    if (number === CloneChunk.number || number === AdoptClone.number) order.repaired(server, handle, moment);
    // It has started again, or was away for a while.
    if (number === RegisterChunkserver.number)
      order.repaired((body as ValueOf<typeof RegisterChunkserver.request>).server.host, undefined, moment);
  }

  #check({ method, body, promised }: Asked, reply: unknown, server: string): void {
    if (method.number === GetLease.number) {
      const { lease } = reply as { lease: messages.Lease };
      this.#only(this.#granted, lease, lease.primary.host, 'the lease is told to be held by');
    }
    if (method.number === RegisterChunkserver.number)
      this.#damage?.registered((body as ValueOf<typeof RegisterChunkserver.request>).server.host);
    if (method.number === PrepareVersion.number) this.#onRaised(body as Versioned, server);
    if (method.number === MakeChunks.number) {
      const { handles } = body as ValueOf<typeof MakeChunks.request>;
      for (const handle of handles) this.#onRaised({ handle, version: 1 }, server);
    }
    if (method.number === CopyChunk.number) {
      const { source, handle, version } = body as ValueOf<typeof CopyChunk.request>;
      this.#damage?.copiedHere(server, source, handle, version);
    }
    if (method.number === CloneChunk.number) this.#damage?.fetched(server, (body as Versioned).handle);
    if (method.number === AdoptClone.number) {
      const { handle, version } = body as Versioned;
      this.#damage?.adopted(server, handle, version);
    }
    if (method.number === ApplyMutation.number) this.#fence(body as Applied, promised, server);
    if (method.number === WriteChunk.number || method.number === AppendChunk.number) {
      this.acknowledgedCount++;
      this.#only(this.#primaries, body as messages.Lease, server, 'mutations are acknowledged by');
    }
  }

  #promisedBy(server: string, handle: number): number {
    return this.#raised.get(`${server} ${handle}`) ?? 0;
  }

  #onRaised({ handle, version }: Versioned, server: string): void {
    this.#damage?.raised(server, handle, version);
    this.#raised.set(`${server} ${handle}`, Math.max(version, this.#promisedBy(server, handle)));
  }

  /** A replica that has promised a version takes nothing under a lower one: that stops old primaries. */
  #fence({ handle, version, sync }: Applied, before: number, server: string): void {
    // One that waits for the disk was taken before its answer, perhaps before the promise.
    const promised = sync ? before : this.#promisedBy(server, handle);
    if (version >= promised) return;
    this.#onViolation(
      `${server} applies a mutation of chunk ${handle} v${version} after promising v${promised}`,
    );
  }

  #only(known: Map<string, string>, { handle, version }: Versioned, server: string, what: string): void {
    const chunk = `${handle} v${version}`;
    const before = known.get(chunk) ?? server;
    known.set(chunk, server);
    if (before !== server) this.#onViolation(`chunk ${chunk}: ${what} ${before} and by ${server}`);
  }
}
