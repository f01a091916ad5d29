/**
 * The one path of every mutation: resolve node ids to paths → take the locks → see that the paths still
 * hold → validate → log and wait until durable → apply → release the locks → wait until everybody has
 * forgotten what was before. Log before memory, so that nobody reads what a crash could take back; the locks
 * keep conflicting operations apart meanwhile.
 */
import { GfsError } from '../protocol/errors.js';
import type { LogEvent } from '../protocol/records.js';
import type { CarriedOut, Journal, Origin } from './journal.js';
import type { Held, LockManager, LockSet } from './locks.js';
import type { Watch } from './watch.js';

const MAX_ATTEMPTS = 1000;

/** What validation came to: something to log, or an answer that changes nothing. */
export type Decision<Reply> = { readonly event: LogEvent } | { readonly reply: Reply };

export interface Plan<Reply> {
  /** Resolves to the locks. Called again after a wait: what they were taken for may have moved. @throws as a lookup */
  locks(): LockSet;
  /** Under the locks, synchronously: checks, and chooses ids. @throws whatever is wrong with it */
  validate(): Decision<Reply>;
}

export class Mutations {
  readonly #locks: LockManager;
  readonly #journal: Journal;
  readonly #watch: Watch;

  constructor(locks: LockManager, journal: Journal, watch: Watch) {
    this.#watch = watch;
    this.#locks = locks;
    this.#journal = journal;
  }

  /** @param signal ends a wait for locks; once validated, the mutation happens */
  async run<Reply>(plan: Plan<Reply>, origin: Origin, signal: () => AbortSignal): Promise<Reply> {
    const { reply, acknowledged } = await this.carryOut(plan, origin, signal);
    if (acknowledged !== undefined) await acknowledged;
    return reply;
  }

  /** {@link run}, for one who holds something else that must not be held while others forget. */
  async carryOut<Reply>(
    plan: Plan<Reply>,
    origin: Origin,
    signal: () => AbortSignal,
  ): Promise<CarriedOut<Reply>> {
    const acquired = this.#lock(plan, signal);
    const held = acquired instanceof Promise ? await acquired : acquired;
    try {
      const decision = plan.validate();
      if ('reply' in decision) return { reply: decision.reply, acknowledged: undefined };
      return await this.#journal.carryOut<Reply>(decision.event, origin);
    } finally {
      held.release();
    }
  }

  #lock<Reply>(plan: Plan<Reply>, signal: () => AbortSignal): Held | Promise<Held> {
    const set = plan.locks();
    const acquired = this.#locks.acquire(set, signal);
    return acquired instanceof Promise
      ? this.#watch.lockWait(this.#lockAgain(plan, set, acquired, signal))
      : acquired;
  }

  async #lockAgain<Reply>(
    plan: Plan<Reply>,
    first: LockSet,
    acquiring: Promise<Held>,
    signal: () => AbortSignal,
  ): Promise<Held> {
    let set = first;
    let held = await acquiring;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      let now: LockSet;
      try {
        now = plan.locks();
      } catch (error) {
        held.release();
        throw error;
      }
      if (now.equals(set)) return held;
      held.release();
      set = now;
      held = await this.#locks.acquire(set, signal);
    }
    held.release();
    throw new GfsError('OVERLOADED', 'the names keep moving');
  }
}
