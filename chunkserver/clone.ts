/**
 * Cloning a chunk (paper §4.3): straight from a valid replica, every block checked on the way, at a
 * limited rate. The copy is a draft, at version 0 and told to nobody, until the master has it adopted.
 * Asked again, it compares the checksums of all blocks and fetches those that differ: so going on after a
 * broken connection, from another source, or after the source was written meanwhile is one and the same.
 */
import type { Clock, Timers } from '../environment/ports/index.js';
import { checksum } from '../protocol/checksum.js';
import { GfsError } from '../protocol/errors.js';
import { BLOCK_BYTES, SEGMENT_BYTES } from '../protocol/limits.js';
import { AdoptClone, CloneChunk, FetchReplica } from '../protocol/messages/index.js';
import type { Payload } from '../protocol/payload.js';
import type { IncomingRequest, Outcome, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkMaster } from './master-service.js';
import type { Peers } from './peers.js';
import { checksumsOf, decodeChecksums, differingRuns, encodeChecksums, type Vector } from './repair.js';
import type { Chunk } from './store/chunk.js';
import type { Store } from './store/store.js';
import { readVerified } from './store/verified-read.js';
import { Throttle } from './throttle.js';

/** Drafts kept, those included that nobody works on: the oldest of these goes first. */
const MAX_DRAFTS = 256;
/** How often a clone begins again to catch up with a source that is being written. */
const MAX_ROUNDS = 16;
/** A fetch may wait this long for its turn at a source that others clone from too. */
const FETCH_DEADLINE_MS = 60_000;

type CloneBody = ValueOf<typeof CloneChunk.request>;
type CloneReply = ValueOf<typeof CloneChunk.reply>;

export interface ClonerComponents {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly store: Store;
  readonly peers: Peers;
  readonly term: () => number;
  /** Whether the session with the master lives. */
  readonly inTouch: () => boolean;
  readonly onDamage: (handle: number) => void;
}

interface Draft {
  readonly chunk: Chunk;
  /** What it is an exact copy of, once it is. */
  copyOf: { readonly version: number; readonly serial: number; readonly results: Uint8Array } | undefined;
  busy: boolean;
}

/** What a source says of a replica as a whole. */
interface Described {
  readonly vector: Vector;
  readonly serial: number;
  readonly results: Uint8Array;
}

export class Cloner {
  readonly #c: ClonerComponents;
  readonly #sending: Throttle;
  readonly #receiving: Throttle;
  readonly #drafts = new Map<number, Draft>();

  constructor(components: ClonerComponents) {
    this.#c = components;
    this.#sending = new Throttle(components.clock, components.timers);
    this.#receiving = new Throttle(components.clock, components.timers);
  }

