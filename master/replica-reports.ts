/**
 * What chunkservers and readers say of single replicas, held against the log: unknown, behind or damaged ones
 * go (paper §4.4, §4.5, §5.2), one that is ahead by a version has its version adopted.
 */
import type { Logger } from '../environment/ports/index.js';
import type { ReplicaReport } from '../protocol/messages/index.js';
import type { Journal } from './journal.js';
import type { Leases } from './leases.js';
import type { Chunkserver, Replica, Replicas } from './replicas.js';
import type { SentVersions } from './sent-versions.js';
import type { ChunkState, LoggedState } from './state.js';

export interface ReplicaReportParts {
  readonly state: LoggedState;
  readonly journal: Journal;
  readonly replicas: Replicas;
  readonly sent: SentVersions;
  readonly logger: Logger;
}

export class ReplicaReports {
  /** Chunks on chunkservers that are not logged yet, and who was asked to make them. */
  readonly pendingHandles = new Map<number, readonly Chunkserver[]>();
  /** Told of a chunk one of whose replicas is not what it was taken for, or is missing from the start. */
  onDoubt: (handle: number) => void = () => undefined;
  readonly #parts: ReplicaReportParts;
  #leases!: Leases;

  constructor(parts: ReplicaReportParts) {
    this.#parts = parts;
  }

  attach(leases: Leases): void {
    this.#leases = leases;
  }

  /** One replica of those that a server reports after it has registered. */
  note(chunkserver: Chunkserver, { handle, version, lengthBytes, suspect, leaseMs }: ReplicaReport): void {
    const { state, replicas } = this.#parts;
    const chunk = state.chunks.get(handle);
    if (chunk === undefined) {
      if (!this.pendingHandles.has(handle)) chunkserver.deletions.add(handle);
      return;
    }
    const doubtful = suspect || replicas.isSuspectVersion(handle, version);
    const replica = replicas.put(chunkserver, handle, version, lengthBytes, doubtful);
    if (version === chunk.version && leaseMs > 0) this.#leases.restore(chunk, chunkserver, leaseMs);
    if (version > chunk.version) this.#meetHigher(chunk, replica);
  }

  /**
   * A version of a chunk is in the log. That it has too few replicas is not for the next census to find out, nor too
   * many, nor that one is where none should stay (a copy on write is made where its original was); nor that a server
   * has come back meanwhile, and told what it has when this was not there yet.
   */
  noteLogged(handle: number): void {
    const { state, replicas } = this.#parts;
    const chunk = state.chunks.get(handle);
    if (chunk === undefined) return;
    if (state.drains.size > 0 || replicas.readable(chunk).length !== chunk.goal) this.onDoubt(handle);
  }

  /** A replica is ahead of the log (paper §4.5). */
  #meetHigher(chunk: ChunkState, { chunkserver, version }: Replica): void {
    const { journal, logger, replicas, sent } = this.#parts;
    const fields = {
      handle: chunk.handle,
      version,
      logged: chunk.version,
      serverId: chunkserver.server.serverId,
    };
    if (version > chunk.version + 1) {
      logger.error(fields, 'a replica is ahead of the operation log by more than one version: quarantined');
      return;
    }
    // A version that is being raised just now will be logged by whoever raises it.
    if (sent.raising.has(chunk.handle)) return;
    logger.warn(fields, 'a replica is ahead of the operation log: its version is adopted');
    sent.raising.add(chunk.handle);
    const from = chunk.version;
    journal
      .commit({ type: 'versionRaised', handle: chunk.handle, version, replicas: chunk.replicas })
      .then(() => replicas.noteAdoption(chunk.handle, from))
      .catch((err) => logger.warn({ ...fields, err }, 'cannot adopt a version now'))
      .finally(() => {
        sent.raising.delete(chunk.handle);
        // The others are compared with it: the census that its server's report led to has seen nothing wrong.
        this.onDoubt(chunk.handle);
      });
  }

  /** Of the chunks that a server names, those that it is to delete (paper §4.4). */
  garbageAmong(chunkserver: Chunkserver, named: readonly { handle: number; version: number }[]): number[] {
    const { state, replicas } = this.#parts;
    const drop: number[] = [];
    for (const { handle, version } of named) {
      const chunk = state.chunks.get(handle);
      if (chunk === undefined) {
        if (!this.pendingHandles.has(handle)) drop.push(handle);
        continue;
      }
      // It is to go already, and was not told yet.
      if (chunkserver.deletions.has(handle)) {
        drop.push(handle);
        continue;
      }
      const replica =
        replicas.find(chunkserver, handle) ?? replicas.put(chunkserver, handle, version, 0, true);
      if (!this.mayDelete(replica, chunk)) continue;
      replicas.remove(chunkserver, handle);
      drop.push(handle);
    }
    return drop;
  }

  /** Stale or damaged, and a good one is live. INVARIANT: never the last replica that could be of use. */
  mayDelete(replica: Replica, chunk: ChunkState): boolean {
    const { replicas, sent } = this.#parts;
    if (!replicas.isUseless(replica, chunk) || sent.raising.has(chunk.handle)) return false;
    return replicas.readable(chunk).some((good) => good.chunkserver !== replica.chunkserver);
  }

  /** The server itself has found that it does not verify. */
  onDamage(chunkserver: Chunkserver, handle: number, version: number): void {
    this.#parts.logger.error(
      { handle, version, serverId: chunkserver.server.serverId },
      'a replica is damaged',
    );
    this.#parts.replicas.markDamaged(chunkserver, handle);
    this.onDoubt(handle);
  }

  /** A reader met a bad checksum. The server itself reports damage; until then readers are sent elsewhere. */
  onCorrupt(chunkserver: Chunkserver, handle: number): void {
    const { state, replicas, logger } = this.#parts;
    const chunk = state.chunks.get(handle);
    if (chunk === undefined) return;
    const { serverId } = chunkserver.server;
    logger.warn({ handle, serverId }, 'a reader met a replica that does not verify');
    if (replicas.readable(chunk).some((other) => other.chunkserver !== chunkserver))
      replicas.markSuspect(chunkserver, handle);
    this.onDoubt(handle);
  }
}
