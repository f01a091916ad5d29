/** The master: its parts, put together over one environment, and their start and stop. */
import type { Environment, Listener, Socket, Timer } from '../environment/ports/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { Allocator } from './allocator.js';
import type { Effects } from './apply.js';
import { NodeMutations } from './attributes.js';
import { Journal } from './journal.js';
import { LockManager } from './locks.js';
import { Mutations } from './mutations.js';
import { Namespace } from './namespace.js';
import { OperationLog, type OperationLogOptions } from './operation-log.js';
import { DEFAULT_LOG_SEGMENT_BYTES, type MasterOptions } from './options.js';
import { Reads } from './reads.js';
import { recover } from './recovery.js';
import { MasterService, registerHandlers } from './service.js';
import { ClientSessions } from './sessions.js';
import type { LoggedState } from './state.js';
import { DataDirectoryError, openSuperblock, type Superblock } from './superblock.js';

const MAX_CONNECTIONS = 16_384;
const SWEEP_INTERVAL_MS = 250;

/** What the handlers are made of. */
export interface MasterParts {
  readonly options: MasterOptions;
  readonly superblock: Superblock;
  readonly state: LoggedState;
  readonly locks: LockManager;
  readonly mutations: Mutations;
  readonly namespace: Namespace;
  readonly nodes: NodeMutations;
  readonly reads: Reads;
  readonly sessions: ClientSessions;
  readonly log: OperationLog;
}

export class Master {
  readonly #environment: Environment;
  readonly #options: MasterOptions;
  readonly #onFatal: (error: unknown) => void;
  #parts: MasterParts | undefined;
  #listener: Listener | undefined;
  #unlock: (() => Promise<void>) | undefined;
  readonly #service: MasterService;
  readonly #peers = new Set<Peer>();
  readonly #pool = new BufferPool();
  readonly #timers: Timer[] = [];

  /**
   * @param onFatal called when the process must not go on (a broken invariant, a failed flush); by
   *   default the error is thrown outside of every handler, and ends the process
   */
  constructor(environment: Environment, options: MasterOptions, onFatal?: (error: unknown) => void) {
    this.#environment = environment;
    this.#options = options;
    this.#onFatal = onFatal ?? ((error) => throwOutside(environment, error));
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
    const { disk, logger, timers } = this.#environment;
    const { dataDirectory } = this.#options;
    await disk.makeDirectory(dataDirectory);
    this.#unlock = await this.#lock(dataDirectory);
    try {
      const parts = await this.#assemble(dataDirectory);
      this.#parts = parts;
      registerHandlers(this.#service, parts);
      this.#timers.push(timers.every(SWEEP_INTERVAL_MS, () => this.#sweep(parts)));
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
    for (const peer of [...this.#peers]) peer.close();
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

  async #assemble(dataDirectory: string): Promise<MasterParts> {
    const { disk, random, logger } = this.#environment;
    const options = this.#options;
    const superblock = await openSuperblock(disk, random, dataDirectory, options.chunkBytes);
    const logOptions: OperationLogOptions = {
      directory: `${dataDirectory}/log`,
      ...superblock,
      segmentBytes: options.logSegmentBytes ?? DEFAULT_LOG_SEGMENT_BYTES,
      sync: options.logSync,
      syncIntervalMs: options.logSyncIntervalMs,
    };
    const { state, position } = await recover(disk, logger, logOptions);
    const log = new OperationLog(this.#environment, logOptions, position, this.#onFatal);
    const effects: Effects = { chunkRemoved: () => undefined };
    const journal = new Journal(this.#environment.clock, log, state, effects);
    const allocator = new Allocator(state, journal);
    const locks = new LockManager();
    return {
      options,
      superblock,
      state,
      locks,
      log,
      mutations: new Mutations(locks, journal),
      namespace: new Namespace(state, allocator, options.parentLock),
      nodes: new NodeMutations(state),
      reads: new Reads(state, locks),
      sessions: new ClientSessions(state, journal, allocator, this.#environment, options.sessionTimeoutMs),
    };
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

  #sweep(parts: MasterParts): void {
    parts.sessions.sweep();
  }
}

function throwOutside({ timers }: Environment, error: unknown): void {
  timers.after(0, () => {
    throw error;
  });
}