  register(service: Service): void {
    service
      .on(FetchReplica, (body) => this.#serve(body))
      .on(CloneChunk, async (body, request) => {
        checkMaster(request, this.#c.term());
        return { body: await this.#clone(body, request) };
      })
      .on(AdoptClone, async (body, request) => {
        checkMaster(request, this.#c.term());
        await this.#adopt(body);
        return { body: {} };
      });
  }

  /** The source's side. */
  async #serve(
    body: ValueOf<typeof FetchReplica.request>,
  ): Promise<Outcome<ValueOf<typeof FetchReplica.reply>>> {
    const { handle, version, offset, length, whole, serverRateBps } = body;
    if (!this.#c.inTouch()) throw new GfsError('UNREACHABLE', 'this chunkserver is cut off from its master');
    const chunk = this.#c.store.get(handle);
    const present = Math.max(0, Math.min(length, chunk.state.length - offset));
    await this.#sending.take(present, serverRateBps);
    try {
      await chunk.directory.load(chunk);
      const { version: own, suspect, serial, length: lengthBytes } = chunk.state;
      if (own !== version || suspect)
        throw new GfsError('STALE_CHUNK_VERSION', `chunk ${handle} has version ${own} here`);
      // Nothing waits between here and the read's own look at the state: all of it is of one moment.
      const described = whole
        ? { checksums: encodeChecksums(chunk), results: chunk.state.results.pack() }
        : {};
      const reply = { lengthBytes, appliedSerial: serial, ...described };
      const read = await readVerified(chunk, offset, length);
      if (read.bytes.byteLength === 0) return { body: reply };
      return { body: reply, payload: { buffers: [read.bytes] }, onSent: read.release };
    } catch (error) {
      if (error instanceof GfsError && error.code === 'CHUNK_CORRUPT') this.#c.onDamage(handle);
      throw error;
    }
  }

  async #clone(body: CloneBody, request: IncomingRequest): Promise<CloneReply> {
    const draft = await this.#draftOf(body.handle);
    draft.busy = true;
    draft.copyOf = undefined;
    try {
      const transfer = new Transfer(this.#c, this.#receiving, draft.chunk, body, request.signal);
      const { serial, results } = await transfer.run();
      draft.copyOf = { version: body.version, serial, results };
      const { lengthBytes, digest } = await this.#c.store.describe(draft.chunk);
      return { lengthBytes, digest, appliedSerial: serial, fetchedBytes: transfer.fetchedBytes };
    } finally {
      draft.busy = false;
    }
  }

  async #draftOf(handle: number): Promise<Draft> {
    if (this.#c.store.find(handle) !== undefined)
      throw new GfsError('EXISTS', `there is a replica of chunk ${handle} already`);
    const begun = this.#drafts.get(handle);
    if (begun?.busy) throw new GfsError('OVERLOADED', `chunk ${handle} is being cloned already`);
    if (begun !== undefined) return begun;
    await this.#makeRoom();
    const draft: Draft = { chunk: await this.#c.store.draft(handle), copyOf: undefined, busy: false };
    const other = this.#drafts.get(handle);
    if (other !== undefined) throw new GfsError('OVERLOADED', `chunk ${handle} is being cloned already`);
    this.#drafts.set(handle, draft);
    return draft;
  }

  /** Drafts that the master gave up without saying so are not kept for ever. */
  async #makeRoom(): Promise<void> {
    if (this.#drafts.size < MAX_DRAFTS) return;
    for (const [handle, { busy }] of this.#drafts) {
      if (!busy) return this.drop(handle);
    }
    throw new GfsError('OVERLOADED', `${MAX_DRAFTS} chunks are being cloned`);
  }

  async #adopt({ handle, version, appliedSerial }: ValueOf<typeof AdoptClone.request>): Promise<void> {
    // Asked again.
    if (this.#c.store.find(handle)?.state.version === version) return;
    const draft = this.#drafts.get(handle);
    const copyOf = draft?.copyOf;
    if (draft === undefined || draft.busy || copyOf?.version !== version || copyOf.serial !== appliedSerial)
      throw new GfsError('NO_SUCH_CHUNK', `no clone of chunk ${handle}, version ${version}`);
    const { chunk } = draft;
    draft.busy = true;
    try {
      await chunk.settle(copyOf.serial, copyOf.results);
      // Before the version: a crash in between leaves a draft, never a replica without its bytes.
      await chunk.flushDirect();
      await chunk.raise(version, undefined);
      await chunk.directory.journal.sync(chunk.state.lsn);
      this.#c.store.reveal(chunk);
      this.#drafts.delete(handle);
    } finally {
      draft.busy = false;
    }
  }

  /** Gives up what was fetched of a chunk so far. */
  async drop(handle: number): Promise<void> {
    const draft = this.#drafts.get(handle);
    if (draft === undefined) return;
    this.#drafts.delete(handle);
    await draft.chunk.directory.remove(draft.chunk);
  }
}

/** One run of fetching. */
class Transfer {
  fetchedBytes = 0;
  readonly #c: ClonerComponents;
  readonly #receiving: Throttle;
  readonly #own: Throttle;
  readonly #chunk: Chunk;
  readonly #body: CloneBody;
  readonly #signal: AbortSignal;

  constructor(
    components: ClonerComponents,
    receiving: Throttle,
    chunk: Chunk,
    body: CloneBody,
    signal: AbortSignal,
  ) {
    this.#c = components;
    this.#receiving = receiving;
    this.#own = new Throttle(components.clock, components.timers);
    this.#chunk = chunk;
    this.#body = body;
    this.#signal = signal;
  }

  /** Returns with the draft equal to the source as it was at one moment. @throws OVERLOADED: it changes too fast */
  async run(): Promise<Described> {
    // A small chunk is here with the first answer.
    let ahead = this.#chunk.state.length === 0 ? SEGMENT_BYTES : 0;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const described = await this.#describe(ahead);
      ahead = 0;
      if (await this.#catchUp(described.vector)) return described;
    }
    throw new GfsError('OVERLOADED', `chunk ${this.#body.handle} changes faster than it can be cloned`);
  }

  async #describe(ahead: number): Promise<Described> {
    const { body, payload } = await this.#fetch(0, ahead, true);
    const { lengthBytes, appliedSerial: serial, checksums, results } = body;
    if (checksums === undefined || results === undefined)
      throw new GfsError('MALFORMED', 'the source told nothing of the chunk as a whole');
    const vector = { lengthBytes, checksums: decodeChecksums(checksums) };
    if (payload !== undefined) await this.#put(vector, 0, payload);
    return { vector, serial, results };
  }

  /** @returns whether the draft is as the vector says; not when the source was changed meanwhile */
  async #catchUp(vector: Vector): Promise<boolean> {
    const { state, directory } = this.#chunk;
    await directory.load(this.#chunk);
    if (state.length > vector.lengthBytes) await this.#chunk.truncate(vector.lengthBytes);
    const own: Vector = { lengthBytes: state.length, checksums: checksumsOf(this.#chunk) };
    for (const { first, count } of differingRuns(vector, own)) {
      const offset = first * BLOCK_BYTES;
      const length = Math.min(count * BLOCK_BYTES, vector.lengthBytes - offset);
      const { payload } = await this.#fetch(offset, length, false);
      if (payload === undefined || !(await this.#put(vector, offset, payload))) return false;
    }
    return state.length === vector.lengthBytes;
  }

  async #fetch(offset: number, length: number, whole: boolean) {
    if (this.#signal.aborted) throw new GfsError('CANCELLED', 'nobody waits for this clone any more');
    const { source, handle, version, rateBps, serverRateBps } = this.#body;
    // How much will come is known when it has: what came before is what this waits for.
    await Promise.all([this.#own.take(0, rateBps), this.#receiving.take(0, serverRateBps)]);
    const request = { handle, version, offset, length, whole, serverRateBps };
    const options = { deadlineMs: FETCH_DEADLINE_MS, priority: 'clone', signal: this.#signal } as const;
    const reply = await this.#c.peers.call(source, FetchReplica, request, options);
    const fetched = reply.payload?.bytes.byteLength ?? 0;
    this.fetchedBytes += fetched;
    this.#own.charge(fetched, rateBps);
    this.#receiving.charge(fetched, serverRateBps);
    return reply;
  }

  /** Keeps bytes that are what the vector says. @returns false, and keeps nothing, when they are not */
  async #put(vector: Vector, offset: number, payload: Payload): Promise<boolean> {
    const { bytes } = payload;
    let kept = false;
    try {
      if (offset + bytes.byteLength > vector.lengthBytes || !matches(vector, offset, bytes)) return false;
      const admission = this.#chunk.directory.admission(bytes.byteLength);
      if (admission !== undefined) await admission;
      kept = await this.#chunk.mutate({ kind: 'write', offset, bytes, session: 0, sequence: 0 });
      return true;
    } finally {
      if (!kept) payload.release();
    }
  }
}

/** Whether every block in `bytes`, which begin with one, has its checksum. */
function matches({ checksums, lengthBytes }: Vector, offset: number, bytes: Buffer): boolean {
  for (let at = 0; at < bytes.byteLength; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const isWhole = block.byteLength === BLOCK_BYTES || offset + at + block.byteLength === lengthBytes;
    if (!isWhole || checksum(block) !== checksums[(offset + at) / BLOCK_BYTES]) return false;
  }
  return true;
}
