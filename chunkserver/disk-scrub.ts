/**
 * One disk's part in the passes of scrubbing. Replicas are checked by ascending handle, and how far that is
 * stays on the disk: a server that is restarted each night gets through a pass all the same.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import type { DataDirectory } from './store/data-directory.js';
import { readScrubRecord, writeScrubRecord } from './store/scrub-file.js';

/** One flush of a small file in so long, at most. */
export const SAVE_INTERVAL_MS = 60_000;
/** With more than this progress is not saved any further: a restart finds the others again. */
const MAX_SAVED_DAMAGED = 1_024;

export class DiskScrub {
  readonly directory: DataDirectory;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Damaged replicas found in the pass that runs or ran last. */
  #found = new Set<number>();
  /** Those of the pass before: perhaps they are still on their way out. */
  #known = new Set<number>();
  #beganSec = 0;
  #checkedUpTo = -1;
  #checked = 0;
  #complete = true;
  #passes = 0;
  #savedMs: number;
  #isSaved = true;

  constructor(directory: DataDirectory, clock: Clock, logger: Logger) {
    this.directory = directory;
    this.#clock = clock;
    this.#logger = logger;
    this.#savedMs = clock.monotonicMs();
  }

  /** When the pass began that it is in or was in last; 0: never. */
  get beganSec(): number {
    return this.#beganSec;
  }

  get isComplete(): boolean {
    return this.#complete;
  }

  get checked(): number {
    return this.#checked;
  }

  get passes(): number {
    return this.#passes;
  }

  get damaged(): ReadonlySet<number> {
    return this.#found;
  }

  /** Goes on where an earlier process was. */
  async load(): Promise<void> {
    const { disk, layout } = this.directory;
    // A disk that cannot be read has more to say than this.
    const record = await readScrubRecord(disk, layout).catch(() => undefined);
    if (record === undefined) return;
    this.#beganSec = record.beganSec;
    this.#checkedUpTo = record.checkedUpTo;
    this.#checked = record.checked;
    this.#complete = record.complete;
    this.#passes = record.passes;
    this.#found = new Set(record.damaged);
  }

  /** Takes part in the pass that began then: from the start, unless it does already. */
  join(beganSec: number): void {
    if (this.#beganSec === beganSec) return;
    this.#beganSec = beganSec;
    this.#checkedUpTo = -1;
    this.#checked = 0;
    this.#complete = false;
    this.#known = this.#found;
    this.#found = new Set();
  }

  /** What this pass still has to check, in order; chunks that are made later are left to the next. */
  remaining(): Float64Array {
    if (this.#complete) return new Float64Array(0);
    const { chunks } = this.directory;
    return Float64Array.from(chunks.keys())
      .filter((handle) => handle > this.#checkedUpTo)
      .sort();
  }

  noteChecked(handle: number): void {
    this.#checkedUpTo = handle;
    this.#checked++;
    this.#isSaved = false;
  }

  /** @returns whether that is news */
  noteDamaged(handle: number): boolean {
    const isNew = !this.#known.has(handle) && !this.#found.has(handle);
    this.#found.add(handle);
    return isNew;
  }

  /** @param passes completed by this server */
  complete(passes: number): void {
    this.#complete = true;
    this.#passes = passes;
    this.#isSaved = false;
  }

  get isSaved(): boolean {
    return this.#isSaved;
  }

  get isSaveDue(): boolean {
    return !this.#isSaved && this.#clock.monotonicMs() - this.#savedMs >= SAVE_INTERVAL_MS;
  }

  async save(): Promise<void> {
    if (this.#isSaved || this.#found.size > MAX_SAVED_DAMAGED) return;
    this.#isSaved = true;
    this.#savedMs = this.#clock.monotonicMs();
    const { disk, layout } = this.directory;
    const record = {
      beganSec: this.#beganSec,
      checkedUpTo: this.#checkedUpTo,
      checked: this.#checked,
      complete: this.#complete,
      damaged: [...this.#found],
      passes: this.#passes,
    };
    try {
      await writeScrubRecord(disk, layout, record);
    } catch (err) {
      // A full disk, or one that is being given up: only the time of checking again is lost.
      this.#logger.warn({ err, directory: layout.root }, 'how far scrubbing is could not be saved');
    }
  }
}
