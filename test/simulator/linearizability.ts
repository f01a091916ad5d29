/**
 * A linearisability checker (Wing and Gong's search, with Lowe's memory of what was tried): is there an
 * order of a history's operations, each at one moment between its call and its return, that the
 * specification allows? Histories are given one object at a time: a history is linearisable exactly when
 * it is so for each object by itself (Herlihy and Wing's locality), and that keeps the search small.
 */

/** One operation of a history. Moments are counted, not measured: no two are equal. */
export interface Operation<Call> {
  readonly call: Call;
  readonly invokedAt: number;
  /** Infinity: it never returned, or failed without telling; it may have happened, may yet, or never. */
  readonly returnedAt: number;
}

export interface Specification<State, Call> {
  readonly initial: State;
  /** Equal for equal states alone. */
  keyOf(state: State): string;
  /** The states in which the object may be after `call` gave what it gave: none when it cannot have. */
  step(state: State, call: Call): readonly State[];
  /** Whether a call that changes nothing in one state may change something in another, with the same answer. */
  canWait?(call: Call): boolean;
}

export type Verdict = 'linearisable' | 'not linearisable' | 'undecided';

const DEFAULT_BUDGET = 200_000;

/** @param budget search steps, after which the verdict is `undecided` */
export function checkHistory<State, Call>(
  history: readonly Operation<Call>[],
  specification: Specification<State, Call>,
  budget = DEFAULT_BUDGET,
): Verdict {
  const search = new Search(history, specification, budget);
  if (search.run()) return 'linearisable';
  return search.isExhausted ? 'undecided' : 'not linearisable';
}

class Search<State, Call> {
  /** By their calls. */
  readonly #operations: readonly Operation<Call>[];
  readonly #specification: Specification<State, Call>;
  readonly #isDone: Uint8Array;
  readonly #tried = new Set<string>();
  #stepsLeft: number;
  /** Returned, and not yet in the order. */
  #left: number;

  constructor(
    history: readonly Operation<Call>[],
    specification: Specification<State, Call>,
    budget: number,
  ) {
    this.#operations = [...history].sort((a, b) => a.invokedAt - b.invokedAt);
    this.#specification = specification;
    this.#isDone = new Uint8Array(history.length);
    this.#stepsLeft = budget;
    this.#left = history.filter(({ returnedAt }) => returnedAt !== Number.POSITIVE_INFINITY).length;
  }

  get isExhausted(): boolean {
    return this.#stepsLeft <= 0;
  }

  run(): boolean {
    return this.#orders([this.#specification.initial], 0);
  }

  /** @param first no operation before this index is left */
  #orders(states: readonly State[], first: number): boolean {
    if (this.#left === 0) return true;
    if (this.isExhausted) return false;
    this.#stepsLeft -= states.length;
    let from = first;
    while (this.#isDone[from] === 1) from++;
    const candidates = this.#candidates(from);
    const key = this.#keyOf(states);
    const position = `${from} ${this.#doneAfter(from)} ${key}`;
    if (this.#tried.has(position)) return false;
    this.#tried.add(position);
    for (const index of candidates) {
      const { call, returnedAt } = this.#operations[index] as Operation<Call>;
      const next = this.#step(states, call);
      if (next.length === 0) continue;
      const returned = returnedAt === Number.POSITIVE_INFINITY ? 0 : 1;
      this.#isDone[index] = 1;
      this.#left -= returned;
      if (this.#orders(next, from)) return true;
      this.#isDone[index] = 0;
      this.#left += returned;
      // It changed nothing, so that having it first took nothing away: no other order does better.
      const canWait = this.#specification.canWait?.(call) === true;
      if (returned === 1 && !canWait && this.#keyOf(next) === key) return false;
      if (this.isExhausted) return false;
    }
    return false;
  }

  /** Those that were called before any of the others that are left returned. */
  #candidates(from: number): number[] {
    const indices: number[] = [];
    let firstReturn = Number.POSITIVE_INFINITY;
    for (let i = from; i < this.#operations.length; i++) {
      if (this.#isDone[i] === 1) continue;
      const { invokedAt, returnedAt } = this.#operations[i] as Operation<Call>;
      if (invokedAt > firstReturn) break;
      firstReturn = Math.min(firstReturn, returnedAt);
      indices.push(i);
    }
    // Those without an answer last: most orders do without them.
    const hasReturned = (i: number) => this.#operations[i]?.returnedAt !== Number.POSITIVE_INFINITY;
    return [...indices.filter(hasReturned), ...indices.filter((i) => !hasReturned(i))];
  }

  #doneAfter(from: number): string {
    const done: number[] = [];
    for (let i = from; i < this.#isDone.length; i++) if (this.#isDone[i] === 1) done.push(i - from);
    return done.join();
  }

  #step(states: readonly State[], call: Call): State[] {
    const next = new Map<string, State>();
    for (const state of states) {
      for (const after of this.#specification.step(state, call)) {
        next.set(this.#specification.keyOf(after), after);
      }
    }
    return [...next.values()];
  }

  #keyOf(states: readonly State[]): string {
    return states
      .map((state) => this.#specification.keyOf(state))
      .sort()
      .join('|');
  }
}

/** A history as it is made: moments are those of one count. */
export class Recorder<Call> {
  readonly #now: () => number;
  readonly #operations: { call: Call; invokedAt: number; returnedAt: number }[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  get history(): readonly Operation<Call>[] {
    return this.#operations;
  }

  /**
   * Something that changes the object begins. Unless the returned function is called, with what it came
   * to, nobody knows whether it happened.
   */
  begin(call: Call): (call: Call) => void {
    const operation = { call, invokedAt: this.#now(), returnedAt: Number.POSITIVE_INFINITY };
    this.#operations.push(operation);
    return (result) => {
      operation.call = result;
      operation.returnedAt = this.#now();
    };
  }

  /** Something that changes nothing was seen; of those that failed there is nothing to tell. */
  seen(invokedAt: number, call: Call): void {
    this.#operations.push({ call, invokedAt, returnedAt: this.#now() });
  }
}
