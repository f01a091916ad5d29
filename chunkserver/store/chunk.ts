/**
 * One chunk at work. Everything that changes it goes through one queue, in order; what is queued
 * while a round runs makes up the next round, which reads what it must, writes large fresh data to the
 * chunk file, puts all records into the journal in one append, and only then shows the new state.
 */
import { checksum } from '../../protocol/checksum.js';
import { GfsError } from '../../protocol/errors.js';
import { BLOCK_BYTES, MIB } from '../../protocol/limits.js';
import type { DataDirectory } from './data-directory.js';
import { endOf, type Mutation } from './planner.js';
import type { JournalRecord } from './record.js';
import { carryOut, carryOutNow } from './round.js';
import { applyRecord, type ChunkState, Draft } from './state.js';
import { readVerified } from './verified-read.js';

const MAX_ROUND_MUTATIONS = 256;
const MAX_ROUND_BYTES = 16 * MIB;
const NO_DATA = new Uint8Array(0);

interface QueuedMutation {
  readonly mutation: Mutation;
  readonly resolve: (kept: boolean) => void;
  readonly reject: (error: unknown) => void;
}

interface Exclusive {
  readonly mutation: undefined;
  readonly run: () => Promise<void>;
}

export class Chunk {
  readonly directory: DataDirectory;
  readonly state: ChunkState;
  deleted = false;
  /** Grows when the chunk file is changed below what readers may be reading. */
  fileGeneration = 0;
  /** Everything up to this generation is in the chunk file and the sidecar. */
  checkpointedGeneration = 0;
  /** Written past the journal since the chunk file's last flush. */
  unflushedBytes = 0;
  lastMutationMs = 0;
  /**
   * The version under which this replica is or was primary, with every mutation applied by all replicas so
   * far; 0 when one failed, and when nobody knows (a secondary, a start of the process).
   */
  agreedVersion = 0;
  /** The checkpoint of this chunk that runs: its files must not be removed under it. */
  checkpointing: Promise<void> | undefined;
  #fileSync: Promise<void> | undefined;
  /** The version that is being taken. */
  #raisingTo: number | undefined;
  /** The chunk file was flushed after the mutations up to this record, and the journal says so up to that one. */
  #flushedLsn = 0;
  #notedLsn = 0;
  /** The number of the record that says so. */
  #note: Promise<number> | number = 0;
  readonly #queue: (QueuedMutation | Exclusive)[] = [];
  #running = false;
  /** Records may be on their way into the journal. */
  #inRound = false;

  constructor(directory: DataDirectory, state: ChunkState) {
    this.directory = directory;
    this.state = state;
  }

  get handle(): number {
    return this.state.handle;
  }

  get isDirty(): boolean {
    return this.#inRound || this.state.generation > this.checkpointedGeneration;
  }

  get isFlushing(): boolean {
    return this.#fileSync !== undefined;
  }

