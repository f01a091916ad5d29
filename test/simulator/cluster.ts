/** One master, chunkservers and clients in a simulated world, each on a host of its own. */
import { Chunkserver } from '../../chunkserver/chunkserver.js';
import { chunkserverDefaults } from '../../chunkserver/options.js';
import { type CacheLimits, clientDefaults, GfsClient } from '../../client/index.js';
import { Master } from '../../master/master.js';
import { type MasterOptions, masterDefaults } from '../../master/options.js';
import { Shadow } from '../../master/shadow.js';
import { KIB, MIB } from '../../protocol/limits.js';
import type { Location } from '../../protocol/messages/index.js';
import type { FakeHost, FakeProcess, FakeRandom, SimulatedWorld } from '../fakes/index.js';

export const MASTER_DIRECTORY = '/master';
const MASTER_PORT = 5000;
const SHADOW_PORT = 5001;
const CHUNKSERVER_PORT = 6000;
const masters = [{ host: 'master', port: MASTER_PORT }];
/** The paper's drift bound is ours: one percent, either way. */
const CLOCK_RATES = [1, 1.01, 0.99, 1.005, 0.995] as const;

/** Some chunkservers make checkpoints all the time, others none. */
const CHECKPOINT_BYTES = [200 * KIB, 2 * MIB, 64 * MIB] as const;

/** A client that keeps so many of everything: of one, nearly all is forgotten before it is used again. */
function cachesOf(count: number): CacheLimits {
  return {
    locatedFiles: count,
    chunksOfFile: count,
    attributes: count,
    xattrs: count,
    directories: count,
    names: count,
    changes: count,
    dataVersions: count,
    unsyncedChunks: count,
    // As early as can be, so that what is read ahead is met often.
    namesBeforeAhead: 1,
    placesBeforeAhead: 1,
    listingsBeforeAhead: 1,
  };
}

export interface ClusterOptions {
  readonly chunkservers: number;
  readonly clients: number;
  /** Log replicas that the master waits for. */
  readonly shadows: number;
  readonly chunkBytes: number;
  readonly leaseDurationMs: number;
  /** How long clients believe a location; next to nothing is a cache of one. */
  readonly locationTtlMs: number;
  readonly writeBehindBytes: number;
  /** Whether clients keep names and attributes by promise. */
  readonly caches: boolean;
  readonly cacheLimits: CacheLimits;
  /** Promises that the master remembers. */
  readonly maxPromises: number;
  /** How long a server that is gone is waited for before its chunks are cloned. */
  readonly replicationWaitMs: number;
  readonly logSegmentBytes: number;
  readonly retentionMs: number;
  readonly parentLock: MasterOptions['parentLock'];
  /** Where the chunkservers stand. */
  readonly locations?: readonly Location[];
}

export const clusterDefaults: ClusterOptions = {
  chunkservers: 3,
  clients: 2,
  shadows: 0,
  chunkBytes: 256 * KIB,
  leaseDurationMs: 10_000,
  locationTtlMs: 60_000,
  writeBehindBytes: 2 * MIB,
  caches: false,
  cacheLimits: cachesOf(1_000),
  maxPromises: 4_096,
  logSegmentBytes: 64 * KIB,
  retentionMs: masterDefaults.retentionMs,
  replicationWaitMs: masterDefaults.replication.waitMs,
  parentLock: masterDefaults.parentLock,
};

/** Limits and sizes differ from seed to seed, so that each is met by some. */
export function drawCluster(random: FakeRandom): Partial<ClusterOptions> {
  return {
    chunkservers: random.pick([3, 3, 4, 5]),
    clients: random.pick([2, 2, 3]),
    chunkBytes: random.pick([256, 256, 512, 1_024]) * KIB,
    leaseDurationMs: random.pick([1_000, 2_500, 10_000, 60_000]),
    locationTtlMs: random.pick([1, 500, 60_000]),
    writeBehindBytes: random.pick([64 * KIB, 2 * MIB]),
    caches: random.chance(0.6),
    cacheLimits: cachesOf(random.pick([1, 3, 20, 1_000])),
    maxPromises: random.pick([2, 16, 4_096]),
    logSegmentBytes: random.pick([4 * KIB, 64 * KIB, MIB]),
    retentionMs: random.pick([2_000, masterDefaults.retentionMs]),
    replicationWaitMs: random.pick([0, 300, 2_000]),
    parentLock: random.pick(['shared', 'exclusive']),
    shadows: random.pick([0, 0, 1]),
  };
}

