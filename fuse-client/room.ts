/** statfs(2): the room that there is, as the master knows it from the heartbeats of the chunkservers. */
import type { CallContext, MasterSession } from '../client/index.js';
import type { Clock } from '../environment/ports/index.js';
import { MAX_NAME_BYTES } from '../protocol/limits.js';
import { StatCluster } from '../protocol/messages/index.js';
import type { StatfsReply } from './handler.js';

const BLOCK_BYTES = 4096;
/** find(1) asks each time. What the master knows is some seconds old, so that one more does not matter. */
const FRESH_MS = 1_000;

export class Room {
  readonly #master: Pick<MasterSession, 'query'>;
  readonly #clock: Clock;
  #told: StatfsReply | undefined;
  #freshUntilMs = 0;

  constructor(master: Pick<MasterSession, 'query'>, clock: Clock) {
    this.#master = master;
    this.#clock = clock;
  }

  /** Blocks are those of files: the disks' space divided by the replicas that a file has. */
  async tell(context: CallContext): Promise<StatfsReply> {
    const askedMs = this.#clock.monotonicMs();
    if (this.#told !== undefined && askedMs < this.#freshUntilMs) return this.#told;
    const { goal, totalBytes, availableBytes, files } = await this.#master.query(StatCluster, {}, context);
    const blocks = (bytes: number) => Math.floor(bytes / goal / BLOCK_BYTES);
    this.#freshUntilMs = askedMs + FRESH_MS;
    this.#told = {
      blockBytes: BLOCK_BYTES,
      blocks: blocks(totalBytes),
      blocksFree: blocks(availableBytes),
      blocksAvailable: blocks(availableBytes),
      files: files + blocks(availableBytes),
      filesFree: blocks(availableBytes),
      nameMaxBytes: MAX_NAME_BYTES,
    };
    return this.#told;
  }
}
