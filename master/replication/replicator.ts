/**
 * Re-replication (paper §4.3): a census walks all chunks in slices and queues those that have too few
 * copies; a pump clones them, within the limits; what has too many copies loses some. Everything here is
 * soft: a master that starts anew counts anew.
 */
import type { Clock, Counter, Logger, Metrics } from '../../environment/ports/index.js';
import { type GfsError, toGfsError } from '../../protocol/errors.js';
import type { ReplicationStatus } from '../../protocol/messages/index.js';
import type { ChunkserverTable } from '../chunkservers.js';
import type { Drains } from '../drains.js';
import type { Chunkserver } from '../replicas.js';
import type { ChunkState } from '../state.js';
import { CENSUS_SLICE, Census, type CensusFigures } from './census.js';
import { CloneJob, type CloneJobParts } from './clone-job.js';
import { Dropper } from './dropper.js';
import { Failures } from './failures.js';
import { type Choice, chooseRoute, type Route } from './plan.js';
import { MAX_QUEUED, ReplicationQueue } from './queue.js';
import { type Move, Rebalancer } from './rebalancer.js';
import { Slots } from './slots.js';
import {
  isDue,
  isUnfinished,
  LAST_COPY_SHARE,
  LEAST_URGENT,
  type Standing,
  standingOf,
  urgencyOf,
} from './standing.js';
import { Surplus } from './surplus.js';

/** Reasons that come together are one. */
const GATHER_MS = 100;
/** Queued chunks that are passed over because their servers are busy, before the pump waits for one to be done. */
const MAX_PASSED_OVER = 64;

