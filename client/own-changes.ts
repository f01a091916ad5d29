/** What a mutation of this client's changes of what it knows itself, and what its answer says about that. */
import * as m from '../protocol/messages/index.js';
import type { Method } from '../protocol/rpc.js';
import { ABSENT, entryKey, type Key, listingKey, type MetadataCache } from './metadata-cache.js';

const { Promised } = m;

/** Keeps what an answer promises. `isOwn`: nothing else has touched that key meanwhile. */
export interface Keeper {
  attributes(attributes: m.Attributes | undefined, isPromised: boolean): void;
  entry(directory: number, name: string, node: number): void;
  empty(directory: number, parent: number): void;
  /** It has changed, and the answer does not say how. */
  forget(node: number): void;
}

interface OwnChange<Request, Reply> {
  keys(body: Request, cache: MetadataCache): Key[];
  keep?(keep: Keeper, body: Request, reply: Reply): void;
  /** The kernel does not know that it changed: it has to be told, as of a change made elsewhere. */
  readonly behindKernel?: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: a table of methods with different bodies; `own` checks each
const table = new Map<number, OwnChange<any, any>>();

function own<Request, Reply>(method: Method<Request, Reply>, change: OwnChange<Request, Reply>): void {
  table.set(method.number, change);
}

function has(promised: number | undefined, bit: number): boolean {
  return ((promised ?? 0) & bit) !== 0;
}

/** A new name in a directory. */
function nameKeys(directory: number, name: string): Key[] {
  return [directory, entryKey(directory, name), listingKey(directory)];
}

interface Made {
  readonly attributes: m.Attributes;
  readonly promised?: number | undefined;
  readonly parent?: m.Attributes | undefined;
}

function keepMade(keep: Keeper, body: { parent: number; name: string }, reply: Made): void {
  const { attributes, promised, parent } = reply;
  keep.attributes(attributes, has(promised, Promised.ATTRIBUTES));
  keep.attributes(parent, has(promised, Promised.PARENT));
  if (has(promised, Promised.ENTRIES)) keep.entry(body.parent, body.name, attributes.id);
  if (has(promised, Promised.CONTENTS)) keep.empty(attributes.id, body.parent);
}

own(m.Create, { keys: ({ parent, name }) => nameKeys(parent, name), keep: keepMade });
own(m.CreateTmpfile, { keys: () => [] });
own(m.Symlink, { keys: ({ parent, name }) => nameKeys(parent, name), keep: keepMade });
own(m.Link, {
  keys: ({ id, parent, name }) => [id, ...nameKeys(parent, name)],
  keep: (keep, { parent, name }, reply) => keepMade(keep, { parent, name }, reply),
});

own(m.Unlink, {
  keys: ({ parent, name }, cache) => {
    const node = cache.entry(parent, name) ?? ABSENT;
    return node === ABSENT ? nameKeys(parent, name) : [node, ...nameKeys(parent, name)];
  },
  keep: (keep, { parent, name }, reply) => {
    keep.attributes(reply.parent, has(reply.promised, Promised.PARENT));
    if (has(reply.promised, Promised.ENTRIES)) keep.entry(parent, name, ABSENT);
    // It may have another name.
    keep.forget(reply.id);
  },
});

own(m.Rename, {
  keys: ({ parent, name, newParent, newName }, cache) => {
    const nodes = [cache.entry(parent, name), cache.entry(newParent, newName)];
    const known = nodes.filter((node): node is number => node !== undefined && node !== ABSENT);
    return [...known, ...nameKeys(parent, name), ...nameKeys(newParent, newName)];
  },
  keep: (keep, _body, reply) => {
    for (const node of reply.nodes ?? []) keep.forget(node);
    keep.attributes(reply.parent, has(reply.promised, Promised.PARENT));
    keep.attributes(reply.newParent, has(reply.promised, Promised.NEW_PARENT));
  },
});

const keepAttributes = <R extends { attributes?: m.Attributes | undefined; promised?: number | undefined }>(
  keep: Keeper,
  _body: unknown,
  { attributes, promised }: R,
): void => keep.attributes(attributes, has(promised, Promised.ATTRIBUTES));

own(m.SetAttributes, { keys: ({ id }) => [id], keep: keepAttributes });
own(m.ExtendFile, { keys: ({ id }) => [id], keep: keepAttributes });
own(m.ShareChunks, { keys: ({ id }) => [id] });
own(m.PunchHole, { keys: ({ id }) => [id] });
own(m.SetXattr, { keys: ({ id }) => [id], keep: keepAttributes });
own(m.RemoveXattr, { keys: ({ id }) => [id], keep: keepAttributes });
own(m.Snapshot, { keys: ({ parent, name }) => nameKeys(parent, name), behindKernel: true });
// Times of access are shown by whoever noted them, whatever is kept here.
own(m.NoteAccess, { keys: () => [] });
// A lease changes nothing that is kept here.
own(m.GetLease, { keys: () => [] });

/** @returns undefined for a mutation that nobody has thought of here: it may have changed anything */
export function ownChangeOf(method: Method<unknown, unknown>): OwnChange<unknown, unknown> | undefined {
  return table.get(method.number);
}
