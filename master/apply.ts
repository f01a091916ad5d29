/**
 * The one writer of logged state: live requests, recovery and, later, shadow masters and checkpoints
 * all come through here. Deterministic, without a clock, and it cannot fail: what a record says was
 * validated, under locks, before the record was written. A record that does not fit is a broken
 * invariant and ends the process.
 */
import { SESSION_RESULTS } from '../protocol/limits.js';
import type { LogEvent, LogRecord } from '../protocol/records.js';
import { applyAclSet } from './apply-acl.js';
import {
  applyChunkAdded,
  applyChunkCopied,
  applyChunksForgotten,
  applyLeaseGranted,
  applyVersionRaised,
} from './apply-chunks.js';
import { applyChunkGoalsSet, applyGoalSet } from './apply-goals.js';
import { applyLogReplicaAdded, applyTermBegun } from './apply-log-replicas.js';
import {
  applyAccessed,
  applyAttributesSet,
  applyCreated,
  applyExtended,
  applyLinked,
  applyReclaimed,
  applyTmpfileCreated,
  applyUnlinked,
  applyXattrRemoved,
  applyXattrSet,
} from './apply-namespace.js';
import { applyRenamed } from './apply-rename.js';
import { applyChunksShared, applyPunched } from './apply-sharing.js';
import { applySnapshotTaken } from './apply-snapshot.js';
import { applyRetentionSet, applyUndeleted } from './apply-trash.js';
import { assert } from './assert.js';
import type { LoggedState } from './state.js';

/** What soft state has to hear of. A replay passes {@link NO_EFFECTS}. */
export interface Effects {
  /** Nothing refers to this chunk any more. */
  chunkRemoved(handle: number): void;
}

export const NO_EFFECTS: Effects = { chunkRemoved: () => undefined };

/** @returns the reply to the request that the record carries out; kept as its session's result */
export function apply(state: LoggedState, record: LogRecord, effects: Effects): unknown {
  const reply = applyEvent(state, record, record.event, effects);
  if (record.session !== 0) remember(state, record, reply);
  return reply;
}

function applyEvent(state: LoggedState, record: LogRecord, event: LogEvent, effects: Effects): unknown {
  switch (event.type) {
    case 'sessionOpened': {
      state.sessions.set(event.id, {
        id: event.id,
        kind: event.kind,
        owner: event.owner,
        hostname: event.hostname,
        results: new Map(),
        highestSequence: 0,
      });
      state.nextSessionId = Math.max(state.nextSessionId, event.id + 1);
      return {};
    }
    case 'sessionsEnded':
      for (const id of event.ids) state.sessions.delete(id);
      return {};
    case 'handlesReserved':
      state.reservedHandles = Math.max(state.reservedHandles, event.through);
      return {};
    case 'created':
      return applyCreated(state, event, record);
    case 'linked':
      return applyLinked(state, event, record);
    case 'unlinked':
      return applyUnlinked(state, event, record);
    case 'renamed':
      return applyRenamed(state, event, record);
    case 'attributesSet':
      return applyAttributesSet(state, event, record, effects);
    case 'extended':
      return applyExtended(state, event, record);
    case 'xattrSet':
      return applyXattrSet(state, event, record);
    case 'xattrRemoved':
      return applyXattrRemoved(state, event, record);
    case 'snapshotTaken':
      return applySnapshotTaken(state, event, record);
    case 'reclaimed':
      return applyReclaimed(state, event, effects);
    case 'chunkAdded':
      return applyChunkAdded(state, event);
    case 'leaseGranted':
      return applyLeaseGranted(state, event);
    case 'chunkCopied':
      return applyChunkCopied(state, event, effects);
    case 'versionRaised':
      return applyVersionRaised(state, event);
    case 'goalSet':
      return applyGoalSet(state, event);
    case 'chunkGoalsSet':
      return applyChunkGoalsSet(state, event);
    case 'drainSet':
      if (event.on) state.drains.add(event.serverId);
      else state.drains.delete(event.serverId);
      return {};
    case 'retentionSet':
      return applyRetentionSet(state, event);
    case 'chunksForgotten':
      return applyChunksForgotten(state, event, effects);
    case 'undeleted':
      return applyUndeleted(state, event, record);
    case 'chunksShared':
      return applyChunksShared(state, event, record, effects);
    case 'aclSet':
      return applyAclSet(state, event, record);
    case 'accessed':
      return applyAccessed(state, event);
    case 'punched':
      return applyPunched(state, event, record, effects);
    case 'termBegun':
      return applyTermBegun(state, event);
    case 'logReplicaAdded':
      return applyLogReplicaAdded(state, event);
    case 'tmpfileCreated':
      return applyTmpfileCreated(state, event, record);
    case 'logReplicaRemoved':
      state.logReplicas.delete(event.id);
      return {};
  }
}

function remember(state: LoggedState, record: LogRecord, reply: unknown): void {
  const session = state.sessions.get(record.session);
  // It may have ended while its last mutation waited for the disk.
  if (session === undefined) return;
  assert(!session.results.has(record.sequence), `session ${session.id}: sequence ${record.sequence} twice`);
  const before = session.highestSequence;
  session.highestSequence = Math.max(before, record.sequence);
  session.results.set(record.sequence, { method: record.method, reply });
  const lowest = session.highestSequence - SESSION_RESULTS;
  if (session.results.size <= SESSION_RESULTS && session.highestSequence === before + 1) {
    session.results.delete(lowest);
    return;
  }
  for (const sequence of session.results.keys()) if (sequence <= lowest) session.results.delete(sequence);
}
