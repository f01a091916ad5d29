/** How records change which chunks a file has, other than by writing. Called by apply alone. */
import type { Attributes } from '../protocol/messages/index.js';
import type { LogEventOf } from '../protocol/records.js';
import type { Effects } from './apply.js';
import { dropReference } from './apply-chunks.js';
import { nodeOf, setModified } from './apply-namespace.js';
import { assert } from './assert.js';
import type { FileChunks } from './file-chunks.js';
import type { LoggedState, Node, Timestamp } from './state.js';

/** One file more has the chunk: nobody writes it any more without a copy. */
export function addReference(state: LoggedState, handle: number): void {
  const chunk = state.chunks.get(handle);
  assert(chunk !== undefined, `chunk ${handle} is not there`);
  chunk.references++;
  chunk.holder = '';
  chunk.durationMs = 0;
}

function fileOf(state: LoggedState, id: number): { readonly node: Node; readonly chunks: FileChunks } {
  const node = nodeOf(state, id);
  assert(node.isRegular, `node ${id} is not a file`);
  return { node, chunks: node.chunkList };
}

export function applyChunksShared(
  state: LoggedState,
  event: LogEventOf<'chunksShared'>,
  time: Timestamp,
  effects: Effects,
): { readonly bytes: number; readonly attributes: Attributes } {
  const { chunkBytes } = state;
  const source = fileOf(state, event.source);
  const to = fileOf(state, event.id);
  const count = Math.ceil(event.bytes / chunkBytes);
  const lastBytes = event.bytes % chunkBytes;
  for (let at = 0; at < count; at++) {
    const handle = source.chunks.get(event.index + at);
    // Before the old one goes: within one file they may be the same.
    if (handle !== 0) addReference(state, handle);
    const replaced = to.chunks.remove(event.toIndex + at);
    if (replaced !== 0) dropReference(state, replaced, effects);
    if (handle === 0) continue;
    to.chunks.set(event.toIndex + at, handle);
    const validBytes = source.chunks.pendingTruncation(event.index + at);
    if (validBytes !== undefined) to.chunks.addPendingTruncation(event.toIndex + at, validBytes);
    // What the source has behind it is not the copy's.
    if (at === count - 1 && lastBytes > 0) to.chunks.addPendingTruncation(event.toIndex + at, lastBytes);
  }
  to.node.size = Math.max(to.node.size, event.toIndex * chunkBytes + event.bytes);
  to.node.dataVersion++;
  setModified(to.node, time);
  return { bytes: event.bytes, attributes: to.node.attributes() };
}

export function applyPunched(
  state: LoggedState,
  event: LogEventOf<'punched'>,
  time: Timestamp,
  effects: Effects,
): { readonly attributes: Attributes } {
  const { node, chunks } = fileOf(state, event.id);
  for (const index of chunks.indexes(event.index, event.end))
    dropReference(state, chunks.remove(index), effects);
  node.dataVersion++;
  setModified(node, time);
  return { attributes: node.attributes() };
}
