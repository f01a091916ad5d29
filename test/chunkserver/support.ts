/** A master that does what the test says, and a client of chunkservers. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Chunkserver } from '../../chunkserver/chunkserver.js';
import { type ChunkserverOptions, chunkserverDefaults } from '../../chunkserver/options.js';
import { nodeEnvironment } from '../../environment/node/index.js';
import type { Environment, Listener, LogFields, Logger } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import {
  DropSecondary,
  GetLease,
  type Health,
  Heartbeat,
  type Lease,
  PrepareVersion,
  RegisterChunkserver,
  RenewChunkserver,
  RepairReplicas,
  type ReplicaReport,
  ReportChunks,
  ReportDamage,
  type Server,
} from '../../protocol/messages/index.js';
import { BufferPool } from '../../protocol/payload.js';
import { Peer } from '../../protocol/peer.js';
import { type Caller, type CallOptions, type CallResult, type Method, Service } from '../../protocol/rpc.js';

export const CHUNK_BYTES = 1024 * 1024;
export const CLUSTER = 'test-cluster';

const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: (fields: LogFields, message) => {
    if (process.env.GFS_TEST_LOG !== undefined) console.error(message, fields);
  },
  child: () => silent,
};

export function quietEnvironment(): Environment {
  return { ...nodeEnvironment({ role: 'test', logLevel: 'silent' }), logger: silent };
}

export function temporaryDirectory(teardown: (end: () => void) => void): string {
  const directory = mkdtempSync(join(tmpdir(), 'gfs-chunkserver-'));
  teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Accepts every chunkserver, remembers what it was told, and grants leases when asked to. */
export class ScriptedMaster {
  readonly servers = new Map<string, { server: Server; peer: Caller }>();
  readonly reports = new Map<string, ReplicaReport[]>();
  /** Who has reported all its chunks. */
  readonly reported = new Set<string>();
  readonly damaged: { serverId: string; handle: number }[] = [];
  readonly heartbeats: {
    serverId: string;
    extend: readonly { handle: number }[];
    availableBytes: number;
    health: Health | undefined;
  }[] = [];
  /** The lease of another chunk of a file, for a primary that spills into it. */
  onLease: ((id: number, index: number) => Promise<Lease>) | undefined;
  /** Grants the version that a primary asks for without a secondary. Otherwise nobody is dropped. */
  onDrop: ((handle: number, version: number, failed: string[]) => Promise<void>) | undefined;
  /** Named in the reply to the next heartbeat. */
  drop: number[] = [];
  timeoutMs = 2_000;
  /** Otherwise it takes what it is asked and says nothing. */
  answers = true;
  readonly #clusterId: string;
  #listener: Listener | undefined;
  readonly #environment = quietEnvironment();
  readonly #peers: Peer[] = [];

  constructor(clusterId = CLUSTER) {
    this.#clusterId = clusterId;
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.#listener?.port ?? 0 };
  }

  async start(): Promise<void> {
    const service = new Service();
    service
      .on(RegisterChunkserver, ({ server }, { peer }) => {
        if (!this.answers) return new Promise(() => undefined);
        this.servers.set(server.serverId, { server, peer });
        this.reports.set(server.serverId, []);
        this.reported.delete(server.serverId);
        return {
          body: {
            session: 1,
            clusterId: this.#clusterId,
            chunkBytes: CHUNK_BYTES,
            term: 1,
            renewIntervalMs: 100,
            timeoutMs: this.timeoutMs,
            heartbeatIntervalMs: 200,
          },
        };
      })
      .on(ReportChunks, ({ chunks, last }, { from }) => {
        this.reports.get(from.id)?.push(...chunks);
        if (last) this.reported.add(from.id);
        return { body: {} };
      })
      .on(RenewChunkserver, () => {
        if (!this.answers) return new Promise(() => undefined);
        return { body: {} };
      })
      .on(Heartbeat, ({ extend, space, health }, { from }) => {
        if (!this.answers) return new Promise(() => undefined);
        const { availableBytes } = space;
        this.heartbeats.push({ serverId: from.id, extend, availableBytes, health });
        const drop = this.drop.splice(0);
        return { body: { extended: extend.map(({ handle }) => ({ handle, remainingMs: 60_000 })), drop } };
      })
      .on(GetLease, async ({ id, index }) => {
        if (this.onLease === undefined) throw new GfsError('CHUNK_UNAVAILABLE');
        return { body: { lease: await this.onLease(id, index) } };
      })
      .on(DropSecondary, async ({ handle, version, failed }, { from }) => {
        if (this.onDrop === undefined) throw new GfsError('NOT_PRIMARY');
        await this.onDrop(
          handle,
          version + 1,
          failed.map(({ serverId }) => serverId),
        );
        return { body: { primary: from.id, version: version + 1 } };
      })
      .on(ReportDamage, ({ handle }, { from }) => {
        this.damaged.push({ serverId: from.id, handle });
        return { body: {} };
      });
    const { network } = this.#environment;
    this.#listener = await network.listen('127.0.0.1', 0, (socket) => {
      this.#peers.push(peerOver(this.#environment, socket, 'master', service, this.#clusterId));
    });
  }

  dropConnections(): void {
    for (const peer of this.#peers.splice(0)) peer.close();
  }

  async stop(): Promise<void> {
    await this.#listener?.close();
    this.dropConnections();
  }

  call<Request, Reply>(
    serverId: string,
    method: Method<Request, Reply>,
    body: Request,
  ): Promise<CallResult<Reply>> {
    const entry = this.servers.get(serverId);
    if (entry === undefined) throw new Error(`${serverId} has not registered`);
    return entry.peer.call(method, body, { deadlineMs: 5_000 });
  }

  server(serverId: string): Server {
    return (this.servers.get(serverId) as { server: Server }).server;
  }

  /** As a master does it: prepares the version everywhere, repairs where replicas differ, first id is the primary. */
  async grant(handle: number, version: number, ids: readonly string[], truncateTo?: number): Promise<void> {
    const [primary, ...rest] = ids as [string, ...string[]];
    const secondaries = rest.map((id) => this.server(id));
    const cut = truncateTo === undefined ? {} : { truncateTo };
    const replies = await Promise.all(
      ids.map((id) =>
        this.call(id, PrepareVersion, {
          handle,
          version,
          create: version === 1,
          ...cut,
          ...(id === primary ? { lease: { secondaries, durationMs: 60_000 } } : {}),
        }),
      ),
    );
    const digests = new Set(replies.map(({ body }) => body.digest));
    if (digests.size > 1) await this.call(primary, RepairReplicas, { handle, version, secondaries });
  }
}

