/** Directories that several clients keep changing: what is promised of them would be taken back at once. */
import type { Clock } from '../environment/ports/index.js';

/** A directory whose changes came from another client than the one before this often in a row is shared. */
const SHARED_AFTER = 4;
/** For so long after the last such change. */
const SHARED_FOR_MS = 1_000;
const MAX_SHARED = 4_096;

interface Changes {
  lastHolder: number;
  alternations: number;
  atMs: number;
}

export class Contention {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #directories = new Map<number, Changes>();

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  isShared(directory: number): boolean {
    const changes = this.#directories.get(directory);
    if (changes === undefined || changes.alternations < SHARED_AFTER) return false;
    return this.#clock.monotonicMs() - changes.atMs < SHARED_FOR_MS;
  }

  /** @param holder who has changed it */
  noteChange(directory: number, holder: number): void {
    const nowMs = this.#clock.monotonicMs();
    const changes = this.#directories.get(directory);
    if (changes === undefined) {
      if (this.#directories.size >= MAX_SHARED)
        this.#directories.delete(this.#directories.keys().next().value as number);
      this.#directories.set(directory, { lastHolder: holder, alternations: 0, atMs: nowMs });
      return;
    }
    if (nowMs - changes.atMs > SHARED_FOR_MS) changes.alternations = 0;
    if (changes.lastHolder !== holder) {
      changes.lastHolder = holder;
      changes.alternations++;
      changes.atMs = nowMs;
    }
  }
}
