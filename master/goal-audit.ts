/**
 * Chunks that several files share have the highest goal of them. Raising one is simple; after lowering,
 * or when one of the files is gone or has a copy of its own, all files have to be asked: in slices, in the background.
 */
import type { Clock, Logger, Timers } from '../environment/ports/index.js';
import { MAX_IDS_PER_RECORD } from '../protocol/records.js';
import type { Journal } from './journal.js';
import type { LoggedState } from './state.js';

const INTERVAL_MS = 600_000;
/** Nodes looked at in one turn of the event loop. */
const SLICE = 2_000;

export class GoalAudit {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #environment: { readonly clock: Clock; readonly timers: Timers; readonly logger: Logger };
  readonly #defaultGoal: number;
  readonly #onChanged: () => void;
  #isRunning = false;
  #isAsked = false;
  #ranAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    state: LoggedState,
    journal: Journal,
    environment: { readonly clock: Clock; readonly timers: Timers; readonly logger: Logger },
    defaultGoal: number,
    onChanged: () => void,
  ) {
    this.#state = state;
    this.#journal = journal;
    this.#environment = environment;
    this.#defaultGoal = defaultGoal;
    this.#onChanged = onChanged;
  }

  /** Somebody lowered a goal: soon. */
  request(): void {
    this.#ranAtMs = Number.NEGATIVE_INFINITY;
    this.#isAsked = true;
  }

  /** Called once a second. */
  tick(): void {
    const { clock, logger } = this.#environment;
    const nowMs = clock.monotonicMs();
    if (this.#isRunning || nowMs - this.#ranAtMs < INTERVAL_MS) return;
    this.#ranAtMs = nowMs;
    // Without any goal of a file's own all chunks are as they were made.
    if (this.#state.goals.size === 0 && !this.#isAsked) return;
    this.#isAsked = false;
    this.#isRunning = true;
    this.#run()
      .catch((err) => logger.warn({ err }, 'goals of shared chunks cannot be looked at now'))
      .finally(() => {
        this.#isRunning = false;
      });
  }

  async #run(): Promise<void> {
    const { chunks, nodes, goals } = this.#state;
    const highest = new Map<number, number>();
    let left = SLICE;
    for (const node of nodes.values()) {
      const goal = goals.get(node.id) ?? this.#defaultGoal;
      for (const handle of node.chunks?.handles() ?? []) {
        const chunk = chunks.get(handle);
        // Also of one file alone: it may have shared it before with one of a higher goal.
        if (chunk === undefined || (chunk.references < 2 && chunk.goal <= goal)) continue;
        highest.set(handle, Math.max(goal, highest.get(handle) ?? 0));
      }
      if (--left > 0) continue;
      left = SLICE;
      await new Promise<void>((resolve) => void this.#environment.timers.after(0, resolve));
    }
    await this.#correct(highest);
  }

  async #correct(highest: ReadonlyMap<number, number>): Promise<void> {
    const wrong = new Map<number, number[]>();
    for (const [handle, goal] of highest) {
      const chunk = this.#state.chunks.get(handle);
      if (chunk === undefined || chunk.goal <= goal) continue;
      wrong.set(goal, [...(wrong.get(goal) ?? []), handle]);
    }
    for (const [goal, handles] of wrong) {
      for (let at = 0; at < handles.length; at += MAX_IDS_PER_RECORD) {
        const page = handles.slice(at, at + MAX_IDS_PER_RECORD);
        await this.#journal.commit({ type: 'chunkGoalsSet', handles: page, goal });
      }
    }
    if (wrong.size > 0) this.#onChanged();
  }
}
