/** Clients of master-scale.ts and healing.ts: lookups and creates over one connection, so many in flight. */
import { nodeEnvironment } from '../environment/node/index.js';
import type { Timer } from '../environment/ports/index.js';
import {
  Create,
  Lookup,
  MakeCheckpoint,
  RegisterClient,
  Renew,
  ROOT_ID,
  Unlink,
} from '../protocol/messages/index.js';
import { BufferPool } from '../protocol/payload.js';
import { Peer } from '../protocol/peer.js';
import { Service } from '../protocol/rpc.js';

export const DIRECTORIES = 1000;
const SESSIONS = 2;
const RENEW_INTERVAL_MS = 500;

export function directoryName(at: number): string {
  return `dir-${at}`;
}

export function fileName(at: number): string {
  return `file-${String(at).padStart(7, '0')}`;
}

export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
}

type Kind = 'lookup' | 'create' | 'mixed';

class Client {
  readonly peer: Peer;
  readonly session: number;
  readonly #renewal: Timer;
  sequence = 0;

  constructor(peer: Peer, session: number, renewal: Timer) {
    this.peer = peer;
    this.session = session;
    this.#renewal = renewal;
  }

  close(): void {
    this.#renewal.cancel();
    this.peer.close();
  }
}

export class Load {
  readonly #clients: Client[];
  readonly #files: number;
  readonly #directories: number;
  /** Where in the namespace the last of each went; strides far apart, so that nothing is warm. */
  #at = 0;
  #made = 0;
  readonly #removable: [parent: number, name: string][] = [];

  private constructor(clients: Client[], files: number, directories: number) {
    this.#clients = clients;
    this.#files = files;
    this.#directories = directories;
  }

  /** @param directories that the files are spread over, the first that were made; with 0 all are in the root */
  static async connect(port: number, files: number, directories = DIRECTORIES): Promise<Load> {
    const environment = nodeEnvironment({ role: 'bench', logLevel: 'warn' });
    const clients: Client[] = [];
    for (let at = 0; at < SESSIONS; at++) {
      const socket = await environment.network.connect('127.0.0.1', port, 5_000);
      const peer = new Peer(socket, {
        ...{ role: 'client', id: `bench-${at}`, clusterId: () => '', term: () => 0 },
        ...{ service: new Service(), pool: new BufferPool() },
        ...{ clock: environment.clock, timers: environment.timers, logger: environment.logger },
      });
      await peer.ready();
      const { body } = await peer.call(RegisterClient, { clientId: `bench-${at}`, hostname: 'bench' });
      const { session } = body;
      const renewal = environment.timers.every(RENEW_INTERVAL_MS, () => {
        if (!peer.closed)
          peer.call(Renew, { opened: [], closed: [] }, { session, urgent: true }).catch(() => undefined);
      });
      clients.push(new Client(peer, session, renewal));
    }
    return new Load(clients, files, directories);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  /** Until the master takes mutations: after a start it waits for those that it knew. */
  async settle(): Promise<void> {
    for (;;) {
      try {
        await this.#create(this.#clients[0] as Client);
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  async checkpoint(): Promise<void> {
    const { peer, session } = this.#clients[0] as Client;
    await peer.call(MakeCheckpoint, {}, { session, uid: 0, deadlineMs: 120_000 });
  }

  /** @param until for so many milliseconds, or until it is settled */
  async run(kind: Kind, inFlight: number, until: number | Promise<unknown>): Promise<LoadResult> {
    const latencies: number[] = [];
    let over = false;
    const end = typeof until === 'number' ? new Promise((resolve) => setTimeout(resolve, until)) : until;
    const ended = end.finally(() => {
      over = true;
    });
    const startedMs = performance.now();
    const worker = async (client: Client): Promise<void> => {
      while (!over) {
        const beganMs = performance.now();
        await this.#one(kind, client);
        latencies.push(performance.now() - beganMs);
      }
    };
    const workers = Array.from({ length: inFlight }, (_, at) =>
      worker(this.#clients[at % this.#clients.length] as Client),
    );
    await Promise.all([ended, ...workers]);
    const elapsedMs = performance.now() - startedMs;
    const sorted = Float64Array.from(latencies).sort();
    return {
      perSecond: (sorted.length / elapsedMs) * 1000,
      p50Ms: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
      p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
      longestMs: sorted.at(-1) ?? 0,
    };
  }

  #one(kind: Kind, client: Client): Promise<unknown> {
    if (kind === 'lookup') return this.#lookup(client);
    if (kind === 'create') return this.#create(client);
    // As a busy cluster: most ask, some make, some remove.
    const turn = this.#at % 10;
    if (turn < 8) return this.#lookup(client);
    return turn === 8 ? this.#create(client) : this.#remove(client);
  }

  #lookup({ peer, session }: Client): Promise<unknown> {
    this.#at += 7919;
    const at = this.#at % this.#files;
    return peer.call(Lookup, { parent: this.#directoryOf(at), name: fileName(at) }, { session });
  }

  #directoryOf(at: number): number {
    return this.#directories === 0 ? ROOT_ID : ROOT_ID + 1 + (at % this.#directories);
  }

  async #create(client: Client): Promise<unknown> {
    const at = this.#made++;
    this.#at++;
    const parent = this.#directoryOf(at);
    const name = `made-${process.pid}-${at}`;
    const body = { parent, name, mode: 0o100644, rdev: 0, exclusive: true };
    const made = await client.peer.call(Create, body, {
      session: client.session,
      sequence: ++client.sequence,
    });
    this.#removable.push([parent, name]);
    return made;
  }

  #remove(client: Client): Promise<unknown> {
    const last = this.#removable.pop();
    this.#at++;
    if (last === undefined) return this.#create(client);
    const [parent, name] = last;
    const options = { session: client.session, sequence: ++client.sequence };
    return client.peer.call(Unlink, { parent, name, directory: false }, options);
  }
}
