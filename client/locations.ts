/**
 * What the client knows of where chunks are, for a while (paper §2.3, §2.4): locations for reading,
 * leases for writing. An entry goes when its time is over, when the file is reopened, when a server
 * answers NOT_PRIMARY or STALE_CHUNK_VERSION or does not answer, when the master says that the file was
 * changed elsewhere, and when this client has changed which chunks it has.
 */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../environment/ports/index.js';
import {
  type Attributes,
  type Chunk,
  GetChunks,
  GetFirstChunks,
  GetLease,
  type Lease,
  Promised,
  type Server,
} from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { CacheLimits } from './cache-limits.js';
import type { CallContext, Deadline } from './retry.js';
import type { MasterSession } from './session.js';
import { S_IFMT, S_IFREG } from './stat.js';

/** Asked for at once; the master adds those that follow. */
const PREFETCH_CHUNKS = 8;
/** A lease is not used in its last moments: the request would arrive after its end. */
const LEASE_MARGIN_MS = 1_000;

interface HeldLease {
  readonly lease: Lease;
  readonly expiresAtMs: number;
  /** One of its servers has failed since: it is asked for anew before it is used. */
  readonly failed?: string;
}

interface FileLocations {
  readonly chunks: Map<number, Chunk>;
  readonly leases: Map<number, HeldLease>;
  /** Requests under way, so that many readers of one chunk ask once. */
  readonly asking: Map<number, Promise<Chunk>>;
  readonly granting: Map<number, Promise<Lease>>;
  /** Of `chunks` some came with a lease: nobody tells when they change. */
  hasUnpromised: boolean;
}

type Located = Pick<ValueOf<typeof GetChunks.reply>, 'chunks' | 'promised'>;

/** Who knows which files may be read next. */
export interface ReadNext {
  /** Where a file is had to be asked for. @returns those that may be read after it, if they are wanted */
  after(id: number, isWanted: (attributes: Attributes) => boolean): number[];
  /** Where a file is was known when it was asked for. */
  used(id: number): void;
  /** Where some that may be read next are is known now. */
  located(files: readonly { readonly id: number; readonly chunk: Chunk }[]): void;
}

const NOTHING_NEXT: ReadNext = { after: () => [], used: () => undefined, located: () => undefined };

export class Locations {
  readonly #session: MasterSession;
  readonly #clock: Clock;
  readonly #readNext: ReadNext;
  readonly #files: LRUCache<number, FileLocations>;
  readonly #maxChunks: number;
  /** Files that changed elsewhere, the last ones, and when on the count of such changes. */
  readonly #changed: LRUCache<number, number>;
  /** Files of which the places are on their way, asked for with others. */
  readonly #coming = new Map<number, Promise<void>>();
  #changes = 0;
  /** Of files that are no longer among them: none changed later. */
  #changesForgotten = 0;

