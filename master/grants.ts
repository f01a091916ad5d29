/**
 * Granting leases (paper §3.1, §3.4, §4.5): every replica acknowledges the new version, then version
 * and holder are logged, then the client hears. A fresh chunk is made, a shared one is copied first.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES } from '../protocol/limits.js';
import { CopyChunk, type DropSecondary, type GetLease, type Lease } from '../protocol/messages/index.js';
import type { LogEvent } from '../protocol/records.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Allocator } from './allocator.js';
import { type Answers, ASK_DEADLINE_MS, areEqual, askAll, serversOf, termsFor } from './asking.js';
import { checkRegular } from './attributes.js';
import type { ChunkPool, FreshChunk } from './chunk-pool.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Goals } from './goals.js';
import { OWN } from './journal.js';
import type { Leases, UsableLease } from './leases.js';
import { type LockManager, LockSet } from './locks.js';
import type { Mutations } from './mutations.js';
import type { MasterOptions } from './options.js';
import type { Raiser } from './raising.js';
import type { Chunkserver, Replicas } from './replicas.js';
import { findNode, lockNode } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

const MAX_ATTEMPTS = 3;
/** A grant is shared by all who wait for it: no one of them can cancel it. */
export const UNINTERRUPTED: AbortSignal = new AbortController().signal;

export interface GrantParts {
  readonly state: LoggedState;
  readonly mutations: Mutations;
  readonly allocator: Allocator;
  readonly chunkservers: ChunkserverTable;
  readonly replicas: Replicas;
  readonly leases: Leases;
  readonly raiser: Raiser;
  readonly pool: ChunkPool;
  readonly goals: Goals;
  /** By file id: read while a lease is being granted, write while none may be (truncation, snapshot). */
  readonly gates: LockManager;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly options: MasterOptions;
}

interface Place {
  readonly file: Node;
  readonly index: number;
}

/** What was agreed with the servers and is now to be logged. */
interface Agreement {
  readonly handle: number;
  readonly version: number;
  readonly primary: Chunkserver;
  readonly members: readonly Chunkserver[];
  readonly sentAtMs: number;
}

export class Grants {
  readonly #parts: GrantParts;
  /** Grants under way, by file and index: who asks meanwhile gets the same answer. */
  readonly #running = new Map<string, Promise<Lease>>();

  constructor(parts: GrantParts) {
    this.#parts = parts;
  }

  /**
   * The lease of one chunk, granted if nobody holds it.
   * @throws NOT_READY, NO_CHUNKSERVERS, NO_SPACE, CHUNK_UNAVAILABLE, STALE_NODE, FILE_TOO_BIG, …
   */
  async lease(body: ValueOf<typeof GetLease.request>, near: Chunkserver['location']): Promise<Lease> {
    const key = `${body.id}:${body.index}`;
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const usable = this.#usable(body);
    if (usable !== undefined) return this.#describe(body.index, usable);
    if (!this.#parts.chunkservers.ready) throw new GfsError('NOT_READY', 'not all chunkservers are back');
    const granting = this.#grant(body, near);
    this.#running.set(key, granting);
    try {
      const lease = await granting;
      this.#parts.chunkservers.reports.noteLogged(lease.handle);
      return lease;
    } finally {
      this.#running.delete(key);
    }
  }

  /**
   * A primary says that secondaries fail it: a new lease is granted, without those that say nothing (a
   * server that refused has only to be made equal again). Who waits for a lease of the chunk gets the same.
   * @throws NOT_PRIMARY: the lease is over, or another's; STALE_CHUNK_VERSION: the file has another chunk now
   */
  async dropSecondary(
    { handle, version, failed }: ValueOf<typeof DropSecondary.request>,
    from: Chunkserver,
  ): Promise<ValueOf<typeof DropSecondary.reply>> {
    const { leases, raiser } = this.#parts;
    const lease = leases.find(handle);
    if (lease?.place === undefined || lease.primary !== from || lease.version < version)
      throw new GfsError('NOT_PRIMARY', `chunk ${handle}`);
    for (const { serverId, silent } of failed) if (silent) raiser.strike(handle, serverId);
    const names = failed.map(({ serverId }) => serverId);
    const next = await this.lease({ ...lease.place, version, failed: names }, from.location);
    if (next.handle !== handle) throw new GfsError('STALE_CHUNK_VERSION', `chunk ${handle} was copied`);
    return { primary: next.primary.serverId, version: next.version };
  }

  /** A running lease, unless the client says that this very one failed it. */
  #usable({ id, index, version }: ValueOf<typeof GetLease.request>): UsableLease | undefined {
    const { state, leases } = this.#parts;
    const file = findNode(state, id);
    checkRegular(file);
    const chunk = state.chunks.get(file.chunks?.get(index) ?? 0);
    if (chunk === undefined || chunk.references > 1) return undefined;
    if (file.chunks?.pendingTruncation(index) !== undefined) return undefined;
    const lease = leases.usable(chunk);
    return lease !== undefined && version < lease.version ? lease : undefined;
  }

