/** Watching a tree from any client: events as they happen, also over a restart of the master. */
import { GfsError } from '../protocol/errors.js';
import { Unwatch, Watch, type WatchEvent, WatchEvents } from '../protocol/messages/index.js';
import type { Cancellation } from '../protocol/rpc.js';
import type { CallContext } from './retry.js';
import type { MasterSession } from './session.js';

/** Events that wait for a reader who is slow; what comes then is lost. */
const MAX_QUEUED_EVENTS = 16_384;

/** Something happened, or something was missed: `count` events, or an unknown number (0) while the master was away. */
export type Watched =
  | ({ readonly type: 'event' } & WatchEvent)
  | { readonly type: 'lost'; readonly count: number };

interface Listening {
  readonly queue: Watched[];
  wake: () => void;
  /** The connection that carried it is gone. */
  isStale: boolean;
}

export class Watches {
  readonly #session: MasterSession;
  readonly #listening = new Map<number, Listening>();
  /** Events may overtake the answer that names their watch. */
  readonly #early = new Map<number, { events: readonly WatchEvent[]; lost: number }[]>();
  #starting = 0;

  constructor(session: MasterSession) {
    this.#session = session;
    session.serve(WatchEvents, async ({ watch, events, lost }) => {
      this.#take(watch, events, lost);
      return { body: {} };
    });
    session.onLost(() => {
      for (const listening of this.#listening.values()) {
        listening.isStale = true;
        listening.wake();
      }
      this.#listening.clear();
    });
  }

  /**
   * What happens to a node and below it, until the signal aborts.
   * @throws STALE_NODE when it is not there any more, ACCESS_DENIED, UNREACHABLE
   */
  async *watch(id: number, context: CallContext): AsyncGenerator<Watched> {
    for (let isFirst = true; ; isFirst = false) {
      let watch: number;
      this.#starting++;
      try {
        watch = (await this.#session.query(Watch, { id }, context)).watch;
      } catch (error) {
        if (context.signal?.aborted === true) return;
        throw error;
      } finally {
        this.#starting--;
      }
      const listening: Listening = { queue: [], wake: () => undefined, isStale: false };
      this.#listening.set(watch, listening);
      if (!isFirst) yield { type: 'lost', count: 0 };
      for (const { events, lost } of this.#early.get(watch) ?? []) this.#take(watch, events, lost);
      this.#early.clear();
      try {
        yield* this.#drain(listening, context.signal);
        if (context.signal?.aborted === true) return;
      } finally {
        if (this.#listening.delete(watch))
          void this.#session.query(Unwatch, { watch }).catch(() => undefined);
      }
    }
  }

  async *#drain(listening: Listening, signal: Cancellation | undefined): AsyncGenerator<Watched> {
    const onAbort = () => listening.wake();
    signal?.addEventListener('abort', onAbort);
    try {
      for (;;) {
        const next = listening.queue.shift();
        if (next !== undefined) yield next;
        else if (listening.isStale || signal?.aborted === true) return;
        else
          await new Promise<void>((resolve) => {
            listening.wake = resolve;
          });
      }
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #take(watch: number, events: readonly WatchEvent[], lost: number): void {
    const listening = this.#listening.get(watch);
    if (listening === undefined) {
      if (this.#starting === 0) throw new GfsError('NOT_FOUND', `nobody watches as ${watch}`);
      const early = this.#early.get(watch);
      if (early === undefined) this.#early.set(watch, [{ events, lost }]);
      else early.push({ events, lost });
      return;
    }
    for (const event of events) add(listening.queue, { type: 'event', ...event });
    if (lost > 0) add(listening.queue, { type: 'lost', count: lost });
    listening.wake();
  }
}

function add(queue: Watched[], watched: Watched): void {
  if (queue.length < MAX_QUEUED_EVENTS) {
    queue.push(watched);
    return;
  }
  const count = watched.type === 'lost' ? watched.count : 1;
  const last = queue.at(-1);
  if (last?.type === 'lost') queue[queue.length - 1] = { type: 'lost', count: last.count + count };
  else queue.push({ type: 'lost', count });
}
