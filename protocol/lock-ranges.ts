/** How the ranges of file locks are cut and joined, the same for the master and for a client's own copy. */
import type { LockRange } from './messages/locks.js';

export function overlaps(a: LockRange, b: LockRange): boolean {
  return a.start <= b.end && b.start <= a.end;
}

/** Two locks of different owners that cannot be at the same time. */
export function conflicts(a: LockRange, b: LockRange): boolean {
  return a.flock === b.flock && overlaps(a, b) && (a.type === 'write' || b.type === 'write');
}

/**
 * The locks of one owner and kind after `lock` was set: what lay in its range is replaced, what touches it
 * and is of the same type becomes one with it.
 */
export function withLock<L extends LockRange>(held: readonly L[], lock: L): L[] {
  const rest = held.flatMap((one) => (overlaps(one, lock) ? without(one, lock) : [one]));
  if (lock.type === 'unlock') return rest;
  let merged = lock;
  const apart: L[] = [];
  for (const one of rest) {
    const touches = one.end + 1 >= merged.start && merged.end + 1 >= one.start;
    if (touches && one.type === lock.type) {
      merged = { ...merged, start: Math.min(merged.start, one.start), end: Math.max(merged.end, one.end) };
    } else apart.push(one);
  }
  return [...apart, merged];
}

function without<L extends LockRange>(held: L, range: LockRange): L[] {
  const parts: L[] = [];
  if (held.start < range.start) parts.push({ ...held, end: range.start - 1 });
  if (held.end > range.end) parts.push({ ...held, start: range.end + 1 });
  return parts;
}
