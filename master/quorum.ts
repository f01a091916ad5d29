/** How many log replicas it takes: to make a record count, and to become the one who may write records. */
import type { CommitRule } from '../protocol/messages/index.js';

/**
 * Of `count` log replicas, how many have to flush a record beside the master.
 * With `majority`, most of the copies have it, the master's among them.
 */
export function acknowledgementsNeeded(rule: CommitRule, count: number): number {
  return rule === 'all' ? count : Math.floor((count + 1) / 2);
}

/**
 * Of `count` log replicas, how many have to promise a new term: so many that every former master lacks
 * one to make a record count, and that one of them has every record that did.
 */
export function promisesNeeded(rule: CommitRule, count: number): number {
  return count - acknowledgementsNeeded(rule, count) + 1;
}

/** Which of two logs has more: the one whose last record is of the later term, then the longer one. */
export function isLongerLog(
  a: { readonly lastTerm: number; readonly lastSequence: number },
  b: { readonly lastTerm: number; readonly lastSequence: number },
): boolean {
  return a.lastTerm > b.lastTerm || (a.lastTerm === b.lastTerm && a.lastSequence > b.lastSequence);
}
