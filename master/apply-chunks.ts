/** How records change chunks and their leases. Called by apply alone. */
import type { LogEventOf } from '../protocol/records.js';
import type { Effects } from './apply.js';
import { assert } from './assert.js';
import type { NewChunk } from './chunk-table.js';
import type { FileChunks } from './file-chunks.js';
import type { ChunkState, LoggedState } from './state.js';

function chunkOf(state: LoggedState, handle: number): ChunkState {
  const chunk = state.chunks.get(handle);
  assert(chunk !== undefined, `chunk ${handle} is not there`);
  return chunk;
}

function listOf(state: LoggedState, id: number): FileChunks {
  const node = state.nodes.get(id);
  assert(node !== undefined, `node ${id} is not there`);
  assert(node.isRegular, `node ${id} is not a file`);
  return node.chunkList;
}

/** One file fewer has the chunk; with the last the chunk is gone. */
export function dropReference(state: LoggedState, handle: number, effects: Effects): void {
  const chunk = chunkOf(state, handle);
  chunk.references--;
  if (chunk.references > 0) return;
  state.chunks.delete(handle);
  effects.chunkRemoved(handle);
}

function addChunk(state: LoggedState, chunk: NewChunk): void {
  assert(chunk.handle <= state.reservedHandles, `chunk ${chunk.handle} was not reserved`);
  state.chunks.add(chunk);
}

export function applyChunkAdded(state: LoggedState, event: Omit<LogEventOf<'chunkAdded'>, 'type'>): object {
  const list = listOf(state, event.id);
  assert(list.get(event.index) === 0, `file ${event.id} has a chunk at ${event.index}`);
  const { handle, version, goal, holder, durationMs, replicas } = event;
  addChunk(state, { handle, version, references: 1, goal, replicas, holder, durationMs });
  list.set(event.index, handle);
  return {};
}

export function applyLeaseGranted(state: LoggedState, event: LogEventOf<'leaseGranted'>): object {
  const list = listOf(state, event.id);
  const chunk = chunkOf(state, event.handle);
  assert(list.get(event.index) === event.handle, `file ${event.id} has another chunk at ${event.index}`);
  assert(event.version > chunk.version, `chunk ${event.handle} is at ${chunk.version} already`);
  chunk.version = event.version;
  chunk.replicas = event.replicas;
  chunk.holder = event.holder;
  chunk.durationMs = event.durationMs;
  list.clearPendingTruncation(event.index);
  return {};
}

export function applyChunkCopied(
  state: LoggedState,
  event: LogEventOf<'chunkCopied'>,
  effects: Effects,
): object {
  const list = listOf(state, event.id);
  const source = chunkOf(state, event.source);
  assert(list.get(event.index) === event.source, `file ${event.id} has another chunk at ${event.index}`);
  const { handle, version, holder, durationMs, replicas } = event;
  addChunk(state, {
    handle,
    version,
    references: 1,
    goal: state.goals.get(event.id) ?? source.goal,
    replicas,
    holder,
    durationMs,
  });
  list.set(event.index, handle);
  list.clearPendingTruncation(event.index);
  dropReference(state, event.source, effects);
  return {};
}

export function applyVersionRaised(state: LoggedState, event: LogEventOf<'versionRaised'>): object {
  const chunk = state.chunks.get(event.handle);
  // A chunk may go while its new version is on the way to the disk: nothing holds a name for it.
  if (chunk === undefined) return {};
  assert(event.version > chunk.version, `chunk ${event.handle} is at ${chunk.version} already`);
  chunk.version = event.version;
  chunk.replicas = event.replicas;
  chunk.holder = '';
  chunk.durationMs = 0;
  return {};
}

/** What references say of them is not asked: the scan found them in no file. */
export function applyChunksForgotten(
  state: LoggedState,
  { handles }: LogEventOf<'chunksForgotten'>,
  effects: Effects,
): object {
  for (const handle of handles) {
    if (!state.chunks.has(handle)) continue;
    state.chunks.delete(handle);
    effects.chunkRemoved(handle);
  }
  return {};
}
