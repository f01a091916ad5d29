/** Who runs the cluster: promotes shadows, drains servers and takes them back; while things break, and once they are mended. */
import type { GfsClient } from '../../client/index.js';
import { ask } from '../../master/dialing.js';
import { toGfsError } from '../../protocol/errors.js';
import { type ClusterStatus, GetStatus, Promote, SetDrain } from '../../protocol/messages/index.js';
import type { FakeProcess, FakeRandom } from '../fakes/index.js';
import type { SimulatedCluster } from './cluster.js';
import type { LogMember } from './log-member.js';
import { connectClient } from './members.js';
import { DEFAULT_GOAL } from './shape.js';

const RETRY_MS = 500;
const ASKER = { role: 'client', id: 'operator', clusterId: '', term: 0 } as const;

export class Operator {
  readonly #cluster: SimulatedCluster;
  readonly #process: FakeProcess;
  readonly #random: FakeRandom;
  #client: Promise<GfsClient> | undefined;
  /** One thing after another. */
  #busy: Promise<void> = Promise.resolve();
  /** Promotions that shadows agreed to. */
  promotions = 0;

  constructor(cluster: SimulatedCluster) {
    this.#cluster = cluster;
    this.#process = cluster.world.process('operator');
    this.#random = cluster.world.random.fork('operator');
  }

  /** `gfs promote`, of any shadow, whether the master is away or not. It may refuse. */
  promote(): void {
    const shadows = this.#cluster.logs.filter(({ process, shadow }) => process?.alive && shadow);
    if (shadows.length === 0) return;
    const { host, port } = this.#random.pick(shadows);
    this.#promote(host.name, port);
  }

  #promote(host: string, port: number): void {
    this.#do(async () => {
      await ask(this.#process.environment, ASKER, { host, port }, Promote, {});
      this.promotions++;
    });
  }

  /** `gfs drain` of a server, or with `--cancel`. */
  drain(): void {
    this.#do(async () => {
      const client = await this.#connected();
      const { servers } = await client.master.query(GetStatus, {});
      if (servers.length === 0) return;
      const { serverId } = this.#random.pick(servers).server;
      await client.master.query(SetDrain, { serverId, on: this.#random.chance(0.5) });
    });
  }

  /**
   * After the last fault: no server is drained any more than can be emptied.
   * @returns those that are drained still
   */
  async settle(): Promise<readonly string[]> {
    await this.#busy;
    await this.#untilMaster();
    const { chunkservers } = this.#cluster;
    for (;;) {
      const status = await this.status();
      if (status?.ready === true && status.servers.length === chunkservers.length) {
        const serverIds = status.servers.map(({ server }) => server.serverId).sort();
        const kept = chunkservers.length > DEFAULT_GOAL ? [this.#random.pick(serverIds)] : [];
        if (await this.#drainOnly(kept, serverIds)) return kept;
      }
      await this.#pause();
    }
  }

  /** @returns whether all of it was done */
  async #drainOnly(kept: readonly string[], serverIds: readonly string[]): Promise<boolean> {
    let done = 0;
    for (const serverId of serverIds) {
      this.#do(async () => {
        const client = await this.#connected();
        await client.master.query(SetDrain, { serverId, on: kept.includes(serverId) });
        done++;
      });
    }
    await this.#busy;
    return done === serverIds.length;
  }

  /** A promotion that was cut short may have left nobody: then it is repeated, until one comes to something. */
  async #untilMaster(): Promise<void> {
    const { logs } = this.#cluster;
    for (let attempt = 0; ; attempt++) {
      await this.#pause();
      if (logs.some(({ copy, master }) => copy !== undefined && master !== undefined)) return;
      const { host, port } = logs[attempt % logs.length] as LogMember;
      this.#promote(host.name, port);
      await this.#busy;
    }
  }

  /** Undefined where nobody answers for half a minute. */
  async status(): Promise<ClusterStatus | undefined> {
    let status: ClusterStatus | undefined;
    this.#do(async () => {
      status = await (await this.#connected()).master.query(GetStatus, {});
    });
    await this.#busy;
    return status;
  }

  async #pause(): Promise<void> {
    await new Promise<void>((resolve) => void this.#process.environment.timers.after(RETRY_MS, resolve));
  }

  /** Commands may fail while things are broken: whoever types them looks, and goes on. */
  #do(command: () => Promise<void>): void {
    this.#busy = this.#busy.then(async () => {
      try {
        await command();
      } catch (thrown) {
        const { code, message } = toGfsError(thrown);
        if (code === 'INTERNAL') throw thrown;
        this.#process.environment.logger.debug({ code, message }, 'operator: a command failed');
      }
    });
    this.#busy.catch((thrown) => this.#process.fail(thrown));
  }

  #connected(): Promise<GfsClient> {
    const { shadows } = this.#cluster.options;
    this.#client ??= connectClient(this.#process, { shadows });
    return this.#client;
  }
}
