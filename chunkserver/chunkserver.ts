/** A chunkserver: its parts put together. */
import type { Environment, Listener, Logger, Timer } from '../environment/ports/index.js';
import { MIB } from '../protocol/limits.js';
import { Scrub, type Server } from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer, type PeerOptions } from '../protocol/peer.js';
import { Service } from '../protocol/rpc.js';
import { RpcTrace, serveTrace } from '../protocol/rpc-trace.js';
import { Activity } from './activity.js';
import { Cloner } from './clone.js';
import { DataService } from './data-service.js';
import { keepGauges } from './gauges.js';
import { LeaseTable } from './leases.js';
import { MasterService } from './master-service.js';
import { MasterSession } from './master-session.js';
import type { ChunkserverOptions } from './options.js';
import { Peers } from './peers.js';
import { Primary } from './primary.js';
import { PushBuffer } from './push-buffer.js';
import { Scrubber } from './scrubber.js';
import { Secondary } from './secondary.js';
import { SerialOrder } from './serial-order.js';
import { ShadowSessions } from './shadow-sessions.js';
import { Spiller } from './spill.js';
import { Store } from './store/store.js';

const POOL_BYTES = 64 * MIB;
const SERVER_ID_DIGITS = 16;

interface Running {
  readonly store: Store;
  readonly session: MasterSession;
  readonly shadows: ShadowSessions;
  readonly peers: Peers;
  readonly leases: LeaseTable;
  readonly listener: Listener;
  readonly gauges: Timer;
  readonly scrubber: Scrubber;
}

export class Chunkserver {
  /** Resolves with the reason when the server cannot go on: its process has to end (a flush failed, a wrong cluster). */
  readonly failed: Promise<Error>;
  readonly #environment: Environment;
  readonly #options: ChunkserverOptions;
  readonly #logger: Logger;
  readonly #pool: BufferPool;
  readonly #incoming = new Set<Peer>();
  #running: Running | undefined;
  #trace: RpcTrace | undefined;
  #stopping = false;
  #onFailed!: (error: Error) => void;

  constructor(environment: Environment, options: ChunkserverOptions) {
    this.#environment = environment;
    this.#options = options;
    const allocate = (sizeBytes: number) => asBuffer(environment.disk.allocate(sizeBytes));
    this.#pool = new BufferPool(POOL_BYTES, allocate, true);
    this.#logger = environment.logger;
    this.failed = new Promise((resolve) => {
      this.#onFailed = resolve;
    });
  }

  /** Where it listens. */
  get address(): { host: string; port: number } {
    const { host, port } = this.#started.listener;
    return { host, port };
  }

  get serverId(): string {
    return this.#started.store.serverId;
  }

  get #started(): Running {
    if (this.#running === undefined) throw new Error('the chunkserver has not started');
    return this.#running;
  }