/** Something that can be killed and started again on its host. */
export interface Member {
  readonly host: FakeHost;
  /** What runs now; dead when it was killed and not started since. */
  process: FakeProcess | undefined;
  start(): void;
  /** An orderly end, as by SIGTERM, where there is one. */
  stop?(): void;
}

export class MasterMember implements Member {
  readonly host: FakeHost;
  process: FakeProcess | undefined;
  master: Master | undefined;
  readonly #options: ClusterOptions;

  constructor(host: FakeHost, options: ClusterOptions) {
    this.host = host;
    this.#options = options;
  }

  start(): void {
    const process = this.host.start('master');
    const master = new Master(process.environment, masterOptions(this.host, this.#options), {
      onFatal: (error) => process.fail(error),
    });
    this.process = process;
    this.master = undefined;
    begin(process, async () => {
      await master.start();
      this.master = master;
    });
  }

  stop(): void {
    const { process, master } = this;
    if (process !== undefined && master !== undefined) end(process, () => master.stop());
  }
}

/** The log on another host: followed, served from, and waited for. */
export class ShadowMember implements Member {
  readonly host: FakeHost;
  process: FakeProcess | undefined;
  shadow: Shadow | undefined;
  readonly #options: ClusterOptions;

  constructor(host: FakeHost, options: ClusterOptions) {
    this.host = host;
    this.#options = options;
  }

  start(): void {
    const process = this.host.start(this.host.name);
    const options = masterOptions(this.host, this.#options);
    const shadow = new Shadow(process.environment, { ...options, port: SHADOW_PORT, masters });
    void shadow.failed.then((error) => process.fail(error));
    this.process = process;
    this.shadow = undefined;
    begin(process, async () => {
      await shadow.start();
      this.shadow = shadow;
    });
  }

  stop(): void {
    const { process, shadow } = this;
    if (process !== undefined && shadow !== undefined) end(process, () => shadow.stop());
  }
}

function masterOptions(host: FakeHost, options: ClusterOptions): MasterOptions {
  const { chunkBytes, leaseDurationMs, logSegmentBytes, retentionMs } = options;
  const { replicationWaitMs, parentLock, maxPromises } = options;
  return {
    ...masterDefaults,
    dataDirectory: MASTER_DIRECTORY,
    host: host.name,
    port: MASTER_PORT,
    chunkBytes,
    leaseDurationMs,
    logSegmentBytes,
    retentionMs,
    replication: { ...masterDefaults.replication, waitMs: replicationWaitMs },
    parentLock,
    maxPromises,
    logReserveBytes: Math.min(8 * KIB, logSegmentBytes),
    checkpointBytes: 2 * logSegmentBytes,
  };
}

export class ChunkserverMember implements Member {
  readonly host: FakeHost;
  process: FakeProcess | undefined;
  #chunkserver: Chunkserver | undefined;
  readonly #checkpointBytes: number;
  readonly #location: Location | undefined;

  constructor(host: FakeHost, checkpointBytes: number, location: Location | undefined) {
    this.host = host;
    this.#location = location;
    this.#checkpointBytes = checkpointBytes;
  }

  start(): void {
    const process = this.host.start(this.host.name);
    this.process = process;
    this.#chunkserver = undefined;
    begin(process, async () => {
      const chunkserver = new Chunkserver(process.environment, {
        ...chunkserverDefaults,
        dataDirectories: ['/data'],
        host: this.host.name,
        port: CHUNKSERVER_PORT,
        masters,
        reservedBytes: MIB,
        checkpointBytes: this.#checkpointBytes,
        ...(this.#location === undefined ? {} : { location: this.#location }),
      });
      void chunkserver.failed.then((error) => process.fail(error));
      await chunkserver.start();
      this.#chunkserver = chunkserver;
    });
  }

  stop(): void {
    const { process } = this;
    const chunkserver = this.#chunkserver;
    if (process !== undefined && chunkserver !== undefined) end(process, () => chunkserver.stop());
  }
}

export class ClientMember implements Member {
  readonly host: FakeHost;
  process: FakeProcess | undefined;
  /** Of its present life, once it is connected. */
  client: GfsClient | undefined;
  /** How often it was started. */
  life = 0;
  readonly #options: ClusterOptions;
  readonly #run: (client: GfsClient, member: ClientMember) => Promise<void>;

