/** One run: a cluster, its users, what goes wrong, and the checks, all from one seed. */
import type { GfsClient } from '../../client/index.js';
import { Create, ROOT_ID } from '../../protocol/messages/index.js';
import { formatLine, SimulatedWorld, SimulationStuck } from '../fakes/index.js';
import type { ClientContext } from './actor.js';
import { AppendModel } from './append-model.js';
import { auditFiles } from './audit.js';
import { clientOverBound, overBound } from './bounds.js';
import { SimulatedCluster } from './cluster.js';
import { Damage } from './damage.js';
import { FAULTS, type Fault, Faults } from './faults.js';
import { untilHealed } from './finale.js';
import { auditGoals } from './goal-audit.js';
import { Pages } from './guest.js';
import { Ledger, Violation } from './ledger.js';
import { checkLogs } from './log-audit.js';
import { type ClientMember, connectClient } from './members.js';
import { Operator } from './operator.js';
import { ReplicaAudit } from './replica-audit.js';
import { clusterDefaults, drawCluster } from './shape.js';
import { Shared, SharedWorker } from './shared.js';
import type { SimulationOptions, SimulationResult } from './simulation-options.js';
import { auditTrash } from './trash-audit.js';
import { WireTap } from './wire-tap.js';
import { Worker } from './worker.js';

const WORKERS_PER_CLIENT = 2;
const LOG_CHECK_INTERVAL_MS = 2_000;
/** Of the master. */
const HEAD_START_MS = 50;
const WARM_UP_MS = 1_000;
const SETTLE_MS = 8_000;
/** Liveness: so long after the last fault all work has ended, and every chunk has its replicas. */
const LIVENESS_MS = 60_000;
const AUDIT_MS = 10 * 60_000;

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
  readonly #damage: Damage;
  readonly #tap: WireTap;
  #faults: Faults | undefined;
  #operator: Operator | undefined;
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
    const cluster = { ...clusterDefaults, ...drawCluster(random), ...options };
    this.#ledger = new Ledger(this.#faultKinds.length === 0, {
      retentionMs: cluster.retentionMs,
      mayRunShort: cluster.diskBytes > 0 || this.#faultKinds.includes('full'),
    });
    this.#cluster = new SimulatedCluster(this.#world, cluster, (client, member) =>
      this.#runClient(client, member),
    );
    this.#damage = new Damage(this.#cluster);
    this.#ledger.mayBeLost = (handle) => this.#damage.mayBeLost(handle);
    this.#ledger.mayBeToldLost = (handle) => this.#damage.mayBeToldLost(handle);
    this.#tap = new WireTap(this.#world.network, (what) => this.violate(what), this.#damage);
    this.#tap.order = this.#shared.order;
    const { onMessage } = options;
    if (onMessage !== undefined) {
      const now = () => this.#world.scheduler.nowMs.toFixed(3).padStart(12);
      this.#tap.onMessage = (line) => onMessage(`${now()} ${line}`);
    }
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
      promotions: this.#operator?.promotions ?? 0,
      replacements: this.#operator?.replacements ?? 0,
      ...(violation === undefined ? {} : { violation, lastLines: log.lines.slice(-60).map(formatLine) }),
    };
  }

  async run(): Promise<void> {
    const { durationMs, losesAll = false } = this.#options;
    for (const { host } of this.#cluster.members) host.disk.losesAll = losesAll;
    this.#cluster.master.start();
    // Else they find nobody, and wait before they look again.
    await this.#world.runFor(HEAD_START_MS);
    for (const shadow of this.#cluster.shadows) shadow.start();
    for (const chunkserver of this.#cluster.chunkservers) chunkserver.start();
    await this.#makeCommonFiles();
    for (const client of this.#cluster.clients) client.start();
    await this.#runFor(this.#options.warmUpMs ?? WARM_UP_MS);
    const random = this.#world.random.fork('fault interval');
    const operator = new Operator(this.#cluster);
    this.#operator = operator;
    this.#faults = new Faults(this.#cluster, {
      faults: this.#faultKinds,
      operator,
      meanIntervalMs: this.#options.meanIntervalMs ?? random.pick([400, 1_500, 4_000]),
      onMemoryLost: () => {
        this.#ledger.hostCrashed();
        this.#shared.hostCrashed();
      },
      damage: this.#damage,
    });
    await this.#runFor(durationMs);
    this.#faults.stop();
    this.#cluster.repair();
    const repairedAtMs = this.#world.scheduler.nowMs;
    const settled = operator.settle();
    await this.#runFor(this.#options.settleMs ?? SETTLE_MS);
    this.#ledger.stopping = true;
    await this.#finish(repairedAtMs + LIVENESS_MS);
    const drained = await this.#untilDone(settled, LIVENESS_MS);
    await this.#untilHealed(operator, drained, repairedAtMs);
    if (await this.#untilDone(operator.replaceOneOf(drained), LIVENESS_MS))
      await this.#untilHealed(operator, [], this.#world.scheduler.nowMs);
    await this.#untilDone(this.#audit(), AUDIT_MS);
    this.#shared.check();
    await checkLogs(this.#cluster.logs);
  }

  async #untilHealed(operator: Operator, drained: readonly string[], sinceMs: number): Promise<void> {
    const parts = { cluster: this.#cluster, operator, drained, endMs: sinceMs + LIVENESS_MS };
    const healed = untilHealed({ ...parts, mayBeLost: () => this.#damage.lostCount });
    await this.#untilDone(healed, 2 * LIVENESS_MS);
  }

  async #makeCommonFiles(): Promise<void> {
    const make = async () => {
      const { shadows } = this.#cluster.options;
      const client = await connectClient(this.#world.process('setup'), { shadows });
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
    let hasEnded = false;
    context.process.onEnd(() => {
      this.#active--;
      if (!hasEnded) this.#ledger.clientsLost++;
      for (const file of this.#ledger.files)
        if (file.client === context.name || file.editor === context.name) file.frozen = true;
    });
    await Promise.all(workers.map((worker) => worker.run()));
    await client.shutdown();
    hasEnded = true;
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
      await checkLogs(this.#cluster.logs);
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

  async #audit(): Promise<void> {
    const process = this.#world.process('auditor');
    const client = await connectClient(process, { shadows: this.#cluster.options.shadows });
    const time = {
      nowMs: () => this.#world.scheduler.nowMs,
      sleep: (ms: number) => new Promise<void>((resolve) => void this.#world.scheduler.after(ms, resolve)),
    };
    const replicas = new ReplicaAudit(process, client, this.#ledger);
    await auditTrash(client, this.#ledger, time);
    await auditFiles(client, this.#ledger, replicas);
    await replicas.compare(this.#shared.fileId, '/shared');
    replicas.close();
    await auditGoals(client, this.#ledger, time);
    // Nothing may fail any more.
    const ledger = new Ledger(true);
    ledger.mayBeLost = this.#ledger.mayBeLost;
    const context = { name: 'auditor', client, process, ledger, reading: new Set<number>() };
    const auditor = new SharedWorker(context, 'auditor', this.#world.random.fork('auditor'), this.#shared);
    await auditor.seeAll();
  }

  #throwViolation(): void {
    const failure = this.#world.failures[0];
    if (this.#violation !== undefined) throw new Violation(this.#violation);
    if (failure !== undefined) throw failure.thrown;
  }
}
