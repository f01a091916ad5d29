/** The master: its parts, put together over one environment, and their start and stop. */
import type { Environment, Listener, Socket, Timer } from '../environment/ports/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { type MakeCheckpoint, makeCheckpoint } from './checkpointing.js';
import type { MasterOptions } from './options.js';
import { assemble, type MasterParts } from './parts.js';
import { MasterService, registerHandlers } from './service.js';
import type { LoggedState } from './state.js';
import { DataDirectoryError } from './superblock.js';

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
  readonly #environment: Environment;
  readonly #options: MasterOptions;
  readonly #onFatal: (error: unknown) => void;
  readonly #makeCheckpoint: MakeCheckpoint;
  #parts: MasterParts | undefined;
  #listener: Listener | undefined;
  #unlock: (() => Promise<void>) | undefined;
  readonly #service: MasterService;
  readonly #peers = new Set<Peer>();
  readonly #pool = new BufferPool();
  readonly #timers: Timer[] = [];
  #sweptAtMs = 0;

  constructor(environment: Environment, options: MasterOptions, surroundings: Surroundings = {}) {
    this.#environment = environment;
    this.#options = options;
    this.#onFatal = surroundings.onFatal ?? ((error) => throwOutside(environment, error));
    this.#makeCheckpoint =
      surroundings.makeCheckpoint ?? ((job, signal) => makeCheckpoint(environment, job, signal));
    this.#service = new MasterService(this.#onFatal);
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

  get #started(): MasterParts {
    if (this.#parts === undefined) throw new Error('the master has not started');
    return this.#parts;
  }

  /** @throws DataDirectoryError, DamagedLogError, or the network's error: the message says what to do */
  async start(): Promise<void> {
    const { disk, logger, timers, clock } = this.#environment;
    const { dataDirectory } = this.#options;
    await disk.makeDirectory(dataDirectory);
    this.#unlock = await this.#lock(dataDirectory);
    try {
      const parts = await assemble(this.#environment, this.#options, this.#onFatal, this.#makeCheckpoint);
      this.#parts = parts;
      registerHandlers(this.#service, parts);
      this.#sweptAtMs = clock.monotonicMs();
      this.#timers.push(timers.every(SWEEP_INTERVAL_MS, () => this.#sweep(parts)));
      this.#timers.push(timers.every(SCAN_INTERVAL_MS, () => this.#scan(parts)));
      const { host, port } = this.#options;
      this.#listener = await this.#environment.network.listen(host, port, (socket) =>
        this.#accept(socket, parts),
      );
      const { clusterId } = parts.superblock;
      logger.info({ ...this.address, clusterId, records: parts.log.recordCount }, 'the master serves');
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Finishes what is logged, closes every connection and frees the data directory. */
  async stop(): Promise<void> {
    for (const timer of this.#timers.splice(0)) timer.cancel();
    await this.#listener?.close();
    this.#parts?.chunkservers.stop();
    this.#parts?.replicator.stop();
    for (const peer of [...this.#peers]) peer.close();
    await this.#parts?.checkpointer.stop();
    await this.#parts?.log.close();
    await this.#unlock?.();
    this.#unlock = undefined;
  }

  async #lock(directory: string): Promise<() => Promise<void>> {
    try {
      return await this.#environment.disk.lock(`${directory}/lock`);
    } catch (cause) {
      if ((cause as { code?: unknown }).code !== 'EBUSY') throw cause;
      throw new DataDirectoryError(`${directory} is in use by another master`, { cause });
    }
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
    });
    this.#peers.add(peer);
    peer.onceClosed(() => this.#peers.delete(peer));
  }

  /** Who is silent is dead; but time in which this process itself did not run counts against nobody. */
  #sweep({ sessions, chunkservers }: MasterParts): void {
    const nowMs = this.#environment.clock.monotonicMs();
    const lateMs = Math.max(0, nowMs - this.#sweptAtMs - 2 * SWEEP_INTERVAL_MS);
    this.#sweptAtMs = nowMs;
    sessions.sweep(lateMs);
    chunkservers.sweep(lateMs);
  }

  #scan({ chunkservers, leases, pool, garbage, gauges, checkpointer, replicator }: MasterParts): void {
    checkpointer.sweep();
    gauges.update();
    chunkservers.fade();
    leases.sweep();
    pool.sweep();
    garbage.scan().catch(this.#onFatal);
    replicator.tick();
  }
}

function throwOutside({ timers }: Environment, error: unknown): void {
  timers.after(0, () => {
    throw error;
  });
}
