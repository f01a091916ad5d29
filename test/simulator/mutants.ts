/**
 * The system with something broken on purpose, for as long as one test runs. Each takes a safeguard away
 * that a contract rests on; a simulator that does not miss it is worth nothing.
 */
import { LeaseTable } from '../../chunkserver/leases.js';
import { Secondary } from '../../chunkserver/secondary.js';
import { Chunk } from '../../chunkserver/store/chunk.js';
import { Journal } from '../../chunkserver/store/journal.js';
import type { Mutation } from '../../chunkserver/store/planner.js';
import { ResultTable } from '../../chunkserver/store/results.js';
import { Store } from '../../chunkserver/store/store.js';
import { CapturedBlocks, readVerified } from '../../chunkserver/store/verified-read.js';
import { MetadataCache } from '../../client/metadata-cache.js';
import { UnsyncedChunks } from '../../client/unsynced.js';
import { Drains } from '../../master/drains.js';
import { GarbageCollector } from '../../master/garbage.js';
import { LogReplicas } from '../../master/log-replicas.js';
import { OperationLog } from '../../master/operation-log.js';
import { PromiseKind, PromiseTable } from '../../master/promise-table.js';
import { Raiser } from '../../master/raising.js';
import { Replicas } from '../../master/replicas.js';
import { Dropper } from '../../master/replication/dropper.js';
import { ClientSessions } from '../../master/sessions.js';
import { toGfsError } from '../../protocol/errors.js';
import { SHARED_BLOCK_BYTES } from './shared.js';
import type { SimulationOptions } from './simulation-options.js';

export interface Mutant {
  readonly name: string;
  /** Under which it is looked for: the faults that the safeguard is for. */
  readonly options: Partial<SimulationOptions>;
  /** What the check says that is there for this; the others see nothing wrong. */
  readonly finds?: RegExp;
  /** Breaks it. @returns what mends it */
  readonly apply: () => () => void;
}

/** Replaces a method. @returns what puts the first one back */
function replace<T extends object, K extends keyof T>(prototype: T, name: K, method: T[K]): () => void {
  const original = prototype[name];
  prototype[name] = method;
  return () => {
    prototype[name] = original;
  };
}

/** What takes a write of a block back, where the block was there before. */
async function undoOf(chunk: Chunk, mutations: readonly Mutation[]): Promise<Mutation | undefined> {
  const [write] = mutations;
  const length = write?.bytes?.byteLength;
  if (write === undefined || mutations.length > 1 || length !== SHARED_BLOCK_BYTES) return undefined;
  const { bytes, release } = await readVerified(chunk, write.offset, length);
  const undo = { kind: 'write', offset: write.offset, session: 0, sequence: 0 } as const;
  const copy = Buffer.from(bytes);
  release();
  return copy.byteLength < length ? undefined : { ...undo, bytes: copy };
}

/** Long enough that somebody reads meanwhile. */
function aMoment({ directory }: Chunk): Promise<void> {
  return new Promise((resolve) => void directory.context.timers.after(300, resolve));
}

