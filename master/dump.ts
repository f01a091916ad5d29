/** Logged state as plain data, in one order: equal states give equal dumps, whatever happened in memory. */
import { checksum } from '../protocol/checksum.js';
import type { ChunkState, LoggedState, Node } from './state.js';

function dumpNode(node: Node): unknown {
  return {
    ...node.attributes(),
    parent: node.parent,
    name: node.name,
    otherLinks: node.otherLinks ?? [],
    entries:
      node.entries === undefined
        ? null
        : [...node.entries].map((entry) => [entry.cookie, entry.name, entry.node]),
    chunks: node.chunks?.entries() ?? [],
    pendingTruncations: node.chunks?.pendingTruncations() ?? [],
    target: node.target ?? null,
    xattrs: [...(node.xattrs ?? [])]
      .map(([name, value]) => [name, Buffer.from(value).toString('hex')])
      .sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1)),
  };
}

function dumpChunk({
  handle,
  version,
  references,
  goal,
  replicas,
  holder,
  durationMs,
}: ChunkState): Record<string, unknown> {
  return { handle, version, references, goal, replicas, holder, durationMs };
}

function byId<T extends { readonly id: number }>(items: Iterable<T>): T[] {
  return [...items].sort((a, b) => a.id - b.id);
}

/** Everything that is logged, as plain JSON. For tests and the simulator: replay(log) must give the same. */
export function dumpState(state: LoggedState): Record<string, unknown> {
  return {
    chunkBytes: state.chunkBytes,
    nodes: byId(state.nodes.values()).map(dumpNode),
    chunks: [...state.chunks.values()].sort((a, b) => a.handle - b.handle).map(dumpChunk),
    sessions: byId(state.sessions.values()).map((session) => ({
      ...session,
      results: [...session.results].sort((a, b) => a[0] - b[0]),
    })),
    deleted: [...state.deleted.values()].map((deleted) => ({ ...deleted })),
    drains: [...state.drains].sort(),
    goals: [...state.goals].sort((a, b) => a[0] - b[0]),
    retentions: [...state.retentions].sort((a, b) => a[0] - b[0]),
    logReplicas: [...state.logReplicas.values()],
    commitRule: state.commitRule,
    terms: [...state.terms],
    nextNodeId: state.nextNodeId,
    nextSessionId: state.nextSessionId,
    nextCookie: state.nextCookie,
    reservedHandles: state.reservedHandles,
    fileCount: state.fileCount,
    directoryCount: state.directoryCount,
  };
}

/** A short fingerprint of {@link dumpState}. */
export function digestState(state: LoggedState): string {
  return checksum(Buffer.from(JSON.stringify(dumpState(state))))
    .toString(16)
    .padStart(8, '0');
}
