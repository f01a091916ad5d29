/** A host with the operation log: the master's or a shadow's, whichever it is now. */
import { Master } from '../../master/master.js';
import { type MasterOptions, masterDefaults } from '../../master/options.js';
import { Shadow } from '../../master/shadow.js';
import type { LoggedState } from '../../master/state.js';
import { ReplacedError } from '../../master/tenure.js';
import { KIB } from '../../protocol/limits.js';
import type { FakeHost, FakeProcess } from '../fakes/index.js';
import { begin, end, type Member } from './programs.js';
import type { ClusterOptions } from './shape.js';

export const MASTER_DIRECTORY = '/master';
const MASTER_PORT = 5000;
const SHADOW_PORT = 5001;
/** Until somebody does what a master says that finds itself replaced: has its host follow the new one. */
const DEMOTION_MS = 1_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Every host that may be the master, as a configuration should name them. */
export function mastersOf({ shadows }: Pick<ClusterOptions, 'shadows'>): readonly Address[] {
  const others = Array.from({ length: shadows }, (_, i) => ({ host: `shadow${i + 1}`, port: SHADOW_PORT }));
  return [{ host: 'master', port: MASTER_PORT }, ...others];
}

/** What its log says, as far as it counts there. */
export interface Copy {
  readonly state: LoggedState;
  /** Of the last record, which term and place tell from all others. */
  readonly lastTerm: number;
  readonly endSequence: number;
}

export class LogMember implements Member {
  readonly host: FakeHost;
  readonly port: number;
  process: FakeProcess | undefined;
  readonly #options: ClusterOptions;
  #program: Master | Shadow | undefined;
  #begins: 'master' | 'shadow';

  /** @param begins as what; a shadow that was promoted stays the master, a master that was replaced is a shadow then */
  constructor(host: FakeHost, options: ClusterOptions, begins: 'master' | 'shadow') {
    this.host = host;
    this.port = begins === 'master' ? MASTER_PORT : SHADOW_PORT;
    this.#options = options;
    this.#begins = begins;
  }

  /** That serves here, or would. */
  get master(): Master | undefined {
    return this.#program instanceof Shadow ? this.#program.master : this.#program;
  }

  /** That follows here. */
  get shadow(): Shadow | undefined {
    return this.#program instanceof Shadow && this.#program.master === undefined ? this.#program : undefined;
  }

  /** Undefined while nothing runs here that has one. */
  get copy(): Copy | undefined {
    if (this.process?.alive !== true) return undefined;
    const { master, shadow } = this;
    const state = master?.state ?? shadow?.state;
    if (state === undefined) return undefined;
    const endSequence = master?.logEndSequence ?? shadow?.endSequence ?? 0;
    return { state, lastTerm: endSequence === 0 ? 0 : Math.max(...state.terms.keys()), endSequence };
  }

  start(): void {
    const process = this.host.start(this.host.name);
    this.process = process;
    this.#program = undefined;
    const run = async () => {
      if (this.#begins === 'master') await this.#startMaster(process);
      else await this.#startShadow(process);
    };
    begin(process, () =>
      run().catch((thrown: unknown) => {
        if (!(thrown instanceof ReplacedError)) throw thrown;
        this.#demote(process);
      }),
    );
  }

  stop(): void {
    const { process } = this;
    const program = this.#program;
    if (process !== undefined && program !== undefined) end(process, () => program.stop());
  }

  async #startMaster(process: FakeProcess): Promise<void> {
    const options = logOptions(this.host, this.port, this.#options);
    const master = new Master(process.environment, options, { onFatal: (error) => process.fail(error) });
    void master.replaced.then(() => this.#demote(process));
    await master.start();
    this.#program = master;
  }

  async #startShadow(process: FakeProcess): Promise<void> {
    const options = logOptions(this.host, this.port, this.#options);
    const masters = mastersOf(this.#options).filter(({ host }) => host !== this.host.name);
    const shadow = new Shadow(process.environment, { ...options, masters });
    void shadow.failed.then((error) => {
      if (error instanceof ReplacedError) this.#demote(process);
      else process.fail(error);
    });
    await shadow.start();
    this.#program = shadow;
  }

  #demote(process: FakeProcess): void {
    process.crash();
    this.#begins = 'shadow';
    this.host.world.scheduler.after(DEMOTION_MS, () => {
      if (this.process === process && this.host.up) this.start();
    });
  }
}

function logOptions(host: FakeHost, port: number, options: ClusterOptions): MasterOptions {
  const { chunkBytes, leaseDurationMs, logSegmentBytes, retentionMs, logCommit } = options;
  const { replicationWaitMs, parentLock, maxPromises } = options;
  return {
    ...masterDefaults,
    dataDirectory: MASTER_DIRECTORY,
    host: host.name,
    port,
    chunkBytes,
    leaseDurationMs,
    logSegmentBytes,
    logCommit,
    retentionMs,
    replication: { ...masterDefaults.replication, waitMs: replicationWaitMs },
    parentLock,
    maxPromises,
    logReserveBytes: Math.min(8 * KIB, logSegmentBytes),
    checkpointBytes: 2 * logSegmentBytes,
  };
}
