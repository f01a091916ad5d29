/** What everybody who works in a simulation has: a name, a client, chance, and failures that are excused. */
import type { GfsClient } from '../../client/index.js';
import { toGfsError } from '../../protocol/errors.js';
import type { FakeProcess, FakeRandom } from '../fakes/index.js';
import type { Pages } from './guest.js';
import { type Ledger, Violation } from './ledger.js';

/** Failures that the contracts allow while something is broken. Reactions other than `never` end in these. */
const EXCUSABLE = new Set(['DEADLINE_EXCEEDED', 'UNKNOWN_OUTCOME', 'NO_SPACE', 'READ_ONLY']);

/** What the workers of one client share. */
export interface ClientContext {
  readonly name: string;
  readonly client: GfsClient;
  readonly process: FakeProcess;
  readonly ledger: Ledger;
  /** Files of others that are being read here: one reader at a time, so that each opens it anew. */
  readonly reading: Set<number>;
  /** What its kernel keeps of files of others, where it caches. */
  readonly pages?: Pages;
}

export type Attempt = <T>(what: string, run: () => Promise<T>) => Promise<T | undefined>;

export class Actor {
  readonly context: ClientContext;
  readonly name: string;
  readonly random: FakeRandom;
  /** Further failures that are allowed now. */
  readonly excused = new Set<string>();

  constructor(context: ClientContext, name: string, random: FakeRandom) {
    this.context = context;
    this.name = name;
    this.random = random;
  }

  get client(): GfsClient {
    return this.context.client;
  }

  get ledger(): Ledger {
    return this.context.ledger;
  }

  /** By the world's clock, which no host has. */
  get nowMs(): number {
    return this.context.process.host.world.scheduler.nowMs;
  }

  pause(longestMs: number): Promise<void> {
    const delayMs = this.random.between(0, longestMs);
    return new Promise((resolve) => this.context.process.environment.timers.after(delayMs, resolve));
  }

  /** Does something that may fail while things are broken. @returns undefined when it did */
  readonly attempt: Attempt = (what, run) => this.attemptOr(what, [], run);

  /** As {@link attempt}; an error of `answers` is no failure, it is returned. */
  async attemptOr<T, Code extends string>(
    what: string,
    answers: readonly Code[],
    run: () => Promise<T>,
  ): Promise<T | Code | undefined> {
    const { ledger, process } = this.context;
    process.environment.logger.debug({}, `${this.name}: ${what}`);
    try {
      const result = await run();
      ledger.succeeded++;
      return result;
    } catch (thrown) {
      if (thrown instanceof Violation) throw thrown;
      const error = toGfsError(thrown);
      const answer = answers.find((code) => code === error.code);
      if (answer !== undefined) return answer;
      const isLost = error.code === 'CHUNK_LOST' && ledger.excusesLoss(error.message);
      const excused = EXCUSABLE.has(error.code) || this.excused.has(error.code) || error.reaction !== 'never';
      process.environment.logger.debug({ code: error.code }, `${this.name}: ${what} failed`);
      if (!isLost && (ledger.calm || !excused)) {
        throw new Violation(`${this.name}: ${what}: ${error.code} ${error.message}`, { cause: thrown });
      }
      ledger.failed++;
      return undefined;
    }
  }

  wrong(what: string, problem: string | undefined): void {
    if (problem !== undefined) throw new Violation(`${this.name}: ${what}: ${problem}`);
  }
}
