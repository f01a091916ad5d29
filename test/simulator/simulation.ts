/** One run: a cluster, its users, what goes wrong, and the checks, all from one seed. */
import type { GfsClient } from '../../client/index.js';
import { Create, GetStatus, ROOT_ID } from '../../protocol/messages/index.js';
import { formatLine, SimulatedWorld, SimulationStuck } from '../fakes/index.js';
import type { ClientContext } from './actor.js';
import { AppendModel } from './append-model.js';
import { auditFiles, logMatchesState, shadowAgrees } from './audit.js';
import { clientOverBound, overBound } from './bounds.js';
import {
  type ClientMember,
  type ClusterOptions,
  clusterDefaults,
  connectClient,
  drawCluster,
  SimulatedCluster,
} from './cluster.js';
import { FAULTS, type Fault, Faults } from './faults.js';
import { Pages } from './guest.js';
import { Ledger, Violation } from './ledger.js';
import { ReplicaAudit } from './replica-audit.js';
import { Shared, SharedWorker } from './shared.js';
import { WireTap } from './wire-tap.js';
import { Worker } from './worker.js';

const WORKERS_PER_CLIENT = 2;
const LOG_CHECK_INTERVAL_MS = 2_000;
/** A record may be on its way from the disk to the master's memory for so many events; looked at now and then. */
const LOG_CHECK_EVENTS = 2_000;
const EVENTS_PER_LOG_CHECK = 25;
const SILENCE_SHOWS_MS = 4_000;
const WARM_UP_MS = 1_000;
const SETTLE_MS = 8_000;
/** Liveness: so long after the last fault all work has ended, and every chunk has its replicas. */
const LIVENESS_MS = 60_000;
const AUDIT_MS = 120_000;
const GOAL_CHECK_INTERVAL_MS = 500;

export interface SimulationOptions extends Partial<ClusterOptions> {
  readonly seed: number;
  /** Virtual time under load and faults. */
  readonly durationMs: number;
  /** And under load alone, before the first fault. */
  readonly warmUpMs?: number;
  /** After the repair, how long the load goes on before it ends. */
  readonly settleMs?: number;
  /** Which may happen; by default the seed chooses. */
  readonly faults?: readonly Fault[];
  /** How long it is from one fault to the next, on average; by default the seed chooses. */
  readonly meanIntervalMs?: number;
  /** A host crash keeps nothing that was not flushed, instead of this and that. */
  readonly losesAll?: boolean;
  /** Called with every line that any process logs. */
  readonly onLine?: (line: string) => void;
  /** Called with every request and response. */
  readonly onMessage?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly digest: string;
  readonly events: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Mutations of chunks that primaries acknowledged. */
  readonly acknowledged: number;
  /** Histories of which the checker could not tell in its time whether they are linearisable. */
  readonly undecided: number;
  readonly faults: Readonly<Record<string, number>>;
  /** What was broken; absent when all is well. */
  readonly violation?: string;
  /** The last that was logged before. */
  readonly lastLines?: readonly string[];
}

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const simulation = new Simulation(options);
  const onUnhandled = (thrown: unknown) => simulation.violate(`unhandled rejection: ${describe(thrown)}`);
  process.on('unhandledRejection', onUnhandled);
  try {
    await simulation.run();
  } catch (thrown) {
    simulation.violate(describe(thrown));
  } finally {
    process.off('unhandledRejection', onUnhandled);
  }
  return simulation.result();
}

