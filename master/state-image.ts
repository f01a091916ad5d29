/**
 * Logged state as sections of bytes, and back (docs/formats/checkpoint.md). The packed tables go as they
 * lie in memory, so that a million files take a fraction of a second each way; what is rare goes as
 * msgpack. A table that is new needs one line in {@link SECTIONS}; a section that is not there leaves it
 * empty, so older images can be read.
 */
import { Packr } from 'msgpackr';
import { ChunkList } from './chunk-list.js';
import { Directory } from './directory.js';
import { LoggedState, type Session, type StoredResult } from './state.js';
import type { NameArena } from './tables/name-arena.js';
import type { Rows } from './tables/rows.js';

/** One section's bytes, in as many pieces as they lie in. */
export type SectionBody = readonly Uint8Array[];

interface Section {
  readonly tag: string;
  encode(state: LoggedState): Iterable<SectionBody>;
  /** Once for each body, in the order they were written. @throws Error when it cannot be one */
  decode(state: LoggedState, body: Buffer): void;
}

/** A section's body is about this long, so that nobody needs memory for a table twice. */
const PART_BYTES = 4 * 1024 * 1024;
const PART_ITEMS = 4096;
const ROWS_HEAD_BYTES = 16;

// Unlike the log's, it tells undefined from null: the results of sessions have both.
const packr = new Packr({ useRecords: false, moreTypes: true });

export const SCALARS = [
  'nextNodeId',
  'nextSessionId',
  'nextCookie',
  'reservedHandles',
  'fileCount',
  'directoryCount',
] as const satisfies readonly (keyof LoggedState)[];

export const SECTIONS: readonly Section[] = [
  {
    tag: 'scalars',
    encode: (state) => [[packr.pack(Object.fromEntries(SCALARS.map((name) => [name, state[name]])))]],
    decode: (state, body) => {
      const values = packr.unpack(body) as Record<(typeof SCALARS)[number], number>;
      for (const name of SCALARS) state[name] = values[name];
    },
  },
  packedRows('nodes', (state) => state.nodes.rows),
  packedRows('entries', (state) => state.nodes.entries.parts.rows),
  packedRows('chunks', (state) => state.chunks.rows),
  arena('names', (state) => state.nodes.entries.parts.names),
  { tag: 'directories', encode: encodeDirectories, decode: decodeDirectories },
  items<string>(
    'holders',
    (state) => state.chunks.holders.slice(1),
    (state, holder) => state.chunks.holderNumber(holder),
  ),
  table('otherLinks', (state) => state.nodes.otherLinks),
  table('targets', (state) => state.nodes.targets),
  table('rdevs', (state) => state.nodes.rdevs),
  table('oddTimes', (state) => state.nodes.oddTimes),
  items<[number, [string, Uint8Array][]]>(
    'xattrs',
    ({ nodes }) => mapped(nodes.xattrs, ([row, xattrs]) => [row, [...xattrs]]),
    ({ nodes }, [row, xattrs]) => nodes.xattrs.set(row, new Map(xattrs)),
  ),
  items<[number, [number, number][], [number, number][]]>(
    'chunkLists',
    ({ nodes }) =>
      mapped(nodes.chunkLists, ([row, list]) => [row, list.entries(), list.pendingTruncations()]),
    ({ nodes }, [row, entries, pending]) => nodes.chunkLists.set(row, ChunkList.of(entries, pending)),
  ),
  packedRows('deleted', (state) => state.deleted.rows),
  arena('deletedNames', (state) => state.deleted.names),
  items<[number, string]>(
    'deletedPaths',
    (state) => state.deleted.paths(),
    (state, [number, path]) => state.deleted.loadPath(number, path),
  ),
  items<Omit<Session, 'results'> & { results: [number, StoredResult][] }>(
    'sessions',
    (state) => mapped(state.sessions.values(), (session) => ({ ...session, results: [...session.results] })),
    (state, session) => state.sessions.set(session.id, { ...session, results: new Map(session.results) }),
  ),
  table('retentions', (state) => state.retentions),
  table('logReplicas', (state) => state.logReplicas),
  {
    tag: 'commitRule',
    encode: (state) => [[packr.pack(state.commitRule)]],
    decode: (state, body) => {
      state.commitRule = packr.unpack(body) as LoggedState['commitRule'];
    },
  },
  {
    tag: 'terms',
    encode: (state) => [[packr.pack([...state.terms])]],
    decode: (state, body) => {
      // A state begins with the first one.
      state.terms.clear();
      for (const [term, sequence] of packr.unpack(body) as [number, number][])
        state.terms.set(term, sequence);
    },
  },
  table('goals', (state) => state.goals),
  items<string>(
    'drains',
    (state) => state.drains,
    (state, serverId) => state.drains.add(serverId),
  ),
];

/** Every section of a state, in the order that they are read in. The bodies are the state's own memory. */
export function* encodeState(state: LoggedState): Iterable<{ tag: string; body: SectionBody }> {
  for (const { tag, encode } of SECTIONS) for (const body of encode(state)) yield { tag, body };
}