  /**
   * Recovers the data and listens. The master is looked for in the background.
   * @throws Error that names the data directory or the port
   */
  async start(): Promise<void> {
    const { disk, clock, timers, random, bootId } = this.#environment;
    const { dataDirectories, sync, reservedBytes, checkpointBytes } = this.#options;
    const onFatal = (error: Error): void => this.#fail(error);
    const logger = this.#logger;
    const settings = { sync, reservedBytes, ...(checkpointBytes === undefined ? {} : { checkpointBytes }) };
    const context = { disk, clock, timers, logger, pool: this.#pool, bootId, onFatal, ...settings };
    const store = await Store.open(context, dataDirectories, random.hex(SERVER_ID_DIGITS));
    try {
      this.#running = await this.#assemble(store);
    } catch (error) {
      await store.close();
      throw error;
    }
    const { session, leases, listener } = this.#running;
    session.start(leases);
    logger.info(
      { serverId: store.serverId, host: listener.host, port: listener.port },
      'chunkserver started',
    );
  }

  async #assemble(store: Store): Promise<Running> {
    const environment: Environment = { ...this.#environment, logger: this.#logger };
    const { clock, timers, metrics, bootId } = environment;
    await store.removeDrafts();
    const service = new Service();
    const trace = this.#makeTrace(store);
    serveTrace(service, trace);
    const pushed = new PushBuffer();
    const activity = new Activity(clock);
    const session: MasterSession = new MasterSession(environment, {
      options: this.#options,
      store,
      service,
      pool: this.#pool,
      trace,
      server: () => this.#server(),
      load: () => this.#incoming.size,
      health: () => ({
        disks: store.diskCount,
        failedDisks: store.failedDiskCount,
        scrub: scrubber.progress,
      }),
      deleteChunks: (handles) => masterService.delete(handles),
      shadows: {
        get addresses() {
          return shadows.addresses;
        },
        set: (members) => shadows.set(members),
      },
      onFatal: (error) => this.#fail(error),
    });
    const shadows: ShadowSessions = new ShadowSessions(environment, {
      service,
      pool: this.#pool,
      identity: store,
      term: () => session.term,
      registration: () => session.registration(),
      report: () => session.inventory.pages(),
      onMaster: (address, term) => session.moveTo(address, term),
    });
    const inTouch = (): boolean => session.inTouch;
    // While the master is away nothing becomes stale: no version is logged without it.
    const mayRead = (): boolean => session.inTouch || shadows.standIn;
    const term = (): number => session.term;
    const onDamage = (handle: number): void => session.reportDamage(handle);
    const leases = new LeaseTable(clock, inTouch);
    const peers = new Peers(environment, { identity: store, service, pool: this.#pool, term });
    const secondary = new Secondary(timers, store, pushed);
    const { serverId } = store;
    const order = new SerialOrder({ clock, serverId, leases, peers, bootId, master: session });
    const primary = new Primary({ store, leases, pushed, order, spiller: new Spiller(session, peers) });
    const cloner = new Cloner({ clock, timers, store, peers, term, inTouch, onDamage });
    cloner.register(service);
    const masterService = new MasterService({ store, leases, secondary, peers, cloner, term });
    masterService.register(service);
    const { sync, scrubIntervalMs: intervalMs } = this.#options;
    const shared = { store, primary, order, secondary, peers, pushed, pool: this.#pool };
    new DataService({ ...shared, metrics, bootId, sync, mayRead, onDamage, activity }).register(service);
    const scrubber = new Scrubber({ ...environment, store, activity, onDamage, intervalMs });
    service.on(Scrub, ({ now }) => {
      if (now) scrubber.beginNow();
      return { body: { scrub: scrubber.progress } };
    });
    const { host, port } = this.#options;
    try {
      const listener = await environment.network.listen(host, port, (socket) => {
        this.#accept(new Peer(socket, this.#peerOptions(store, service, term)));
      });
      const gauges = keepGauges(metrics, timers, { store, leases, pushed });
      store.onDiskLost = () => session.reopen('a disk failed');
      scrubber.start();
      return { store, session, shadows, peers, leases, listener, gauges, scrubber };
    } catch (error) {
      peers.close();
      throw error;
    }
  }

  #makeTrace(store: Store): RpcTrace | undefined {
    const { traceBytes, dataDirectories } = this.#options;
    if (traceBytes === undefined) return undefined;
    const directory = `${dataDirectories[0]}/trace`;
    const options = { role: 'chunkserver', id: store.serverId, directory, totalBytes: traceBytes };
    this.#trace = new RpcTrace(this.#environment, options);
    return this.#trace;
  }

  #peerOptions(store: Store, service: Service, term: () => number): PeerOptions {
    const { clock, timers } = this.#environment;
    return {
      role: 'chunkserver',
      id: store.serverId,
      clusterId: () => store.clusterId,
      term,
      service,
      pool: this.#pool,
      clock,
      timers,
      logger: this.#logger,
      trace: this.#trace,
    };
  }

  /** Ends the session and the leases, then flushes everything. */
  async stop(): Promise<void> {
    const running = this.#running;
    if (running === undefined || this.#stopping) return;
    this.#stopping = true;
    const { store, session, shadows, peers, leases, listener, gauges, scrubber } = running;
    const scrubbed = scrubber.stop();
    session.stop();
    shadows.stop();
    gauges.cancel();
    leases.endAll('the server is stopping');
    await listener.close();
    for (const peer of this.#incoming) peer.close();
    peers.close();
    await scrubbed;
    await store.close();
    await this.#trace?.close();
  }

  #accept(peer: Peer): void {
    this.#incoming.add(peer);
    peer.onceClosed(() => this.#incoming.delete(peer));
  }

  #server(): Server {
    const { store, listener } = this.#started;
    return {
      serverId: store.serverId,
      host: this.#options.advertiseHost ?? listener.host,
      port: listener.port,
    };
  }

  #fail(err: Error): void {
    this.#logger.error({ err }, 'the chunkserver cannot go on');
    this.#onFailed(err);
  }
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
