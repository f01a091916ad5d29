/** The leases that this server holds as primary (paper §3.1). */
import type { Clock } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { Server } from '../protocol/messages/index.js';
import type { Chunk } from './store/chunk.js';
import type { MutationResult } from './store/results.js';
import { isLastSerial, nextSerial, serialBase } from './store/serial.js';

export interface LeaseTerms {
  readonly secondaries: readonly Server[];
  readonly durationMs: number;
}

/**
 * The right to order the mutations of one chunk under one version. Its clock is only a courtesy: an
 * old primary cannot acknowledge once any replica has a newer version.
 */
export class Lease {
  readonly chunk: Chunk;
  readonly version: number;
  readonly secondaries: readonly Server[];
  readonly durationMs: number;
  expiresAtMs: number;
  lastUsedMs: number;
  /** The chunk's length once all mutations under way are applied. */
  plannedLength: number;
  /** Mutations under way, by session and sequence: a retry joins the first attempt. */
  readonly underWay = new Map<string, Promise<MutationResult>>();
  /** Boot ids of the secondaries, as they last told. */
  readonly verifiers = new Map<string, number>();
  /** An append over the chunk's end is writing its spill: appends after it wait. */
  spilling: Promise<unknown> | undefined;
  /** A secondary failed: the master is being asked for a version without it. */
  dropping: Promise<Lease> | undefined;
  #nextSerial: number;
  #ended: GfsError | undefined;
  #mutations = 0;
  #spills = 0;
  #onDrained: (() => void)[] = [];

  constructor(chunk: Chunk, version: number, terms: LeaseTerms, nowMs: number) {
    this.chunk = chunk;
    this.version = version;
    this.secondaries = terms.secondaries;
    this.durationMs = terms.durationMs;
    this.expiresAtMs = nowMs + terms.durationMs;
    this.lastUsedMs = nowMs;
    this.plannedLength = chunk.state.length;
    this.#nextSerial = nextSerial(version, chunk.state.serial);
  }

  get ended(): GfsError | undefined {
    return this.#ended;
  }

  get isDrained(): boolean {
    return this.#mutations === 0;
  }

  /** A replica failed a mutation: they may differ until the next version has made them equal. */
  fail(): void {
    this.end('a replica failed');
    if (this.chunk.agreedVersion === this.version) this.chunk.agreedVersion = 0;
  }

  /** Refuses everything from now on. What is under way may still end well. */
  end(reason: string): void {
    this.#ended ??= new GfsError('NOT_PRIMARY', `chunk ${this.chunk.handle}: ${reason}`);
  }

  /** The serial of the next mutation, which is now under way; one of several parts takes as many. */
  begin(nowMs: number, count = 1): number {
    this.#mutations++;
    this.lastUsedMs = nowMs;
    const serial = this.#nextSerial;
    this.#nextSerial += count;
    if (isLastSerial(serial + count - 1)) this.end('the version has no serial numbers left');
    return serial;
  }

  /** A serial for a spill: numbers that grow from one primary of the chunk to the next. It is no mutation here. */
  reserve(): number {
    return serialBase(this.version) + ++this.#spills;
  }

  finish(): void {
    this.#mutations--;
    if (this.#mutations === 0) for (const callback of this.#onDrained.splice(0)) callback();
  }

  /** Resolves when no mutation is under way. */
  drained(): Promise<void> {
    if (this.#mutations === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onDrained.push(resolve));
  }
}

export class LeaseTable {
  readonly #clock: Clock;
  readonly #inTouch: () => boolean;
  readonly #leases = new Map<number, Lease>();

  /** @param inTouch whether the session with the master lives: without it no lease counts */
  constructor(clock: Clock, inTouch: () => boolean) {
    this.#clock = clock;
    this.#inTouch = inTouch;
  }

  /** The lease under which a mutation may go. @throws NOT_PRIMARY, STALE_CHUNK_VERSION */
  check(handle: number, version: number): Lease {
    const lease = this.#leases.get(handle);
    if (lease === undefined) throw new GfsError('NOT_PRIMARY', `no lease for chunk ${handle}`);
    if (lease.version !== version) {
      throw new GfsError(
        'STALE_CHUNK_VERSION',
        `the lease of chunk ${handle} is for version ${lease.version}`,
      );
    }
    if (lease.ended !== undefined) throw lease.ended;
    if (this.remainingMs(lease) === 0)
      throw new GfsError('NOT_PRIMARY', `the lease of chunk ${handle} is over`);
    return lease;
  }

  find(handle: number): Lease | undefined {
    return this.#leases.get(handle);
  }

  /** Asked again for the same version it changes nothing: a lease that has ended stays so. */
  grant(chunk: Chunk, version: number, terms: LeaseTerms): void {
    const former = this.#leases.get(chunk.handle);
    if (former?.version === version) return;
    former?.end('a newer lease was given');
    chunk.agreedVersion = version;
    this.#leases.set(chunk.handle, new Lease(chunk, version, terms, this.#clock.monotonicMs()));
  }

  /** Ends the lease and waits for what is under way. */
  async revoke(handle: number, reason: string): Promise<void> {
    const lease = this.#leases.get(handle);
    if (lease === undefined) return;
    lease.end(reason);
    await lease.drained();
    if (this.#leases.get(handle) === lease) this.#leases.delete(handle);
  }

  endAll(reason: string): void {
    for (const lease of this.#leases.values()) lease.end(reason);
    this.#forgetOver();
  }

  /** Those with mutations under way are kept: a revocation has to wait for them. */
  #forgetOver(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [handle, lease] of this.#leases) {
      const isOver = lease.ended !== undefined || nowMs >= lease.expiresAtMs;
      if (isOver && lease.isDrained) this.#leases.delete(handle);
    }
  }

  extend(handle: number, expiresAtMs: number): void {
    const lease = this.#leases.get(handle);
    if (lease !== undefined) lease.expiresAtMs = Math.max(lease.expiresAtMs, expiresAtMs);
  }

  remainingMs(lease: Lease): number {
    if (lease.ended !== undefined || !this.#inTouch()) return 0;
    return Math.max(0, Math.floor(lease.expiresAtMs - this.#clock.monotonicMs()));
  }

  /** Leases worth extending: used within half their duration. Those that are over are forgotten. */
  inUse(): Lease[] {
    const nowMs = this.#clock.monotonicMs();
    this.#forgetOver();
    const used: Lease[] = [];
    for (const lease of this.#leases.values()) {
      if (this.remainingMs(lease) > 0 && nowMs - lease.lastUsedMs < lease.durationMs / 2) used.push(lease);
    }
    return used;
  }

  get size(): number {
    return this.#leases.size;
  }
}
