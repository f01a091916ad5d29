/**
 * Reads for clients that cache: each promises first and reads then, in one go, so that what is told is what
 * was promised. Before attributes are told, those who append to the file elsewhere tell what they have not told.
 */
import { GfsError } from '../protocol/errors.js';
import { MAX_DIRECTORY_PAGE } from '../protocol/limits.js';
import type * as m from '../protocol/messages/index.js';
import { type GetChunks, type Location, type Lookup, Promised } from '../protocol/messages/index.js';
import type { IncomingRequest } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Coherence } from './coherence.js';
import type { Locations } from './locations.js';
import { isDirectory, isRegular } from './mode.js';
import { entryBytes, PAGE_BYTES, type Reads } from './reads.js';
import { findDirectory, findNode } from './resolve.js';
import type { LoggedState } from './state.js';

/** Reads of the namespace, as whoever answers them does it. */
export type NamespaceReads = Pick<PromisedReads, 'lookup' | 'attributes' | 'readDirectory' | 'readTree'>;

export class PromisedReads {
  readonly #state: LoggedState;
  readonly #reads: Reads;
  readonly #locations: Locations;
  readonly #coherence: Coherence;

  constructor(state: LoggedState, reads: Reads, locations: Locations, coherence: Coherence) {
    this.#state = state;
    this.#reads = reads;
    this.#locations = locations;
    this.#coherence = coherence;
  }

  /** @throws NOT_FOUND, to those who do not cache; NOT_DIRECTORY, STALE_NODE */
  async lookup(
    { parent, name }: ValueOf<typeof Lookup.request>,
    request: IncomingRequest,
  ): Promise<ValueOf<typeof Lookup.reply>> {
    const { session } = request.header;
    const signal = () => request.signal;
    if (!this.#coherence.caches(session)) {
      const attributes = await this.#reads.lookup(parent, name, signal);
      await this.#coherence.late.reported([attributes.id], session);
      return { attributes: findNode(this.#state, attributes.id).attributes() };
    }
    await this.#reads.nameSettled(parent, name, signal);
    const found = findDirectory(this.#state, parent).entries.get(name)?.node;
    if (found !== undefined) await this.#coherence.late.reported([found], session);
    const entries = this.#coherence.promiseEntries(session, parent) ? Promised.ENTRIES : 0;
    const node = findDirectory(this.#state, parent).entries.get(name)?.node;
    if (node === undefined) return { promised: entries };
    const attributes = this.#coherence.promiseAttributes(session, node) ? Promised.ATTRIBUTES : 0;
    return { attributes: findNode(this.#state, node).attributes(), promised: entries | attributes };
  }

  async attributes(id: number, request: IncomingRequest): Promise<ValueOf<typeof m.GetAttributes.reply>> {
    const { session } = request.header;
    await this.#reads.nodeSettled(id, () => request.signal);
    await this.#coherence.late.reported([id], session);
    const promised = this.#coherence.promiseAttributes(session, id) ? Promised.ATTRIBUTES : 0;
    return { attributes: findNode(this.#state, id).attributes(), promised };
  }

  async readDirectory(
    body: ValueOf<typeof m.ReadDirectory.request>,
    request: IncomingRequest,
  ): Promise<ValueOf<typeof m.ReadDirectory.reply>> {
    const { session } = request.header;
    const reported = this.#coherence.late.reported(this.#reads.nodesOf(body), session);
    if (reported !== undefined) await reported;
    if (!this.#coherence.caches(session)) return this.#reads.readDirectory(body);
    const promised = this.#coherence.promiseEntries(session, body.id) ? Promised.ENTRIES : 0;
    const page = this.#reads.readDirectory(body);
    return { ...page, promised, ...this.#promiseAll(session, page.entries) };
  }

  /** Read and promised in one turn: nothing changes in between. */
  #promiseAll(session: number, entries: readonly m.DirectoryEntry[]): { unpromised?: number[] } {
    const unpromised: number[] = [];
    for (const { attributes } of entries)
      if (!this.#coherence.promiseAttributes(session, attributes.id)) unpromised.push(attributes.id);
    return unpromised.length === 0 ? {} : { unpromised };
  }

  readTree(
    { ids, limit }: ValueOf<typeof m.ReadTree.request>,
    { header }: IncomingRequest,
  ): ValueOf<typeof m.ReadTree.reply> {
    const { session } = header;
    const directories: ValueOf<typeof m.ReadTree.reply>['directories'] = [];
    if (!this.#coherence.caches(session)) return { directories };
    // The next one last.
    const ahead = ids.toReversed();
    let left = Math.min(limit, MAX_DIRECTORY_PAGE);
    let bytesLeft = PAGE_BYTES;
    for (let id = ahead.pop(); id !== undefined && left > 0; id = ahead.pop()) {
      if (this.#state.nodes.get(id)?.isDirectory !== true) continue;
      const { entries, end, parent } = this.#reads.readDirectory({ id, cookie: 0, limit: left });
      // One that is full to the brim may go on.
      if (!end) break;
      for (const { name } of entries) bytesLeft -= entryBytes(name);
      if (bytesLeft < 0) break;
      left -= 1 + entries.length;
      if (!this.#coherence.promiseEntries(session, id)) continue;
      directories.push({ id, parent, entries, ...this.#promiseAll(session, entries) });
      for (let at = entries.length - 1; at >= 0; at--) {
        const { attributes } = entries[at] as m.DirectoryEntry;
        if (isDirectory(attributes.mode)) ahead.push(attributes.id);
      }
    }
    return { directories };
  }

  async chunks(
    body: ValueOf<typeof GetChunks.request>,
    request: IncomingRequest,
    near: Location | undefined,
  ): Promise<ValueOf<typeof GetChunks.reply>> {
    const { session } = request.header;
    await this.#coherence.late.reported([body.id], session);
    const promised = this.#coherence.promiseAttributes(session, body.id) ? Promised.ATTRIBUTES : 0;
    const described = await this.#locations.chunks(body, near);
    if (promised === 0) return described;
    const node = this.#state.nodes.get(body.id);
    if (node === undefined) throw new GfsError('STALE_NODE', `node ${body.id}`);
    return { ...described, attributes: node.attributes(), promised };
  }

  firstChunks(
    { ids }: ValueOf<typeof m.GetFirstChunks.request>,
    { header }: IncomingRequest,
    near: Location | undefined,
  ): ValueOf<typeof m.GetFirstChunks.reply> {
    const files: { id: number; chunk: m.Chunk }[] = [];
    for (const id of ids) {
      const node = this.#state.nodes.get(id);
      if (node === undefined || !isRegular(node.mode)) continue;
      if (!this.#coherence.promiseAttributes(header.session, id)) continue;
      const chunk = this.#locations.firstChunk(id, near);
      if (chunk !== undefined) files.push({ id, chunk });
    }
    return { files };
  }
}
