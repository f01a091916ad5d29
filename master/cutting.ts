/** Truncation and snapshot: mutations that need the leases of the chunks to be over first. */
import { GfsError } from '../protocol/errors.js';
import type { Attributes, SetAttributes, Snapshot } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Allocator } from './allocator.js';
import { walk } from './apply-snapshot.js';
import type { NodeMutations } from './attributes.js';
import { type Gatekeeper, TreeChanged } from './gatekeeper.js';
import type { Origin } from './journal.js';
import { LockSet } from './locks.js';
import type { Decision, Mutations, Plan } from './mutations.js';
import type { Credentials } from './namespace.js';
import { checkName, checkPathLength, findLiveDirectory, findNode, livePath, lockName } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

interface AttributesReply {
  readonly attributes: Attributes;
}

type Signal = () => AbortSignal;

const MAX_SNAPSHOT_NODES = 4_194_304;

export interface CuttingParts {
  readonly state: LoggedState;
  readonly allocator: Allocator;
  readonly mutations: Mutations;
  readonly nodes: NodeMutations;
  readonly gatekeeper: Gatekeeper;
}

export class Cutting {
  readonly #parts: CuttingParts;

  constructor(parts: CuttingParts) {
    this.#parts = parts;
  }

  /** setattr, with a length or without. */
  async setAttributes(
    body: ValueOf<typeof SetAttributes.request>,
    caller: Credentials,
    origin: Origin,
    signal: Signal,
  ): Promise<AttributesReply> {
    const { mutations, nodes, gatekeeper } = this.#parts;
    const { size } = body.changes;
    if (size === undefined) return mutations.run(nodes.setAttributes(body, caller), origin, signal);
    const plan = nodes.setAttributes(body, caller);
    const { reply, acknowledged } = await gatekeeper.attempts(() =>
      gatekeeper.behindGates([body.id], signal, async () => {
        await gatekeeper.endLeases(this.#cutChunks(body.id, size));
        const validate = (): Decision<AttributesReply> => {
          // The file may have grown since, so that the same length cuts it now.
          if (this.#cutChunks(body.id, size).some((chunk) => gatekeeper.isLeased(chunk)))
            throw new TreeChanged();
          return plan.validate();
        };
        return mutations.carryOut({ locks: plan.locks, validate }, origin, signal);
      }),
    );
    await acknowledged;
    return reply;
  }

  /** The chunks that a new length cuts off or cuts short. */
  #cutChunks(id: number, size: number): ChunkState[] {
    const node = findNode(this.#parts.state, id);
    if (size > node.size) return [];
    const handles = node.chunks?.handles(Math.floor(size / this.#parts.state.chunkBytes)) ?? [];
    return this.#parts.gatekeeper.chunksOf(handles);
  }

  /** Paper §3.4: leases revoked, logged, metadata duplicated. */
  async snapshot(
    body: ValueOf<typeof Snapshot.request>,
    origin: Origin,
    signal: Signal,
  ): Promise<AttributesReply> {
    const { state, mutations, gatekeeper } = this.#parts;
    const { reply, acknowledged } = await gatekeeper.attempts(() => {
      const files = this.#filesUnder(findNode(state, body.id));
      return gatekeeper.behindGates([...files], signal, async () => {
        const handles = [...files].flatMap((id) => state.nodes.get(id)?.chunks?.handles() ?? []);
        await gatekeeper.settle(gatekeeper.chunksOf(handles));
        return mutations.carryOut(this.#planSnapshot(body, files), origin, signal);
      });
    });
    await acknowledged;
    return reply;
  }

  #planSnapshot(body: ValueOf<typeof Snapshot.request>, gated: ReadonlySet<number>): Plan<AttributesReply> {
    const { state } = this.#parts;
    return {
      locks: () => {
        checkName(body.name);
        const source = findNode(state, body.id);
        const set = new LockSet();
        lockName(state, set, findLiveDirectory(state, body.parent), body.name, true);
        const above = state.nodes.get(source.parent);
        if (above !== undefined) lockName(state, set, above, source.name, true);
        if (!source.isDirectory) set.addNode(source.id, true);
        return set;
      },
      validate: () => this.#validateSnapshot(body, gated),
    };
  }

  #validateSnapshot(
    body: ValueOf<typeof Snapshot.request>,
    gated: ReadonlySet<number>,
  ): Decision<AttributesReply> {
    const { state, allocator } = this.#parts;
    const source = findNode(state, body.id);
    const parent = findLiveDirectory(state, body.parent);
    if (source.nlink === 0) throw new GfsError('NOT_FOUND', 'the source is deleted');
    if (parent.entries.get(body.name) !== undefined) throw new GfsError('EXISTS');
    if (source.isDirectory) {
      const path = livePath(state, source);
      if (`${livePath(state, parent)}/`.startsWith(`${path}/`))
        throw new GfsError('INVALID', 'a snapshot into itself');
    }
    checkPathLength(state, parent, body.name);
    let count = 0;
    for (const node of walk(state, source)) {
      if (node.chunks !== undefined && !gated.has(node.id)) throw new TreeChanged();
      if (++count > MAX_SNAPSHOT_NODES)
        throw new GfsError('TOO_BIG', `more than ${MAX_SNAPSHOT_NODES} files`);
    }
    return {
      event: {
        type: 'snapshotTaken',
        source: source.id,
        parent: parent.id,
        name: body.name,
        firstId: allocator.nodeIds(count),
      },
    };
  }

  /** Regular files of a tree, in the order of their ids, in which gates are taken. */
  #filesUnder(source: Node): Set<number> {
    const files: number[] = [];
    for (const node of walk(this.#parts.state, source)) if (node.isRegular) files.push(node.id);
    return new Set(files.sort((a, b) => a - b));
  }
}
