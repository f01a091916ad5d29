/**
 * Who watches which tree, and the events on their way to them. A watcher that is slower than what it watches
 * loses events, and is told how many; it never holds up a mutation.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_WATCH_EVENTS, type WatchEvent, WatchEvents } from '../protocol/messages/index.js';
import type { LogRecord } from '../protocol/records.js';
import type { Caller } from '../protocol/rpc.js';
import type { Credentials } from './namespace.js';
import { Permission, requirePermission } from './permissions.js';
import { findNode } from './resolve.js';
import type { LoggedState, Node } from './state.js';
import { describeChange, type Happened } from './watched-events.js';

const MAX_WATCHERS = 1_024;
const MAX_QUEUED_EVENTS = 4_096;
const SEND_DEADLINE_MS = 30_000;

interface Watcher {
  readonly number: number;
  readonly peer: Caller;
  readonly root: number;
  readonly caller: Credentials;
  readonly queue: WatchEvent[];
  lost: number;
  isSending: boolean;
}

export class Watchers {
  readonly #state: LoggedState;
  readonly #watchers = new Map<number, Watcher>();
  #next = 1;

  constructor(state: LoggedState) {
    this.#state = state;
  }

  get count(): number {
    return this.#watchers.size;
  }

  /** @throws STALE_NODE, ACCESS_DENIED, OVERLOADED */
  add(root: number, caller: Credentials, peer: Caller): number {
    requirePermission(findNode(this.#state, root), caller, Permission.READ);
    if (this.#watchers.size >= MAX_WATCHERS)
      throw new GfsError('OVERLOADED', `${MAX_WATCHERS} watch already`);
    const number = this.#next++;
    this.#watchers.set(number, { number, peer, root, caller, queue: [], lost: 0, isSending: false });
    peer.onceClosed(() => this.#watchers.delete(number));
    return number;
  }

  remove(number: number, peer: Caller): void {
    if (this.#watchers.get(number)?.peer === peer) this.#watchers.delete(number);
  }

  /** What a record is about to do. To be asked for before it is applied, and then {@link publish}ed. */
  describe(record: LogRecord): Happened[] {
    return this.#watchers.size === 0 ? [] : describeChange(this.#state, record);
  }

  publish(happened: readonly Happened[]): void {
    if (happened.length === 0) return;
    for (const watcher of this.#watchers.values()) {
      for (const { event, at } of happened) {
        if (at.some((node) => this.#reaches(watcher, node))) this.#queue(watcher, event);
      }
    }
  }

  /** Whether a node is the watched one or below it, in directories that the watcher may look into. */
  #reaches({ root, caller }: Watcher, from: number): boolean {
    let node: Node | undefined = this.#state.nodes.get(from);
    while (node !== undefined) {
      if (node.isDirectory && !mayLook(node, caller)) return false;
      if (node.id === root) return true;
      node = node.parent === 0 ? undefined : this.#state.nodes.get(node.parent);
    }
    return false;
  }

  #queue(watcher: Watcher, event: WatchEvent): void {
    if (watcher.queue.length >= MAX_QUEUED_EVENTS) {
      watcher.lost++;
      return;
    }
    watcher.queue.push(event);
    if (!watcher.isSending) void this.#send(watcher);
  }

  async #send(watcher: Watcher): Promise<void> {
    const { number, peer, queue } = watcher;
    watcher.isSending = true;
    try {
      // What happens in this turn goes together.
      await Promise.resolve();
      while (queue.length > 0 || watcher.lost > 0) {
        const events = queue.splice(0, MAX_WATCH_EVENTS);
        // What was lost came after everything that is queued.
        const lost = queue.length === 0 ? watcher.lost : 0;
        watcher.lost -= lost;
        await peer.call(WatchEvents, { watch: number, events, lost }, { deadlineMs: SEND_DEADLINE_MS });
      }
      watcher.isSending = false;
    } catch {
      // It is gone, or does not listen: it watches again when it comes back, and knows that it missed something.
      if (this.#watchers.delete(number)) peer.close();
    }
  }
}

function mayLook(directory: Node, caller: Credentials): boolean {
  try {
    requirePermission(directory, caller, Permission.READ | Permission.EXECUTE);
    return true;
  } catch {
    return false;
  }
}
