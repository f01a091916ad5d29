/** Clones that failed: when they are tried again, and without whom. */
import type { ErrorCode } from '../../protocol/errors.js';

const FIRST_PAUSE_MS = 500;
/** Long enough that something has changed. */
const SETTLING_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 30_000;
const MAX_REMEMBERED = 16_384;
/** So many failures of one chunk and somebody should have a look. */
const ALARM_AFTER = 5;

/** These say that the destination is not to blame. */
const SOURCE_FAILED: ReadonlySet<ErrorCode> = new Set([
  'CHUNK_CORRUPT',
  'STALE_CHUNK_VERSION',
  'NO_SUCH_CHUNK',
  'UNREACHABLE',
]);
/** These say nothing about either: the cluster is on the move. */
const NOBODY_FAILED: ReadonlySet<ErrorCode> = new Set(['NOT_READY', 'OVERLOADED']);

export interface FailureRecord {
  readonly sources: Set<string>;
  readonly targets: Set<string>;
  /** Where part of the chunk is already. */
  resumeAt: string | undefined;
  count: number;
  notBeforeMs: number;
}

export class Failures {
  readonly #byHandle = new Map<number, FailureRecord>();

  /** Chunks whose clones keep failing. */
  get alarms(): number {
    let alarms = 0;
    for (const { count } of this.#byHandle.values()) if (count >= ALARM_AFTER) alarms++;
    return alarms;
  }

  get(handle: number): FailureRecord | undefined {
    return this.#byHandle.get(handle);
  }

  /** @returns whether this one raises an alarm */
  note(handle: number, code: ErrorCode, sourceId: string, targetId: string, nowMs: number): boolean {
    const record = this.#byHandle.get(handle) ?? {
      sources: new Set<string>(),
      targets: new Set<string>(),
      resumeAt: undefined,
      count: 0,
      notBeforeMs: 0,
    };
    this.#byHandle.delete(handle);
    this.#byHandle.set(handle, record);
    if (this.#byHandle.size > MAX_REMEMBERED)
      this.#byHandle.delete(this.#byHandle.keys().next().value as number);
    if (NOBODY_FAILED.has(code)) {
      record.notBeforeMs = nowMs + SETTLING_PAUSE_MS;
      return false;
    }
    record.count++;
    record.notBeforeMs = nowMs + Math.min(FIRST_PAUSE_MS * 2 ** (record.count - 1), MAX_PAUSE_MS);
    const isSource = SOURCE_FAILED.has(code);
    const blamed = isSource ? record.sources : record.targets;
    const id = isSource ? sourceId : targetId;
    blamed.delete(id);
    blamed.add(id);
    record.resumeAt = isSource ? targetId : undefined;
    return record.count === ALARM_AFTER;
  }

  forget(handle: number): void {
    this.#byHandle.delete(handle);
  }

  /** Those whose pause is over. */
  *due(nowMs: number): IterableIterator<number> {
    for (const [handle, { notBeforeMs }] of this.#byHandle) if (notBeforeMs <= nowMs) yield handle;
  }
}
