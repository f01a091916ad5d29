/** The master: its parts, put together over one environment, and their start and stop. */
import type { Disk, Environment, Listener, Socket, Timer } from '../environment/ports/index.js';
import type { Member } from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { RpcTrace, serveTrace } from '../protocol/rpc-trace.js';
import { type MakeCheckpoint, makeCheckpoint } from './checkpointing.js';
import type { MasterOptions } from './options.js';
import { assemble, type MasterParts } from './parts.js';
import { MasterService, registerHandlers } from './service.js';
import type { LoggedState } from './state.js';
import { DataDirectoryError } from './superblock.js';
import type { ReplacedError } from './tenure.js';

const MAX_CONNECTIONS = 16_384;
const SWEEP_INTERVAL_MS = 250;
const SCAN_INTERVAL_MS = 1_000;

/** What a program may have done otherwise. */
export interface Surroundings {
  /**
   * Called when the process must not go on (a broken invariant, a failed flush); by default the error is
   * thrown outside of every handler, and ends the process.
   */
  readonly onFatal?: (error: unknown) => void;
  /** By default in turns of this event loop. */
  readonly makeCheckpoint?: MakeCheckpoint;
}

export class Master {
  /** Resolves when another master serves, in a later term: the process has to end. */
  readonly replaced: Promise<ReplacedError>;
  readonly #environment: Environment;
  readonly #options: MasterOptions;
  readonly #onFatal: (error: unknown) => void;
  readonly #makeCheckpoint: MakeCheckpoint;
  #parts: MasterParts | undefined;
  #listener: Listener | undefined;
  #unlock: (() => Promise<void>) | undefined;
  #service: MasterService;
  readonly #peers = new Set<Peer>();
  readonly #pool = new BufferPool();
  readonly #timers: Timer[] = [];
  #trace: RpcTrace | undefined;
  #sweptAtMs = 0;
  #stopped = false;
  #startingAgain: Promise<void> | undefined;
  #replacedBy: ReplacedError | undefined;
  #onReplaced!: (error: ReplacedError) => void;

  constructor(environment: Environment, options: MasterOptions, surroundings: Surroundings = {}) {
    this.#environment = environment;
    this.#options = options;
    this.#onFatal = surroundings.onFatal ?? ((error) => throwOutside(environment, error));
    this.#makeCheckpoint =
      surroundings.makeCheckpoint ?? ((job, signal) => makeCheckpoint(environment, job, signal));
    this.#service = new MasterService(this.#onFatal);
    this.replaced = new Promise((resolve) => {
      this.#onReplaced = resolve;
    });
  }

