/** Where mutations become durable, then true: append, wait for the flush, apply in log order, reply. */
import type { Clock } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { LogEvent, LogRecord } from '../protocol/records.js';
import { apply, type Effects } from './apply.js';
import type { OperationLog } from './operation-log.js';
import { encodeRecord } from './segment.js';
import type { LoggedState } from './state.js';

/** The client's mutation that a record carries out. */
export interface Origin {
  readonly session: number;
  readonly sequence: number;
  readonly method: number;
}

/** For what the master does on its own. */
export const OWN: Origin = { session: 0, sequence: 0, method: 0 };

export class Journal {
  readonly #clock: Clock;
  readonly #log: OperationLog;
  readonly #state: LoggedState;
  readonly #effects: Effects;

  constructor(clock: Clock, log: OperationLog, state: LoggedState, effects: Effects) {
    this.#clock = clock;
    this.#log = log;
    this.#state = state;
    this.#effects = effects;
  }

  /**
   * Logs an event and resolves with what {@link apply} made of it, once it is durable and applied.
   * INVARIANT: whatever validated the event still holds its locks.
   * @throws NO_SPACE: it did not happen; OVERLOADED
   */
  commit<Reply>(event: LogEvent, origin: Origin = OWN): Promise<Reply> {
    const { sec, nsec } = this.#clock.wallTime();
    const { session, sequence, method } = origin;
    // What the master does on its own may use the reserve: leases end, servers come and go.
    if (this.#log.full && session !== 0)
      return Promise.reject(new GfsError('NO_SPACE', 'the disk of the operation log is full'));
    const record: LogRecord = { timeSec: sec, timeNsec: nsec, session, sequence, method, event };
    return new Promise<Reply>((resolve, reject: (error: GfsError) => void) => {
      const onDurable = (): void => resolve(apply(this.#state, record, this.#effects) as Reply);
      this.#log.append(encodeRecord(record), onDurable, reject);
    });
  }
}
