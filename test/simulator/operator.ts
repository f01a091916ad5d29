/** Who runs the cluster: promotes shadows, drains servers and takes them back; while things break, and once they are mended. */
import type { GfsClient } from '../../client/index.js';
import { ask } from '../../master/dialing.js';
import { toGfsError } from '../../protocol/errors.js';
import {
  type ClusterStatus,
  GetStatus,
  Promote,
  type Server,
  SetDrain,
} from '../../protocol/messages/index.js';
import type { FakeProcess, FakeRandom } from '../fakes/index.js';
import type { SimulatedCluster } from './cluster.js';
import type { LogMember } from './log-member.js';
import { connectClient } from './members.js';
import { DEFAULT_GOAL } from './shape.js';

const RETRY_MS = 500;
/** For so long a server that is drained is waited for to be empty. */
const MAX_LOOKS = 20;
const ASKER = { role: 'client', id: 'operator', clusterId: '', term: 0 } as const;

export class Operator {
  readonly #cluster: SimulatedCluster;
  readonly #process: FakeProcess;
  readonly #random: FakeRandom;
  #client: Promise<GfsClient> | undefined;
  /** One thing after another. */
  #busy: Promise<void> = Promise.resolve();
  /** The last fault is over. */
  #isSettling = false;
  /** Promotions that shadows agreed to. */
  promotions = 0;
  /** Servers that were drained, taken away, and replaced at the same address. */
  replacements = 0;

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
    this.#do(() => this.#ask(host.name, port));
  }

  async #ask(host: string, port: number): Promise<void> {
    await ask(this.#process.environment, ASKER, { host, port }, Promote, {});
    this.promotions++;
  }

  /** `gfs drain` of a server, or with `--cancel`. Some are replaced when they are empty. */
  drain(): void {
    this.#do(async () => {
      const client = await this.#connected();
      const servers = aliveOf(await client.master.query(GetStatus, {}));
      if (servers.length === 0) return;
      const { serverId } = this.#random.pick(servers);
      const on = this.#random.chance(0.5);
      await client.master.query(SetDrain, { serverId, on });
      if (on && this.#random.chance(0.5)) this.#replaceLater(serverId);
    });
  }

  #replaceLater(serverId: string): void {
    const look = async () => {
      for (let looks = 0; looks < MAX_LOOKS && !this.#isSettling; looks++) {
        await this.#pause();
        if (await this.#replace(serverId)) return;
      }
    };
    look().catch((thrown) => this.#process.fail(thrown));
  }

  /**
   * Has a server that is drained, and empty as the master says, taken away and another put at its address.
   * @returns whether that was done
   */
  async #replace(serverId: string): Promise<boolean> {
    let isDone = false;
    this.#do(async () => {
      const client = await this.#connected();
      const status = await client.master.query(GetStatus, {});
      const drain = status.replication?.drains.find((each) => each.serverId === serverId);
      if (drain === undefined || drain.chunksLeft > 0 || drain.away === true) return;
      const at = aliveOf(status).find((server) => server.serverId === serverId)?.host;
      const member = this.#cluster.chunkservers.find(({ host }) => host.name === at);
      if (member === undefined || !member.host.up) return;
      member.process?.crash();
      member.host.disk.wipe();
      member.start();
      this.replacements++;
      isDone = true;
      if (this.#random.chance(0.5)) await client.master.query(SetDrain, { serverId, on: false });
    });
    await this.#busy;
    return isDone;
  }

  /**
   * After the last fault: no server is drained any more than can be emptied.
   * @returns those that are drained still
   */
  async settle(): Promise<readonly string[]> {
    this.#isSettling = true;
    await this.#untilMaster();
    await this.#busy;
    const { chunkservers } = this.#cluster;
    for (;;) {
      const status = await this.status();
      const alive = status === undefined ? [] : aliveOf(status);
      if (status?.ready === true && alive.length === chunkservers.length) {
        const serverIds = alive.map(({ serverId }) => serverId).sort();
        const kept = chunkservers.length > DEFAULT_GOAL ? [this.#random.pick(serverIds)] : [];
        if (await this.#drainOnly(kept, serverIds)) return kept;
      }
      await this.#pause();
    }
  }

  /** At the end, when all is healed. @returns whether one of those that are drained was replaced */
  async replaceOneOf(drained: readonly string[]): Promise<boolean> {
    for (const serverId of drained)
      if (this.#random.chance(0.5) && (await this.#replace(serverId))) return true;
    return false;
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

  /**
   * A promotion that was cut short may have left nobody: then it is repeated, until one comes to something. At another
   * terminal: a command that waits for a master at the first would wait for ever.
   */
  async #untilMaster(): Promise<void> {
    const { logs } = this.#cluster;
    for (let attempt = 0; ; attempt++) {
      await this.#pause();
      if (logs.some(({ copy, master }) => copy !== undefined && master?.logCounts)) return;
      const { host, port } = logs[attempt % logs.length] as LogMember;
      await this.#attempt(() => this.#ask(host.name, port)).catch((thrown) => this.#process.fail(thrown));
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
    this.#busy = this.#busy.then(() => this.#attempt(command));
    this.#busy.catch((thrown) => this.#process.fail(thrown));
  }

  async #attempt(command: () => Promise<void>): Promise<void> {
    try {
      await command();
    } catch (thrown) {
      const { code, message } = toGfsError(thrown);
      if (code === 'INTERNAL') throw thrown;
      this.#process.environment.logger.debug({ code, message }, 'operator: a command failed');
    }
  }

  #connected(): Promise<GfsClient> {
    const { shadows } = this.#cluster.options;
    this.#client ??= connectClient(this.#process, { shadows });
    return this.#client;
  }
}

/** Those that are there: of one that was replaced the former life is told of too. */
export function aliveOf({ servers }: ClusterStatus): Server[] {
  return servers.flatMap(({ server, state }) => (state === 'alive' ? [server] : []));
}
