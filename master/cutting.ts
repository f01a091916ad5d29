/**
 * Mutations that need the leases of chunks to be over first: truncation and snapshot. The files' gates
 * are closed for that long, so that no new lease comes in between; the locks of the namespace are taken
 * only afterwards, for none of them is ever held across a call to a chunkserver.
 */
import { GfsError } from '../protocol/errors.js';
import type { Attributes, SetAttributes, Snapshot } from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Allocator } from './allocator.js';
import { walk } from './apply-snapshot.js';
import type { NodeMutations } from './attributes.js';
import type { ChunkserverTable } from './chunkservers.js';
import type { Origin } from './journal.js';
import type { Leases } from './leases.js';
import { type LockManager, LockSet } from './locks.js';
import type { Decision, Mutations, Plan } from './mutations.js';
import type { Credentials } from './namespace.js';
import { checkName, checkPathLength, findLiveDirectory, findNode, livePath, lockName } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

interface AttributesReply {
  readonly attributes: Attributes;
}

type Signal = () => AbortSignal;

const MAX_SNAPSHOT_NODES = 4_194_304;
const MAX_REVOCATIONS_AT_ONCE = 64;
const MAX_ATTEMPTS = 16;

export interface CuttingParts {
  readonly state: LoggedState;
  readonly allocator: Allocator;
  readonly mutations: Mutations;
  readonly nodes: NodeMutations;
  readonly leases: Leases;
  readonly chunkservers: ChunkserverTable;
  /** As {@link GrantParts.gates}. */
  readonly gates: LockManager;
}

/** What the gates were closed for is not what it was, now that the locks are taken. */
class TreeChanged extends Error {}

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
    const { mutations, nodes } = this.#parts;
    const { size } = body.changes;
    if (size === undefined) return mutations.run(nodes.setAttributes(body, caller), origin, signal);
    const plan = nodes.setAttributes(body, caller);
    return this.#attempts(() =>
      this.#behindGates([body.id], signal, async () => {
        await this.#endLeases(this.#cutChunks(body.id, size));
        const validate = (): Decision<AttributesReply> => {
          // The file may have grown since, so that the same length cuts it now.
          if (this.#cutChunks(body.id, size).some((chunk) => this.#isLeased(chunk))) throw new TreeChanged();
          return plan.validate();
        };
        return mutations.run({ locks: plan.locks, validate }, origin, signal);
      }),
    );
  }

  /** The chunks that a new length cuts off or cuts short. */
  #cutChunks(id: number, size: number): ChunkState[] {
    const node = findNode(this.#parts.state, id);
    if (size > node.size) return [];
    const handles = node.chunks?.handles(Math.floor(size / this.#parts.state.chunkBytes)) ?? [];
    return this.#chunksOf(handles);
  }

  /** Paper §3.4: leases revoked, logged, metadata duplicated. */
  async snapshot(
    body: ValueOf<typeof Snapshot.request>,
    origin: Origin,
    signal: Signal,
  ): Promise<AttributesReply> {
    const { state, mutations } = this.#parts;
    return this.#attempts(() => {
      const files = this.#filesUnder(findNode(state, body.id));
      return this.#behindGates([...files], signal, async () => {
        const handles = [...files].flatMap((id) => state.nodes.get(id)?.chunks?.handles() ?? []);
        await this.#endLeases(this.#chunksOf(handles));
        return mutations.run(this.#planSnapshot(body, files), origin, signal);
      });
    });
  }

  async #attempts<T>(attempt: () => Promise<T>): Promise<T> {
    for (let count = 0; count < MAX_ATTEMPTS; count++) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof TreeChanged)) throw error;
      }
    }
    throw new GfsError('OVERLOADED', 'the files keep changing');
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

  async #behindGates<T>(ids: readonly number[], signal: Signal, run: () => Promise<T>): Promise<T> {
    const set = new LockSet();
    for (const id of ids) set.addNode(id, true);
    const held = await this.#parts.gates.acquire(set, signal);
    try {
      return await run();
    } finally {
      held.release();
    }
  }

  /** @throws NOT_READY, CHUNK_UNAVAILABLE: a lease may still run */
  async #endLeases(chunks: readonly ChunkState[]): Promise<void> {
    const { leases, chunkservers } = this.#parts;
    const held = chunks.filter((chunk) => this.#isLeased(chunk));
    if (held.length > 0 && !chunkservers.ready)
      throw new GfsError('NOT_READY', 'not all chunkservers are back');
    for (let at = 0; at < held.length; at += MAX_REVOCATIONS_AT_ONCE) {
      await Promise.all(held.slice(at, at + MAX_REVOCATIONS_AT_ONCE).map((chunk) => leases.end(chunk)));
    }
  }

  /** A chunk that several files share has no lease: whoever writes it gets a copy. */
  #isLeased(chunk: ChunkState): boolean {
    return chunk.references === 1 && this.#parts.leases.mayBeHeld(chunk);
  }

  #chunksOf(handles: readonly number[]): ChunkState[] {
    return handles.flatMap((handle) => this.#parts.state.chunks.get(handle) ?? []);
  }
}
