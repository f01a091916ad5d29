/** Where mutations become durable, then true: append, wait for the flush, apply in log order, reply. */
import type { Clock } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { LogEvent, LogRecord } from '../protocol/records.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import { apply, type Effects } from './apply.js';
import type { Coherence } from './coherence.js';
import type { OperationLog } from './operation-log.js';
import { encodeRecord } from './segment.js';
import type { LoggedState } from './state.js';
import type { Watchers } from './watchers.js';

/** The client's mutation that a record carries out. */
export interface Origin {
  readonly session: number;
  readonly sequence: number;
  readonly method: number;
  /** Aborted: its client has stopped waiting for the answer. */
  readonly request?: Pick<IncomingRequest, 'aborted'>;
}

/** For what the master does on its own. */
export const OWN: Origin = { session: 0, sequence: 0, method: 0 };

/** A mutation that is durable and true. */
export interface CarriedOut<Reply> {
  readonly reply: Reply;
  /** What its reply waits for: everybody else has forgotten what they were told before. */
  readonly acknowledged: Promise<unknown> | undefined;
}

export class Journal {
  readonly #clock: Clock;
  readonly #log: OperationLog;
  readonly #state: LoggedState;
  readonly #effects: Effects;
  readonly #coherence: Coherence;
  readonly #watchers: Watchers;

  constructor(
    clock: Clock,
    log: OperationLog,
    state: LoggedState,
    effects: Effects,
    coherence: Coherence,
    watchers: Watchers,
  ) {
    this.#clock = clock;
    this.#log = log;
    this.#state = state;
    this.#effects = effects;
    this.#coherence = coherence;
    this.#watchers = watchers;
  }

  /**
   * Logs an event and resolves with what {@link apply} made of it, once it is durable and applied.
   * INVARIANT: whatever validated the event still holds its locks.
   * @param first ahead of all that waits for the log
   * @throws NO_SPACE: it did not happen; OVERLOADED
   */
  async commit<Reply>(event: LogEvent, origin: Origin = OWN, first = false): Promise<Reply> {
    return (await this.carryOut<Reply>(event, origin, first)).reply;
  }

  /** {@link commit}, for a mutation that somebody waits for. The locks are released before what it waits for. */
  carryOut<Reply>(event: LogEvent, origin: Origin, first = false): Promise<CarriedOut<Reply>> {
    const { sec, nsec } = this.#clock.wallTime();
    const { session, sequence, method } = origin;
    // What the master does on its own may use the reserve: leases end, servers come and go.
    if (this.#log.full && session !== 0)
      return Promise.reject(new GfsError('NO_SPACE', 'the disk of the operation log is full'));
    const record: LogRecord = { timeSec: sec, timeNsec: nsec, session, sequence, method, event };
    return new Promise<CarriedOut<Reply>>((resolve, reject: (error: GfsError) => void) => {
      const onDurable = (): void => {
        const touched = this.#coherence.touches(event);
        const happened = this.#watchers.describe(record);
        const reply = apply(this.#state, record, this.#effects) as Reply;
        this.#watchers.publish(happened);
        const { acknowledged, extras } = this.#coherence.applied(
          record,
          touched,
          origin.request?.aborted !== undefined,
        );
        resolve({ reply: extras === undefined ? reply : { ...reply, ...extras }, acknowledged });
      };
      this.#log.append(encodeRecord(record), onDurable, reject, session, first);
    });
  }
}