  /** Where it listens. */
  get address(): { readonly host: string; readonly port: number } {
    if (this.#listener === undefined) throw new Error('the master has not started');
    return { host: this.#listener.host, port: this.#listener.port };
  }

  /** What the log says, live: for tests and the simulator, to look at only. */
  get state(): LoggedState {
    return this.#started.state;
  }

  /** The last record that is durable and applied: for tests and the simulator. */
  get logEndSequence(): number {
    return this.#started.log.endSequence;
  }

  /** In which it serves, or was last: for tests and the simulator. */
  get term(): number {
    return this.#started.superblock.term;
  }

  /**
   * Whether all that its log says counts: its term has begun, and the record that says so is applied. Before, a
   * restarted master may have records at the end of its log that no log replica took: for the simulator.
   */
  get logCounts(): boolean {
    const { tenure, state, superblock } = this.#started;
    return tenure.begun && state.terms.has(superblock.term);
  }

  get #started(): MasterParts {
    if (this.#parts === undefined) throw new Error('the master has not started');
    return this.#parts;
  }

  /** @throws DataDirectoryError, DamagedLogError, ReplacedError, or the network's error: the message says what to do */
  start(): Promise<void> {
    const { host, port } = this.#options;
    return this.#open(host, port);
  }

  async #open(host: string, port: number): Promise<void> {
    const { disk, logger, timers, clock } = this.#environment;
    const { dataDirectory } = this.#options;
    await disk.makeDirectory(dataDirectory);
    this.#unlock = await lockDirectory(disk, dataDirectory);
    try {
      const parts = await assemble(this.#environment, this.#options, {
        onFatal: this.#onFatal,
        makeCheckpoint: this.#makeCheckpoint,
        onReplaced: (error) => this.#replace(error),
        onOvertaken: () => void this.#startAgain(),
        self: ({ id }) => this.#member(id),
      });
      this.#parts = parts;
      registerHandlers(this.#service, parts);
      this.#service.watch = parts.watch;
      await parts.tenure.seek();
      if (this.#replacedBy !== undefined) throw this.#replacedBy;
      this.#trace = this.#makeTrace(parts);
      serveTrace(this.#service, this.#trace);
      this.#sweptAtMs = clock.monotonicMs();
      this.#timers.push(timers.every(SWEEP_INTERVAL_MS, () => this.#sweep(parts)));
      this.#timers.push(timers.every(SCAN_INTERVAL_MS, () => this.#scan(parts)));
      this.#timers.push(parts.watch.watchLoop(timers));
      this.#listener = await this.#environment.network.listen(host, port, (socket) =>
        this.#accept(socket, parts),
      );
      const { clusterId } = parts.superblock;
      logger.info({ ...this.address, clusterId, records: parts.log.recordCount }, 'the master serves');
    } catch (error) {
      await this.#close();
      throw error;
    }
  }

  /** Finishes what is logged, closes every connection and frees the data directory. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#startingAgain;
    await this.#close();
  }

  async #close(): Promise<void> {
    for (const timer of this.#timers.splice(0)) timer.cancel();
    await this.#listener?.close();
    this.#parts?.chunkservers.stop();
    this.#parts?.replicator.stop();
    this.#parts?.log.prepareToClose();
    await this.#parts?.logReplicas.stop();
    for (const peer of [...this.#peers]) peer.close();
    await this.#parts?.checkpointer.stop();
    await this.#parts?.log.close();
    await this.#trace?.close();
    await this.#unlock?.();
    this.#unlock = undefined;
  }

  /** As a restart of its process would: it begins a later term, and everybody comes again. */
  async #startAgain(): Promise<void> {
    if (this.#startingAgain !== undefined || this.#stopped) return;
    const { host, port } = this.address;
    const again = async () => {
      await this.#close();
      this.#service = new MasterService(this.#onFatal);
      await this.#open(host, port);
    };
    this.#startingAgain = again()
      // Whoever was to hear that it was replaced has heard it.
      .catch((error) => (error === this.#replacedBy ? undefined : this.#onFatal(error)))
      .finally(() => {
        this.#startingAgain = undefined;
      });
    await this.#startingAgain;
  }

  /** Where others reach it. */
  #member(id: string): Member {
    const { advertiseHost, host, port } = this.#options;
    return { id, host: advertiseHost ?? host, port: this.#listener?.port ?? port };
  }

  #replace(error: ReplacedError): void {
    this.#environment.logger.error({ by: error.by }, error.message);
    this.#replacedBy = error;
    this.#onReplaced(error);
  }

  #makeTrace({ superblock }: MasterParts): RpcTrace | undefined {
    const { traceBytes, dataDirectory } = this.#options;
    if (traceBytes === undefined) return undefined;
    const directory = `${dataDirectory}/trace`;
    return new RpcTrace(this.#environment, {
      ...{ role: 'master', id: superblock.clusterId, directory, totalBytes: traceBytes },
    });
  }

  #accept(socket: Socket, { superblock }: MasterParts): void {
    const { clock, timers, logger } = this.#environment;
    if (this.#peers.size >= MAX_CONNECTIONS) {
      logger.warn({ remote: socket.remote }, 'too many connections');
      socket.destroy();
      return;
    }
    const peer = new Peer(socket, {
      role: 'master',
      id: superblock.clusterId,
      clusterId: () => superblock.clusterId,
      term: () => superblock.term,
      service: this.#service,
      pool: this.#pool,
      clock,
      timers,
      logger,
      trace: this.#trace,
    });
    this.#peers.add(peer);
    peer.onceClosed(() => this.#peers.delete(peer));
  }

  /** Who is silent is dead; but time in which this process itself did not run counts against nobody. */
  #sweep({ sessions, chunkservers, logReplicas }: MasterParts): void {
    const nowMs = this.#environment.clock.monotonicMs();
    const lateMs = Math.max(0, nowMs - this.#sweptAtMs - 2 * SWEEP_INTERVAL_MS);
    this.#sweptAtMs = nowMs;
    sessions.sweep(lateMs);
    chunkservers.sweep(lateMs);
    logReplicas.sweep(lateMs);
  }

  #scan({
    chunkservers,
    leases,
    pool,
    garbage,
    gauges,
    checkpointer,
    replicator,
    goalAudit,
    gate,
    watch,
    orphans,
  }: MasterParts): void {
    checkpointer.sweep();
    gauges.update();
    watch.update();
    orphans.sweep();
    chunkservers.fade();
    leases.sweep();
    pool.sweep();
    replicator.tick();
    if (gate.stalled) return;
    goalAudit.tick();
    garbage.scan().catch(this.#onFatal);
  }
}

/** @throws DataDirectoryError when another process has it */
export async function lockDirectory(disk: Disk, directory: string): Promise<() => Promise<void>> {
  try {
    return await disk.lock(`${directory}/lock`);
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'EBUSY') throw cause;
    throw new DataDirectoryError(`${directory} is in use by another master`, { cause });
  }
}

export function throwOutside({ timers }: Environment, error: unknown): void {
  timers.after(0, () => {
    throw error;
  });
}
