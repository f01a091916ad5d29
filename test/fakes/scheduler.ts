/**
 * Virtual time. Everything that happens in a simulated world is an event in one queue; between two
 * events every promise that can run has run. With all choices drawn from one seed, a run repeats exactly.
 */
import { setImmediate } from 'node:timers/promises';
import { crc32 } from '@node-rs/crc32';
import type { Timer } from '../../environment/ports/index.js';

class Event implements Timer {
  readonly timeMs: number;
  readonly order: number;
  run: (() => void) | undefined;

  constructor(timeMs: number, order: number, run: () => void) {
    this.timeMs = timeMs;
    this.order = order;
    this.run = run;
  }

  cancel(): void {
    this.run = undefined;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.order < b.order);
}

/** A binary heap, the earliest event first. */
class EventQueue {
  readonly #heap: Event[] = [];

  push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent] as Event)) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  peek(): Event | undefined {
    return this.#heap[0];
  }
}

/** A simulation that neither ends nor can go on, or runs longer than it may. */
export class SimulationStuck extends Error {
  override readonly name = 'SimulationStuck';
}

const DEFAULT_LIMIT_MS = 600_000;

export class Scheduler {
  readonly #queue = new EventQueue();
  #nowMs = 0;
  #order = 0;
  #digest = 0;
  #eventCount = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  get eventCount(): number {
    return this.#eventCount;
  }

  /** A number that two runs share only when the same things happened in both, at the same times. */
  get digest(): string {
    return (this.#digest >>> 0).toString(16).padStart(8, '0');
  }

  /** Adds something that happened to the digest. */
  trace(what: string): void {
    this.#digest = crc32(`${this.#nowMs} ${what}`, this.#digest);
  }

  after(delayMs: number, run: () => void): Timer {
    const event = new Event(this.#nowMs + Math.max(0, delayMs), this.#order++, run);
    this.#queue.push(event);
    return event;
  }

  /** Runs the next event and everything that follows from it at once. False when there is none. */
  async step(): Promise<boolean> {
    for (;;) {
      const event = this.#queue.pop();
      if (event === undefined) return false;
      const run = event.run;
      if (run === undefined) continue;
      this.#nowMs = event.timeMs;
      this.#eventCount++;
      event.run = undefined;
      run();
      // All microtasks run before this resolves.
      await setImmediate();
      return true;
    }
  }

  /** Runs the world until `promise` settles. @throws SimulationStuck after `limitMs` of virtual time */
  async until<T>(promise: Promise<T>, limitMs: number = DEFAULT_LIMIT_MS): Promise<T> {
    const endMs = this.#nowMs + limitMs;
    let settled = false;
    const settle = () => {
      settled = true;
    };
    promise.then(settle, settle);
    await setImmediate();
    while (!settled) {
      if (!(await this.step())) throw new SimulationStuck(`nothing happens any more at ${this.#nowMs} ms`);
      if (this.#nowMs > endMs) throw new SimulationStuck(`not done after ${limitMs} ms of virtual time`);
    }
    return promise;
  }

  async runFor(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs;
    // What the caller has started runs first: it may set the events.
    await setImmediate();
    while (this.#nextMs() <= endMs) await this.step();
    this.#nowMs = endMs;
  }

  #nextMs(): number {
    let next = this.#queue.peek();
    while (next !== undefined && next.run === undefined) {
      this.#queue.pop();
      next = this.#queue.peek();
    }
    return next?.timeMs ?? Number.POSITIVE_INFINITY;
  }
}