  /** @param run what it does while it lives */
  constructor(
    host: FakeHost,
    options: ClusterOptions,
    run: (client: GfsClient, member: ClientMember) => Promise<void>,
  ) {
    this.host = host;
    this.#options = options;
    this.#run = run;
  }

  start(): void {
    const process = this.host.start(this.host.name);
    this.process = process;
    this.life++;
    this.client = undefined;
    begin(process, async () => {
      const client = await connectClient(process, this.#options);
      this.client = client;
      await this.#run(client, this);
    });
  }
}

/** Keeps trying: the master may be away for longer than one attempt lasts. */
export async function connectClient(
  process: FakeProcess,
  options: Partial<ClusterOptions> = {},
): Promise<GfsClient> {
  const { locationTtlMs, writeBehindBytes, caches, cacheLimits } = { ...clusterDefaults, ...options };
  for (;;) {
    try {
      return await GfsClient.connect(process.environment, {
        ...clientDefaults,
        masters,
        hostname: process.host.name,
        locationTtlMs,
        writeBehindBytes,
        caches,
        cacheLimits,
      });
    } catch (thrown) {
      if ((thrown as { code?: unknown }).code !== 'UNREACHABLE') throw thrown;
    }
  }
}

/** Runs a process' program; if it throws the process has failed, unless its disk was full. */
function begin(process: FakeProcess, program: () => Promise<void>): void {
  process.enter(() => {
    program().catch((thrown: unknown) => {
      if ((thrown as { code?: unknown }).code === 'ENOSPC') process.crash();
      else process.fail(thrown);
    });
  });
}

/** Those that end in order, which may take a while on a slow disk. */
const ending = new WeakSet<FakeProcess>();

/** Has a process end in order, and be gone then. */
function end(process: FakeProcess, stop: () => Promise<void>): void {
  ending.add(process);
  begin(process, async () => {
    await stop();
    process.crash();
  });
}

export class SimulatedCluster {
  readonly world: SimulatedWorld;
  readonly options: ClusterOptions;
  readonly master: MasterMember;
  readonly shadows: readonly ShadowMember[];
  readonly chunkservers: readonly ChunkserverMember[];
  readonly clients: readonly ClientMember[];

  constructor(
    world: SimulatedWorld,
    options: ClusterOptions,
    run: (client: GfsClient, member: ClientMember) => Promise<void>,
  ) {
    this.world = world;
    this.options = options;
    const random = world.random.fork('cluster');
    const host = (name: string) => world.host(name, { clockRate: random.pick(CLOCK_RATES) });
    const numbered = <M>(count: number, name: string, make: (host: FakeHost, index: number) => M) =>
      Array.from({ length: count }, (_, i) => make(host(`${name}${i + 1}`), i));
    this.master = new MasterMember(host('master'), options);
    this.shadows = numbered(options.shadows, 'shadow', (host) => new ShadowMember(host, options));
    this.chunkservers = numbered(options.chunkservers, 'chunkserver', (host, i) => {
      return new ChunkserverMember(host, random.pick(CHECKPOINT_BYTES), options.locations?.[i]);
    });
    this.clients = numbered(options.clients, 'client', (host) => new ClientMember(host, options, run));
  }

  get members(): readonly Member[] {
    return [this.master, ...this.shadows, ...this.chunkservers, ...this.clients];
  }

  start(): void {
    for (const member of this.members) member.start();
  }

  /** Everything runs, on whole links. */
  repair(): void {
    this.world.network.healAll();
    for (const { host } of this.members) if (!host.up) host.boot();
    for (const member of this.members) {
      member.host.disk.limitBytes = undefined;
      member.host.disk.slowness = 1;
      member.process?.resume();
      // Nobody starts one that ends only after this.
      if (member.process !== undefined && ending.has(member.process)) member.process.crash();
      if (member.process?.alive !== true) member.start();
    }
  }
}
