/**
 * Whether a shadow may speak for a master that is away. It has to be certain that it lacks nothing that
 * was acknowledged: with the rule `all`, or as the only log replica, every one has it all; otherwise so
 * many log replicas have to be without the master that it can acknowledge nothing, and none may have more.
 */
import type { Environment } from '../environment/ports/index.js';
import { askAllStatus } from './dialing.js';
import type { Following } from './following.js';
import type { LogCopy } from './log-copy.js';
import { isLongerLog, promisesNeeded } from './quorum.js';
import type { SuperblockKeeper } from './superblock.js';

const CONFIRM_INTERVAL_MS = 500;
/** How long the others' word is taken. */
const CONFIRMED_FOR_MS = 2_000;

export interface StandInParts {
  readonly environment: Environment;
  readonly superblock: SuperblockKeeper;
  readonly copy: LogCopy;
  readonly following: Following;
  /** Silence of a master that counts as its absence. */
  readonly timeoutMs: number;
}

export class StandIn {
  readonly #parts: StandInParts;
  #confirmedMs = Number.NEGATIVE_INFINITY;
  #askedMs = Number.NEGATIVE_INFINITY;

  constructor(parts: StandInParts) {
    this.#parts = parts;
  }

  get #nowMs(): number {
    return this.#parts.environment.clock.monotonicMs();
  }

  /** Whether every acknowledged record is on any log replica by itself. */
  get #isCompleteAlone(): boolean {
    const { logReplicas, commitRule } = this.#parts.copy.state;
    return commitRule === 'all' || logReplicas.size === 1;
  }

  /** Whether reads may rest on this shadow while the master is away. */
  get serves(): boolean {
    const { superblock, copy, following } = this.#parts;
    if (!following.masterIsAway || !copy.state.logReplicas.has(superblock.current.id)) return false;
    return this.#isCompleteAlone || this.#nowMs - this.#confirmedMs <= CONFIRMED_FOR_MS;
  }

  /** Called again and again: asks the others where that is needed. */
  watch(): void {
    if (!this.#parts.following.masterIsAway || this.#isCompleteAlone) return;
    if (this.#nowMs - this.#askedMs < CONFIRM_INTERVAL_MS) return;
    this.#askedMs = this.#nowMs;
    void this.#confirm();
  }

  async #confirm(): Promise<void> {
    const { environment, superblock, copy, timeoutMs } = this.#parts;
    const { id, clusterId, term } = superblock.current;
    const { logReplicas, commitRule } = copy.state;
    const askedMs = this.#nowMs;
    const others = [...logReplicas.values()].filter((member) => member.id !== id);
    const found = await askAllStatus(environment, { role: 'shadow', id, clusterId, term }, others);
    const own = { lastTerm: copy.lastTerm, lastSequence: copy.endSequence };
    const alone = [...found.values()].filter(
      (status) => status.role === 'shadow' && status.silentMs > timeoutMs && !isLongerLog(status, own),
    );
    if (alone.length + 1 >= promisesNeeded(commitRule, logReplicas.size)) this.#confirmedMs = askedMs;
  }
}
