/**
 * One clone from beginning to end (docs/decisions/0011): the chunk is made comparable, the destination
 * fetches it, the lease is ended, and what was fetched is adopted if nothing was written since.
 */
import type { Timers } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { AdoptClone, CloneChunk } from '../../protocol/messages/index.js';
import type { ValueOf } from '../../protocol/schema.js';
import { ASK_DEADLINE_MS } from '../asking.js';
import type { Leases } from '../leases.js';
import type { MasterOptions } from '../options.js';
import type { Raiser } from '../raising.js';
import type { Chunkserver, Replica, Replicas } from '../replicas.js';
import type { SentVersions } from '../sent-versions.js';
import type { ChunkState, LoggedState } from '../state.js';

/** The least that a clone gets, whatever its rate. */
const LEAST_DEADLINE_MS = 60_000;
/** Nobody can write meanwhile: what differs by now is little, or another attempt is made. */
const CATCH_UP_DEADLINE_MS = 10_000;
const RAISING_POLL_MS = 10;
const MAX_RAISING_POLLS = 200;

export interface CloneJobParts {
  readonly state: LoggedState;
  readonly replicas: Replicas;
  readonly leases: Leases;
  readonly raiser: Raiser;
  readonly sent: SentVersions;
  readonly timers: Timers;
  readonly options: MasterOptions;
}

type Fetched = ValueOf<typeof CloneChunk.reply>;

export class CloneJob {
  readonly #parts: CloneJobParts;
  readonly handle: number;
  readonly source: Chunkserver;
  readonly target: Chunkserver;

  constructor(parts: CloneJobParts, handle: number, source: Chunkserver, target: Chunkserver) {
    this.#parts = parts;
    this.handle = handle;
    this.source = source;
    this.target = target;
  }

  /**
   * @param isWanted asked before the copy is adopted: it may have become superfluous
   * @returns bytes that crossed the network; the target has a current replica, unless it was not wanted
   * @throws whatever went wrong: try another source or target later
   */
  async run(isWanted: () => boolean): Promise<number> {
    await this.#makeComparable();
    const { version } = this.#chunk();
    const fetched = await this.#fetch(version, this.#deadlineMs());
    const more = await this.#whileNotRaised(() => this.#adopt(version, fetched, isWanted));
    return fetched.fetchedBytes + more;
  }

  /** @throws NO_SUCH_CHUNK */
  #chunk(): ChunkState {
    const chunk = this.#parts.state.chunks.get(this.handle);
    if (chunk === undefined) throw new GfsError('NO_SUCH_CHUNK', `chunk ${this.handle} is gone`);
    return chunk;
  }

  /** A new version, where the holder of the last one cannot be asked, or replicas may differ. */
  async #makeComparable(): Promise<void> {
    const { replicas, raiser, leases } = this.#parts;
    const chunk = this.#chunk();
    // A holder whose own replica was damaged, and deleted, knows nothing of its lease any more.
    const isHolder = ({ chunkserver }: Replica) => chunkserver.server.serverId === chunk.holder;
    const isThere = leases.isHolderHere(chunk) && replicas.readable(chunk).some(isHolder);
    const isOrphaned = chunk.holder !== '' && !isThere;
    const differ = replicas
      .raisable(chunk)
      .some(({ suspect, version }) => suspect || version !== chunk.version);
    if (isOrphaned || differ) await raiser.verify(chunk);
  }

  async #fetch(version: number, deadlineMs: number): Promise<Fetched> {
    const { cloneRateBps, serverRateBps } = this.#parts.options.replication;
    const body = {
      handle: this.handle,
      version,
      source: this.source.server,
      rateBps: cloneRateBps,
      serverRateBps,
    };
    return (await this.target.peer.call(CloneChunk, body, { deadlineMs, priority: 'clone' })).body;
  }

  /** INVARIANT: no lease of the chunk is granted meanwhile. */
  async #adopt(version: number, fetched: Fetched, isWanted: () => boolean): Promise<number> {
    const chunk = this.#chunk();
    if (chunk.version !== version)
      throw new GfsError('STALE_CHUNK_VERSION', `chunk ${this.handle} has version ${chunk.version} by now`);
    let { appliedSerial: serial, lengthBytes } = fetched;
    let more = 0;
    const last = await this.#parts.leases.endByHolder(chunk);
    if (last !== undefined && last !== serial) {
      const caughtUp = await this.#fetch(version, CATCH_UP_DEADLINE_MS);
      serial = caughtUp.appliedSerial;
      lengthBytes = caughtUp.lengthBytes;
      more = caughtUp.fetchedBytes;
      if (serial !== last) this.#differ(last, serial);
    }
    if (!isWanted()) {
      this.target.deletions.add(this.handle);
      return more;
    }
    const adopt = { handle: this.handle, version, appliedSerial: serial };
    await this.target.peer.call(AdoptClone, adopt, { deadlineMs: ASK_DEADLINE_MS });
    // The chunk may have been given up, and the server may be gone, while it was adopted.
    if (!this.#parts.state.chunks.has(this.handle)) this.target.deletions.add(this.handle);
    else if (this.target.alive)
      this.#parts.replicas.put(this.target, this.handle, version, lengthBytes, false);
    return more;
  }

  /** The source is not as the last holder of the lease: the next attempt compares them first. */
  #differ(last: number, serial: number): never {
    this.#parts.replicas.markSuspect(this.source, this.handle);
    throw new GfsError(
      'REPLICA_FAILED',
      `chunk ${this.handle}: ${this.source.server.serverId} applied ${serial}, the holder ${last}`,
    );
  }

  async #whileNotRaised<T>(run: () => Promise<T>): Promise<T> {
    const { sent, timers } = this.#parts;
    for (let polls = 0; sent.raising.has(this.handle); polls++) {
      if (polls === MAX_RAISING_POLLS)
        throw new GfsError('OVERLOADED', `chunk ${this.handle} is being raised all the time`);
      await new Promise<void>((resolve) => void timers.after(RAISING_POLL_MS, resolve));
    }
    sent.raising.add(this.handle);
    try {
      return await run();
    } finally {
      sent.raising.delete(this.handle);
    }
  }

  #deadlineMs(): number {
    const { chunkBytes, replication } = this.#parts.options;
    const { cloneRateBps, serverRateBps, maxClonesPerServer } = replication;
    const slowestMs = Math.max(
      cloneRateBps === 0 ? 0 : (1000 * chunkBytes) / cloneRateBps,
      serverRateBps === 0 ? 0 : (1000 * chunkBytes * maxClonesPerServer) / serverRateBps,
    );
    return Math.ceil(LEAST_DEADLINE_MS + 2 * slowestMs);
  }
}
