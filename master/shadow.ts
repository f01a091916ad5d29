/**
 * A shadow master (paper §5.1.3): a copy of the operation log on another host, which the master waits
 * for, and the state that it says, which answers reads while the master is away. It can be made the
 * master, and then is a {@link Master} on the same directory and port.
 */
import type { Environment, Listener, Socket, Timer } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { FollowLog, GetLogStatus, type Member } from '../protocol/messages/index.js';
import { Outage } from '../protocol/outage.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { Service } from '../protocol/rpc.js';
import { serveTrace } from '../protocol/rpc-trace.js';
import { Checkpointer } from './checkpointer.js';
import { type MakeCheckpoint, makeCheckpoint } from './checkpointing.js';
import { ask } from './dialing.js';
import { Following, type Parting } from './following.js';
import { cutLog, installCheckpoint, LogCopy, wipeLog } from './log-copy.js';
import { lockDirectory, Master, throwOutside } from './master.js';
import type { ShadowOptions } from './options.js';
import { logOptionsOf } from './parts.js';
import { winTerm } from './promotion.js';
import { shadowGauges } from './shadow-gauges.js';
import { ShadowServers } from './shadow-servers.js';
import { registerShadow } from './shadow-service.js';
import { StandIn } from './stand-in.js';
import type { LoggedState } from './state.js';
import {
  MEMBER_ID_DIGITS,
  makeSuperblock,
  readSuperblock,
  type Superblock,
  SuperblockKeeper,
} from './superblock.js';

const MAX_CONNECTIONS = 16_384;
const SWEEP_INTERVAL_MS = 250;
const JOIN_PAUSE_MS = 500;
/** The reply to whoever promoted it goes out first. */
const TAKE_OVER_AFTER_MS = 20;

/** The copy in use, and who uses it. */
interface Running {
  readonly copy: LogCopy;
  readonly following: Following;
  readonly service: Service;
  readonly timer: Timer;
  readonly checkpointer: Checkpointer;
}

export class Shadow {
  /** Resolves with the reason when it cannot go on: its process has to end. */
  readonly failed: Promise<unknown>;
  readonly #environment: Environment;
  readonly #options: ShadowOptions;
  readonly #makeCheckpoint: MakeCheckpoint;
  readonly #pool = new BufferPool();
  readonly #peers = new Set<Peer>();
  #superblock: SuperblockKeeper | undefined;
  #running: Running | undefined;
  #listener: Listener | undefined;
  #unlock: (() => Promise<void>) | undefined;
  #following: Promise<void> | undefined;
  /** It stays when it becomes the master: everybody has been told. */
  #port = 0;
  #master: Master | undefined;
  #stopped = false;
  /** It has won a term, and becomes the master once nobody uses the copy. */
  #promoted = false;
  #promoting = false;
  #onFailed!: (error: unknown) => void;

  /** @param make how it has its checkpoints made; by default in turns of this event loop */
  constructor(environment: Environment, options: ShadowOptions, make?: MakeCheckpoint) {
    this.#environment = environment;
    this.#options = options;
    this.#makeCheckpoint = make ?? ((job, signal) => makeCheckpoint(environment, job, signal));
    this.#port = options.port;
    this.failed = new Promise((resolve) => {
      this.#onFailed = resolve;
    });
  }

