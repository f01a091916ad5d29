/** statfs(2): the room that there is, as the master knows it from the heartbeats of the chunkservers. */
import type { CallContext, MasterSession } from '../client/index.js';
import type { Clock } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { MAX_NAME_BYTES } from '../protocol/limits.js';
import { GetGoal, StatCluster } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { StatfsReply } from './handler.js';

const BLOCK_BYTES = 4096;
/** find(1) asks each time. What the master knows is some seconds old, so that one more does not matter. */
const FRESH_MS = 1_000;

export class Room {
  readonly #master: Pick<MasterSession, 'query'>;
  readonly #clock: Clock;
  #told: ValueOf<typeof StatCluster.reply> | undefined;
  #freshUntilMs = 0;

  constructor(master: Pick<MasterSession, 'query'>, clock: Clock) {
    this.#master = master;
    this.#clock = clock;
  }

  /** Blocks are those of files: the disks' space divided by the replicas that a file has. */
  async tell(context: CallContext): Promise<StatfsReply> {
    const { goal, totalBytes, availableBytes, files } = await this.#known(context);
    const blocks = (bytes: number) => Math.floor(bytes / goal / BLOCK_BYTES);
    return {
      blockBytes: BLOCK_BYTES,
      blocks: blocks(totalBytes),
      blocksFree: blocks(availableBytes),
      blocksAvailable: blocks(availableBytes),
      files: files + blocks(availableBytes),
      filesFree: blocks(availableBytes),
      nameMaxBytes: MAX_NAME_BYTES,
    };
  }

  /**
   * That a file may grow by so much (fallocate(2)). Nothing is put aside: others may take it first.
   * @throws NO_SPACE when the servers have not that much now, with the file's own number of replicas
   */
  async require(bytes: number, id: number, context: CallContext): Promise<void> {
    if (isEnough(await this.#known(context), bytes)) return;
    // Before a program is refused, what holds now and of this file.
    this.#freshUntilMs = 0;
    const [now, { goal }] = await Promise.all([
      this.#known(context),
      this.#master.query(GetGoal, { id }, context),
    ]);
    if (isEnough({ ...now, goal }, bytes)) return;
    throw new GfsError('NO_SPACE', `${goal} copies of ${bytes} bytes: ${now.availableBytes} are available`);
  }

  async #known(context: CallContext): Promise<ValueOf<typeof StatCluster.reply>> {
    const askedMs = this.#clock.monotonicMs();
    if (this.#told === undefined || askedMs >= this.#freshUntilMs) {
      this.#told = await this.#master.query(StatCluster, {}, context);
      this.#freshUntilMs = askedMs + FRESH_MS;
    }
    return this.#told;
  }
}

/** Where servers may still come in, nobody knows that it is not. */
function isEnough(
  {
    availableBytes,
    goal,
    settled,
  }: Pick<ValueOf<typeof StatCluster.reply>, 'availableBytes' | 'goal' | 'settled'>,
  bytes: number,
): boolean {
  return settled !== true || bytes <= availableBytes / goal;
}
