/** A chunkserver that holds no bytes: versions, lengths, leases, and a record of what it was asked. */

import { GfsError } from '../../protocol/errors.js';
import * as m from '../../protocol/messages/index.js';
import type { Peer } from '../../protocol/peer.js';
import { type CallOptions, type Method, Service } from '../../protocol/rpc.js';
import type { FakeProcess } from '../fakes/host.js';
import type { SimulatedWorld } from '../fakes/index.js';
import { connect } from './support.js';

export interface HeldChunk {
  version: number;
  lengthBytes: number;
  digest: number;
  appliedSerial: number;
  suspect: boolean;
  /** Set while it is primary. */
  lease: { secondaries: string[] } | undefined;
}

const GIGABYTE = 1024 ** 3;

export class TestChunkserver {
  readonly world: SimulatedWorld;
  readonly serverId: string;
  readonly chunks: Map<number, HeldChunk>;
  readonly asked: string[] = [];
  /** Clones that were not adopted. */
  readonly drafts = new Map<number, HeldChunk>();
  /** The limits that came with each clone. */
  readonly rates: { rateBps: number; serverRateBps: number }[] = [];
  readonly adopted: { handle: number; atMs: number }[] = [];
  /** How long it takes to tell its chunks. */
  reportMs = 0;
  /** How long a clone takes. */
  cloneMs = 5;
  /** Clones under way here, and the most there were. */
  cloning = 0;
  mostCloning = 0;
  /** Called in the middle of a clone, at its destination. */
  onClone: (handle: number) => void = () => undefined;
  /** Methods that fail, with what. */
  readonly failing = new Map<string, GfsError>();
  location: m.Location | undefined;
  rack: string | undefined;
  availableBytes = 100 * GIGABYTE;
  /** What it says of mutations under leases that are revoked: whether all replicas applied them. */
  agreed = true;
  process: FakeProcess;
  peer!: Peer;

  constructor(world: SimulatedWorld, serverId: string, chunks = new Map<number, HeldChunk>()) {
    this.world = world;
    this.serverId = serverId;
    this.chunks = chunks;
    this.process = world.process(serverId);
  }

  static async start(
    world: SimulatedWorld,
    serverId: string,
    set: Partial<TestChunkserver> = {},
  ): Promise<TestChunkserver> {
    const chunkserver = Object.assign(new TestChunkserver(world, serverId), set);
    await chunkserver.register();
    return chunkserver;
  }

  get space(): m.Space {
    let availableBytes = this.availableBytes;
    for (const { lengthBytes } of this.chunks.values()) availableBytes -= lengthBytes;
    const totalBytes = 100 * GIGABYTE;
    return { totalBytes, availableBytes, usedBytes: totalBytes - availableBytes };
  }

  async register(): Promise<void> {
    this.peer = await connect(
      this.world,
      this.process.environment,
      'chunkserver',
      this.serverId,
      this.#service(),
    );
    await this.call(m.RegisterChunkserver, {
      server: { serverId: this.serverId, host: this.serverId, port: 1 },
      bootId: 1,
      space: this.space,
      ...(this.location === undefined ? {} : { location: this.location }),
      ...(this.rack === undefined ? {} : { rack: this.rack }),
    });
    const { peer } = this;
    directory.set(`${this.world.seed} ${this.serverId}`, this);
    this.process.environment.timers.every(500, () => {
      if (!peer.closed) peer.call(m.RenewChunkserver, {}).catch(() => undefined);
    });
    const chunks = [...this.chunks].map(([handle, { version, lengthBytes, suspect, lease }]) => ({
      handle,
      version,
      lengthBytes,
      suspect,
      leaseMs: lease === undefined ? 0 : 30_000,
    }));
    if (this.reportMs > 0) await this.world.runFor(this.reportMs);
    await this.call(m.ReportChunks, { chunks, last: true });
  }

  /** kill -9 of the process; its chunks stay. */
  crash(): void {
    this.process.crash();
  }

  async restart(): Promise<void> {
    this.process = this.world.host(this.serverId).start(this.serverId);
    for (const chunk of this.chunks.values()) chunk.lease = undefined;
    await this.register();
  }

  call<Q, R>(method: Method<Q, R>, body: Q, options: CallOptions = {}): Promise<R> {
    return this.world.until(this.peer.call(method, body, options).then((reply) => reply.body));
  }

  heartbeat(extend: { handle: number; version: number }[] = []): Promise<{
    extended: { handle: number; remainingMs: number }[];
    drop: number[];
  }> {
    const chunks = [...this.chunks].map(([handle, { version }]) => ({ handle, version }));
    return this.call(m.Heartbeat, { space: this.space, load: 0, extend, chunks });
  }