  constructor(
    session: MasterSession,
    clock: Clock,
    ttlMs: number,
    limits: CacheLimits,
    readNext: ReadNext = NOTHING_NEXT,
  ) {
    this.#readNext = readNext;
    this.#session = session;
    this.#clock = clock;
    this.#maxChunks = limits.chunksOfFile;
    this.#changed = new LRUCache({
      max: limits.locatedFiles,
      dispose: (change, _id, reason) => {
        if (reason === 'evict') this.#changesForgotten = Math.max(this.#changesForgotten, change);
      },
    });
    // Without a resolution: with one it would read the clock only as often as a timer of its own lets it.
    const perf = { now: () => clock.monotonicMs() };
    this.#files = new LRUCache({ max: limits.locatedFiles, ttl: ttlMs, ttlResolution: 0, perf });
  }

  /** Files of which something is known. */
  get size(): number {
    return this.#files.size;
  }

  /** Where chunk `index` of file `id` is; handle 0 where the file has none. */
  async chunk(id: number, index: number, context: CallContext, deadline: Deadline): Promise<Chunk> {
    const file = this.#of(id);
    if (index === 0) {
      const coming = this.#coming.get(id);
      if (coming !== undefined) await coming;
      this.#readNext.used(id);
    }
    const known = file.chunks.get(index);
    if (known !== undefined) return known;
    const underWay = file.asking.get(index);
    if (underWay !== undefined) return underWay;
    const asked = this.#ask(id, index, context, deadline);
    file.asking.set(index, asked);
    try {
      return await asked;
    } finally {
      file.asking.delete(index);
    }
  }

  /**
   * Forgets what is known of a file and asks for its first chunks (paper §2.3: until the file is
   * reopened). @returns the file's length and data version
   */
  async reopen(
    id: number,
    context: CallContext,
    deadline: Deadline,
  ): Promise<{ size: number; dataVersion: number; attributes?: Attributes; promised: number }> {
    this.#files.delete(id);
    const generation = this.#generationOf(id);
    const reply = await this.#session.query(
      GetChunks,
      { id, index: 0, count: PREFETCH_CHUNKS },
      context,
      deadline,
    );
    this.#keep(id, generation, reply);
    const { size, dataVersion = 0, attributes, promised = 0 } = reply;
    return { size, dataVersion, promised, ...(attributes === undefined ? {} : { attributes }) };
  }

  /** Its chunks have changed elsewhere. Leases are good as long as their version is. */
  noteChangedElsewhere(id: number): void {
    this.#changed.set(id, ++this.#changes);
    const file = this.#files.get(id);
    if (file === undefined) return;
    file.chunks.clear();
    file.hasUnpromised = false;
  }

  /** It is not known whether somebody else has changed it since its leases were had. */
  forgetUnpromised(id: number): void {
    if (this.#files.get(id)?.hasUnpromised === true) this.noteChangedElsewhere(id);
  }

  /** When it last changed elsewhere, so that an answer is known to be older than that. */
  #generationOf(id: number): number {
    return this.#changed.get(id) ?? this.#changesForgotten;
  }

  /** Keeps locations, unless they are old already or nobody would tell when they are. */
  #keep(id: number, generation: number, { chunks, promised = 0 }: Located): void {
    if (this.#generationOf(id) !== generation) return;
    if (this.#session.caches && (promised & Promised.ATTRIBUTES) === 0) return;
    const file = this.#of(id);
    for (const chunk of chunks) if (chunk.handle !== 0) this.#remember(file.chunks, chunk.index, chunk);
  }

  /**
   * The lease of chunk `index`, granted if nobody holds it.
   * @param failed servers that did not do what the lease that was dropped promised
   */
  async lease(
    id: number,
    index: number,
    context: CallContext,
    deadline: Deadline,
    failed: { readonly version: number; readonly servers: readonly string[] } = { version: 0, servers: [] },
  ): Promise<Lease> {
    const file = this.#of(id);
    const held = file.leases.get(index);
    let known = failed;
    if (held !== undefined) {
      if (held.failed === undefined && held.expiresAtMs > this.#clock.monotonicMs()) return held.lease;
      file.leases.delete(index);
      if (held.failed !== undefined) known = { version: held.lease.version, servers: [held.failed] };
    }
    const underWay = file.granting.get(index);
    if (underWay !== undefined) return underWay;
    const granted = this.#requestLease(id, index, context, deadline, known);
    file.granting.set(index, granted);
    try {
      return await granted;
    } finally {
      file.granting.delete(index);
    }
  }

  /** A lease that came with another answer. @param askedAtMs when that was asked for */
  keepLease(id: number, lease: Lease, askedAtMs: number): void {
    // Counted from before the question, so that ours ends first.
    const expiresAtMs = askedAtMs + lease.remainingMs - LEASE_MARGIN_MS;
    const file = this.#of(id);
    file.hasUnpromised = true;
    this.#remember(file.leases, lease.index, { lease, expiresAtMs });
    this.#remember(file.chunks, lease.index, {
      index: lease.index,
      handle: lease.handle,
      version: lease.version,
      validBytes: this.#session.chunkBytes,
      replicas: [lease.primary, ...lease.secondaries],
    });
  }

  /** Everything that is known of a file is doubtful. */
  drop(id: number): void {
    this.#changed.set(id, ++this.#changes);
    this.#files.delete(id);
  }

  dropChunk(id: number, index: number): void {
    this.#files.get(id)?.chunks.delete(index);
  }

  /** Drops a lease that has proved wrong, unless a newer one has come in its place. */
  dropLease(id: number, lease: Lease): void {
    const file = this.#files.get(id);
    if (file?.leases.get(lease.index)?.lease.version === lease.version) file.leases.delete(lease.index);
  }

  /**
   * A server hangs or is gone: what names it is not used as it is. The next one to need such a lease tells
   * the master, which by then knows it too, or finds out.
   */
  distrust(serverId: string): void {
    for (const { chunks, leases } of this.#files.values()) {
      for (const [index, { replicas }] of chunks) if (names(replicas, serverId)) chunks.delete(index);
      for (const [index, held] of leases) {
        const { primary, secondaries } = held.lease;
        if (names([primary, ...secondaries], serverId)) leases.set(index, { ...held, failed: serverId });
      }
    }
  }

  /** The session is lost: nobody tells of changes any more. Leases end by themselves. */
  forgetPromises(): void {
    for (const id of [...this.#files.keys()]) this.noteChangedElsewhere(id);
  }

  dropAll(): void {
    this.#files.clear();
  }

  #of(id: number): FileLocations {
    let file = this.#files.get(id);
    if (file === undefined) {
      const [chunks, leases, asking, granting] = [new Map(), new Map(), new Map(), new Map()];
      file = { chunks, leases, asking, granting, hasUnpromised: false };
      this.#files.set(id, file);
    }
    return file;
  }

  /** Keeps the map within its bound by forgetting what was learnt first. */
  #remember<V>(map: Map<number, V>, index: number, value: V): void {
    map.delete(index);
    map.set(index, value);
    if (map.size > this.#maxChunks) map.delete(map.keys().next().value as number);
  }

  async #ask(id: number, index: number, context: CallContext, deadline: Deadline): Promise<Chunk> {
    const request = { id, index, count: PREFETCH_CHUNKS };
    // Shared by all who wait for it: one caller's interruption must not fail the others.
    const shared = { ...context, signal: undefined };
    if (index === 0 && this.#session.caches) this.#askNext(id, shared, deadline);
    const generation = this.#generationOf(id);
    const reply = await this.#session.query(GetChunks, request, shared, deadline);
    this.#keep(id, generation, reply);
    const wanted = reply.chunks.find((chunk) => chunk.index === index);
    return wanted ?? { index, handle: 0, version: 0, validBytes: 0, replicas: [] };
  }

  /** Small files that may be read next are asked for in one message. Nobody waits for it. */
  #askNext(id: number, context: CallContext, deadline: Deadline): void {
    const { chunkBytes } = this.#session;
    const ids = this.#readNext.after(
      id,
      (file) =>
        (file.mode & S_IFMT) === S_IFREG &&
        file.size > 0 &&
        file.size <= chunkBytes &&
        !this.#files.has(file.id) &&
        !this.#coming.has(file.id),
    );
    if (ids.length === 0) return;
    const generations = new Map(ids.map((each) => [each, this.#generationOf(each)]));
    const coming = this.#session.query(GetFirstChunks, { ids }, context, deadline).then(
      ({ files }) => this.#keepFirst(files, generations),
      // Each of them is asked for when it is read.
      () => undefined,
    );
    const over = coming.finally(() => {
      for (const each of ids) this.#coming.delete(each);
    });
    for (const each of ids) this.#coming.set(each, over);
  }

  #keepFirst(
    files: ValueOf<typeof GetFirstChunks.reply>['files'],
    generations: ReadonlyMap<number, number>,
  ): void {
    const located = files.filter(({ id, chunk }) => {
      const generation = generations.get(id);
      const file = this.#files.peek(id);
      // Written to from here meanwhile: what the lease said is newer.
      if (generation === undefined || (file !== undefined && file.leases.size + file.granting.size > 0))
        return false;
      this.#keep(id, generation, { chunks: [chunk], promised: Promised.ATTRIBUTES });
      return this.#files.peek(id)?.chunks.get(0) === chunk;
    });
    this.#readNext.located(located);
  }

  async #requestLease(
    id: number,
    index: number,
    context: CallContext,
    deadline: Deadline,
    failed: { readonly version: number; readonly servers: readonly string[] },
  ): Promise<Lease> {
    const request = { id, index, version: failed.version, failed: [...failed.servers] };
    const askedAtMs = this.#clock.monotonicMs();
    const { lease } = await this.#session.mutate(
      GetLease,
      request,
      { ...context, signal: undefined },
      deadline,
    );
    this.keepLease(id, lease, askedAtMs);
    return lease;
  }
}

function names(servers: readonly Server[], serverId: string): boolean {
  return servers.some((server) => server.serverId === serverId);
}
