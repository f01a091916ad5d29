/**
 * Reads beside writes, one replica at a time. What the contract allows of a block that is being written: a read
 * returns the old or the new, whole; from the acknowledgement on the new, at every replica. Replicas take a write
 * one after another, so of two mounts, or of one that goes from one server to the next, the later may still see the
 * old. But each replica takes its mutations in one order, the primary's: who has read the new from it reads the old
 * from it no more, unless a write that is not acknowledged was taken back there, and that is done by a repair alone
 * (at a new version, at the end of a lease, with a copy), or by the crash of its server. Watched on the wire, where
 * it can be seen which replica it was.
 */
import type { Lease, ReadChunk } from '../../protocol/messages/index.js';
import type { ValueOf } from '../../protocol/schema.js';
import { checkHistory, type Operation, type Verdict } from './linearizability.js';
import { type BlockCall, type ReplicaCall, replicaSpecification } from './specifications.js';

interface Span {
  readonly invokedAt: number;
  readonly returnedAt: number;
}

interface Seen extends Span {
  readonly server: string;
  readonly handle: number;
  readonly offset: number;
  readonly value: number;
}

/** Something that may take back what was not acknowledged. */
interface Repair extends Span {
  readonly handle: number | undefined;
  /** Undefined: at any of its replicas. */
  readonly server: string | undefined;
}

export interface WatchedBlock {
  /** In its chunk. */
  readonly offset: number;
  readonly index: number;
  readonly history: readonly Operation<BlockCall>[];
}

export interface OrderVerdict {
  readonly server: string;
  readonly verdict: Verdict;
  readonly history: readonly Operation<ReplicaCall>[];
}

export class ReplicaOrder {
  readonly #now: () => number;
  readonly #blockBytes: number;
  readonly #writerOf: (block: Buffer) => number;
  readonly #handles = new Map<number, Set<number>>();
  readonly #offsets = new Set<number>();
  readonly #seen: Seen[] = [];
  readonly #repairs: Repair[] = [];
  /** Watched; before it is known nothing is. */
  fileId = 0;

  constructor(now: () => number, blockBytes: number, writerOf: (block: Buffer) => number) {
    this.#now = now;
    this.#blockBytes = blockBytes;
    this.#writerOf = writerOf;
  }

  /** Requests and what has come of them are told by their moments. */
  now(): number {
    return this.#now();
  }

  watch(offsetInChunk: number): void {
    this.#offsets.add(offsetInChunk);
  }

  /** Where the file's chunks are said to be. */
  located(asked: { readonly id: number }, chunks: readonly Pick<Lease, 'index' | 'handle'>[]): void {
    if (asked.id !== this.fileId) return;
    for (const { index, handle } of chunks) {
      if (handle === 0) continue;
      const handles = this.#handles.get(index) ?? new Set();
      this.#handles.set(index, handles.add(handle));
    }
  }

  read(server: string, invokedAt: number, body: ValueOf<typeof ReadChunk.request>, bytes: Uint8Array): void {
    const { handle, offset: from } = body;
    if (![...this.#handles.values()].some((handles) => handles.has(handle))) return;
    const returnedAt = this.#now();
    for (const offset of this.#offsets) {
      if (offset < from || offset + this.#blockBytes > from + bytes.byteLength) continue;
      const block = Buffer.from(bytes.subarray(offset - from, offset - from + this.#blockBytes));
      this.#seen.push({ server, handle, offset, value: this.#writerOf(block), invokedAt, returnedAt });
    }
  }

  /** @param server at which; undefined: at any @param handle of which chunk; undefined: of any */
  repaired(server: string | undefined, handle: number | undefined, invokedAt: number): void {
    this.#repairs.push({ server, handle, invokedAt, returnedAt: this.#now() });
  }

  /** Each replica's own order of one block. @param losesUnsynced a host has lost its memory, and with it what was acknowledged */
  *check({ offset, index, history }: WatchedBlock, losesUnsynced: boolean): Generator<OrderVerdict> {
    const handles = this.#handles.get(index) ?? new Set();
    const [handle] = handles;
    // A copy of the chunk has a history before its own.
    if (handle === undefined || handles.size > 1) return;
    const seen = this.#seen.filter((each) => each.handle === handle && each.offset === offset);
    for (const server of new Set(seen.map((each) => each.server))) {
      const reads = seen.filter((each) => each.server === server);
      const repairs = this.#repairs.filter((each) => {
        return (each.handle ?? handle) === handle && (each.server ?? server) === server;
      });
      const operations: Operation<ReplicaCall>[] = [
        ...written(history, losesUnsynced),
        ...reads.map(({ value, ...span }) => ({ ...span, call: { kind: 'read', value } as const })),
        ...repairs.map((span) => ({ ...span, call: { kind: 'powerCut' } as const })),
      ];
      const ordered = operations.map(({ call, invokedAt, returnedAt }) => ({ call, invokedAt, returnedAt }));
      yield { server, verdict: checkHistory(ordered, replicaSpecification), history: ordered };
    }
  }
}

/** Writes, and from when on each is there for good. */
function written(history: readonly Operation<BlockCall>[], losesUnsynced: boolean): Operation<ReplicaCall>[] {
  return history.flatMap((operation): Operation<ReplicaCall>[] => {
    const { call, returnedAt } = operation;
    if (call.kind === 'read' || (call.kind === 'sync' && !losesUnsynced)) return [];
    if (call.kind !== 'write' || losesUnsynced || returnedAt === Number.POSITIVE_INFINITY) return [operation];
    // After its end, and before whatever comes next.
    const at = returnedAt + 0.5;
    return [operation, { call: { kind: 'sync', value: call.value }, invokedAt: at, returnedAt: at }];
  });
}