export interface ReplicatorParts extends CloneJobParts {
  readonly chunkservers: ChunkserverTable;
  readonly drains: Drains;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class Replicator {
  readonly slots = new Slots();
  readonly #parts: ReplicatorParts;
  readonly #queue = new ReplicationQueue();
  readonly #failures = new Failures();
  readonly #surplus: Surplus;
  readonly #rebalancer: Rebalancer;
  readonly #census: Census;
  /** Chunks that a clone is under way of. */
  readonly #active = new Set<number>();
  #comparing = 0;
  /** Something has changed since the last census began. */
  #isDirty = true;
  #isScheduled = false;
  #stopped = false;
  readonly #cloned: Counter;
  readonly #clonedBytes: Counter;
  readonly #failed: Counter;
  readonly #moved: Counter;

  constructor(parts: ReplicatorParts) {
    this.#parts = parts;
    this.#census = new Census(
      parts,
      (chunk, isDeleted) => this.#look(chunk, isDeleted),
      () => this.#onCensus(),
    );
    this.#rebalancer = new Rebalancer(parts, this.slots, parts.options.replication, (chunkserver) =>
      this.isLeaving(chunkserver),
    );
    const { metrics, chunkservers } = parts;
    const counter = (name: string, help: string) => metrics.counter(`gfs_master_${name}_total`, help);
    this.#cloned = counter('chunks_cloned', 'Clones that became replicas');
    this.#clonedBytes = counter('cloned_bytes', 'Bytes that clones sent over the network');
    this.#failed = counter('clones_failed', 'Clones that failed and are tried again');
    this.#surplus = new Surplus({
      ...parts,
      reports: chunkservers.reports,
      dropper: new Dropper(parts, (chunkserver) => this.isLeaving(chunkserver)),
      standing: (chunk) => this.#standing(chunk),
      dropped: counter('replicas_dropped', 'Replicas dropped because there were more than the goal'),
      onRoom: () => this.changed(),
    });
    this.#moved = counter('chunks_moved', 'Chunks moved to even out how full servers are');
    chunkservers.onChange = () => this.changed();
    chunkservers.reports.onDoubt = (handle) => this.#doubt(handle);
  }

  get figures(): CensusFigures {
    return this.#census.figures;
  }

  get queued(): number {
    return this.#queue.size;
  }

  /** Chunks whose clones keep failing. */
  get alarms(): number {
    return this.#failures.alarms;
  }

  status(): ReplicationStatus {
    return {
      ...this.#census.figures,
      clones: this.slots.total,
      queued: this.#queue.size,
      alarms: this.alarms,
      drains: this.#parts.drains.status(),
    };
  }

  /** Whether a server's replicas count for nothing because it is being emptied. */
  isLeaving(chunkserver: Chunkserver): boolean {
    return this.#parts.drains.isLeaving(chunkserver);
  }

  stop(): void {
    this.#stopped = true;
    this.#census.stop();
  }

  /** All chunks are to be looked at again, soon. */
  changed(): void {
    this.#isDirty = true;
    if (this.#isScheduled || this.#stopped) return;
    this.#isScheduled = true;
    this.#parts.timers.after(GATHER_MS, () => {
      this.#isScheduled = false;
      this.tick();
    });
  }

  /** One chunk is to be looked at now: a replica of it was found damaged. */
  #doubt(handle: number): void {
    const chunk = this.#parts.state.chunks.get(handle);
    if (chunk !== undefined && this.#isOn) this.#look(chunk, false);
    this.#pump();
  }

  /** The goals of these nodes were changed. */
  reconsider(ids: readonly number[]): void {
    if (!this.#isOn) return this.changed();
    const { state } = this.#parts;
    let left = CENSUS_SLICE;
    for (const id of ids) {
      for (const handle of state.nodes.get(id)?.chunks?.handles() ?? []) {
        const chunk = state.chunks.get(handle);
        if (chunk !== undefined) this.#look(chunk, false);
        if (--left === 0) return this.changed();
      }
    }
    this.#pump();
    this.#surplus.drop();
  }

  /** A client waits for this chunk. */
  boost(handle: number): void {
    this.#queue.boost(handle);
  }

  get #isOn(): boolean {
    return !this.#stopped && this.#parts.chunkservers.settled;
  }

  /** Called once a second, and when something has changed. */
  tick(): void {
    if (!this.#isOn) return;
    this.#lookAgain();
    if ((this.#isDirty || this.#census.isDue) && !this.#census.isRunning) {
      this.#isDirty = false;
      void this.#census.run();
    }
    this.#pump();
    this.#surplus.drop();
    this.#rebalance();
  }

  /** At what failed, and at what was in the way of something else a moment ago. */
  #lookAgain(): void {
    const nowMs = this.#parts.clock.monotonicMs();
    for (const handle of [...this.#failures.due(nowMs)]) {
      const chunk = this.#parts.state.chunks.get(handle);
      if (chunk === undefined || !isUnfinished(this.#standing(chunk))) this.#failures.forget(handle);
      else if (!this.#active.has(handle)) this.#look(chunk, false);
    }
    for (const handle of this.#surplus.takePostponed()) {
      const chunk = this.#parts.state.chunks.get(handle);
      if (chunk !== undefined) this.#look(chunk, false);
    }
  }

  #standing(chunk: ChunkState): Standing {
    return standingOf(chunk, this.#parts.replicas, (chunkserver) => this.isLeaving(chunkserver));
  }

  /** What a census found is begun; where one copy is left the wait is shorter, which nothing else will tell. */
  #onCensus(): void {
    this.#pump();
    this.#surplus.drop();
    if (this.#census.isRunning || this.#census.figures.endangered === 0) return;
    let isAnyoneAway = false;
    for (const { alive, gone } of this.#parts.chunkservers.all) if (!alive && !gone) isAnyoneAway = true;
    const { waitMs } = this.#parts.options.replication;
    if (isAnyoneAway) this.#parts.timers.after(waitMs * LAST_COPY_SHARE, () => this.changed());
  }

  /** Queues what is to be done about one chunk, if anything. */
  #look(chunk: ChunkState, isDeleted: boolean): Standing {
    const { clock, options, leases } = this.#parts;
    const { handle } = chunk;
    const standing = this.#standing(chunk);
    if (this.#active.has(handle)) return standing;
    const { good, suspect, missing } = standing;
    const nowMs = clock.monotonicMs();
    const isPausing = (this.#failures.get(handle)?.notBeforeMs ?? 0) > nowMs;
    if (missing > 0) {
      const canBeHealed = good.length + suspect.length > 0;
      const { waitMs } = options.replication;
      if (canBeHealed && !isPausing && isDue(standing, chunk.goal, waitMs, nowMs))
        if (!this.#queue.push(handle, urgencyOf(standing, isDeleted))) this.#isDirty = true;
      return standing;
    }
    this.#surplus.note(chunk, standing);
    // Not needed, but whether it may go only a comparison can tell: no reason to end a lease for that.
    if (suspect.length > 0 && !isPausing) {
      if (leases.mayBeHeld(chunk)) this.#surplus.postpone(handle);
      else this.#queue.push(handle, LEAST_URGENT);
    }
    return standing;
  }

  #pump(): void {
    if (!this.#isOn) return;
    const { maxClones } = this.#parts.options.replication;
    const passedOver: { handle: number; urgency: number }[] = [];
    while (this.slots.total < maxClones && passedOver.length < MAX_PASSED_OVER) {
      const next = this.#queue.take();
      if (next === undefined) break;
      if (this.#begin(next.handle) === 'busy') passedOver.push(next);
    }
    for (const { handle, urgency } of passedOver) this.#queue.push(handle, urgency);
    // What did not fit into the queue is found by another census.
    if (this.#isDirty && this.#queue.size < MAX_QUEUED / 2) this.changed();
  }

  #begin(handle: number): 'busy' | 'begun' | 'nothing' {
    const chunk = this.#parts.state.chunks.get(handle);
    if (chunk === undefined || this.#active.has(handle)) return 'nothing';
    const standing = this.#standing(chunk);
    if (!isUnfinished(standing)) return 'nothing';
    // A comparison may find what is missing: it costs less than a copy, and there may be no other server.
    if (standing.good.length === 0 || standing.suspect.length > 0) {
      if (this.#comparing >= this.#parts.options.replication.maxClones) return 'busy';
      void this.#compare(handle);
      return 'begun';
    }
    const route = chooseRoute(handle, standing, this.#failures.get(handle), this.choice);
    if (route === 'busy') return 'busy';
    if (route === 'nowhere') {
      this.#makeWay(chunk, standing);
      return 'nothing';
    }
    void this.#clone(handle, route);
    return 'begun';
  }

  get choice(): Choice {
    const { chunkservers, options } = this.#parts;
    return {
      active: chunkservers.active,
      priority: chunkservers.priority,
      slots: this.slots,
      limits: options.replication,
      isLeaving: (chunkserver) => this.isLeaving(chunkserver),
      chunkBytes: options.chunkBytes,
    };
  }

  /**
   * Every server has a replica, some of them useless ones: one of these goes, so that its server can take
   * a good one. Where one good copy is left that waits a moment: it may be about to turn out damaged too.
   */
  #makeWay(chunk: ChunkState, { useless, good }: Standing): void {
    const { chunkservers, replicas, clock } = this.#parts;
    const { handle } = chunk;
    const replica = useless.find(
      (each) => !this.isLeaving(each.chunkserver) && chunkservers.reports.mayDelete(each, chunk),
    );
    if (replica === undefined) {
      // One that is about to delete what it had can take a good one right after that.
      const isDeleting = chunkservers.active.some((each) => each.deletions.has(handle));
      if (isDeleting) this.#failures.note(handle, 'NOT_READY', '', '', clock.monotonicMs());
      return;
    }
    const { chunkserver } = replica;
    const { serverId } = chunkserver.server;
    const isFirst = this.#failures.get(handle) === undefined;
    this.#failures.note(handle, 'NOT_READY', serverId, serverId, clock.monotonicMs());
    if (good.length === 1 && isFirst) return;
    replicas.remove(chunkserver, handle);
    chunkserver.deletions.add(handle);
  }

  /** A comparison makes suspect replicas good, or shows that they are not. */
  async #compare(handle: number): Promise<void> {
    const { state, raiser, clock } = this.#parts;
    this.#active.add(handle);
    this.#comparing++;
    try {
      const chunk = state.chunks.get(handle);
      if (chunk !== undefined) await raiser.verify(chunk);
      // Not again at once when it came to nothing.
      const compared = state.chunks.get(handle);
      if (compared !== undefined && this.#standing(compared).suspect.length > 0)
        this.#failures.note(handle, 'NOT_READY', '', '', clock.monotonicMs());
    } catch (thrown) {
      this.#failures.note(handle, toGfsError(thrown).code, '', '', clock.monotonicMs());
    } finally {
      this.#comparing--;
      this.#active.delete(handle);
      this.#again(handle);
    }
  }

  async #clone(handle: number, { source, target }: Route): Promise<void> {
    const release = this.slots.take(source, target);
    this.#active.add(handle);
    target.recentCreations++;
    try {
      const job = new CloneJob(this.#parts, handle, source, target);
      this.#clonedBytes.add(await job.run(() => this.#isMissing(handle)));
      this.#cloned.add();
      this.#failures.forget(handle);
    } catch (thrown) {
      this.#noteFailure(handle, source, target, toGfsError(thrown));
    } finally {
      release();
      this.#active.delete(handle);
      this.#again(handle);
      // The last of them is healed: what was counted before is old news.
      const isQuiet = this.#active.size === 0 && this.#queue.size === 0;
      if (isQuiet && this.#census.figures.belowGoal > 0 && !this.#isMissing(handle)) this.changed();
    }
  }

  #isMissing(handle: number): boolean {
    const chunk = this.#parts.state.chunks.get(handle);
    return chunk !== undefined && this.#standing(chunk).missing > 0;
  }

  #again(handle: number): void {
    const chunk = this.#parts.state.chunks.get(handle);
    if (chunk !== undefined && this.#isOn) this.#look(chunk, false);
    this.#pump();
  }

  #noteFailure(handle: number, source: Chunkserver, target: Chunkserver, error: GfsError): void {
    const { logger, clock, state } = this.#parts;
    if (!state.chunks.has(handle)) {
      if (target.alive) target.deletions.add(handle);
      return;
    }
    const [from, to] = [source.server.serverId, target.server.serverId];
    this.#failed.add();
    const isAlarm = this.#failures.note(handle, error.code, from, to, clock.monotonicMs());
    const fields = { handle, from, to, code: error.code, reason: error.message };
    if (isAlarm) logger.error(fields, 'clones of a chunk keep failing: it stays below its goal');
    else logger.warn(fields, 'a clone failed and will be tried again');
    // Where it will not go on, what was fetched is not kept.
    if (this.#failures.get(handle)?.resumeAt !== to && target.alive) target.deletions.add(handle);
  }

  /** While nothing needs to be healed, servers are made equally full. */
  #rebalance(): void {
    const isHealing = this.#queue.size > 0 || this.#census.isRunning || this.#census.figures.belowGoal > 0;
    if (!this.#isOn || isHealing) return;
    while (this.slots.total < this.#parts.options.replication.maxClones) {
      const move = this.#rebalancer.next((handle) => this.#active.has(handle) || this.#surplus.has(handle));
      if (move === undefined) return;
      void this.#move(move);
    }
  }

  async #move(move: Move): Promise<void> {
    const { handle, source, from, target } = move;
    const { replicas, logger } = this.#parts;
    const release = this.slots.take(source, target);
    const end = this.#rebalancer.begin(move);
    let hasMoved = false;
    this.#active.add(handle);
    try {
      const isStillThere = (): boolean => from.alive && replicas.find(from, handle) !== undefined;
      this.#clonedBytes.add(await new CloneJob(this.#parts, handle, source, target).run(isStillThere));
      this.#moved.add();
      await this.#surplus.dropFrom(handle, from);
      hasMoved = true;
    } catch (err) {
      logger.debug({ handle, err }, 'a chunk was not moved');
      if (target.alive && replicas.find(target, handle) === undefined) target.deletions.add(handle);
    } finally {
      end(hasMoved);
      release();
      this.#active.delete(handle);
      this.#again(handle);
      if (hasMoved) this.#rebalance();
    }
  }
}
