/** A record of the log as those who watch see it, with the paths as they are before it is applied. */
import type { WatchEvent } from '../protocol/messages/index.js';
import type { LogRecord } from '../protocol/records.js';
import { isDirectory } from './mode.js';
import type { LoggedState, Node } from './state.js';

export interface Happened {
  readonly event: WatchEvent;
  /** Directories that it happened in, or nodes that it happened to: who watches one of them, or above, hears of it. */
  readonly at: readonly number[];
}

type Kind = WatchEvent['kind'];

export function describeChange(state: LoggedState, record: LogRecord): Happened[] {
  const { event } = record;
  switch (event.type) {
    case 'created':
      return named(state, record, 'created', event.parent, event.name, {
        id: event.id,
        directory: isDirectory(event.mode),
      });
    case 'linked':
      return named(state, record, 'created', event.parent, event.name, known(state, event.id));
    case 'undeleted':
      return named(state, record, 'created', event.parent, event.name, known(state, event.id));
    case 'snapshotTaken':
      return named(state, record, 'created', event.parent, event.name, {
        id: event.firstId,
        directory: state.nodes.get(event.source)?.isDirectory === true,
      });
    case 'unlinked': {
      const id = nodeAt(state, event.parent, event.name);
      return named(state, record, 'removed', event.parent, event.name, known(state, id));
    }
    case 'renamed':
      return renamed(state, record, event);
    case 'extended':
    case 'chunksShared':
    case 'punched':
      return changed(state, record, 'written', event.id);
    case 'attributesSet':
      if (event.changes.size !== undefined) return changed(state, record, 'truncated', event.id);
      return [
        ...(event.written === undefined ? [] : changed(state, record, 'written', event.id)),
        ...changed(state, record, 'attributes', event.id),
      ];
    case 'xattrSet':
    case 'xattrRemoved':
      return changed(state, record, 'attributes', event.id);
    default:
      return [];
  }
}

interface What {
  readonly id: number;
  readonly directory: boolean;
}

function named(
  state: LoggedState,
  record: LogRecord,
  kind: Kind,
  directory: number,
  name: string,
  what: What,
): Happened[] {
  const path = pathIn(state, directory, name);
  return path === undefined
    ? []
    : [{ event: { kind, path, ...what, ...about(state, record) }, at: [directory, what.id] }];
}

function renamed(
  state: LoggedState,
  record: LogRecord,
  event: { parent: number; name: string; newParent: number; newName: string; exchange: boolean },
): Happened[] {
  const { parent, name, newParent, newName } = event;
  const path = pathIn(state, parent, name);
  const to = pathIn(state, newParent, newName);
  if (path === undefined || to === undefined) return [];
  const at = [parent, newParent, nodeAt(state, parent, name)];
  const there = nodeAt(state, newParent, newName);
  const moved = {
    kind: 'renamed' as const,
    ...known(state, nodeAt(state, parent, name)),
    ...about(state, record),
  };
  const happened: Happened[] = [{ event: { ...moved, path, to }, at }];
  if (event.exchange) {
    happened.push({ event: { ...moved, ...known(state, there), path: to, to: path }, at });
  } else if (there !== 0) {
    happened.unshift({
      event: { ...moved, ...known(state, there), kind: 'removed', path: to },
      at: [newParent, there],
    });
  }
  return happened;
}

function changed(state: LoggedState, record: LogRecord, kind: Kind, id: number): Happened[] {
  const node = state.nodes.get(id);
  if (node === undefined) return [];
  const path = node.parent === 0 ? rootPath(node) : pathIn(state, node.parent, node.name);
  if (path === undefined) return [];
  return [{ event: { kind, path, ...known(state, id), ...about(state, record) }, at: [id] }];
}

/** A deleted file has no path, and nobody sees it. */
function rootPath(node: Node): string | undefined {
  return node.nlink > 0 ? '/' : undefined;
}

function pathIn(state: LoggedState, directory: number, name: string): string | undefined {
  const node = state.nodes.get(directory);
  const above = node === undefined ? undefined : state.pathOf(node);
  return above === undefined ? undefined : `${above}/${name}`;
}

function nodeAt(state: LoggedState, directory: number, name: string): number {
  return state.nodes.get(directory)?.entries?.get(name)?.node ?? 0;
}

function known(state: LoggedState, id: number): What {
  return { id, directory: state.nodes.get(id)?.isDirectory === true };
}

function about(state: LoggedState, { session, timeSec, timeNsec }: LogRecord) {
  const host = state.sessions.get(session)?.hostname;
  return { timeSec, timeNsec, ...(host === undefined ? {} : { host }) };
}