  /**
   * Applies a mutation after all that were queued before it. Resolves when it outlives this process,
   * with whether its bytes are kept: then their memory must never change.
   * @throws NO_SPACE, CHUNK_CORRUPT, NO_SUCH_CHUNK: then it was not applied, and left no trace
   */
  mutate(mutation: Mutation): Promise<boolean> {
    const kept = this.#mutateNow([mutation]);
    if (kept !== undefined) return Promise.resolve(kept[0] as boolean);
    return new Promise((resolve, reject) => {
      this.#queue.push({ mutation, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  /**
   * As {@link mutate} of each in turn, without anything in between; resolves or rejects when all have ended.
   * @param keep called when the bytes of one are kept, whatever has become of the others
   */
  async mutateAll(mutations: readonly Mutation[], keep: () => void): Promise<void> {
    const kept = this.#mutateNow(mutations);
    if (kept !== undefined) {
      if (kept.includes(true)) keep();
      return;
    }
    const done = mutations.map(
      (mutation) =>
        new Promise<boolean>((resolve, reject) => {
          this.#queue.push({ mutation, resolve, reject });
        }),
    );
    if (!this.#running) void this.#run();
    const ended = await Promise.allSettled(done);
    if (ended.some((one) => one.status === 'fulfilled' && one.value)) keep();
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
  }

  /** Where nothing is queued before, and nothing has to be waited for. @returns of each, whether its bytes are kept */
  #mutateNow(mutations: readonly Mutation[]): boolean[] | undefined {
    if (this.#running || this.deleted) return undefined;
    if (sharedRound(mutations, this.state.length) < mutations.length) return undefined;
    const kept = carryOutNow(this, mutations);
    if (kept !== undefined) this.directory.mutated(this);
    return kept;
  }

  /** Runs `work` when everything queued before has ended, and nothing else of this chunk beside it. */
  exclusive<T>(work: () => Promise<T> | T): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = async (): Promise<void> => {
        try {
          resolve(await work());
        } catch (error) {
          reject(error);
        }
      };
      this.#queue.push({ mutation: undefined, run });
      if (!this.#running) void this.#run();
    });
  }

  /** The first record of a new chunk. */
  create(version: number): Promise<void> {
    const mark = this.directory.bootId;
    return this.exclusive(() => this.#append([{ type: 'create', handle: this.handle, version, mark }]));
  }

  /**
   * Raises the version for a new lease, after everything under the former one, and cuts the chunk to
   * `truncateTo` if it is longer.
   */
  raise(version: number, truncateTo: number | undefined): Promise<void> {
    if (version > (this.#raisingTo ?? this.state.version)) this.#raisingTo = version;
    const raised = this.exclusive(async () => {
      if (this.state.version === version) return;
      if (this.state.version > version) {
        throw new GfsError('STALE_CHUNK_VERSION', `chunk ${this.handle} has version ${this.state.version}`);
      }
      const records: JournalRecord[] = [];
      if (truncateTo !== undefined && truncateTo < this.state.length) {
        records.push(await this.#truncation(truncateTo, this.state.serial));
      }
      records.push({ type: 'version', handle: this.handle, version, mark: this.directory.bootId });
      await this.#append(records);
    });
    return raised.finally(() => {
      if (this.#raisingTo === version) this.#raisingTo = undefined;
    });
  }

  /**
   * Whether what is queued now is applied under `version`. Not while a later one is being taken: it would come
   * behind the new version's beginning, of which the replicas are compared.
   * @throws STALE_CHUNK_VERSION
   */
  checkVersion(version: number): void {
    const own = this.#raisingTo ?? this.state.version;
    if (own === version) return;
    throw new GfsError('STALE_CHUNK_VERSION', `chunk ${this.handle} has version ${own}, not ${version}`);
  }

  /** Cuts the chunk to `length`, if it is longer. */
  truncate(length: number, serial: number = this.state.serial): Promise<void> {
    return this.exclusive(async () => {
      await this.#append([await this.#truncation(Math.min(length, this.state.length), serial)]);
    });
  }

  /** The end of a repair: this replica is now as the one that had applied `serial`, and had these results. */
  settle(serial: number, results: Uint8Array): Promise<void> {
    return this.exclusive(() => this.#append([{ type: 'settle', handle: this.handle, serial }], results));
  }

  async #truncation(length: number, serial: number): Promise<JournalRecord> {
    const lastBlock = Math.floor(length / BLOCK_BYTES);
    const read = await readVerified(this, lastBlock * BLOCK_BYTES, length % BLOCK_BYTES);
    const crc = checksum(read.bytes);
    read.release();
    return { type: 'truncate', handle: this.handle, serial, length, checksum: crc };
  }

  /** Records outside a round, from within {@link exclusive}; `data` is the last one's. */
  async #append(records: readonly JournalRecord[], data: Uint8Array = NO_DATA): Promise<void> {
    if (this.deleted) throw new GfsError('NO_SUCH_CHUNK');
    this.#inRound = true;
    try {
      this.directory.touch(this);
      await this.directory.load(this);
      const draft = new Draft(this.state);
      const entries = records.map((record, i) => ({
        record,
        data: i === records.length - 1 ? data : NO_DATA,
      }));
      for (const entry of entries) applyRecord(draft, entry.record, entry.data);
      const lsn = await this.directory.journal.append(entries);
      this.directory.addPatchBytes(draft.commit(lsn));
    } finally {
      this.#inRound = false;
    }
  }

  /** Makes everything applied so far survive the host. @param isAlone nothing else is asked of this process now */
  async sync(isAlone = false): Promise<void> {
    const { lsn } = this.state;
    const note = await this.flushDirect();
    await this.directory.journal.sync(Math.max(lsn, note), isAlone);
  }

  /**
   * Flushes what was written past the journal, and says so in it: else a bit that flips afterwards would, once the
   * host has crashed, look like a write that had not reached the disk.
   * @returns the number of the record that says so. Nobody may be told of the flush before it is on the disk
   */
  async flushDirect(): Promise<number> {
    if (this.unflushedBytes > 0 || this.isFlushing) await this.syncFile();
    return this.#noteFlush();
  }

  #noteFlush(): Promise<number> | number {
    const upTo = this.#flushedLsn;
    if (upTo <= this.#notedLsn) return this.#note;
    const { journal } = this.directory;
    const entries = [{ record: { type: 'flushed', handle: this.handle, upTo } }] as const;
    this.#notedLsn = upTo;
    this.#note =
      journal.appendNow(entries) ??
      journal.append(entries).catch((error: unknown) => {
        // The next sync has to say it.
        this.#notedLsn = 0;
        throw error;
      });
    return this.#note;
  }

  /** Flushes what was written past the journal. Callers that come meanwhile share the next flush. */
  async syncFile(): Promise<void> {
    if (this.unflushedBytes === 0 && this.#fileSync === undefined) return;
    // One that runs may have begun before the latest write.
    await this.#fileSync;
    if (this.unflushedBytes === 0) return;
    this.#fileSync ??= this.#flushFile().finally(() => {
      this.#fileSync = undefined;
    });
    await this.#fileSync;
  }

  async #flushFile(): Promise<void> {
    const bytes = this.unflushedBytes;
    const { lsn } = this.state;
    await this.directory.files.use(this, (file) => this.directory.syncFile(file));
    await this.directory.syncShard(this.handle);
    this.unflushedBytes -= bytes;
    this.state.flushedUpTo(lsn);
    this.#flushedLsn = lsn;
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#queue.length > 0) {
      const head = this.#queue[0] as QueuedMutation | Exclusive;
      if (head.mutation === undefined) {
        this.#queue.shift();
        await head.run();
        continue;
      }
      const round = this.#takeRound();
      this.#inRound = true;
      try {
        if (this.deleted) throw new GfsError('NO_SUCH_CHUNK');
        const mutations = round.map(({ mutation }) => mutation);
        const kept = await carryOut(this, mutations);
        for (const [i, { resolve }] of round.entries()) resolve(kept[i] as boolean);
        this.directory.mutated(this);
      } catch (error) {
        for (const { reject } of round) reject(error);
      } finally {
        this.#inRound = false;
      }
    }
    this.#running = false;
  }

  /** The mutations at the head of the queue that can share a round. */
  #takeRound(): QueuedMutation[] {
    const queued: QueuedMutation[] = [];
    for (const each of this.#queue) {
      if (each.mutation === undefined || queued.length === MAX_ROUND_MUTATIONS) break;
      queued.push(each);
    }
    const mutations = queued.map(({ mutation }) => mutation);
    return this.#queue.splice(0, sharedRound(mutations, this.state.length)) as QueuedMutation[];
  }
}

/** How many of the first mutations can share a round: none looks at bytes that another of them made. */
function sharedRound(mutations: readonly Mutation[], length: number): number {
  let running = length;
  let sizeBytes = 0;
  let count = 0;
  for (const mutation of mutations) {
    const end = endOf(mutation);
    sizeBytes += end - mutation.offset;
    if (count > 0 && sizeBytes > MAX_ROUND_BYTES) break;
    if (running > length && mutation.offset < running && end > length) break;
    running = Math.max(running, end);
    count++;
  }
  return count;
}
