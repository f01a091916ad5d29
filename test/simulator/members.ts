/** Chunkservers and clients of a simulated cluster. */
import { Chunkserver } from '../../chunkserver/chunkserver.js';
import { chunkserverDefaults } from '../../chunkserver/options.js';
import { clientDefaults, GfsClient } from '../../client/index.js';
import { KIB, MIB } from '../../protocol/limits.js';
import type { Location } from '../../protocol/messages/index.js';
import type { FakeHost, FakeProcess, FakeRandom } from '../fakes/index.js';
import { mastersOf } from './log-member.js';
import { begin, end, type Member } from './programs.js';
import { type ClusterOptions, clusterDefaults } from './shape.js';

const CHUNKSERVER_PORT = 6000;

/** Some make checkpoints all the time, others none. */
const CHECKPOINT_BYTES = [200 * KIB, 2 * MIB, 64 * MIB] as const;

export class ChunkserverMember implements Member {
  readonly host: FakeHost;
  process: FakeProcess | undefined;
  #chunkserver: Chunkserver | undefined;
  readonly diskBytes: number | undefined;
  readonly #checkpointBytes: number;
  readonly #options: ClusterOptions;
  readonly #location: Location | undefined;

  constructor(host: FakeHost, options: ClusterOptions, random: FakeRandom, location: Location | undefined) {
    this.host = host;
    this.#location = location;
    this.#options = options;
    this.diskBytes = options.diskBytes === 0 ? undefined : options.diskBytes * random.pick([1, 2, 4]);
    host.disk.limitBytes = this.diskBytes;
    this.#checkpointBytes = random.pick(CHECKPOINT_BYTES);
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
        masters: mastersOf(this.#options),
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
  const { locationTtlMs, writeBehindBytes, caches, cacheLimits, shadows } = {
    ...clusterDefaults,
    ...options,
  };
  for (;;) {
    try {
      return await GfsClient.connect(process.environment, {
        ...clientDefaults,
        masters: mastersOf({ shadows }),
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
