/** copy_file_range(2) and hole punching on whole chunks: which chunks a file has changes, no data moves. */
import { GfsError } from '../protocol/errors.js';
import { MAX_FILE_BYTES } from '../protocol/limits.js';
import type { PunchHole, ShareChunks } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { checkRegular } from './attributes.js';
import { type Gatekeeper, TreeChanged } from './gatekeeper.js';
import type { Origin } from './journal.js';
import { LockSet } from './locks.js';
import type { Decision, Mutations, Plan } from './mutations.js';
import { findNode, lockNode } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

type Signal = () => AbortSignal;
type ShareRequest = ValueOf<typeof ShareChunks.request>;
type ShareReply = ValueOf<typeof ShareChunks.reply>;
type PunchRequest = ValueOf<typeof PunchHole.request>;
type PunchReply = ValueOf<typeof PunchHole.reply>;

/** Chunks that one request shares at most; the caller asks again for the rest. */
const MAX_SHARED_CHUNKS = 4096;

export class Sharing {
  readonly #state: LoggedState;
  readonly #mutations: Mutations;
  readonly #gatekeeper: Gatekeeper;

  constructor(state: LoggedState, mutations: Mutations, gatekeeper: Gatekeeper) {
    this.#state = state;
    this.#mutations = mutations;
    this.#gatekeeper = gatekeeper;
  }

  share(body: ShareRequest, origin: Origin, signal: Signal): Promise<ShareReply> {
    const { chunkBytes } = this.#state;
    if ((body.toIndex + MAX_SHARED_CHUNKS) * chunkBytes > MAX_FILE_BYTES) throw new GfsError('FILE_TOO_BIG');
    const ids = [...new Set([body.source, body.id])].sort((a, b) => a - b);
    const concerned = (): ChunkState[] => {
      const count = Math.ceil(this.#shareable(body) / chunkBytes);
      return [
        ...this.#chunks(body.source, body.index, body.index + count),
        ...this.#chunks(body.id, body.toIndex, body.toIndex + count),
      ];
    };
    const settle = (chunks: ChunkState[]) => this.#gatekeeper.settle(chunks);
    return this.#withoutLeases(ids, concerned, settle, origin, signal, () => {
      const bytes = this.#shareable(body);
      if (bytes === 0) return { reply: { bytes, attributes: findNode(this.#state, body.id).attributes() } };
      return { event: { type: 'chunksShared', ...body, bytes } };
    });
  }

  punch(body: PunchRequest, origin: Origin, signal: Signal): Promise<PunchReply> {
    const end = body.index + body.count;
    if (!Number.isSafeInteger(end)) throw new GfsError('FILE_TOO_BIG');
    const concerned = (): ChunkState[] => this.#chunks(body.id, body.index, end);
    const endLeases = (chunks: ChunkState[]) => this.#gatekeeper.endLeases(chunks);
    return this.#withoutLeases([body.id], concerned, endLeases, origin, signal, () => ({
      event: { type: 'punched', id: body.id, index: body.index, end },
    }));
  }

  /**
   * Runs a mutation of files while nobody may write the chunks concerned.
   * @param ids ascending
   * @param end sees to it that nobody does
   */
  async #withoutLeases<Reply>(
    ids: readonly number[],
    concerned: () => ChunkState[],
    end: (chunks: ChunkState[]) => Promise<void>,
    origin: Origin,
    signal: Signal,
    decide: () => Decision<Reply>,
  ): Promise<Reply> {
    const plan: Plan<Reply> = {
      locks: () => {
        const set = new LockSet();
        for (const id of ids) lockNode(this.#state, set, this.#file(id));
        return set;
      },
      validate: () => {
        for (const id of ids) this.#file(id);
        // A file may have grown since, so that more is concerned now.
        if (concerned().some((chunk) => this.#gatekeeper.isLeased(chunk))) throw new TreeChanged();
        return decide();
      },
    };
    const { reply, acknowledged } = await this.#gatekeeper.attempts(() =>
      this.#gatekeeper.behindGates(ids, signal, async () => {
        await end(concerned());
        return this.#mutations.carryOut(plan, origin, signal);
      }),
    );
    await acknowledged;
    return reply;
  }

  /** How much of what is asked for can be shared: whole chunks, and the rest where the copy ends with it. */
  #shareable({ source, index, id, toIndex, bytes }: ShareRequest): number {
    const { chunkBytes } = this.#state;
    const from = this.#file(source);
    const to = this.#file(id);
    const there = Math.max(0, from.size - index * chunkBytes);
    const wanted = Math.min(bytes, there, MAX_SHARED_CHUNKS * chunkBytes);
    const whole = wanted - (wanted % chunkBytes);
    return to.size <= toIndex * chunkBytes + wanted ? wanted : whole;
  }

  #chunks(id: number, index: number, end: number): ChunkState[] {
    const list = this.#file(id).chunks;
    if (list === undefined) return [];
    return this.#gatekeeper.chunksOf(list.indexes(index, end).map((at) => list.get(at)));
  }

  /** @throws STALE_NODE, IS_DIRECTORY, INVALID */
  #file(id: number): Node {
    const node = findNode(this.#state, id);
    checkRegular(node);
    return node;
  }
}
