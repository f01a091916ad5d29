/** What all workers did, for whoever checks it: files and what they may contain, directories and their names. */
import type { AppendModel } from './append-model.js';
import type { FileModel } from './file-model.js';

/** A contract is broken. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export interface TrackedFile {
  readonly id: number;
  readonly path: string;
  /** The client whose worker writes it. */
  readonly client: string;
  readonly model: FileModel;
  /** Nobody writes it any more: its length is uncertain, or its writer is dead. */
  frozen: boolean;
  /** It was, or is being, unlinked. */
  gone: boolean;
}

export interface TrackedDirectory {
  readonly id: number;
  readonly path: string;
  readonly names: Map<string, TrackedFile>;
  /** Names that an operation with an unknown outcome, or one under way, has touched. */
  readonly uncertain: Set<string>;
}

export interface AppendFile {
  readonly id: number;
  readonly path: string;
  readonly mode: 'record' | 'exact';
  readonly model: AppendModel;
}

export class Ledger {
  readonly files: TrackedFile[] = [];
  readonly directories: TrackedDirectory[] = [];
  readonly appendFiles: AppendFile[] = [];
  /** Nothing goes wrong in this run: no operation may fail. */
  readonly calm: boolean;
  stopping = false;
  /** Operations that succeeded, and those that failed as they may. */
  succeeded = 0;
  failed = 0;
  /** How often a chunkserver's host has lost its memory. */
  crashes = 0;
  /** Chunks of which one replica was damaged on its disk. */
  readonly flipped = new Set<number>();

  constructor(calm: boolean) {
    this.calm = calm;
  }

  hostCrashed(): void {
    this.crashes++;
    for (const { model } of this.files) model.hostCrashed();
    for (const { model } of this.appendFiles) model.hostCrashed();
  }
}
