/** What the master asks of a chunkserver (protocol/messages/chunkserver-master.ts, 70 to 74). */
import { GfsError } from '../protocol/errors.js';
import {
  CopyChunk,
  DeleteChunks,
  MakeChunks,
  PrepareVersion,
  RepairReplicas,
  RevokeLease,
  type Server,
} from '../protocol/messages/index.js';
import type { IncomingRequest, Outcome, Service } from '../protocol/rpc.js';
import type { ValueOf } from '../protocol/schema.js';
import type { Cloner } from './clone.js';
import type { LeaseTable } from './leases.js';
import type { Peers } from './peers.js';
import { repairReplicas } from './repair.js';
import type { Secondary } from './secondary.js';
import type { Chunk } from './store/chunk.js';
import { forEachLimited } from './store/files.js';
import { MAX_VERSION } from './store/serial.js';
import type { ReplicaState, Store } from './store/store.js';

const DELETE_CONCURRENCY = 8;
/** Of a chunk that is made. */
const FIRST_VERSION = 1;

export interface MasterServiceComponents {
  readonly store: Store;
  readonly leases: LeaseTable;
  readonly secondary: Secondary;
  readonly peers: Peers;
  readonly cloner: Cloner;
  /** The newest term that this server knows. */
  readonly term: () => number;
}

export class MasterService {
  readonly #c: MasterServiceComponents;

  constructor(components: MasterServiceComponents) {
    this.#c = components;
  }

  register(service: Service): void {
    service
      .on(PrepareVersion, (body, request) => this.#prepare(body, request))
      .on(MakeChunks, async (body, request) => {
        this.#checkMaster(request);
        await this.#make(body);
        return { body: {} };
      })
      .on(CopyChunk, (body, request) => this.#copy(body, request))
      .on(RepairReplicas, async ({ handle, version, secondaries }, request) => {
        this.#checkMaster(request);
        await this.#repair(handle, version, secondaries);
        return { body: {} };
      })
      .on(RevokeLease, async ({ handle, version }, request) => {
        this.#checkMaster(request);
        const chunk = this.#c.store.get(handle);
        if (chunk.state.version > version) throw staleVersion(chunk);
        await this.#c.leases.revoke(handle, 'the lease was revoked');
        const { length, serial } = chunk.state;
        const agreed = chunk.agreedVersion === version && chunk.state.version === version;
        return { body: { lengthBytes: length, appliedSerial: serial, agreed } };
      })
      .on(DeleteChunks, async ({ handles }, request) => {
        this.#checkMaster(request);
        await this.delete(handles);
        return { body: {} };
      });
  }

  async delete(handles: readonly number[]): Promise<void> {
    await forEachLimited(handles, DELETE_CONCURRENCY, async (handle) => {
      await this.#c.leases.revoke(handle, 'the chunk is deleted');
      this.#c.secondary.forget(handle);
      await this.#c.cloner.drop(handle);
      await this.#c.store.delete(handle);
    });
  }

  async #prepare(
    body: ValueOf<typeof PrepareVersion.request>,
    request: IncomingRequest,
  ): Promise<Outcome<ReplicaState>> {
    this.#checkMaster(request);
    const { handle, version, create, truncateTo, lease } = body;
    if (version > MAX_VERSION) throw new GfsError('INVALID', `version ${version}`);
    const { store, leases } = this.#c;
    let chunk = store.find(handle);
    if (chunk === undefined && create) {
      chunk = await store.create(handle, version);
      await flushMade(chunk);
    }
    if (chunk === undefined) chunk = store.get(handle);
    if (chunk.state.version > version) throw staleVersion(chunk);
    if (chunk.state.version < version) {
      // Nothing is acknowledged under the former version from here on.
      leases.find(handle)?.end('a newer version is prepared');
      await chunk.raise(version, truncateTo);
      await chunk.directory.journal.sync(chunk.state.lsn);
      this.#c.secondary.forget(handle);
    }
    const described = await store.describe(chunk);
    if (chunk.state.version !== version) throw staleVersion(chunk);
    if (lease !== undefined) leases.grant(chunk, version, lease);
    return { body: described };
  }

  async #make({ handles, leased, terms }: ValueOf<typeof MakeChunks.request>): Promise<void> {
    const { store, leases } = this.#c;
    const made = await Promise.all(handles.map((handle) => store.create(handle, FIRST_VERSION)));
    await Promise.all(made.map(flushMade));
    for (const chunk of made) if (chunk.state.version !== FIRST_VERSION) throw staleVersion(chunk);
    for (const handle of leased) leases.grant(store.get(handle), FIRST_VERSION, terms);
  }

  async #copy(
    body: ValueOf<typeof CopyChunk.request>,
    request: IncomingRequest,
  ): Promise<Outcome<ReplicaState>> {
    const { source, sourceVersion, handle, version, truncateTo, lease } = body;
    if (this.#c.store.find(handle) === undefined) {
      this.#checkMaster(request);
      const from = this.#c.store.get(source);
      if (from.state.version !== sourceVersion) throw staleVersion(from);
      await this.#c.leases.revoke(source, 'the chunk is copied');
      const copy = await this.#c.store.copy(from, handle, version);
      if (truncateTo !== undefined && truncateTo < copy.state.length) await copy.truncate(truncateTo);
    }
    return this.#prepare({ handle, version, create: false, truncateTo, lease }, request);
  }

  async #repair(handle: number, version: number, secondaries: readonly Server[]): Promise<void> {
    const chunk = this.#c.store.get(handle);
    if (chunk.state.version !== version) throw staleVersion(chunk);
    await repairReplicas(this.#c.peers, chunk, secondaries);
  }

  #checkMaster(request: IncomingRequest): void {
    checkMaster(request, this.#c.term());
  }
}

/** @throws NOT_PERMITTED, STALE_TERM */
export function checkMaster({ from, header }: IncomingRequest, newestTerm: number): void {
  if (from.role !== 'master')
    throw new GfsError('NOT_PERMITTED', `a ${from.role} asked what only a master may`);
  if (header.term < newestTerm) throw new GfsError('STALE_TERM', `term ${header.term} is over`);
}

/** The master is about to log it: a file whose chunk is logged and nowhere can be neither read nor written. */
async function flushMade({ directory: { context, journal }, state }: Chunk): Promise<void> {
  if (context.sync === 'disk') await journal.sync(state.lsn);
}

function staleVersion(chunk: Chunk): GfsError {
  return new GfsError('STALE_CHUNK_VERSION', `chunk ${chunk.handle} has version ${chunk.state.version}`);
}