  get address(): { readonly host: string; readonly port: number } {
    if (this.#master !== undefined) return this.#master.address;
    if (this.#listener === undefined) throw new Error('the shadow has not started');
    return { host: this.#listener.host, port: this.#listener.port };
  }

  /** What the log says, here: for tests and the simulator, to look at only. */
  get state(): LoggedState | undefined {
    return this.#master?.state ?? this.#running?.copy.state;
  }

  /** The last record that is here; 0 before it has joined, and once it is the master. */
  get endSequence(): number {
    return this.#running?.copy.endSequence ?? 0;
  }

  /** Whether it follows the master: then its log is a beginning of the master's. */
  get follows(): boolean {
    return this.#running?.following.masterIsAway === false;
  }

  /** The master that it has become. */
  get master(): Master | undefined {
    return this.#master;
  }

  /** @throws DataDirectoryError, DamagedLogError, or the network's error */
  async start(): Promise<void> {
    const { disk, network } = this.#environment;
    const { dataDirectory, host, port } = this.#options;
    await disk.makeDirectory(dataDirectory);
    this.#unlock = await lockDirectory(disk, dataDirectory);
    try {
      const superblock = await readSuperblock(disk, dataDirectory);
      if (superblock !== undefined && (await this.#isMaster(superblock))) return await this.#becomeMaster();
      if (superblock !== undefined) {
        this.#superblock = new SuperblockKeeper(disk, dataDirectory, superblock);
        await this.#open(this.#superblock);
      }
      this.#listener = await network.listen(host, port, (socket) => this.#accept(socket));
      this.#port = this.#listener.port;
      this.#following = this.#follow();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#listener?.close();
    this.#running?.following.stop();
    await this.#following;
    await this.#close();
    for (const peer of [...this.#peers]) peer.close();
    await this.#master?.stop();
    await this.#unlock?.();
    this.#unlock = undefined;
  }

  /** A shadow that was promoted goes on as the master, unless another one serves by now. */
  async #isMaster(superblock: Superblock): Promise<boolean> {
    if (superblock.role === 'shadow') return false;
    const { id, clusterId, term } = superblock;
    const asker = { role: 'shadow', id, clusterId, term } as const;
    const statuses = await Promise.all(
      this.#options.masters.map((address) =>
        ask(this.#environment, asker, address, GetLogStatus, {}).catch(() => undefined),
      ),
    );
    const isReplaced =
      superblock.replacedBy !== undefined ||
      statuses.some((status) => status?.role === 'master' && status.term > term);
    if (isReplaced || !superblock.promoted) {
      const keeper = new SuperblockKeeper(this.#environment.disk, this.#options.dataDirectory, superblock);
      const promisedTo = undefined;
      await keeper.update(() => ({ role: 'shadow', promoted: false, promisedTo, replacedBy: undefined }));
      return false;
    }
    return true;
  }

  async #open(superblock: SuperblockKeeper): Promise<void> {
    const { clock, logger, timers } = this.#environment;
    const options = this.#options;
    const onFatal = (error: unknown): void => this.#fail(error);
    const servers = new ShadowServers(clock, logger, options.sessionTimeoutMs);
    const effects = { chunkRemoved: (handle: number) => servers.replicas.removeChunk(handle) };
    const logOptions = this.#logOptions(superblock.current);
    if (superblock.current.resyncing === true) await this.#wipe(superblock);
    const copy = await LogCopy.open(this.#environment, logOptions, effects, onFatal);
    const self = (): Member => this.#member(superblock.current.id);
    const service = new Service();
    const environment = this.#environment;
    const following = new Following({ environment, options, superblock, copy, service, self });
    const timeoutMs = options.sessionTimeoutMs;
    const standIn = new StandIn({ environment, superblock, copy, following, timeoutMs });
    const parts = { environment, options, superblock, copy, servers, standIn, self, onFatal };
    registerShadow(service, { ...parts, following: () => following, promote: () => this.#promote() });
    serveTrace(service, undefined);
    const checkpointer = new Checkpointer({
      log: copy.log,
      identity: logOptions,
      checkpointBytes: options.checkpointBytes,
      checkpointSequence: copy.checkpointSequence,
      make: this.#makeCheckpoint,
      disk: environment.disk,
      clock,
      logger,
      metrics: environment.metrics,
    });
    const gauges = shadowGauges(environment.metrics, { copy, following, standIn });
    const timer = timers.every(SWEEP_INTERVAL_MS, () => {
      gauges.update();
      servers.sweep();
      standIn.watch();
      checkpointer.sweep();
    });
    this.#running = { copy, following, service, timer, checkpointer };
    logger.info(
      { records: copy.endSequence, term: superblock.current.term },
      'the shadow has its copy of the log',
    );
  }

  /** Everybody is disconnected: they come again, to the new state. */
  async #close(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    running?.timer.cancel();
    for (const peer of [...this.#peers]) peer.close();
    await running?.checkpointer.stop();
    await running?.copy.close();
  }

  async #follow(): Promise<void> {
    try {
      if (this.#superblock === undefined) await this.#join();
      while (!this.#stopped && this.#superblock !== undefined) {
        if (this.#running === undefined) await this.#open(this.#superblock);
        const parting = await (this.#running as unknown as Running).following.run();
        if (this.#stopped) return;
        if (this.#promoted) return await this.#takeOver();
        if (parting !== undefined) await this.#part(parting);
      }
    } catch (error) {
      if (!this.#stopped) this.#fail(error);
    }
  }

  /** The first time: learns which cluster this is. */
  async #join(): Promise<void> {
    const { random, disk, logger, timers, clock } = this.#environment;
    const { masters, dataDirectory } = this.#options;
    const id = random.hex(MEMBER_ID_DIGITS);
    const outage = new Outage(clock);
    for (let attempt = 0; !this.#stopped; attempt++) {
      const address = masters[attempt % masters.length];
      if (address === undefined) throw new Error('no master is configured');
      try {
        const asker = { role: 'shadow', id, clusterId: '', term: 0 } as const;
        const request = { shadow: this.#member(id), term: 0, lastTerm: 0, nextSequence: 1, waitMs: 0 };
        const { clusterId, chunkBytes } = await ask(this.#environment, asker, address, FollowLog, request);
        const superblock = await makeSuperblock(disk, random, dataDirectory, {
          clusterId,
          chunkBytes,
          role: 'shadow',
          id,
        });
        this.#superblock = new SuperblockKeeper(disk, dataDirectory, superblock);
        return;
      } catch (thrown) {
        if (!(thrown instanceof GfsError)) throw thrown;
        const forMs = outage.failed(`${address.host}:${address.port}: ${thrown.code}`);
        if (forMs !== undefined)
          logger.warn({ ...address, reason: thrown.message, forMs }, 'no master to follow yet');
      }
      await new Promise<void>((resolve) => void timers.after(JOIN_PAUSE_MS, resolve));
    }
  }

  /** The copy is changed while nobody uses it. */
  async #part({ action, sequence, path }: Parting): Promise<void> {
    const { disk, logger } = this.#environment;
    const directory = `${this.#options.dataDirectory}/log`;
    const superblock = this.#superblock as SuperblockKeeper;
    const from = this.#running?.copy.endSequence;
    await this.#close();
    if (action === 'cut') {
      logger.warn({ from, through: sequence }, 'cutting off records that the master does not have');
      if (!(await cutLog(disk, directory, sequence))) await this.#wipe(superblock);
      return;
    }
    await superblock.update(() => ({ resyncing: true }));
    await wipeLog(disk, directory);
    const logOptions = this.#logOptions(superblock.current);
    await installCheckpoint(disk, logOptions, path as string, sequence + 1);
    await superblock.update(() => ({ resyncing: false }));
  }

  /** All of it comes again from the master. */
  async #wipe(superblock: SuperblockKeeper): Promise<void> {
    await superblock.update(() => ({ resyncing: true }));
    await wipeLog(this.#environment.disk, `${this.#options.dataDirectory}/log`);
    await superblock.update(() => ({ resyncing: false }));
  }

  #logOptions(superblock: Superblock) {
    return logOptionsOf(this.#options, superblock, this.#environment.random);
  }

  /** @throws NOT_PERMITTED: it stays a shadow */
  async #promote(): Promise<number> {
    const running = this.#running;
    const superblock = this.#superblock;
    if (running === undefined || superblock === undefined || this.#promoting || this.#promoted)
      throw new GfsError('NOT_PERMITTED', 'it is not ready for that, or at it already');
    this.#promoting = true;
    try {
      const self = this.#member(superblock.current.id);
      const term = await winTerm({
        environment: this.#environment,
        options: this.#options,
        superblock,
        copy: running.copy,
        following: running.following,
        self,
      });
      if (this.#running !== running)
        throw new GfsError('NOT_PERMITTED', 'its copy of the log was changed meanwhile: see gfs status');
      await superblock.update(() => ({ role: 'master', promoted: true }));
      this.#promoted = true;
      this.#environment.timers.after(TAKE_OVER_AFTER_MS, () => running.following.stop());
      return term;
    } finally {
      superblock.sitDown();
      this.#promoting = false;
    }
  }

  async #takeOver(): Promise<void> {
    await this.#listener?.close();
    this.#listener = undefined;
    await this.#close();
    // A promise that is on its way to the disk is kept by the master too.
    await this.#superblock?.close();
    await this.#becomeMaster();
  }

  async #becomeMaster(): Promise<void> {
    await this.#unlock?.();
    this.#unlock = undefined;
    const { disk } = this.#environment;
    const { dataDirectory } = this.#options;
    // The cluster's, whatever this host's configuration says.
    const { chunkBytes = this.#options.chunkBytes } = (await readSuperblock(disk, dataDirectory)) ?? {};
    const options = { ...this.#options, chunkBytes, port: this.#port };
    const master = new Master(this.#environment, options, {
      onFatal: (error) => this.#fail(error),
      makeCheckpoint: this.#makeCheckpoint,
    });
    void master.replaced.then((error) => this.#onFailed(error));
    await master.start();
    this.#master = master;
  }

  #member(id: string): Member {
    const { advertiseHost, host } = this.#options;
    return { id, host: advertiseHost ?? host, port: this.#port };
  }

  #accept(socket: Socket): void {
    const { clock, timers, logger } = this.#environment;
    const running = this.#running;
    const superblock = this.#superblock;
    // Before it has joined, and while its copy is changed, it has nothing to say.
    if (running === undefined || superblock === undefined || this.#peers.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return;
    }
    const peer = new Peer(socket, {
      role: 'shadow',
      id: superblock.current.id,
      clusterId: () => superblock.current.clusterId,
      term: () => superblock.current.term,
      service: running.service,
      pool: this.#pool,
      clock,
      timers,
      logger,
    });
    this.#peers.add(peer);
    peer.onceClosed(() => this.#peers.delete(peer));
  }

  #fail(error: unknown): void {
    this.#environment.logger.error({ err: error }, 'the shadow cannot go on');
    this.#onFailed(error);
    if (!(error instanceof GfsError)) throwOutside(this.#environment, error);
  }
}
