/** What all workers did, for whoever checks it: files and what they may contain, directories and their names. */
import type { AppendModel } from './append-model.js';
import type { FileModel } from './file-model.js';
import type { Register } from './register.js';

/** A contract is broken. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/**
 * On a file that nobody writes any more, a snapshot: what was read once is what is read ever after, also
 * where a failed write before it left two answers possible.
 */
export class Seal {
  #content: Uint8Array | undefined;
  /** Changes when a host loses its memory, and with that perhaps what was not flushed before the snapshot. */
  epoch = 0;

  check(epoch: number | undefined, seen: Uint8Array): string | undefined {
    if (epoch !== this.epoch) return undefined;
    this.#content ??= seen;
    return Buffer.compare(this.#content, seen) === 0 ? undefined : 'a snapshot has changed';
  }

  hostCrashed(): void {
    this.epoch++;
    this.#content = undefined;
  }
}

export interface TrackedFile {
  readonly id: number;
  readonly path: string;
  /** The client whose worker gave it its name. */
  readonly client: string;
  readonly model: FileModel;
  /** Extended attributes; one whose change had no answer is not here. */
  readonly xattrs: Map<string, string>;
  readonly seal: Seal | undefined;
  /** Names that it has for certain. */
  names: number;
  /** Its permissions. */
  readonly mode: Register<number>;
  isChangingMode: boolean;
  /** The client that is writing it, or taking a snapshot of it: one at a time, also where they are several. */
  editor: string | undefined;
  /** The client that wrote it last. */
  lastEditor: string;
  /** Nobody writes it any more: its length is uncertain, or its writer is dead. */
  frozen: boolean;
  /** It was, or is being, unlinked. */
  gone: boolean;
  /** One of its names was made or taken away without an answer: it may have more than are counted. */
  hasUnknownNames: boolean;
  /** How many replicas its chunks shall have. */
  readonly goal: Register<number>;
}

/** A file that lost its last name for certain, while nobody wrote it. */
export interface DeletedFile {
  readonly file: TrackedFile;
  /** What it was called, in its worker's directory. */
  readonly name: string;
  /** By the world's clock, before it was asked for. */
  readonly deletedMs: number;
}

/** Has a client be the only one that writes a file, until {@link release}. @returns whether it is */
export function take(file: TrackedFile, client: string): boolean {
  if (file.editor !== undefined) return false;
  file.editor = client;
  if (file.lastEditor !== client) file.model.handOver();
  file.lastEditor = client;
  return true;
}

export function release(file: TrackedFile): void {
  file.editor = undefined;
}

export interface TrackedDirectory {
  readonly id: number;
  readonly path: string;
  readonly names: Map<string, TrackedFile>;
  readonly directories: Map<string, TrackedDirectory>;
  /** It was, or is being, removed. */
  gone: boolean;
  /** What files that are made in it inherit. */
  readonly goal: Register<number>;
  /** Names that an operation with an unknown outcome, or one under way, has touched. */
  readonly uncertain: Set<string>;
}

export interface AppendFile {
  readonly id: number;
  readonly path: string;
  readonly mode: 'record' | 'exact';
  readonly model: AppendModel;
}

export interface TrashRules {
  readonly retentionMs: number;
  readonly mayRunShort: boolean;
}

/** A host whose clock is fast thinks sooner that a time is over, and times of deletion are whole seconds. */
const SLOWEST_CLOCK = 0.98;
const WALL_CLOCK_STEP_MS = 1_000;

export class Ledger {
  readonly files: TrackedFile[] = [];
  readonly directories: TrackedDirectory[] = [];
  readonly appendFiles: AppendFile[] = [];
  /** Nobody has asked for them back. */
  readonly deleted = new Set<DeletedFile>();
  /** Nothing goes wrong in this run: no operation may fail. */
  readonly calm: boolean;
  readonly trash: TrashRules;
  stopping = false;
  /** Operations that succeeded, and those that failed as they may. */
  succeeded = 0;
  failed = 0;
  /** Clients that ended in the middle of their work. */
  clientsLost = 0;
  /** How often a chunkserver's host has lost its memory. */
  crashes = 0;
  /** Set by whoever damages replicas: whether all that a chunk has are damaged. */
  mayBeLost: (handle: number) => boolean = () => false;

  /** And whether a reader may be told so now. */
  mayBeToldLost: (handle: number) => boolean = (handle) => this.mayBeLost(handle);

  #modes = 0;

  /** @param trash how long deleted files are kept; where space may run short any may go at any time */
  constructor(calm: boolean, trash: TrashRules = { retentionMs: 0, mayRunShort: true }) {
    this.calm = calm;
    this.trash = trash;
  }

  mayHaveExpired({ deletedMs }: DeletedFile, nowMs: number): boolean {
    const { retentionMs, mayRunShort } = this.trash;
    return mayRunShort || nowMs - deletedMs >= retentionMs * SLOWEST_CLOCK - WALL_CLOCK_STEP_MS;
  }

  /** Another one each time, as long as there are any. */
  nextMode(): number {
    return 1 + (this.#modes++ % 0o777);
  }

  /** Whether a chunk may be told to be lost. */
  excusesLoss(message: string): boolean {
    return this.mayBeToldLost(Number(/chunk (\d+)/.exec(message)?.[1]));
  }

  hostCrashed(): void {
    this.crashes++;
    for (const { model, seal } of this.files) {
      model.hostCrashed();
      seal?.hostCrashed();
    }
    for (const { model } of this.appendFiles) model.hostCrashed();
  }
}
