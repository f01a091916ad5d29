/** Goals: how many replicas a file's chunks shall have, by node, inherited by what is made in a directory. */
import { GfsError } from '../protocol/errors.js';
import { MAX_REPLICAS } from '../protocol/limits.js';
import type { GetGoal, SetGoal } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { ChunkserverTable } from './chunkservers.js';
import { LockSet } from './locks.js';
import type { Plan } from './mutations.js';
import type { Credentials } from './namespace.js';
import { isOwner } from './permissions.js';
import { findNode, lockNode } from './resolve.js';
import type { LoggedState, Node } from './state.js';

export class Goals {
  readonly #state: LoggedState;
  readonly #chunkservers: ChunkserverTable;
  readonly #default: number;

  constructor(state: LoggedState, chunkservers: ChunkserverTable, defaultGoal: number) {
    this.#state = state;
    this.#chunkservers = chunkservers;
    this.#default = defaultGoal;
  }

  /** What new chunks of this file get. */
  of(id: number): number {
    return this.#state.goals.get(id) ?? this.#default;
  }

  get(id: number): ValueOf<typeof GetGoal.reply> {
    const node = findNode(this.#state, id);
    return { goal: this.of(node.id), own: this.#state.goals.has(node.id) };
  }

  set(
    { ids, goal }: ValueOf<typeof SetGoal.request>,
    caller: Credentials,
  ): Plan<ValueOf<typeof SetGoal.reply>> {
    const nodes = (): Node[] =>
      ids.flatMap((id) => {
        const node = this.#state.nodes.get(id);
        return node !== undefined && (node.isDirectory || node.isRegular) ? [node] : [];
      });
    return {
      locks: () => {
        const set = new LockSet();
        for (const node of nodes()) lockNode(this.#state, set, node);
        return set;
      },
      validate: () => {
        if (goal !== undefined) this.#check(goal);
        const there = nodes();
        for (const node of there)
          if (!isOwner(node, caller))
            throw new GfsError('ACCESS_DENIED', `only the owner of node ${node.id} sets its goal`);
        if (there.length === 0) return { reply: { count: 0 } };
        const own = goal !== undefined;
        const nodeIds = there.map(({ id }) => id);
        return { event: { type: 'goalSet', ids: nodeIds, goal: goal ?? this.#default, own } };
      },
    };
  }

  /** @throws INVALID */
  #check(goal: number): void {
    if (goal < 1) throw new GfsError('INVALID', 'a goal of 0 would keep no copy: the least is 1');
    if (goal > MAX_REPLICAS) throw new GfsError('INVALID', `a goal of ${goal}: the most is ${MAX_REPLICAS}`);
    const servers = this.#chunkservers.active.length;
    if (goal > servers)
      throw new GfsError(
        'INVALID',
        `a goal of ${goal} cannot be reached: ${servers} chunkservers are connected`,
      );
  }
}