export const mutants: readonly Mutant[] = [
  {
    name: 'a chunkserver takes mutations of any version',
    options: {
      faults: ['cut', 'cutOneWay', 'late'],
      meanIntervalMs: 60,
      durationMs: 3_000,
      clients: 3,
      leaseDurationMs: 60_000,
    },
    apply: () => {
      // What `apply` compares the version with is the chunk that it has just looked up.
      const { get } = Store.prototype;
      const { apply } = Secondary.prototype;
      let latest: Chunk | undefined;
      const mend = [
        replace(Store.prototype, 'get', function (this: Store, handle: number) {
          latest = get.call(this, handle);
          return latest;
        }),
        replace(Secondary.prototype, 'apply', function (this: Secondary, body, request) {
          let chunk: Chunk | undefined;
          const version = () => {
            chunk ??= latest;
            return chunk?.state.version;
          };
          return apply.call(this, Object.defineProperty({ ...body }, 'version', { get: version }), request);
        }),
      ];
      return () => {
        for (const undo of mend) undo();
      };
    },
  },
  {
    name: 'the master acknowledges before its log is flushed',
    options: { faults: ['blackout', 'slowDisk'], losesAll: true, meanIntervalMs: 250 },
    apply: () => {
      const { append } = OperationLog.prototype;
      const nothing = () => undefined;
      return replace(
        OperationLog.prototype,
        'append',
        function (this: OperationLog, record, onDurable, onRefused, first) {
          append.call(this, record, nothing, nothing, first);
          queueMicrotask(() => {
            try {
              onDurable();
            } catch (thrown) {
              // An invariant that it has broken: whoever asked hears of it.
              onRefused(toGfsError(thrown));
            }
          });
        },
      );
    },
  },
  {
    name: 'a snapshot does not end the leases of its chunks',
    options: { faults: [] },
    apply: () => replace(LeaseTable.prototype, 'revoke', async () => undefined),
  },
  {
    name: 'a primary does not know what it has done before',
    options: { faults: ['reset', 'late'], meanIntervalMs: 150 },
    apply: () => replace(ResultTable.prototype, 'find', () => undefined),
  },
  {
    name: 'the master does not know what it has done before',
    options: { faults: ['reset', 'late'], meanIntervalMs: 50 },
    apply: () => {
      return replace(ClientSessions.prototype, 'once', async (method, { header }, run) => {
        return run({ session: header.session, sequence: header.sequence, method: method.number });
      });
    },
  },
  {
    name: 'an fsync does not ask whether a replica has lost its memory since',
    options: { faults: ['blackout'], losesAll: true, meanIntervalMs: 1_500, durationMs: 6_000 },
    apply: () => {
      const { of } = UnsyncedChunks.prototype;
      return replace(UnsyncedChunks.prototype, 'of', function (this: UnsyncedChunks, id) {
        return of.call(this, id).map(([index]) => [index, []]);
      });
    },
  },
  {
    name: 'a chunkserver answers an fsync before its journal is flushed',
    options: { faults: ['blackout'] },
    apply: () => replace(Journal.prototype, 'sync', async () => undefined),
  },
  {
    name: 'a client does not forget the names that the master tells it to',
    options: { faults: [], caches: true },
    apply: () => replace(MetadataCache.prototype, 'touchEntry', () => undefined),
  },
  {
    name: 'a client is not told of a cut after a change of attributes',
    options: { faults: [], caches: true, settleMs: 1_000 },
    // As if there were one promise of both.
    apply: () => {
      const { update } = PromiseTable.prototype;
      const both = PromiseKind.ATTRIBUTES | PromiseKind.DATA;
      return replace(PromiseTable.prototype, 'update', function (this: PromiseTable, node, visit) {
        update.call(this, node, (holder, kinds, changes) => {
          const left = visit(holder, kinds, changes);
          return (kinds & ~left & both) === 0 ? left : left & ~both;
        });
      });
    },
  },
  {
    name: 'a chunkserver does not look at checksums when it reads',
    options: { faults: ['flip'], meanIntervalMs: 20 },
    apply: () => replace(CapturedBlocks.prototype, 'verify', () => true),
  },
  {
    name: 'a replica takes a write back for a moment before it says that it has it',
    options: { faults: [], clients: 3, durationMs: 4_000, leaseDurationMs: 60_000 },
    finds: /of the shared file on chunkserver\d: no order explains/,
    apply: () => {
      const { mutateAll } = Chunk.prototype;
      // Of each chunk, what has to be over before: mutations stay in their order.
      const last = new WeakMap<Chunk, Promise<void>>();
      return replace(Chunk.prototype, 'mutateAll', function (this: Chunk, mutations, keep) {
        const before = last.get(this) ?? Promise.resolve();
        const done = before.then(async () => {
          const undo = await undoOf(this, mutations);
          await mutateAll.call(this, mutations, keep);
          if (undo === undefined) return;
          await aMoment(this);
          await this.mutate(undo);
          await aMoment(this);
          await mutateAll.call(this, mutations, keep);
        });
        const over = done.catch(() => undefined);
        last.set(this, over);
        return done;
      });
    },
  },
  {
    name: 'replicas are not made equal before a new lease',
    options: { faults: ['late', 'reset'], meanIntervalMs: 50 },
    apply: () => replace(Raiser.prototype, 'repair', async () => true),
  },
  {
    name: 'a record counts before the log replicas have it',
    options: { faults: ['promote', 'cut'], meanIntervalMs: 150, shadows: 1, logCommit: 'all' },
    apply: () => replace(LogReplicas.prototype, 'committed', () => undefined),
  },
  {
    name: 'a server that is drained keeps what it has',
    options: { faults: [], chunkservers: 4 },
    apply: () => replace(Drains.prototype, 'isLeaving', () => false),
  },
  {
    name: 'a server that is drained is said to be empty before it is',
    options: { faults: ['drain'], meanIntervalMs: 80, chunkservers: 4, durationMs: 2_000, diskBytes: 0 },
    apply: () => {
      const { status } = Drains.prototype;
      return replace(Drains.prototype, 'status', function (this: Drains) {
        return status.call(this).map((drain) => ({ ...drain, chunksLeft: 0 }));
      });
    },
  },
  {
    name: 'replicas beyond a goal are never dropped',
    options: { faults: [], chunkservers: 3 },
    apply: () => replace(Dropper.prototype, 'drop', async () => 0),
  },
  {
    name: 'what was deleted is never given up',
    options: { faults: [], chunkservers: 3, retentionMs: 2_000, diskBytes: 0 },
    apply: () => replace(GarbageCollector.prototype, 'scan', async () => undefined),
  },
  {
    name: 'a chunk is lost with the first of its replicas',
    options: { faults: ['flip'], meanIntervalMs: 20, chunkservers: 3 },
    apply: () => {
      const { live, readable, raisable } = Replicas.prototype;
      const isHurt = (replicas: Replicas, handle: number) =>
        live.call(replicas, handle).some(({ damaged }) => damaged);
      const mend = [
        replace(Replicas.prototype, 'live', function (this: Replicas, handle) {
          const all = live.call(this, handle);
          return isHurt(this, handle) ? all.filter(({ damaged }) => damaged) : all;
        }),
        replace(Replicas.prototype, 'readable', function (this: Replicas, chunk) {
          return isHurt(this, chunk.handle) ? [] : readable.call(this, chunk);
        }),
        replace(Replicas.prototype, 'raisable', function (this: Replicas, chunk) {
          return isHurt(this, chunk.handle) ? [] : raisable.call(this, chunk);
        }),
      ];
      return () => {
        for (const undo of mend) undo();
      };
    },
  },
];