function peerOver(
  environment: Environment,
  socket: Awaited<ReturnType<Environment['network']['connect']>>,
  role: 'master' | 'client',
  service: Service,
  clusterId = CLUSTER,
): Peer {
  const { clock, timers, logger } = environment;
  return new Peer(socket, {
    role,
    id: role,
    clusterId: () => clusterId,
    term: () => 1,
    service,
    pool: new BufferPool(),
    clock,
    timers,
    logger,
  });
}

/** One connection to a chunkserver. */
export async function connectTo(address: { host: string; port: number }): Promise<Peer> {
  const environment = quietEnvironment();
  const socket = await environment.network.connect(address.host, address.port, 2_000);
  const peer = peerOver(environment, socket, 'client', new Service());
  await peer.ready();
  return peer;
}

export interface Cluster {
  readonly master: ScriptedMaster;
  readonly ids: string[];
  readonly chunkservers: Chunkserver[];
  readonly clients: Peer[];
  readonly directories: string[];
  readonly environments: Environment[];
  /** Stops one and starts it again over the same data. */
  restart(index: number, environment?: Environment, directories?: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

export async function startCluster(
  count: number,
  root: string,
  options: Partial<ChunkserverOptions> = {},
): Promise<Cluster> {
  const master = new ScriptedMaster();
  await master.start();
  const cluster: Cluster = {
    master,
    ids: [],
    chunkservers: [],
    clients: [],
    directories: [],
    environments: [],
    restart: async (index, environment = cluster.environments[index] as Environment, directories) => {
      cluster.clients[index]?.close();
      await cluster.chunkservers[index]?.stop();
      master.reported.delete(cluster.ids[index] as string);
      await startOne(index, environment, directories);
    },
    stop: async () => {
      for (const client of cluster.clients) client.close();
      for (const chunkserver of cluster.chunkservers) await chunkserver.stop();
      await master.stop();
    },
  };
  const startOne = async (
    index: number,
    environment: Environment,
    directories: readonly string[] = [cluster.directories[index] as string],
  ): Promise<void> => {
    cluster.environments[index] = environment;
    const chunkserver = new Chunkserver(environment, {
      ...chunkserverDefaults,
      dataDirectories: directories,
      masters: [master.address],
      reservedBytes: 0,
      ...options,
    });
    await chunkserver.start();
    cluster.chunkservers[index] = chunkserver;
    cluster.ids[index] = chunkserver.serverId;
    await until(() => master.reported.has(chunkserver.serverId));
    cluster.clients[index] = await connectTo(chunkserver.address);
  };
  for (let index = 0; index < count; index++) {
    cluster.directories[index] = join(root, `disk${index}`);
    await startOne(index, quietEnvironment());
  }
  return cluster;
}

/** Waits for something that happens on its own. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  let value = (seed * 2654435761) >>> 0;
  for (let i = 0; i < length; i++) {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0;
    out[i] = value >>> 24;
  }
  return out;
}

export function withPayload(bytes: Uint8Array, options: CallOptions = {}): CallOptions {
  return { ...options, payload: { buffers: [bytes] } };
}