  #describe(index: number, lease: UsableLease): Lease {
    return {
      index,
      handle: lease.handle,
      version: lease.version,
      primary: lease.primary.server,
      secondaries: serversOf(lease.secondaries),
      remainingMs: Math.max(0, Math.floor(lease.safeUntilMs - this.#parts.clock.monotonicMs())),
    };
  }

  async #grant(body: ValueOf<typeof GetLease.request>, near: Chunkserver['location']): Promise<Lease> {
    const { state, gates, options } = this.#parts;
    if ((body.index + 1) * options.chunkBytes > MAX_FILE_BYTES) throw new GfsError('FILE_TOO_BIG');
    const gate = new LockSet();
    gate.addNode(body.id, false);
    const held = await gates.acquire(gate, () => UNINTERRUPTED);
    try {
      const file = findNode(state, body.id);
      checkRegular(file);
      const place = { file, index: body.index };
      const chunk = state.chunks.get(file.chunks?.get(body.index) ?? 0);
      if (chunk === undefined) return await this.#fresh(place, near);
      if (chunk.references > 1) return await this.#copy(place, chunk);
      return await this.#raise(place, chunk, body.failed);
    } finally {
      held.release();
    }
  }

  /** A chunk that the file has not had so far, from the pool of those made ahead or made now. */
  async #fresh(place: Place, near: Chunkserver['location']): Promise<Lease> {
    const { pool, options, chunkservers, goals } = this.#parts;
    if (chunkservers.gathering) throw new GfsError('NOT_READY', 'chunkservers are still coming in');
    const goal = goals.of(place.file.id);
    const pooled = goal === options.goal ? pool.take(near) : undefined;
    const made = pooled ?? (await this.#make(near, goal));
    try {
      return await this.#conclude(place, made, {
        type: 'chunkAdded',
        id: place.file.id,
        index: place.index,
        handle: made.handle,
        version: made.version,
        goal,
        ...this.#holder(made),
      });
    } finally {
      pool.settled(made.handle);
    }
  }

  /** Makes a chunk on servers that are chosen for it; with other servers, or fewer, where one fails. */
  async #make(near: Chunkserver['location'], goal: number): Promise<Agreement> {
    const { pool, chunkservers } = this.#parts;
    const failures = new Map<Chunkserver, GfsError>();
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const left = chunkservers.active.some((chunkserver) => !failures.has(chunkserver));
      if (failures.size > 0 && !left) break;
      const { made, failed } = await pool.make(near, new Set(failures.keys()), goal);
      if (made !== undefined) return made;
      for (const [chunkserver, error] of failed) failures.set(chunkserver, error);
    }
    throw worst(failures);
  }

  /** Copy on write: on the servers that have the chunk, by a local copy (paper §3.4). */
  async #copy(place: Place, source: ChunkState): Promise<Lease> {
    const { raiser, replicas, allocator, pool } = this.#parts;
    const exclude = new Set<Chunkserver>();
    for (let attempt = 1; ; attempt++) {
      if (replicas.readable(source).length === 0) await raiser.verify(source);
      raiser.awaitReplicas(source, replicas.readable(source).length);
      const members = replicas
        .readable(source)
        .flatMap(({ chunkserver }) => (exclude.has(chunkserver) ? [] : [chunkserver]));
      if (members.length === 0) throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${source.handle}`);
      const handle = await allocator.handle();
      pool.reserve(handle, members);
      try {
        const primary = raiser.choosePrimary(members, source.holder);
        const sentAtMs = this.#parts.clock.monotonicMs();
        const answers = await this.#askCopies(place, source, handle, primary, members);
        const agreement = { handle, version: 1, primary, members, sentAtMs };
        if (answers.failed.size === 0 && (await this.#madeEqual(agreement, answers))) {
          return await this.#conclude(place, agreement, {
            type: 'chunkCopied',
            id: place.file.id,
            index: place.index,
            source: source.handle,
            handle,
            version: 1,
            ...this.#holder(agreement),
          });
        }
        // Whoever failed may have the copy or not: it is given up, and another handle is tried without them.
        for (const [chunkserver] of answers.failed) exclude.add(chunkserver);
        if (attempt === MAX_ATTEMPTS) throw worst(answers.failed);
      } finally {
        pool.settled(handle);
      }
    }
  }

  #askCopies(
    { file, index }: Place,
    source: ChunkState,
    handle: number,
    primary: Chunkserver,
    members: readonly Chunkserver[],
  ): Promise<Answers> {
    const { options } = this.#parts;
    const truncateTo = file.chunks?.pendingTruncation(index);
    const fields = {
      source: source.handle,
      sourceVersion: source.version,
      handle,
      version: 1,
      ...(truncateTo === undefined ? {} : { truncateTo }),
    };
    return askAll(members, (chunkserver) =>
      chunkserver.peer.call(
        CopyChunk,
        { ...fields, ...termsFor(chunkserver, primary, members, options.leaseDurationMs) },
        { deadlineMs: ASK_DEADLINE_MS + copyTimeMs(options.chunkBytes) },
      ),
    );
  }

  async #madeEqual({ handle, version, primary, members }: Agreement, answers: Answers): Promise<boolean> {
    if (areEqual(answers.acknowledged.values())) return true;
    return this.#parts.raiser.repair(handle, version, primary, members);
  }

  /** The next version of a chunk that this file alone has. */
  async #raise(place: Place, chunk: ChunkState, failed: readonly string[]): Promise<Lease> {
    const truncateTo = place.file.chunks?.pendingTruncation(place.index);
    const agreement = await this.#parts.raiser.raise(chunk, truncateTo, failed);
    let logged = false;
    try {
      const lease = await this.#conclude(place, agreement, {
        type: 'leaseGranted',
        id: place.file.id,
        index: place.index,
        handle: chunk.handle,
        version: agreement.version,
        ...this.#holder(agreement),
      });
      logged = true;
      return lease;
    } finally {
      agreement.done(logged);
    }
  }

  #holder({ primary, members }: Agreement): { holder: string; durationMs: number; replicas: number } {
    const { leaseDurationMs } = this.#parts.options;
    return { holder: primary.server.serverId, durationMs: leaseDurationMs, replicas: members.length };
  }

  /** Logs what was agreed, and tells the client. INVARIANT: the file's gate is held. */
  async #conclude(place: Place, agreement: Agreement, event: LogEvent): Promise<Lease> {
    const { state, mutations } = this.#parts;
    const plan = {
      locks: () => {
        const set = new LockSet();
        lockNode(state, set, findNode(state, place.file.id));
        return set;
      },
      validate: () => ({ event }),
    };
    await mutations.run(plan, OWN, () => UNINTERRUPTED);
    return this.#begin(place.file.id, place.index, agreement);
  }

  /** A fresh chunk with its lease, if one was made ahead: for a file that is made now in `directory`. It has to be settled. */
  takeFresh(directory: number, near: Chunkserver['location']): FreshChunk | undefined {
    const { pool, chunkservers, goals, options } = this.#parts;
    if (!chunkservers.ready || chunkservers.gathering) return undefined;
    return goals.of(directory) === options.goal ? pool.take(near) : undefined;
  }

  /** How the log tells of a fresh chunk. */
  describeFresh(fresh: FreshChunk) {
    const { handle, version } = fresh;
    return { handle, version, goal: this.#parts.options.goal, ...this.#holder(fresh) };
  }

  /** A file has been logged with a fresh chunk. */
  beginFresh(id: number, fresh: FreshChunk): Lease {
    const lease = this.#begin(id, 0, fresh);
    this.#parts.chunkservers.reports.noteLogged(lease.handle);
    return lease;
  }

  /** It is in the log now, or given up. */
  settleFresh({ handle }: FreshChunk): void {
    this.#parts.pool.settled(handle);
  }

  /** What was agreed is logged: the lease runs. */
  #begin(id: number, index: number, agreement: Agreement): Lease {
    const { replicas, leases, options } = this.#parts;
    const { handle, version, primary, members, sentAtMs } = agreement;
    const length = replicas.live(handle)[0]?.lengthBytes ?? 0;
    replicas.noteEqual(
      members.filter(({ alive }) => alive),
      handle,
      version,
      length,
    );
    const secondaries = members.filter((member) => member !== primary);
    const lease = leases.start(handle, version, primary, secondaries, sentAtMs, options.leaseDurationMs, {
      id,
      index,
    });
    return this.#describe(index, lease);
  }
}

/** What to tell a client whose chunk nobody could take. */
function worst(failed: ReadonlyMap<Chunkserver, GfsError>): GfsError {
  const errors = [...failed.values()];
  if (errors.length > 0 && errors.every(({ code }) => code === 'NO_SPACE')) return errors[0] as GfsError;
  return new GfsError('CHUNK_UNAVAILABLE', errors[0]?.message ?? 'no chunkserver took it');
}

/** Generous: a slow disk copies 64 MiB in this time. */
function copyTimeMs(chunkBytes: number): number {
  return chunkBytes / 10_000;
}