function describe(thrown: unknown): string {
  if (thrown instanceof Violation || thrown instanceof SimulationStuck)
    return `${thrown.name}: ${thrown.message}`;
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #world: SimulatedWorld;
  readonly #ledger: Ledger;
  readonly #shared = new Shared();
  readonly #cluster: SimulatedCluster;
  readonly #faultKinds: readonly Fault[];
  readonly #tap: WireTap;
  #faults: Faults | undefined;
  #violation: string | undefined;
  #active = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#world = new SimulatedWorld(options.seed);
    const { onLine } = options;
    if (onLine !== undefined) this.#world.log.onLine = (line) => onLine(formatLine(line));
    const random = this.#world.random.fork('simulation');
    // Some seeds know only some kinds of faults: each has to be survived for itself too.
    this.#faultKinds = options.faults ?? FAULTS.filter(() => random.chance(0.5));
    this.#ledger = new Ledger(this.#faultKinds.length === 0);
    this.#tap = new WireTap(this.#world.network, (what) => this.violate(what));
    const { onMessage } = options;
    if (onMessage !== undefined) {
      const now = () => this.#world.scheduler.nowMs.toFixed(3).padStart(12);
      this.#tap.onMessage = (line) => onMessage(`${now()} ${line}`);
    }
    const cluster = { ...clusterDefaults, ...drawCluster(random), ...options };
    this.#cluster = new SimulatedCluster(this.#world, cluster, (client, member) =>
      this.#runClient(client, member),
    );
  }

  violate(what: string): void {
    this.#violation ??= what;
  }

  result(): SimulationResult {
    const { seed } = this.#options;
    const { scheduler, log } = this.#world;
    const { succeeded, failed } = this.#ledger;
    const failure = this.#world.failures[0];
    const violation =
      this.#violation ?? (failure && `${failure.process} failed: ${describe(failure.thrown)}`);
    return {
      seed,
      digest: scheduler.digest,
      events: scheduler.eventCount,
      succeeded,
      failed,
      acknowledged: this.#tap.acknowledgedCount,
      undecided: this.#shared.undecided,
      faults: Object.fromEntries(this.#faults?.counts ?? []),
      ...(violation === undefined ? {} : { violation, lastLines: log.lines.slice(-60).map(formatLine) }),
    };
  }

  async run(): Promise<void> {
    const { durationMs, losesAll = false } = this.#options;
    for (const { host } of this.#cluster.members) host.disk.losesAll = losesAll;
    this.#cluster.master.start();
    for (const shadow of this.#cluster.shadows) shadow.start();
    for (const chunkserver of this.#cluster.chunkservers) chunkserver.start();
    await this.#makeCommonFiles();
    for (const client of this.#cluster.clients) client.start();
    await this.#runFor(this.#options.warmUpMs ?? WARM_UP_MS);
    const random = this.#world.random.fork('fault interval');
    this.#faults = new Faults(this.#cluster, {
      faults: this.#faultKinds,
      meanIntervalMs: this.#options.meanIntervalMs ?? random.pick([400, 1_500, 4_000]),
      onMemoryLost: () => {
        this.#ledger.hostCrashed();
        this.#shared.hostCrashed();
      },
      onFlip: (handle) => this.#ledger.flipped.add(handle),
    });
    await this.#runFor(durationMs);
    this.#faults.stop();
    this.#cluster.repair();
    const repairedAtMs = this.#world.scheduler.nowMs;
    await this.#runFor(this.#options.settleMs ?? SETTLE_MS);
    this.#ledger.stopping = true;
    await this.#finish(repairedAtMs + LIVENESS_MS);
    await this.#untilDone(this.#untilAtGoal(repairedAtMs + LIVENESS_MS), LIVENESS_MS);
    await this.#untilDone(this.#audit(), AUDIT_MS);
    this.#shared.check();
    await this.#checkLog();
  }

  async #makeCommonFiles(): Promise<void> {
    const make = async () => {
      const client = await connectClient(this.#world.process('setup'));
      for (const mode of ['record', 'exact'] as const) {
        const body = { parent: ROOT_ID, name: `appended-${mode}`, mode: 0o100666, rdev: 0, exclusive: true };
        const { attributes } = await client.master.mutate(Create, body);
        const file = { id: attributes.id, path: `/${body.name}`, mode, model: new AppendModel() };
        this.#ledger.appendFiles.push(file);
      }
      await this.#shared.make(client);
      await client.shutdown();
    };
    await this.#untilDone(make(), AUDIT_MS);
  }

  async #runClient(client: GfsClient, member: ClientMember): Promise<void> {
    const { host, life } = member;
    const context: ClientContext = {
      name: `${host.name}.${life}`,
      client,
      process: member.process as NonNullable<typeof member.process>,
      ledger: this.#ledger,
      reading: new Set(),
      ...(client.master.caches ? { pages: new Pages(client) } : {}),
    };
    const randomOf = (name: string) => this.#world.random.fork(`worker ${name}`);
    const workers: { run(): Promise<void> }[] = Array.from({ length: WORKERS_PER_CLIENT }, (_, i) => {
      const name = `${context.name}.${i}`;
      return new Worker(context, name, randomOf(name));
    });
    const name = `${context.name}.shared`;
    workers.push(new SharedWorker(context, name, randomOf(name), this.#shared));
    this.#active++;
    context.process.onEnd(() => {
      this.#active--;
      for (const file of this.#ledger.files)
        if (file.client === context.name || file.editor === context.name) file.frozen = true;
    });
    await Promise.all(workers.map((worker) => worker.run()));
    await client.shutdown();
    context.process.crash();
  }

  /** Time goes by; the log is checked against the master again and again. */
  async #runFor(durationMs: number): Promise<void> {
    const endMs = this.#world.scheduler.nowMs + durationMs;
    while (this.#world.scheduler.nowMs < endMs) {
      const leftMs = endMs - this.#world.scheduler.nowMs;
      await this.#world.runFor(Math.min(LOG_CHECK_INTERVAL_MS, leftMs));
      this.#throwViolation();
      this.#checkBounds();
      await this.#checkLog();
    }
  }

  #checkBounds(): void {
    const { members, clients, options } = this.#cluster;
    for (const { process } of members) {
      const problem = process?.alive === true ? overBound(process.metrics, options) : undefined;
      if (problem !== undefined) throw new Violation(`${process?.name}: ${problem}`);
    }
    for (const { process, client } of clients) {
      const usage = process?.alive === true ? client?.usage : undefined;
      const problem = usage && clientOverBound(usage, options);
      if (problem !== undefined) throw new Violation(`${process?.name}: ${problem}`);
    }
  }

  async #untilDone<T>(promise: Promise<T>, limitMs: number): Promise<T> {
    const result = await this.#world.until(promise, limitMs);
    this.#throwViolation();
    return result;
  }

  /** Until every worker has ended. */
  async #finish(endMs: number): Promise<void> {
    while (this.#active > 0) {
      await this.#world.runFor(100);
      this.#throwViolation();
      if (this.#world.scheduler.nowMs > endMs) {
        throw new Violation(`${this.#active} clients are still at work ${LIVENESS_MS} ms after the repair`);
      }
    }
  }

  /** Until every chunk has as many replicas as it should. */
  async #untilAtGoal(endMs: number): Promise<void> {
    const process = this.#world.process('observer');
    const client = await connectClient(process);
    for (;;) {
      const { ready, chunksBelowGoal, chunksUnavailable } = await client.master.query(GetStatus, {});
      if (ready && chunksBelowGoal + chunksUnavailable === 0) break;
      if (this.#world.scheduler.nowMs > endMs) {
        // Of what was damaged on its disk there may have been no other replica.
        if (ready && chunksBelowGoal === 0 && chunksUnavailable <= this.#ledger.flipped.size) break;
        const missing = `${chunksBelowGoal} chunks are below their goal, ${chunksUnavailable} unavailable`;
        throw new Violation(`${missing} ${LIVENESS_MS} ms after the repair`);
      }
      await new Promise<void>((resolve) => {
        process.environment.timers.after(GOAL_CHECK_INTERVAL_MS, resolve);
      });
    }
    await client.shutdown();
  }

  async #audit(): Promise<void> {
    const process = this.#world.process('auditor');
    const client = await connectClient(process);
    const replicas = new ReplicaAudit(process, client, this.#ledger);
    await auditFiles(client, this.#ledger, replicas);
    await replicas.compare(this.#shared.fileId, '/shared');
    replicas.close();
    // Nothing may fail any more.
    const ledger = new Ledger(true);
    const context = { name: 'auditor', client, process, ledger, reading: new Set<number>() };
    const auditor = new SharedWorker(context, 'auditor', this.#world.random.fork('auditor'), this.#shared);
    await auditor.seeAll();
  }

  async #checkLog(): Promise<void> {
    const { master, shadows } = this.#cluster;
    for (const shadow of shadows) {
      if (shadowAgrees(master, shadow) === false)
        throw new Violation(`${shadow.host.name} has the master's log and another state`);
    }
    for (let events = 0; events < LOG_CHECK_EVENTS; events++) {
      if (events % EVENTS_PER_LOG_CHECK === 0 && (await logMatchesState(master)) !== false) return;
      await this.#world.scheduler.step();
      this.#throwViolation();
    }
    // What a log replica does not answer for is in the log, and not true yet, for as long as that lasts. Its silence
    // shows only after a while.
    const isMissing = () => (master.process?.metrics.value('gfs_master_log_replicas_missing') ?? 0) > 0;
    for (let waitedMs = 0; shadows.length > 0 && waitedMs < SILENCE_SHOWS_MS; waitedMs += 100) {
      if (isMissing() || (await logMatchesState(master)) !== false) return;
      await this.#world.runFor(100);
      this.#throwViolation();
    }
    // And on a slow disk a flush may take longer than all that was stepped through.
    if (master.host.disk.slowness > 1) return;
    throw new Violation('the log does not replay to the state that the master has');
  }

  #throwViolation(): void {
    const failure = this.#world.failures[0];
    if (this.#violation !== undefined) throw new Violation(this.#violation);
    if (failure !== undefined) throw failure.thrown;
  }
}
