/**
 * A client that was promised something, and the messages that take it back. What is broken in one turn goes
 * in one message; the next does not wait for the answer to the one before, because a client that waits for
 * a mutation of its own may hold that answer back until the mutation of another is answered.
 */
import type { Timers } from '../environment/ports/index.js';
import { MAX_BROKEN_NAMES, MAX_BROKEN_NODES } from '../protocol/limits.js';
import { BreakPromises } from '../protocol/messages/index.js';
import type { Caller } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { NameInDirectory } from './touches.js';

type Broken = ValueOf<typeof BreakPromises.request>;

export class Holder {
  readonly number: number;
  readonly peer: Caller;
  readonly #timers: Timers;
  readonly #timeoutMs: number;
  #next: Broken | undefined;
  #forgotten: Promise<void> = Promise.resolve();

  /** @param timeoutMs of its session: one that answers renewals but not this is cut off after twice that */
  constructor(number: number, peer: Caller, timers: Timers, timeoutMs: number) {
    this.number = number;
    this.peer = peer;
    this.#timers = timers;
    this.#timeoutMs = timeoutMs;
  }

  /** Each resolves when the client has forgotten it, or is dead. */
  breakAttributes(node: number): Promise<void> {
    return this.#add('attributes', node);
  }

  /** @param isCut it may be shorter now */
  breakData(node: number, isCut: boolean): Promise<void> {
    if (isCut) this.#open().cut.push(node);
    return this.#add('data', node);
  }

  breakDirectory(node: number): Promise<void> {
    return this.#add('directories', node);
  }

  breakEntry(entry: NameInDirectory): Promise<void> {
    const broken = this.#open();
    broken.entries.push(entry);
    const forgotten = this.#forgotten;
    if (broken.entries.length >= MAX_BROKEN_NAMES) this.#next = undefined;
    return forgotten;
  }

  #add(list: 'attributes' | 'data' | 'directories', node: number): Promise<void> {
    const broken = this.#open();
    broken[list].push(node);
    const forgotten = this.#forgotten;
    if (broken[list].length >= MAX_BROKEN_NODES) this.#next = undefined;
    return forgotten;
  }

  /** The message that goes out at the end of this turn. */
  #open(): Broken {
    if (this.#next !== undefined) return this.#next;
    const broken: Broken = { attributes: [], data: [], entries: [], directories: [], cut: [] };
    this.#next = broken;
    this.#forgotten = Promise.resolve().then(() => {
      if (this.#next === broken) this.#next = undefined;
      return this.#send(broken);
    });
    return broken;
  }

  async #send(broken: Broken): Promise<void> {
    try {
      await this.peer.call(BreakPromises, broken, { deadlineMs: 2 * this.#timeoutMs });
    } catch {
      if (this.peer.closed) return;
      // It lives and does not do as it is told: it is cut off, and believes what it knows no longer than this.
      this.peer.close();
      await new Promise<void>((resolve) => void this.#timers.after(this.#timeoutMs, resolve));
    }
  }
}
