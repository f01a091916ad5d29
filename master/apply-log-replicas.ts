/** The part of {@link apply} that is about the log itself: whose it is, and who has it. */
import type { LogEventOf } from '../protocol/records.js';
import type { LoggedState } from './state.js';

/** Terms that are remembered: a log replica that is further behind gets the whole log again. */
export const MAX_TERMS = 1024;

export function applyTermBegun(state: LoggedState, event: LogEventOf<'termBegun'>): object {
  state.terms.set(event.term, event.sequence);
  const oldest = state.terms.keys().next().value;
  if (state.terms.size > MAX_TERMS && oldest !== undefined) state.terms.delete(oldest);
  state.commitRule = event.commit;
  return {};
}

export function applyLogReplicaAdded(
  state: LoggedState,
  { member, commit }: LogEventOf<'logReplicaAdded'>,
): object {
  // As a new one, so that the order is that of the records, whatever was there before.
  state.logReplicas.delete(member.id);
  state.logReplicas.set(member.id, member);
  state.commitRule = commit;
  return {};
}