export class StateDecoder {
  readonly #state: LoggedState;

  constructor(chunkBytes: number, hashSeed: number) {
    this.#state = new LoggedState(chunkBytes, hashSeed);
  }

  /** @throws Error that says what is wrong with it */
  add(tag: string, body: Buffer): void {
    const section = SECTIONS.find((known) => known.tag === tag);
    if (section === undefined) throw new Error(`it has a section "${tag}" that this master does not know`);
    section.decode(this.#state, body);
  }

  /** After the last section. */
  finish(): LoggedState {
    this.#state.nodes.restore();
    this.#state.chunks.restore();
    this.#state.deleted.restore();
    return this.#state;
  }
}

/** A side table: a Map whose keys and values msgpack can carry. */
function table<K, V>(tag: string, pick: (state: LoggedState) => Map<K, V>): Section {
  return items<[K, V]>(
    tag,
    (state) => pick(state),
    (state, [key, value]) => pick(state).set(key, value),
  );
}

function items<T>(
  tag: string,
  list: (state: LoggedState) => Iterable<T>,
  add: (state: LoggedState, item: T) => unknown,
): Section {
  return {
    tag,
    *encode(state) {
      let part: T[] = [];
      for (const item of list(state)) {
        if (part.push(item) < PART_ITEMS) continue;
        yield [packr.pack(part)];
        part = [];
      }
      if (part.length > 0) yield [packr.pack(part)];
    },
    decode(state, body) {
      for (const item of packr.unpack(body) as T[]) add(state, item);
    },
  };
}

function* mapped<T, R>(all: Iterable<T>, map: (item: T) => R): Iterable<R> {
  for (const item of all) yield map(item);
}

function packedRows(tag: string, pick: (state: LoggedState) => Rows): Section {
  return {
    tag,
    *encode(state) {
      const rows = pick(state);
      const rowsPerPart = Math.floor(PART_BYTES / (rows.wordsPerRow * 4));
      for (let first = 1; first < rows.end; first += rowsPerPart) {
        yield rowsBody(rows, first, Math.min(first + rowsPerPart, rows.end));
      }
    },
    decode(state, body) {
      const rows = pick(state);
      const [wordsPerRow, first, count] = [body.readUInt32LE(0), body.readUInt32LE(4), body.readUInt32LE(8)];
      const bytes = body.subarray(ROWS_HEAD_BYTES);
      if (wordsPerRow !== rows.wordsPerRow || first === 0 || bytes.byteLength !== count * wordsPerRow * 4) {
        throw new Error(`its ${tag} are not what this master reads`);
      }
      rows.load(first, bytes);
    },
  };
}

function rowsBody(rows: Rows, first: number, end: number): SectionBody {
  const head = Buffer.alloc(ROWS_HEAD_BYTES);
  head.writeUInt32LE(rows.wordsPerRow, 0);
  head.writeUInt32LE(first, 4);
  head.writeUInt32LE(end - first, 8);
  const rowBytes = rows.wordsPerRow * 4;
  const pieces: Uint8Array[] = [head];
  for (let row = first; row < end; ) {
    const together = rows.bytesFrom(row);
    const piece = together.subarray(0, (end - row) * rowBytes);
    pieces.push(piece);
    row += piece.byteLength / rowBytes;
  }
  return pieces;
}

/** The layout is a msgpack map, which never begins with a zero; a block does. */
function arena(tag: string, pick: (state: LoggedState) => NameArena): Section {
  return {
    tag,
    *encode(state) {
      const names = pick(state);
      yield [packr.pack(names.layout)];
      for (let at = 0; at < names.blockCount; at++) yield [blockHead(at), names.block(at)];
    },
    decode(state, body) {
      const names = pick(state);
      if (body[0] === 0) names.loadBlock(body.readUIntLE(1, 3), body.subarray(4));
      else names.restore(packr.unpack(body) as NameArena['layout']);
    },
  };
}

function blockHead(at: number): Uint8Array {
  return Uint8Array.of(0, at & 0xff, (at >>> 8) & 0xff, (at >>> 16) & 0xff);
}

/** For each directory its row, the number of its entries, and their rows in order. */
function* encodeDirectories({ nodes }: LoggedState): Iterable<SectionBody> {
  let words: number[] = [];
  for (const [row, directory] of nodes.directories) {
    words.push(row, directory.size);
    for (const entry of directory.rows) words.push(entry);
    if (words.length * 4 < PART_BYTES) continue;
    yield [bytesOf(words)];
    words = [];
  }
  if (words.length > 0) yield [bytesOf(words)];
}

function bytesOf(words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

function decodeDirectories({ nodes }: LoggedState, body: Buffer): void {
  for (let at = 0; at < body.byteLength; ) {
    const row = body.readUInt32LE(at);
    const count = body.readUInt32LE(at + 4);
    at += 8;
    const directory = new Directory(nodes.entries, row);
    nodes.directories.set(row, directory);
    for (const end = at + 4 * count; at < end; at += 4) directory.load(body.readUInt32LE(at));
  }
}
