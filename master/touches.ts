/** What an event of the log changes of what clients may have been told, by the state before it is applied. */
import type { LogEvent } from '../protocol/records.js';
import type { LoggedState } from './state.js';

export interface NameInDirectory {
  readonly directory: number;
  readonly name: string;
}

export interface Touched {
  /** Nodes whose attributes change. */
  readonly attributes: readonly number[];
  /** The file whose data changes, and with it its attributes. */
  readonly data?: number;
  /** The file may be shorter now: who appends to it has to hear of it. */
  readonly isCut?: boolean;
  readonly entries: readonly NameInDirectory[];
}

/** @returns undefined where nobody can have been told anything of it */
export function touchedBy(state: LoggedState, event: LogEvent): Touched | undefined {
  switch (event.type) {
    case 'created':
    case 'snapshotTaken':
      return touchedName(event.parent, event.name);
    case 'linked':
    case 'undeleted':
      return touchedName(event.parent, event.name, event.id);
    case 'unlinked':
      return touchedName(event.parent, event.name, nodeAt(state, event.parent, event.name));
    case 'renamed': {
      const { parent, name, newParent, newName } = event;
      const moved = nodeAt(state, parent, name);
      const replaced = nodeAt(state, newParent, newName);
      return {
        attributes: [...new Set([parent, newParent, moved, replaced])].filter((id) => id !== 0),
        entries: [
          { directory: parent, name },
          { directory: newParent, name: newName },
        ],
      };
    }
    // Nobody knows of it but its author.
    case 'tmpfileCreated':
      return { attributes: [], entries: [] };
    case 'attributesSet':
      return event.changes.size === undefined && event.written === undefined
        ? { attributes: [event.id], entries: [] }
        : { attributes: [], data: event.id, isCut: true, entries: [] };
    case 'extended':
    case 'chunksShared':
    case 'punched':
      return { attributes: [], data: event.id, entries: [] };
    case 'xattrSet':
    case 'xattrRemoved':
    case 'aclSet':
      return { attributes: [event.id], entries: [] };
    // Where chunks are and at which version: whoever reads with old news finds out by the version.
    case 'chunkAdded':
    case 'chunkCopied':
    case 'leaseGranted':
    case 'versionRaised':
    case 'sessionOpened':
    case 'sessionsEnded':
    case 'handlesReserved':
    case 'retentionSet':
    case 'reclaimed':
    case 'chunksForgotten':
      return undefined;
    case 'accessed':
      return { attributes: event.items.map(({ id }) => id), entries: [] };
  }
}

function touchedName(directory: number, name: string, node = 0): Touched {
  return { attributes: node === 0 ? [directory] : [directory, node], entries: [{ directory, name }] };
}

function nodeAt(state: LoggedState, directory: number, name: string): number {
  return state.nodes.get(directory)?.entries?.get(name)?.node ?? 0;
}