  #service(): Service {
    return new Service()
      .on(m.PrepareVersion, ({ handle, version, create, truncateTo, lease }) => {
        this.#note('prepare', handle, version);
        let chunk = this.chunks.get(handle);
        if (create) {
          if (chunk !== undefined) throw new GfsError('INVALID', 'it is there');
          chunk = { version, lengthBytes: 0, digest: 0, appliedSerial: 0, suspect: false, lease: undefined };
          this.chunks.set(handle, chunk);
        }
        if (chunk === undefined) throw new GfsError('NO_SUCH_CHUNK');
        if (chunk.version > version) throw new GfsError('STALE_CHUNK_VERSION');
        chunk.version = version;
        if (truncateTo !== undefined) chunk.lengthBytes = Math.min(chunk.lengthBytes, truncateTo);
        chunk.lease =
          lease === undefined
            ? undefined
            : { secondaries: lease.secondaries.map(({ serverId }) => serverId) };
        return { body: answer(chunk) };
      })
      .on(m.MakeChunks, ({ handles, leased, terms }) => {
        this.#note('make', handles.length, leased.length);
        const secondaries = terms.secondaries.map(({ serverId }) => serverId);
        for (const handle of handles) {
          this.#note('prepare', handle, 1);
          if (this.chunks.has(handle)) throw new GfsError('INVALID', 'it is there');
          const lease = leased.includes(handle) ? { secondaries } : undefined;
          this.chunks.set(handle, {
            ...{ version: 1, lengthBytes: 0, digest: 0, appliedSerial: 0, suspect: false },
            lease,
          });
        }
        return { body: {} };
      })
      .on(m.CopyChunk, ({ source, sourceVersion, handle, version, truncateTo, lease }) => {
        this.#note('copy', source, sourceVersion);
        const from = this.chunks.get(source);
        if (from === undefined) throw new GfsError('NO_SUCH_CHUNK');
        const lengthBytes = Math.min(from.lengthBytes, truncateTo ?? from.lengthBytes);
        const secondaries = lease?.secondaries.map(({ serverId }) => serverId);
        const copy = { ...from, version, lengthBytes, lease: secondaries && { secondaries } };
        this.chunks.set(handle, copy);
        return { body: answer(copy) };
      })
      .on(m.CloneChunk, async ({ handle, version, source, rateBps, serverRateBps }) => {
        this.#note('clone', handle, version);
        this.rates.push({ rateBps, serverRateBps });
        const from = directory.get(`${this.world.seed} ${source.serverId}`)?.chunks.get(handle);
        if (this.chunks.has(handle)) throw new GfsError('EXISTS');
        if (from === undefined) throw new GfsError('NO_SUCH_CHUNK');
        if (from.version !== version) throw new GfsError('STALE_CHUNK_VERSION');
        const draft = { ...from, lease: undefined };
        this.mostCloning = Math.max(this.mostCloning, ++this.cloning);
        const { timers } = this.process.environment;
        await new Promise<void>((resolve) => void timers.after(this.cloneMs, resolve));
        this.cloning--;
        this.onClone(handle);
        this.drafts.set(handle, draft);
        return { body: { ...answer(draft), fetchedBytes: draft.lengthBytes } };
      })
      .on(m.AdoptClone, ({ handle, version, appliedSerial }) => {
        this.#note('adopt', handle, version);
        const draft = this.drafts.get(handle);
        if (draft === undefined || draft.version !== version || draft.appliedSerial !== appliedSerial)
          throw new GfsError('NO_SUCH_CHUNK');
        this.drafts.delete(handle);
        this.adopted.push({ handle, atMs: this.process.environment.clock.monotonicMs() });
        this.chunks.set(handle, draft);
        return { body: {} };
      })
      .on(m.RevokeLease, ({ handle, version }) => {
        this.#note('revoke', handle, version);
        const chunk = this.chunks.get(handle);
        if (chunk === undefined) throw new GfsError('NO_SUCH_CHUNK');
        if (chunk.version > version) throw new GfsError('STALE_CHUNK_VERSION');
        chunk.lease = undefined;
        const { lengthBytes, appliedSerial } = chunk;
        return { body: { lengthBytes, appliedSerial, agreed: this.agreed } };
      })
      .on(m.RepairReplicas, ({ handle, version, secondaries }) => {
        this.#note('repair', handle, version);
        const mine = this.chunks.get(handle) as HeldChunk;
        for (const { serverId } of secondaries) {
          const theirs = directory.get(`${this.world.seed} ${serverId}`)?.chunks.get(handle);
          if (theirs !== undefined) Object.assign(theirs, { ...mine, lease: theirs.lease });
        }
        mine.suspect = false;
        return { body: {} };
      })
      .on(m.DeleteChunks, ({ handles }) => {
        for (const handle of handles) {
          this.#note('delete', handle, 0);
          this.chunks.delete(handle);
          this.drafts.delete(handle);
        }
        return { body: {} };
      });
  }

  #note(what: string, handle: number, version: number): void {
    this.asked.push(`${what} ${handle} ${version}`);
    const error = this.failing.get(what);
    if (error !== undefined) throw error;
  }
}

/** Where a repair finds the others: there is no data path here. */
const directory = new Map<string, TestChunkserver>();

function answer({ lengthBytes, digest, appliedSerial, suspect }: HeldChunk) {
  return { lengthBytes, digest, appliedSerial, suspect };
}
